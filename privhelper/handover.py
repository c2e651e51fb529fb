"""What root hands to the agent before there is one: the state directory and file, the runtime directory.

Started by an ordinary user these are his already, or an error says which command makes them so.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from privhelper.sandbox import DAC_OVERRIDE, Identity, has_capability
from privhelper.spawn import LaunchError

_OF_0_2_6: Final = "state.json"  # wesher/runtime/state_file.py reads it in the same case


def check_reachable(executable: str, users: Sequence[Identity]) -> None:
    """An interpreter or package below a private directory (say, /root) cannot be executed by the users that need it."""
    for path in (executable, os.path.realpath(executable), os.path.dirname(os.path.abspath(__file__))):
        for part in prefixes(path):
            info = os.stat(part)
            if any(not may(info, user, stat.S_IXOTH) for user in users):
                raise LaunchError(
                    f"uid {users[0].uid} and {users[1].uid} cannot reach {path}: {part} is closed to them; "
                    "install wesher where every user may read and execute it"
                )


def prefixes(path: str) -> list[str]:
    """The directories on the way to `path`, an absolute one, and itself."""
    parts = path.split("/")
    return ["/".join(parts[: i + 1]) or "/" for i in range(len(parts))]


def may(info: os.stat_result, user: Identity, bit: int) -> bool:
    """Whether the mode grants `user`, who has no other groups, what S_IROTH, S_IWOTH or S_IXOTH grants others."""
    owner, group = info.st_uid == user.uid, info.st_gid == user.gid
    return bool(info.st_mode >> (6 if owner else 3 if group else 0) & bit)


def hand_over_state(directory: str, file: str, agent: Identity) -> None:
    """Make the state directory and give it and the state file to the agent; where there is none yet, 0.2.6's.

    The file changes hands only while its directory is still root's: once the agent owns the directory, an earlier run
    of it may have put any root-owned file under that name (a hard link), and that stays root's.
    """
    with _as_whose_it_is(directory, agent):
        fd = _open_directory(directory, agent, 0o700, _is_ours_in_state_dir)
        for path in (file, f"{directory}/{_OF_0_2_6}"):
            if _hand_over_file(fd, path, agent):
                break
        _give(fd, directory, agent, 0o700)


@contextmanager
def _as_whose_it_is(directory: str, agent: Identity) -> Iterator[None]:
    """Within, this is the agent where the directory is its own already and this root has no power over modes, as a
    unit's has not: it could not even enter."""
    try:
        is_the_agents = os.lstat(directory).st_uid == agent.uid
    except OSError:
        is_the_agents = False
    if not is_the_agents or os.geteuid() != 0 or has_capability(DAC_OVERRIDE):
        yield
        return
    os.setegid(agent.gid)
    os.seteuid(agent.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def check_state(directory: str, file: str, agent: Identity) -> bool:
    """Whether the state directory is there; nothing is made or given. Raises LaunchError where `hand_over_state`
    would."""
    fd = _look_at_directory(directory, agent, 0o700, _is_ours_in_state_dir)
    if fd is None:
        return False
    for path in (file, f"{directory}/{_OF_0_2_6}"):
        if (file_fd := _open_file(fd, path, agent)) is not None:
            _check_gift(file_fd, path, agent, 0o600)
            break
    _check_gift(fd, directory, agent, 0o700)
    return True


def check_runtime(path: str, agent: Identity) -> bool:
    """The same for the runtime directory and `hand_over_runtime`."""
    fd = _look_at_directory(path, agent, 0o755, _is_ours_in_runtime_dir)
    if fd is not None:
        _check_gift(fd, path, agent, 0o755)
    return fd is not None


def _hand_over_file(directory_fd: int, path: str, agent: Identity) -> bool:
    """Whether there is such a file, which is the agent's now."""
    fd = _open_file(directory_fd, path, agent)
    if fd is not None:
        _give(fd, path, agent, 0o600)
    return fd is not None


def _open_file(directory_fd: int, path: str, agent: Identity) -> int | None:
    """The file, once it may be given to the agent; None where there is none."""
    try:
        fd = os.open(os.path.basename(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory_fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LaunchError(f"state file {path} cannot be opened: {error.strerror}; move it aside") from None
    info, may_be_roots = os.fstat(fd), os.fstat(directory_fd).st_uid == 0
    if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
        raise LaunchError(f"state file {path} is no plain file of its own; move it aside")
    if info.st_uid != agent.uid and not (may_be_roots and info.st_uid == 0):
        raise LaunchError(
            f"state file {path} belongs to uid {info.st_uid}; move it aside, or: chown {agent.uid} {path}"
        )
    return fd


def hand_over_runtime(path: str, agent: Identity) -> None:
    """Make the runtime directory if need be and give it to the agent."""
    _give(_open_directory(path, agent, 0o755, _is_ours_in_runtime_dir), path, agent, 0o755)


def _open_directory(path: str, agent: Identity, mode: int, is_ours: Callable[[str], bool]) -> int:
    """A descriptor of `path`, made if need be, once it may be given to the agent."""
    try:
        os.makedirs(os.path.dirname(path) or "/", mode=0o755, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(path, mode)
    except OSError as error:
        raise _cannot_be_made(path, agent, mode, error) from None
    return _usable_directory(path, agent, is_ours)


def _look_at_directory(path: str, agent: Identity, mode: int, is_ours: Callable[[str], bool]) -> int | None:
    """The same with nothing made; None where it could be."""
    if os.path.lexists(path):
        return _usable_directory(path, agent, is_ours)
    try:
        _check_room(path)
    except OSError as error:
        raise _cannot_be_made(path, agent, mode, error) from None
    return None


def _check_room(path: str) -> None:
    """Raise OSError where `path` cannot be made."""
    above = next(part for part in reversed(prefixes(os.path.dirname(path))) if os.path.lexists(part))
    if not os.path.isdir(above):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if os.statvfs(above).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    if not os.access(above, os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def _cannot_be_made(path: str, agent: Identity, mode: int, error: OSError) -> LaunchError:
    return LaunchError(
        f"directory {path} cannot be made: {error.strerror}; as root: install -d -o {agent.uid} -m {mode:o} {path}"
    )


def _usable_directory(path: str, agent: Identity, is_ours: Callable[[str], bool]) -> int:
    """A descriptor of `path`, once it may be given to the agent.

    A directory of root's may only if all in it is ours by name: a mistyped `--state-dir /etc` must not give away the
    system.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise LaunchError(f"directory {path} cannot be used: {error.strerror}; remove it or name another") from None
    owner = os.fstat(fd).st_uid
    if owner not in (0, agent.uid) or (owner == 0 and not all(map(is_ours, os.listdir(fd)))):
        raise LaunchError(
            f"directory {path} belongs to uid {owner} and holds other things; "
            f"name another, or give it away: chown {agent.uid} {path}"
        )
    return fd


def _give(fd: int, path: str, agent: Identity, mode: int) -> None:
    """Mode and owner, and close it. What is so already stays untouched: it may be mounted read-only. The mode comes
    first, since afterwards only CAP_FOWNER could set it, which a unit need not give the launcher."""
    info = os.fstat(fd)
    try:
        if stat.S_IMODE(info.st_mode) != mode:
            os.fchmod(fd, mode)
        if (info.st_uid, info.st_gid) != (agent.uid, agent.gid):
            os.fchown(fd, agent.uid, agent.gid)
    except OSError as error:
        raise _cannot_be_given(path, agent, mode, error.strerror or str(error)) from None
    finally:
        os.close(fd)


def _check_gift(fd: int, path: str, agent: Identity, mode: int) -> None:
    """Raise LaunchError where `_give` would, on a disk that cannot be written, and close it."""
    info, read_only = os.fstat(fd), os.fstatvfs(fd).f_flag & os.ST_RDONLY
    os.close(fd)
    if read_only and (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) != (agent.uid, agent.gid, mode):
        raise _cannot_be_given(path, agent, mode, os.strerror(errno.EROFS))


def _cannot_be_given(path: str, agent: Identity, mode: int, reason: str) -> LaunchError:
    return LaunchError(
        f"{path} cannot be given to uid {agent.uid}: {reason}; "
        f"make it so: chown {agent.uid}:{agent.gid} {path}; chmod {mode:o} {path}"
    )


def _is_ours_in_state_dir(name: str) -> bool:
    return name.endswith(".json") or ".json." in name


def _is_ours_in_runtime_dir(name: str) -> bool:
    return name.endswith(".sock")
