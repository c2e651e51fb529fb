"""A Debian of its own with systemd as its first process, on this kernel: systemd-nspawn, with a network that is empty.

What is written in one is gone with it, or is kept as a layer that others start from. So an installation is made once,
and each test has a machine where it has just been made. It boots in a second.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lab import until

CHECKOUT: Final = Path(__file__).parents[2]
CACHE: Final = Path("/var/cache/wesher/deploy")
HERE: Final = Path(__file__).parent
TOOLS: Final = {"systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap", "nsenter": "util-linux"}
"""A program, and the Debian package it is in."""

SUITES: Final = ("bookworm", "trixie")

# Mounts and processes are of namespaces that end with the machine. $1 is its directory, $2 the layers, $3 what becomes
# /srv, and the rest are options. Landlock's calls are unknown to the older systemd-nspawn, whose filter would answer in
# the kernel's place. The TUN device is everybody's, as udev has it on a Debian, and may not be here.
_ENTER: Final = """
mkdir -p "$1/upper" "$1/work" "$1/merged"
mount -t proc proc /proc
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/merged"
mkdir -p "$1/merged/srv"
mount --bind "$3" "$1/merged/srv"
mount -o remount,bind,ro "$1/merged/srv"
mknod -m 666 "$1/tun" c 10 200
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --register=no --keep-unit --private-network --capability=CAP_NET_ADMIN --machine=node1 \
  --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self" --hostname=node1 \
  --resolv-conf=off --timezone=off --link-journal=no --bind="$1/tun:/dev/net/tun" \
  "${@:4}" --directory "$1/merged" --boot
"""

# A name a line, with what it is: as JSON, that names with any bytes may come through.
_SNAPSHOT: Final = """
import hashlib, json, os, stat, sys
found = {}
left_out = set(sys.argv[1:])
for directory, names, files in os.walk("/"):
    names[:] = [name for name in names if os.path.join(directory, name) not in left_out]
    for path in (os.path.join(directory, name) for name in (*names, *files)):
        if path in left_out:
            continue
        info = os.lstat(path)
        what = [stat.filemode(info.st_mode), info.st_uid, info.st_gid]
        if stat.S_ISLNK(info.st_mode):
            what.append(os.readlink(path))
        elif stat.S_ISREG(info.st_mode):
            what.append(hashlib.sha256(open(path, "rb").read()).hexdigest())
        found[path] = what
