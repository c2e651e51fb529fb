"""A machine with a kernel of its own, for what the host's lacks (WireGuard): a Debian guest under QEMU, booted anew for
each job and gone after it. It runs the checkout as it is now, which is handed over with the job.

There is no hardware acceleration in it, so that it is the same everywhere: it boots in some 6 s, and what needs the CPU
takes 12 to 16 times as long as on the host. So jobs are few and do much.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.metadata
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

CHECKOUT: Final = Path(__file__).parent.parent.parent
HANDED_OVER: Final = ("wesher", "privhelper", "security", "tests", "dist", "pyproject.toml")
"""What of the checkout a job gets."""

IMAGE: Final = Path(__file__).parent / "image"
CACHE: Final = Path("/var/cache/wesher/vm")
OURS: Final = "wesher"
PACKAGES: Final = (OURS, "pytest", "pytest-timeout")
"""Python packages in the guest, with all they need, as they are installed here."""

TIME_LIMIT, NO_RESULT = 124, 125
"""What a job's exit status is when there is none: it took too long; the guest ended without saying any."""

DEBIAN, PYTHON = "bookworm", (3, 11)
TOOLS: Final = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "depmod": "kmod",
    "cpio": "cpio",
    "setpriv": "util-linux",
}
"""A program, and the Debian package it is in."""

KERNEL_ARGUMENTS: Final = (
    "console=ttyS0 quiet panic=-1 systemd.unit=job.service systemd.show_status=0 audit=0 cryptomgr.notests "
    "mitigations=off tsc=reliable no_timer_check rcupdate.rcu_expedited=1 random.trust_cpu=on"
)


@dataclass(frozen=True)
class Result:
    """What became of a job: its exit status, and what it wrote to both its outputs."""

    status: int
    output: str


@functools.cache
def missing() -> str | None:
    """The first thing that keeps a guest from being made here, in a few words."""
    if os.geteuid() != 0:
        return "not root"
    if (platform.machine(), platform.freedesktop_os_release().get("VERSION_CODENAME")) != ("x86_64", DEBIAN):
        return f"not Debian {DEBIAN} on amd64, of which the guest is made"
    if sys.version_info[:2] != PYTHON:
        return "this Python's packages are not for the guest's, which is {}.{}".format(*PYTHON)
    absent = {package for program, package in TOOLS.items() if shutil.which(program) is None}
    return f"not installed: {', '.join(sorted(absent))}" if absent else None


class Guest:
    """`with Guest() as guest:` holds an image, made if its inputs have changed since the last one (half a minute).
    RuntimeError says why none can be made."""

    def __enter__(self) -> Guest:
        CACHE.mkdir(parents=True, exist_ok=True)
        self._lock = (CACHE / "lock").open("w")
        wanted = _fingerprint()
        self._image = CACHE / wanted
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        while not self._image.is_dir():
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if not self._image.is_dir():
                _make(self._image)
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def run(self, script: str, seconds: float) -> Result:
        """Boot, run `script` (sh, as root, in the checkout), switch off. After `seconds` the guest is killed."""
        with tempfile.TemporaryDirectory(prefix="wesher-guest-") as directory:
            work = Path(directory)
            _write_job(work / "job.tar", script)
            for name in ("output", "status", "console", "errors"):
                (work / name).touch()
            with (work / "errors").open("w") as errors:
                # PDEATHSIG: whatever becomes of the tests, no machine is left running.
                command = ["setpriv", "--pdeathsig", "KILL", "--", *_qemu(self._image, work)]
                qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
                try:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        qemu.wait(seconds)
                finally:
                    in_time = qemu.poll() is not None
                    qemu.kill()
                    qemu.wait()
            output = (work / "output").read_text(errors="replace")
            if status := (work / "status").read_text().strip():
                return Result(int(status), output)
            said = "\n".join((work / name).read_text(errors="replace")[-4000:] for name in ("console", "errors"))
            return Result(NO_RESULT if in_time else TIME_LIMIT, f"{output}\n--- the guest's console\n{said}")


def _qemu(image: Path, work: Path) -> list[str]:
    def drive(name: str, path: Path, options: str) -> list[str]:
        file = f"file={path},format=raw,if=none,id={name},{options}"
        return ["-drive", file, "-device", f"virtio-blk-pci,drive={name}"]

    def port(number: int, path: Path) -> list[str]:
        return [
            "-chardev",
            f"file,id=c{number},path={path}",
            "-device",
            f"virtserialport,chardev=c{number},nr={number}",
        ]

    return [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-reboot"),
        *("-M", "q35,usb=off,vmport=off,hpet=off,sata=off,smbus=off", "-accel", "tcg,thread=multi,tb-size=512"),
        *("-cpu", "Nehalem", "-smp", "2", "-m", "2048"),  # with later CPU models, programs in the guest failed
        *("-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd.img"), "-append", KERNEL_ARGUMENTS),
        *drive("root", image / "root.img", "snapshot=on,cache=unsafe"),
        *drive("job", work / "job.tar", "readonly=on"),
        *("-serial", f"file:{work / 'console'}", "-device", "virtio-serial-pci"),
        *port(1, work / "output"),
        *port(2, work / "status"),
    ]


def _write_job(path: Path, script: str) -> None:
    with tarfile.open(path, "w") as tar:
        encoded = script.encode()
        entry = tarfile.TarInfo("run.sh")
        entry.size = len(encoded)
        tar.addfile(entry, io.BytesIO(encoded))
        for name in HANDED_OVER:
            tar.add(CHECKOUT / name, f"checkout/{name}", filter=_as_it_is_used)


def _as_it_is_used(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode |= 0o444 | (0o111 if entry.isdir() else 0)  # processes that are not root read it
    return None if entry.name.endswith("/__pycache__") else entry


def _fingerprint() -> str:
    """What an image follows from, in sixteen digits."""
    sources = [path.read_bytes() for path in (*sorted(IMAGE.iterdir()), CHECKOUT / "dist/debian.sh")]
    versions = sorted(f"{package.name} {package.version}" for package in _packages())
    return hashlib.sha256(b"\0".join([*sources, *map(str.encode, versions)])).hexdigest()[:16]


def _make(image: Path) -> None:
    for old in CACHE.iterdir():
        if old.is_dir() and old.name != "archives":
            shutil.rmtree(old)
    building = CACHE / "building"
    building.mkdir()
    for package in _packages():
        for file in package.files or ():
            source = Path(str(package.locate_file(file)))
            is_checkout = package.name == OURS and not file.parts[0].endswith(".dist-info")  # that comes with each job
            if not is_checkout and ".." not in file.parts and source.is_file():
                target = building / "site-packages" / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
    build = subprocess.run(
        [IMAGE / "build.sh", building], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if build.returncode != 0:
        raise RuntimeError(f"cannot make a guest: build.sh ended with {build.returncode}: {build.stderr[-4000:]}")
    building.rename(image)


def _packages() -> Iterator[importlib.metadata.Distribution]:
    """`PACKAGES` and all they need, each once."""
    seen: set[str] = set()
    pending = list(PACKAGES)
    while pending:
        name = pending.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        package = importlib.metadata.distribution(name)
        yield package
        needs = map(Requirement, package.requires or ())
        pending += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
