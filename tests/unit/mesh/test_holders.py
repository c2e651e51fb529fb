"""Who has which cluster key: members of ours as they say, Go nodes never, and who is not there."""

from __future__ import annotations

from privhelper.addressing import derive
from tests.unit.mesh.members import NET, key, member, metadata
from wesher.mesh.holders import holders
from wesher.mesh.node_meta import MAX_KEYS, Claim, MetaForm, NodeMeta, encode
from wesher.mesh.saved_state import LastSeen, SavedNode
from wesher.wire.messages import NodeState

OLD, NEW = b"oldk", b"newk"


def ours(name: str, *keys: bytes) -> bytes:
    """Metadata of a node of ours that has these keys."""
    return encode(NodeMeta(derive(NET, name.encode(), 0), key(name), MetaForm.V03, Claim(0, 5), keys))


def remembered(name: str, meta: bytes | None, last: LastSeen = LastSeen.FAILED) -> SavedNode:
    """One that is not there."""
    return SavedNode(name, "192.0.2.9", meta, 5, last)


def test_members_have_the_keys_that_they_say():
    """A suspect is a member still; one that says nothing readable has none, and is waited for by name."""
    found = holders(
        [
            member("a", meta=ours("a", NEW, OLD)),
            member("b", meta=ours("b", OLD, NEW), state=NodeState.SUSPECT),
            member("c", meta=ours("c", OLD)),
            member("d", meta=ours("d")),
            member("e", meta=b"garbage"),
            member("f", meta=ours("f", NEW), state=NodeState.DEAD),
        ],
        [],
    )
    assert found.without(NEW) == ["c", "d", "e"]
    assert found.not_sealing_with(NEW) == ["b", "c", "d", "e"]
    assert found.not_sealing_with(OLD) == ["a", "d", "e"]
    assert (found.go, found.absent) == ((), ())


def test_who_has_no_room_to_tell_of_a_key_may_have_it():
    """Of as many as there is room for, nobody knows what is behind them; of fewer, that is all."""
    many = [bytes((number,)) * 4 for number in range(MAX_KEYS)]
    found = holders([member("a", meta=ours("a", *many)), member("b", meta=ours("b", *many[1:]))], [])
    assert found.without(OLD) == ["a", "b"]
    assert found.untold(OLD) == ["a"]
    assert found.untold(many[0]) == []


def test_a_go_node_is_one_alive_or_remembered():
    """And so is one of which nothing is known: a Go state file has no metadata of it."""
    found = holders(
        [member("a", meta=ours("a", OLD)), member("b", meta=metadata("b")), member("g", meta=metadata("g"))],
        [
            remembered("g", metadata("g")),
            remembered("h", metadata("h"), LastSeen.LEFT),
            remembered("u", None),
            remembered("a", ours("a", OLD), LastSeen.ALIVE),
        ],
    )
    assert set(found.keys) == {"a"}
    assert found.go == ("b", "g", "h", "u")
    assert found.absent == ()


def test_those_of_ours_that_have_failed_are_absent():
    """Who has left need not come back."""
    gone = [
        remembered("z", ours("z", OLD)),
        remembered("y", ours("y", OLD), LastSeen.ALIVE),
        remembered("x", ours("x", OLD), LastSeen.LEFT),
    ]
    assert holders([member("a", meta=ours("a", OLD))], gone).absent == ("y", "z")