print(json.dumps(found))
"""
LEFT_OUT: Final = (
    *("/proc", "/sys", "/dev", "/run", "/tmp", "/srv"),  # not of the disk, or the test's own
    *("/var/log", "/var/cache", "/var/tmp", "/var/lib/systemd", "/var/lib/apt"),  # what any machine writes in a while
    "/var/lib/dpkg",  # its own books of what was installed
    *(f"/etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")),  # the last but one
    "/etc/.pwd.lock",
)
"""What a snapshot does not have."""

Snapshot = dict[str, list[object]]
Environment = Mapping[str, str]
NOTHING: Final[Environment] = {}


@dataclass(frozen=True)
class Done:
    """What became of a command: its exit status, and what it wrote to each output."""

    status: int
    out: str
    err: str


class Machine:
    """A running one. `layers` are directories, the topmost first; the last is a whole root. `options` are nspawn's."""

    def __init__(self, directory: Path, layers: tuple[Path, ...], srv: Path, options: Sequence[str] = ()) -> None:
        self._directory, self.layers, self.srv = directory, layers, srv
        self._log = (directory / "console").open("w")
        self._outer = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL",  # however the test ends, its machine ends with it
             "unshare", "--mount", "--pid", "--propagation", "private", "--fork", "--kill-child=KILL", "--",
             "bash", "-euc", _ENTER, "machine", directory, ":".join(map(str, layers)), srv, *options],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        self._first = 0
        try:
            until(self._has_booted, 60, "the machine has booted")
        except BaseException:
            self.kill()
            raise AssertionError(f"no machine: {(directory / 'console').read_text()[-4000:]}") from None

    @property
    def pid(self) -> int:
        """Its first process, as the host has it."""
        return self._first

    @property
    def written(self) -> Path:
        """Where on the host stands what is written in the machine."""
        return self._directory / "upper"

    def _has_booted(self) -> bool:
        self._first = self._first or _init_below(self._outer.pid)
        # degraded is up too: a masked unit of a container's is nobody's business here
        return self._first != 0 and self.run("systemctl", "is-system-running").out.strip() in ("running", "degraded")

    def command(self, *words: str, environment: Environment = NOTHING) -> list[str]:
        """The command line on the host that runs `words` in the machine, with nothing of the host's environment."""
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        variables = [f"{name}={value}" for name, value in environment.items()]
        enter = [
            "nsenter",
            f"--target={self._first}",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--root",
            "--wd=/",
        ]
        return [*enter, "--", "env", "-i", "--chdir=/", path, "HOME=/root", "LANG=C.UTF-8", *variables, *words]

    def run(self, *words: str, stdin: str = "", seconds: float = 300, environment: Environment = NOTHING) -> Done:
        """Run it to its end, as root."""
        done = subprocess.run(
            self.command(*words, environment=environment),
            input=stdin, capture_output=True, text=True, check=False, timeout=seconds,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def good(self, *words: str, stdin: str = "", environment: Environment = NOTHING) -> str:
        """Its output, once it has ended well."""
        done = self.run(*words, stdin=stdin, environment=environment)
        assert done.status == 0, f"{words}: {done}\n{self.journal()}"
        return done.out

    def journal(self) -> str:
        """The end of it."""
        return self.run("journalctl", "--no-pager", "-n", "60").out

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """A file of root's."""
        self.good("install", "-D", "-m", mode, "/dev/stdin", path, stdin=text)

    def snapshot(self, *left_out: str) -> Snapshot:
        """Every file of the disk: type and mode, owner, group, and where a link leads or a hash of what is in it."""
        found = self.good("python3", "-I", "-", *LEFT_OUT, *left_out, stdin=_SNAPSHOT)
        parsed: Snapshot = json.loads(found)
        return parsed

    def kill(self) -> None:
        """All its processes; what it has written stays in its layer."""
        self._outer.kill()
        self._outer.wait()
        self._log.close()

    def layer(self) -> tuple[Path, ...]:
        """Layers for a machine that starts where this one, which ends now, was."""
        self.good("sync")
        self.kill()
        return (self.written, *self.layers)


def _locked(directory: Path) -> int:
    """A descriptor that holds a lock on it for as long as this process lives; BlockingIOError if another's does."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _clear_away_killed_runs() -> None:
    """A killed one could not remove its directory, which is a gigabyte; its lock is gone with it."""
    for directory in CACHE.glob("run-*"):
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            os.close(_locked(directory))
            shutil.rmtree(directory)


def differences(before: Snapshot, after: Snapshot) -> dict[str, tuple[object, object]]:
    """What is not the same, by name: before and after, None where there was nothing."""
    return {
        name: (before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    }


def _init_below(outer: int) -> int:
    """The machine's first process: the one that is number 1 to itself, below that process of the host's."""
    below = [outer]
    for pid in below:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                below += map(int, (task / "children").read_text().split())
            status = Path(f"/proc/{pid}/status").read_text()
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
            if numbers[-1] == "1" and Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                return pid
    return 0


class Workshop:
    """`with Workshop("bookworm") as workshop:` has the root and the wheels of that suite, made if their inputs have
    changed (a minute), and a directory for machines, which is gone at the end with all of them."""

    def __init__(self, suite: str) -> None:
        self.suite = suite
        self._count = 0

    def __enter__(self) -> Workshop:
        CACHE.mkdir(parents=True, exist_ok=True)
        self._lock = (CACHE / f"lock-{self.suite}").open("w")
        inputs = [HERE / "root.sh", CHECKOUT / "dist/debian.sh", *sorted((CHECKOUT / "dist").glob("requirements*.txt"))]
        wanted = hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs)).hexdigest()[:16]
        self._base = CACHE / f"{self.suite}-{wanted}"
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        while not self._base.is_dir():
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            if not self._base.is_dir():
                self._make()
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        with (CACHE / "lock-runs").open("w") as runs:
            fcntl.flock(runs, fcntl.LOCK_EX)  # nobody takes this one for a killed one's before it is locked
            _clear_away_killed_runs()
            self._directory = Path(tempfile.mkdtemp(prefix="run-", dir=CACHE))
            self._mine = _locked(self._directory)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._directory)
        os.close(self._mine)
        self._lock.close()

    def _make(self) -> None:
        for old in CACHE.glob(f"{self.suite}-*"):
            shutil.rmtree(old)
        building = CACHE / f"building-{self.suite}"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        done = subprocess.run(
            [HERE / "root.sh", building, self.suite],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(
                f"cannot make a {self.suite}: root.sh ended with {done.returncode}: {done.stderr[-4000:]}"
            )
        building.rename(self._base)

    @property
    def wheels(self) -> Path:
        """What pip is to take everything from."""
        return self._base / "wheels"

    def kept(self, name: str, inputs: bytes, make: Callable[[Path], None]) -> Path:
        """A directory that `make` fills, kept for the next run as long as `inputs` are the same."""
        wanted = CACHE / f"{name}-of-{self._base.name}-{hashlib.sha256(inputs).hexdigest()[:16]}"
        if not wanted.is_dir():
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            for old in CACHE.glob(f"{name}-of-{self.suite}-*"):
                shutil.rmtree(old)
            building = self.directory(name)
            make(building)
            building.rename(wanted)
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        return wanted

    def directory(self, name: str) -> Path:
        """A new one, of the host's, for as long as the workshop is there."""
        made = self._directory / name
        made.mkdir()
        return made

    @contextlib.contextmanager
    def machine(self, srv: Path, layers: tuple[Path, ...] = (), options: Sequence[str] = ()) -> Iterator[Machine]:
        """One that starts from `layers`, or is fresh; `srv` of the host's is its /srv, `options` are nspawn's."""
        self._count += 1
        made = Machine(self.directory(f"machine-{self._count}"), layers or (self._base / "root",), srv, options)
        try:
            yield made
        finally:
            made.kill()
