"""Containers on the machines of the lab: each machine has podman with its state in its own memory, so that its
containers are gone with it, and all read the images from one store, which is built from dist/container when its sources
have changed.

No registry is needed and no bridge made: the base is Debian's from the host's mirrors, wheels are handed in, and
containers share their machine's network, as `--network host` has it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.lab import Node, until
from tests.lab.ci import needs
from tests.lab.namespaces import ENV
from tests.lab.until import bound

CHECKOUT: Final = Path(__file__).parent.parent.parent
RECIPES: Final = CHECKOUT / "dist" / "container"
CACHE: Final = Path("/var/cache/wesher/containers")
STORE: Final = CACHE / "store"
NAMES: Final = Path("/var/cache/containers")
"""Where podman notes what short names stand for."""
TARGETS: Final = ("agent", "helper", "wireguard-go", "single")
TOOLS: Final = ("podman", "runc", "crun", "catatonit", "mmdebstrap")
READ_ONLY: Final = ("--read-only", "--read-only-tmpfs=false")
"""Also without the places in memory that podman would add."""

_SOURCES: Final = ("wesher", "privhelper", "pyproject.toml", "README.md", "dist/container")
_PINNED: Final = ("dist/requirements.txt", "dist/requirements-build.txt")

# crun wants cgroups of one kind, and runc takes what it finds; a machine of the lab has those of the host.
PREPARE: Final = f"""
set -e
mkdir -p /var/lib/containers /etc/containers
install -d -m 1777 /run/wireguard
if [ "$1" = cgroup2 ]; then mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
  mount -t tmpfs -o mode=0755 cgroup /sys/fs/cgroup
  for name in $1; do mkdir /sys/fs/cgroup/$name; mount -t cgroup -o $name cgroup /sys/fs/cgroup/$name; done
  mkdir /sys/fs/cgroup/systemd; mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
