"""The users of the two processes, by name or number."""

from __future__ import annotations

import pwd

from privhelper.options import DEFAULT_USERS
from privhelper.sandbox import MAX_ID, Identity


class BadUsers(Exception):
    """Why these cannot be the two users, in one line."""


def resolve_users(text: str) -> tuple[Identity, Identity]:
    """Agent and helper from `AGENT[:HELPER]`, names or numeric ids. Raises BadUsers, naming the missing users."""
    agent, _, helper = text.partition(":")
    names = (agent, helper or DEFAULT_USERS.partition(":")[2])
    found = [_identity(name) for name in names]
    missing = [name for name, identity in zip(names, found, strict=True) if identity is None]
    if missing:
        adds = "; ".join(f"useradd --system --no-create-home --shell /usr/sbin/nologin {name}" for name in missing)
        raise BadUsers(f"no such user: {', '.join(missing)}; create it with: {adds}")
    agent_id, helper_id = found
    assert agent_id is not None  # noqa: S101 - `missing` is empty
    assert helper_id is not None  # noqa: S101 - `missing` is empty
    if 0 in (agent_id.uid, agent_id.gid, helper_id.uid, helper_id.gid) or agent_id.uid == helper_id.uid:
        raise BadUsers(f"--user {text}: agent and helper need two different users, neither of them root")
    return agent_id, helper_id


def _identity(name: str) -> Identity | None:
    if name.isascii() and name.isdigit():
        uid = int(name[:11])
        if uid > MAX_ID:
            raise BadUsers(f"--user: {name} is no user id; the highest is {MAX_ID}")
        try:
            return Identity(uid, pwd.getpwuid(uid).pw_gid)
        except KeyError:
            return Identity(uid, uid)
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Identity(entry.pw_uid, entry.pw_gid)
