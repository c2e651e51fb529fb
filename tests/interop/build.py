"""The Go peer's executable, built once from `gopeer/` with Debian's toolchain and memberlist, without a network.

It stays in the cache directory of dist/test.sh under a name that follows from source, toolchain and library, so whoever
finds it there has the right one. Nodes of the lab see it too: the directory is none of those they hide.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).parent / "gopeer"
GOPATH = Path("/usr/share/gocode")  # where Debian's -dev packages put sources
LIBRARY = GOPATH / "src/github.com/hashicorp/memberlist"
KEPT = 5
"""Executables of other versions that stay: branches that take turns need not build each time."""


@functools.cache
def missing() -> str | None:
    """What keeps the Go peer from being built here, in a few words."""
    if shutil.which("go") is None:
        return "not installed: go (golang-go)"
    if not LIBRARY.is_dir():
        return "not installed: memberlist's sources (golang-github-hashicorp-memberlist-dev)"
    return None


@functools.cache
def gopeer() -> Path:
    """The executable, built if need be. Raises RuntimeError with what Go said."""
    if (reason := missing()) is not None:
        raise RuntimeError(reason)
    cache = _cache()
    executable = cache / f"gopeer-{_fingerprint()}"
    with _alone(cache / "lock"):
        if not executable.exists():
            _build(cache, executable)
            _forget_old(cache, executable)
    return executable


def _build(cache: Path, executable: Path) -> None:
    unfinished = cache / "unfinished"
    command = ["go", "build", "-trimpath", "-o", str(unfinished), "."]
    done = subprocess.run(command, cwd=SOURCE, env=_environment(cache), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the Go peer cannot be built: {done.stderr.strip()}")
    unfinished.chmod(0o755)
    unfinished.rename(executable)


def _forget_old(cache: Path, current: Path) -> None:
    others = sorted(set(cache.glob("gopeer-*")) - {current}, key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[KEPT:]:
        path.unlink()


def _fingerprint() -> str:
    digest = hashlib.sha256(subprocess.run(["go", "version"], capture_output=True, check=True).stdout)
    for path in sorted((*SOURCE.glob("*.go"), *LIBRARY.glob("*.go"))):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _environment(cache: Path) -> dict[str, str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(cache), "GOCACHE": str(cache / "objects")}
    environment |= {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOFLAGS": "", "CGO_ENABLED": "0"}
    return environment | ({"GOROOT": os.environ["GOROOT"]} if "GOROOT" in os.environ else {})


def _cache() -> Path:
    """As in dist/test.sh; where nothing can be kept, a directory that goes with this process."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "/nonexistent"), ".cache"))
    cache = (Path("/var/cache") if os.geteuid() == 0 else home) / "wesher" / "interop"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        cache.chmod(0o755)
    except OSError:
        return Path(_temporary().name)
    return cache


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Two runs at a time build once."""
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