fi
cat >/etc/containers/storage.conf <<END
[storage]
driver = "overlay"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
[storage.options]
additionalimagestores = [$([ ! -d {STORE} ] || echo '"{STORE}"')]
END
cat >/etc/containers/containers.conf <<END
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
image_copy_tmp_dir = "/tmp"
runtime = "$2"
[network]
network_backend = "netavark"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
END
rm -rf /etc/cni
[ ! -d {NAMES} ] || mount -t tmpfs tmpfs {NAMES}
[ -e /run/tun ] || {{ mknod -m 666 /run/tun c 10 200; mount --bind /run/tun /dev/net/tun; }}
"""


def cgroups() -> tuple[str, str]:
    """Which hierarchies a machine has to mount, and which runtime goes with them."""
    lines = [line.split() for line in Path("/proc/cgroups").read_text().splitlines()[1:]]
    mounted = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    if ["/sys/fs/cgroup", "cgroup2"] in [fields[1:3] for fields in mounted]:
        return "cgroup2", "crun"
    used = {option for fields in mounted if fields[2] == "cgroup" for option in fields[3].split(",")}
    return " ".join(fields[0] for fields in lines if fields[0] in used), "runc"


class Machine:
    """A machine of the lab with an engine."""

    def __init__(self, node: Node) -> None:
        self.node = node
        node.run("sh", "-c", PREPARE, "sh", *cgroups())

    def podman(self, *words: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run podman on it to its end."""
        return self.node.run(
            "env", "TMPDIR=/tmp", "podman", "--log-level=error", *words, check=check, timeout=bound(timeout)
        )

    def start(self, name: str, image: str, *options: str, command: Sequence[str] = ()) -> None:
        """Start a container on the machine's network: read-only, without a capability that `options` does not add."""
        confined = (*READ_ONLY, "--cap-drop=all", "--security-opt=no-new-privileges")
        self.podman("run", "-d", f"--name={name}", "--network=host", *confined, *options, image, *command)

    def inside(self, name: str, *words: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in a container to its end, as the container's user or another."""
        as_user = () if user is None else (f"--user={user}",)
        return self.podman("exec", *as_user, name, *words, check=False)

    def pid(self, name: str) -> int:
        """Of a container's first process, as the machine sees it."""
        return int(self.podman("inspect", "--format={{.State.Pid}}", name).stdout)

    def read(self, path: str) -> str:
        """A file, by its path on the machine."""
        return self.node.run("cat", path).stdout

    def proc_status(self, name: str) -> dict[str, str]:
        """The fields of a container's first process in /proc."""
        lines = self.read(f"/proc/{self.pid(name)}/status").splitlines()
        return {field: value.strip() for field, _, value in (line.partition(":") for line in lines)}

    def state(self, name: str) -> str:
        """Whether it runs or has ended: "running 0", "exited 1"."""
        return self.podman("inspect", "--format={{.State.Status}} {{.State.ExitCode}}", name).stdout.strip()

    def said(self, name: str) -> str:
        """All that a container has written."""
        done = self.podman("logs", name)
        return done.stdout + done.stderr

    def ended(self, name: str, within: float = 30) -> tuple[int, str]:
        """Its exit status and what it said, once it has ended."""
        until(lambda: self.state(name).startswith("exited"), within, f"{name} ends")
        return int(self.state(name).split()[1]), self.said(name)


def missing() -> list[str]:
    """The programs that these tests need and this machine has not."""
    return [tool for tool in TOOLS if shutil.which(tool, path=ENV["PATH"]) is None]


@contextmanager
def images() -> Iterator[None]:
    """The images of this checkout, in the store; nobody builds others there for as long as this lasts."""
    needs(not missing(), f"{', '.join(missing())}: dist/test-deploy.sh installs them")
    for directory in (CACHE, NAMES):
        directory.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        wanted = _fingerprint(*_SOURCES, *_PINNED)
        if not _is((CACHE / "built"), wanted):
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is(CACHE / "built", wanted):
                _build()
                (CACHE / "built").write_text(wanted)
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def _build() -> None:
    _have_wheels()
    store = ["--root", str(STORE), "--runroot", "/run/wesher-containers", "--cgroup-manager=cgroupfs"]
    podman = ["podman", "--log-level=error", *store, "--runtime", cgroups()[1]]
    _do([*podman, "image", "prune", "--force", "--filter=until=24h"])  # what earlier builds have left
    base = f"localhost/debian:{_codename()}"
    if subprocess.run([*podman, "image", "exists", base], env=_env(), check=False).returncode != 0:
        _do([str(RECIPES / "base.sh")], ENGINE=" ".join(podman))
    offline = ("--volume", f"{CACHE / 'wheels'}:/wheels:ro", "--build-arg=PIP_NO_INDEX=1")
    arguments = (*offline, "--build-arg=PIP_FIND_LINKS=/wheels", f"--build-arg=BASE={base}", "--network=host")
    for target in TARGETS:
        recipe = (f"--file={RECIPES / 'Containerfile'}", f"--target={target}", f"--tag=localhost/wesher-{target}")
        _do([*podman, "build", "--quiet", "--format=docker", *arguments, *recipe, str(CHECKOUT)])
    _do([*podman, "pod", "create", "--replace", "--network=none", "--name=any"])  # which builds a pod's own image
    _do([*podman, "pod", "rm", "any"])


def _have_wheels() -> None:
    """What the build installs, as this machine's pip can have it; a build has no index."""
    wanted, wheels = _fingerprint(*_PINNED), CACHE / "wheels"
    if _is(wheels / "complete", wanted):
        return
    shutil.rmtree(wheels, ignore_errors=True)
    wheels.mkdir(mode=0o755)
    lists = [f"--requirement={CHECKOUT / name}" for name in _PINNED]
    pip = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--require-hashes", f"--dest={wheels}"]
    _do([*pip, *lists])
    (wheels / "complete").write_text(wanted)


def _do(command: list[str], **environment: str) -> None:
    done = subprocess.run(
        ["nice", *command], env=_env() | environment, capture_output=True, text=True, check=False, timeout=1800
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-4000:]}")


def _env() -> dict[str, str]:
    """How pip and apt reach their packages is the caller's."""
    return {**os.environ, "PATH": ENV["PATH"], "LC_ALL": "C"}


def _codename() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)["VERSION_CODENAME"]


def _is(file: Path, content: str) -> bool:
    return file.is_file() and file.read_text() == content


def _fingerprint(*names: str) -> str:
    digest = hashlib.sha256()
    for name in names:
        root = CHECKOUT / name
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(str(path.relative_to(CHECKOUT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
