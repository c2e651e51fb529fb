"""Namespaces without names. A set of namespaces lives exactly as long as the one process that holds it, and that
process reads a pipe whose other end is in the lab: when the lab ends, however it ends (SIGKILL included), the holder
reads EOF and exits; it is PID 1 of its PID namespace, so the kernel then kills every program in there and takes mounts,
links and tmpfs with them. Nothing has to be undone."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from tests.lab.until import bound

ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "LANG": "C.UTF-8"}
"""What programs in the lab get: nothing of the caller's environment reaches them unasked."""

READY = "ready"
HOLD = (
    f"echo {READY}; exec env --ignore-signal=CHLD cat >/dev/null"  # ignoring SIGCHLD reaps the orphans PID 1 inherits
)


class Namespaces:
    """Network, mount, UTS and PID namespaces, set up by a shell script that runs inside them."""

    def __init__(self, script: str, *arguments: str) -> None:
        unshare = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        self._holder = subprocess.Popen(
            [*unshare, "--propagation", "private", "--", "sh", "-euc", f"{script}\n{HOLD}", "sh", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENV,
            cwd="/",
            start_new_session=True,  # Ctrl-C is for the lab, which then ends them in order
        )
        try:
            assert self._holder.stdout is not None
            if self._holder.stdout.readline().decode().strip() != READY:
                assert self._holder.stderr is not None
                raise RuntimeError(f"cannot make namespaces: {self._holder.stderr.read().decode().strip()}")
            self.pid = direct_children(self._holder.pid)[0]
        except BaseException:
            self.close()
            raise

    @property
    def root(self) -> Path:
        """The directory under which this process sees what a program inside sees at /."""
        return Path(f"/proc/{self.pid}/root")

    def enter(self, *argv: str) -> list[str]:
        """The command line that runs `argv` inside."""
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--pid", "--", *argv]

    def ip(self, *commands: str) -> None:
        """Run `ip` commands in the network namespace only, where pids still mean the caller's."""
        self._in_network("ip", "-batch", "-", stdin="\n".join(commands))

    def tc(self, *arguments: str) -> None:
        """Run one `tc` command in the network namespace."""
        self._in_network("tc", *arguments)

    def _in_network(self, *argv: str, stdin: str = "") -> None:
        command = ["nsenter", f"--target={self.pid}", "--net", "--", *argv]
        done = subprocess.run(
            command, input=stdin, env=ENV, cwd="/", text=True, capture_output=True, timeout=bound(30), check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()} {stdin}")

    def processes(self) -> dict[int, list[str]]:
        """Host pid and command line of every program inside, the holder itself left out."""
        found = processes_in(namespace_of(self.pid) or "")
        return {pid: argv for pid, argv in found.items() if pid != self.pid}

    def close(self) -> None:
        """Kill everything inside and wait until it is gone; PID 1 counts as dead only after all the others."""
        for pid in direct_children(self._holder.pid) if self._holder.poll() is None else ():
            os.kill(pid, signal.SIGKILL)
        for stream in (self._holder.stdin, self._holder.stdout, self._holder.stderr):
            if stream is not None:
                stream.close()
        self._holder.wait(timeout=bound(30))


def run_to_end(nsenter: list[str], timeout: float) -> tuple[int, str, str]:
    """Exit status and output of a command inside. If it takes too long the command is killed, never nsenter: its orphan
    would be left to the init of the host, and namespaces do not go before their last zombie is reaped."""
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    process = subprocess.Popen(
        nsenter, stdin=null, stdout=pipe, stderr=pipe, text=True, env=ENV, cwd="/", start_new_session=True
    )
    with process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            for pid in direct_children(process.pid) or [process.pid]:
                os.kill(pid, signal.SIGKILL)
            raise
        return process.returncode, out, err


def direct_children(pid: int) -> list[int]:
    """Host pids of the children of `pid`, whichever of its threads made them; empty when it has ended."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, listing.read_text().split())
    return found


def children(pid: int) -> dict[int, list[str]]:
    """Host pid and command line of every living descendant of `pid`."""
    found: dict[int, list[str]] = {}
    for child in direct_children(pid):
        if argv := command_line(child):  # a zombie has none
            found[child] = argv
        found |= children(child)
    return found


def command_line(pid: int) -> list[str]:
    """The arguments of a running process; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP holds a process."""
    stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    return stat.rpartition(")")[2].split()[0] == "T"  # the name before it may hold spaces and brackets


def processes_in(pid_namespace: str) -> dict[int, list[str]]:
    """Host pid and command line of every living process whose PID namespace is the one given ("pid:[4026532281]")."""
    return {
        pid: argv
        for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
        if namespace_of(pid) == pid_namespace and (argv := command_line(pid))
    }


def namespace_of(pid: int, kind: str = "pid") -> str | None:
    """The name the kernel has for a process's namespace; None when it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return None
