"""The users of the two processes: by name, by number, and what cannot be them."""

from __future__ import annotations

import pwd

import pytest

from privhelper.identity import BadUsers, resolve_users
from privhelper.sandbox import MAX_ID, Identity


def identity(name: str) -> Identity:
    """As the system's own files have it."""
    entry = pwd.getpwnam(name)
    return Identity(entry.pw_uid, entry.pw_gid)


ORDINARY = [entry for entry in pwd.getpwall() if entry.pw_uid and entry.pw_gid]
"""Every system has some: daemon, bin, nobody."""
FIRST = ORDINARY[0]
SECOND = next(entry for entry in ORDINARY if entry.pw_uid != FIRST.pw_uid)
FREE = next(number for number in range(61001, 62000) if number not in {entry.pw_uid for entry in pwd.getpwall()})


def test_users_by_name() -> None:
    """Their own groups come along."""
    expected = (identity(FIRST.pw_name), identity(SECOND.pw_name))
    assert expected == resolve_users(f"{FIRST.pw_name}:{SECOND.pw_name}")


def test_users_by_number_have_their_groups_if_they_have_names() -> None:
    """A number without a name is a group as well."""
    assert (identity(FIRST.pw_name), Identity(FREE, FREE)) == resolve_users(f"{FIRST.pw_uid}:{FREE}")


def test_a_name_and_a_number_can_be_mixed() -> None:
    """Containers have one and not the other."""
    assert (Identity(FREE, FREE), identity(FIRST.pw_name)) == resolve_users(f"{FREE}:{FIRST.pw_name}")


def test_without_a_helper_the_default_one_is_meant() -> None:
    """`--user 61001` names the agent alone."""
    try:
        expected = identity("wesher-priv")
    except KeyError:
        with pytest.raises(BadUsers, match="no such user: wesher-priv; create it with: useradd"):
            resolve_users(f"{FREE}")
    else:
        assert (Identity(FREE, FREE), expected) == resolve_users(f"{FREE}")


def test_missing_users_are_named_with_the_commands_that_make_them() -> None:
    """All at once, to be copied."""
    with pytest.raises(BadUsers) as raised:
        resolve_users("no-such-a:no-such-b")
    assert str(raised.value) == (
        "no such user: no-such-a, no-such-b; create it with: "
        "useradd --system --no-create-home --shell /usr/sbin/nologin no-such-a; "
        "useradd --system --no-create-home --shell /usr/sbin/nologin no-such-b"
    )


@pytest.mark.parametrize(
    "text",
    [
        "root:61001",
        "61001:root",
        "0:61001",
        "61001:0",
        "000:61001",
        "61001:61001",
        f"{FIRST.pw_name}:{FIRST.pw_uid}",
    ],
)
def test_two_different_users_neither_of_them_root(text: str) -> None:
    """One uid for both would have the agent trace the helper."""
    with pytest.raises(BadUsers, match=r"agent and helper need two different users, neither of them root"):
        resolve_users(text)


@pytest.mark.parametrize("number", [str(MAX_ID + 1), "9" * 11, "9" * 5000])
def test_a_number_beyond_the_highest_uid_is_none(number: str) -> None:
    """The next one means "stay who you are" to the kernel."""
    with pytest.raises(BadUsers, match=f"the highest is {MAX_ID}"):
        resolve_users(f"{number}:{FREE}")


@pytest.mark.parametrize("text", ["", ":", "-1:61001", "61001:-1", "٣:61001", "1e3:61001", "a b:61001"])
def test_what_is_neither_name_nor_number_is_a_missing_user(text: str) -> None:
    """No guess is made."""
    with pytest.raises(BadUsers, match="no such user"):
        resolve_users(text)
