"""From members to wanted peers: a bad member costs only itself, and nothing members do breaks the helper's line."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from privhelper.addressing import derive
from privhelper.monitor import _check_unique
from privhelper.protocol import MAX_PART, Peer, SetPeers, decode_request, encode_request
from tests.unit.mesh.members import NET, POLICY, TINY, a_member, key, member, metadata, rivals
from wesher.mesh.desired import Refusal, desired
from wesher.mesh.node_meta import Claim
from wesher.mesh.reconcile import reconcile
from wesher.swim.member import Member
from wesher.wire.messages import NodeState


def peer(name: str, **changes: object) -> Peer:
    """The peer that comes of `member(name)`."""
    found = desired([member(name, **changes)], POLICY, {})
    (only,) = found.peers
    return only


def test_an_honest_member_is_wanted_as_it_announced_itself():
    """Key and overlay address from its metadata, endpoint from gossip."""
    honest = replace(member("node-b"), addr=b"\xc0\x00\x02\x54")
    assert desired([honest], POLICY, {}).peers == (
        Peer(key("node-b"), IPv4Address("192.0.2.84"), derive(NET, b"node-b", 0), "node-b"),
    )


def test_a_mapped_gossip_address_is_an_ipv4_endpoint():
    """The kernel takes no v4-mapped endpoint on an IPv4 socket."""
    mapped = replace(member("node-b"), addr=bytes(10) + b"\xff\xff\xc0\x00\x02\x05")
    assert desired([mapped], POLICY, {}).peers[0].endpoint == IPv4Address("192.0.2.5")


@pytest.mark.parametrize(
    ("state", "wanted"),
    [(NodeState.ALIVE, True), (NodeState.SUSPECT, True), (NodeState.DEAD, False), (NodeState.LEFT, False)],
)
def test_the_living_are_wanted(state, wanted):
    """A mere suspicion breaks no tunnel; who is dead or gone is not even refused."""
    found = desired([member("node-b", state=state)], POLICY, {})
    assert ([p.name for p in found.peers], found.refused) == (["node-b"] if wanted else [], ())


def test_we_are_no_peer_of_our_own():
    """Our own record is among the members."""
    found = desired([member("me"), member("node-b")], POLICY, {})
    assert ([p.name for p in found.peers], found.refused) == (["node-b"], ())


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (member("bad", meta=b""), "no metadata"),
        (member("bad", meta=b"\xff" * 40), "metadata does not parse"),
        (member("bad", meta=metadata("bad")[:-1]), "metadata does not parse"),
        (member("bad", meta=metadata("bad").replace(b"AAAA", b"A!AA", 1)), "public key does not parse"),
        (member("bad", address=IPv4Address("172.16.0.1")), "overlay address outside the overlay net"),
        (member("bad", address=IPv4Address("10.0.0.1")), "overlay address is not derived from the name"),
        (member("bad", address=POLICY.own_address), "overlay address is this node's own"),
        (member("bad", public_key=POLICY.own_key), "public key is this node's own"),
        (member("bad", public_key=bytes(32)), "public key is weak"),
        (replace(member("bad"), addr=b"\x7f\0\0\x01"), "endpoint is no unicast address of another host"),
        (replace(member("bad"), addr=POLICY.own_address.packed), "endpoint lies inside the overlay"),
    ],
)
def test_a_bad_member_costs_only_itself(bad, reason):
    """It is left out and named with the reason; its neighbours are wanted as before."""
    good = [member("a"), member("z")]
    found = desired([good[0], bad, good[1]], POLICY, {})
    assert [p.name for p in found.peers] == ["a", "z"]
    assert found.refused == (Refusal("bad", reason),)


@pytest.mark.parametrize(
    "name",
    [
        "evil\n127.0.0.1 bank",
        "evil\ttab",
        "a b",
        "nul\0",
        "esc\x1b[2J",
        "del\x7f",
        "ünïcode",
        "\udcff",
        "١٢٣",
        "x" * 65,
        "x" * 255,
    ],
)
def test_a_name_that_the_helper_would_not_take_is_left_out(name):
    """Printable ASCII of up to 64 bytes crosses the privileged line, and nothing else."""
    found = desired([member("a"), member(name, meta=metadata("a"))], POLICY, {})
    assert [p.name for p in found.peers] == ["a"]
    assert found.refused == (Refusal(name, "name is not 1 to 64 printable ASCII characters"),)


def test_the_longest_and_the_oddest_printable_names_are_taken():
    """What is a host name is for the helper's other verdict to say."""
    names = ["x" * 64, "!", "~", "#comment", "localhost", "-"]
    assert [p.name for p in desired(map(member, names), POLICY, {}).peers] == sorted(names)


def test_a_go_node_without_metadata_is_only_passing():
    """It announces itself once without: nothing to warn of. Anything else is."""
    found = desired([member("empty", meta=b""), member("bad", meta=b"x")], POLICY, {})
    assert {refusal.name: refusal.is_passing for refusal in found.refused} == {"empty": True, "bad": False}


# --- two members, one thing


def pair_on_one_address() -> tuple[str, str]:
    """Two names that derive one address in the smallest net there is, the lower first."""
    holders: dict[object, str] = {}
    for number in range(100):
        name = f"n{number:02}"
        address = derive(TINY, name.encode(), 0)
        if address in holders:
            return holders[address], name
        holders[address] = name
    raise AssertionError("no two of a hundred names met in a net of eight")


TINY_POLICY = replace(POLICY, overlay_net=TINY, own_address=IPv4Address("10.9.8.100"))
LOW, HIGH = pair_on_one_address()


def accepted(members: list[Member]) -> dict[str, Peer]:
    """What is in force in the tiny net after a time in which these were the members."""
    return {p.name: p for p in desired(members, TINY_POLICY, {}).peers}


TODAY = 200_000_000
OLD, NEW, GO = Claim(0, TODAY), Claim(0, TODAY + 1), None


@pytest.mark.parametrize(
    ("low", "high", "in_force", "shaken", "holder"),
    [
        (GO, GO, None, "", LOW),
        (GO, GO, HIGH, "", LOW),
        (GO, GO, HIGH, HIGH, HIGH),
        (OLD, OLD, HIGH, "", LOW),
        (OLD, NEW, HIGH, "", LOW),
        (NEW, OLD, LOW, "", HIGH),
        (NEW, OLD, LOW, LOW, LOW),
        (NEW, OLD, LOW, HIGH, HIGH),  # a handshake with who is not in force for the address proves nothing
        (NEW, OLD, None, LOW, HIGH),
        (OLD, GO, LOW, "", HIGH),
        (OLD, GO, LOW, LOW, LOW),
        (GO, OLD, HIGH, "", LOW),
    ],
)
def test_an_address_goes_to_the_better_right(low, high, in_force, shaken, holder):
    """The table of contest.py, with what is in force and has shaken hands here; in whatever order they come."""
    members = [member(LOW, net=TINY, claim=low), member(HIGH, net=TINY, claim=high)]
    held = accepted([m for m in members if m.name == in_force])
    assert set(held) == {in_force} - {None}
    for order in (members, members[::-1]):
        found = desired(order, TINY_POLICY, held, (), {key(shaken)})
        assert [p.name for p in found.peers] == [holder]
        loser = HIGH if holder == LOW else LOW
        assert found.refused == (Refusal(loser, f"overlay address belongs to {holder}"),)
        assert found.is_contested is (in_force is not None)


@pytest.mark.parametrize("changes", [{"public_key": b"\x07" * 32}, {"address": derive(TINY, HIGH.encode(), 1)}])
def test_a_handshake_proves_nothing_for_another_key_or_address(changes):
    """The tunnel that stands is of the key and address that are in force."""
    claimant = member(HIGH, net=TINY, claim=NEW, **changes)
    held = accepted([member(HIGH, net=TINY, claim=NEW)])
    rival_name = next(
        name
        for i in range(1000)
        if derive(TINY, (name := f"r{i}").encode(), 0) == changes.get("address", derive(TINY, HIGH.encode(), 0))
    )
    found = desired(
        [claimant, member(rival_name, net=TINY, claim=OLD)], TINY_POLICY, held, (), {key(HIGH), b"\x07" * 32}
    )
    assert [p.name for p in found.peers] == [rival_name]


def test_who_loses_its_key_contests_no_address():
    """A thief of a key with the older claim costs the address nothing."""
    thief = member(LOW, net=TINY, claim=OLD, public_key=key("node-b"))
    members = [thief, member(HIGH, net=TINY, claim=NEW), member("node-b", net=TINY, address=derive(TINY, b"node-b", 0))]
    assert derive(TINY, b"node-b", 0) != derive(TINY, LOW.encode(), 0)
    held = accepted(members[1:])
    assert set(held) == {HIGH, "node-b"}
    assert desired(members, TINY_POLICY, held).peers == tuple(sorted(held.values(), key=lambda p: p.name))


def test_without_a_rival_nothing_is_contested():
    """Nobody has to look at handshakes for nothing; two who are both not in force have none to look at."""
    held = accepted([member(LOW, net=TINY)])
    assert not desired([member(LOW, net=TINY)], TINY_POLICY, held).is_contested
    assert not desired([member(LOW, net=TINY), member(HIGH, net=TINY)], TINY_POLICY, {}).is_contested
    assert not desired([member(HIGH, net=TINY)], TINY_POLICY, held).is_contested  # who had it is gone


@pytest.mark.parametrize("in_force", [True, False])
def test_an_attacker_cannot_claim_an_address_that_its_name_does_not_derive(in_force):
    """Even with a name that sorts first, and before the victim is in force."""
    victim, attacker = member("victim"), member("aaaa", address=derive(NET, b"victim", 0))
    held = {"victim": peer("victim")} if in_force else {}
    found = desired([attacker, victim], POLICY, held)
    assert [p.name for p in found.peers] == ["victim"]
    assert found.refused == (Refusal("aaaa", "overlay address is not derived from the name"),)


@pytest.mark.parametrize("thief", ["aaaa", "zzzz"])
def test_a_key_stays_with_whom_it_is_in_force_for(thief):
    """Whoever announces another's key gets nothing."""
    found = desired([member(thief, public_key=key("node-b")), member("node-b")], POLICY, {"node-b": peer("node-b")})
    assert [p.name for p in found.peers] == ["node-b"]
    assert found.refused == (Refusal(thief, "public key belongs to node-b"),)


@pytest.mark.parametrize("twin", ["Node-B", "NODE-B"])
def test_names_that_differ_only_in_case_are_one_name(twin):
    """As host names are; the one in force stays, though the other sorts first."""
    found = desired([member(twin), member("node-b")], POLICY, {"node-b": peer("node-b")})
    assert [p.name for p in found.peers] == ["node-b"]
    assert found.refused == (Refusal(twin, "name, but for upper and lower case, belongs to node-b"),)


def test_a_returning_node_with_a_new_key_replaces_its_old_one():
    """It keeps its address against a newcomer: its claim is the older one, and only its key is new."""
    returning = member(HIGH, net=TINY, claim=OLD, public_key=b"\x07" * 32)
    held = accepted([member(HIGH, net=TINY, claim=OLD)])
    found = desired([member(LOW, net=TINY, claim=NEW), returning], TINY_POLICY, held)
    assert [(p.name, p.public_key) for p in found.peers] == [(HIGH, b"\x07" * 32)]


def test_who_is_gone_holds_nothing():
    """The address of a dead member is free for whom it derives."""
    held = {p.name: p for p in desired([member(LOW, net=TINY)], TINY_POLICY, {}).peers}
    members = [member(LOW, net=TINY, state=NodeState.DEAD), member(HIGH, net=TINY)]
    assert [p.name for p in desired(members, TINY_POLICY, held).peers] == [HIGH]


@pytest.mark.parametrize("thief", ["aaaa", "zzzz"])
@pytest.mark.parametrize("known", [True, False])
def test_a_key_stays_with_a_member_that_moves(thief, known):
    """A new address is no reason to lose the key, not even to who is in force himself and sorts first."""
    held = {"node-b": peer("node-b")} | ({thief: peer(thief)} if known else {})
    moved = member("node-b", address=derive(NET, b"node-b", 1))
    found = desired([member(thief, public_key=key("node-b")), moved], POLICY, held)
    assert [(p.name, p.overlay_addr) for p in found.peers] == [("node-b", derive(NET, b"node-b", 1))]
    assert found.refused == (Refusal(thief, "public key belongs to node-b"),)


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_of_two_that_change_alike_the_lower_name_has_it_and_keeps_it(order):
    """Both in force, both with one new key: every node decides alike, and a later look changes nothing."""
    both = [member(name, public_key=b"\x07" * 32) for name in order]
    held = {name: peer(name) for name in order}
    first = desired(both, POLICY, held)
    assert [p.name for p in first.peers] == ["a"]
    assert desired(both, POLICY, {p.name: p for p in first.peers}) == first


def test_who_changes_least_goes_before_who_comes_anew():
    """A member in force wins a new key over a newcomer that sorts first."""
    both = [member(name, public_key=b"\x07" * 32) for name in ("a", "b")]
    assert [p.name for p in desired(both, POLICY, {"b": peer("b")}).peers] == ["b"]


@settings(deadline=None)
@given(rivals, rivals)
def test_who_is_in_force_unchanged_and_proven_stays_and_a_second_look_changes_nothing(before, members):
    """Whatever the others claim; and the outcome, once in force, is its own outcome."""
    held = accepted(before)
    proven = {p.public_key for p in held.values()}
    claimed = [p for m in members for p in desired([m], TINY_POLICY, {}).peers]
    found = desired(members, TINY_POLICY, held, (), proven)
    assert {p for p in claimed if held.get(p.name) == p} <= set(found.peers)
    for shaken in (proven, set()):
        found = desired(members, TINY_POLICY, held, (), shaken)
        assert desired(members, TINY_POLICY, {p.name: p for p in found.peers}, (), shaken).peers == found.peers


@settings(deadline=None)
@given(rivals, rivals, rivals)
def test_without_handshakes_who_has_an_address_is_the_same_on_every_node(members, one, other):
    """Whatever was in force: only where keys or names are stolen too, does that count."""
    keys = [p.public_key for m in members for p in desired([m], TINY_POLICY, {}).peers]
    names = [m.name.lower() for m in members]
    assume(len(set(keys)) == len(keys) and len(set(names)) == len(names))
    assert desired(members, TINY_POLICY, accepted(one)).peers == desired(members, TINY_POLICY, accepted(other)).peers


# --- retained peers


def test_a_retained_peer_is_wanted_beside_the_living():
    """In its place by name."""
    found = desired([member("a"), member("z")], POLICY, {}, [peer("m")])
    assert found.peers == (peer("a"), peer("m"), peer("z"))


@pytest.mark.parametrize(
    "claimant",
    [
        member("M"),
        member("other", public_key=key("m")),
        member("m", public_key=b"\x07" * 32),
        member("m", meta=b"no metadata that parses"),
        replace(member("endpoint"), addr=derive(NET, b"m", 0).packed),
    ],
)
def test_what_a_live_member_claims_no_retained_peer_keeps(claimant):
    """Name, key, or a host that the retained peer's route would hide; in force or not, and without a word."""
    alone = desired([claimant], POLICY, {"m": peer("m")})
    assert desired([claimant], POLICY, {"m": peer("m")}, [peer("m")]) == alone


def test_a_live_member_takes_a_retained_ones_address():
    """It would otherwise wait for a dead one."""
    (kept,) = desired([member(LOW, net=TINY)], TINY_POLICY, {}).peers
    found = desired([member(HIGH, net=TINY)], TINY_POLICY, {LOW: kept}, [kept])
    assert [p.name for p in found.peers] == [HIGH]
    assert found.refused == ()


@pytest.mark.parametrize("shaken", [True, False])
def test_a_retained_peer_whose_tunnel_works_keeps_its_address(shaken):
    """Gossip says that it has failed, WireGuard that it has not; who claims its address waits."""
    (kept,) = desired([member(LOW, net=TINY)], TINY_POLICY, {}).peers
    claimant = member(HIGH, net=TINY, claim=OLD)
    found = desired([claimant], TINY_POLICY, {LOW: kept}, [kept], {key(LOW)} if shaken else ())
    assert [p.name for p in found.peers] == [LOW if shaken else HIGH]
    assert found.refused == ((Refusal(HIGH, f"overlay address belongs to {LOW}"),) if shaken else ())
    assert found.is_contested


def test_a_retained_peer_that_is_not_in_force_holds_no_address():
    """A state file's, say: that there was a tunnel once proves nothing."""
    (kept,) = desired([member(LOW, net=TINY)], TINY_POLICY, {}).peers
    found = desired([member(HIGH, net=TINY)], TINY_POLICY, {}, [kept], {key(LOW)})
    assert [p.name for p in found.peers] == [HIGH]


def test_a_retained_peer_that_loses_its_key_holds_no_address_either():
    """Or a live member would wait for nobody."""
    (kept,) = desired([member(LOW, net=TINY)], TINY_POLICY, {}).peers
    thief = member("thief", net=TINY, public_key=key(LOW))
    assert derive(TINY, b"thief", 0) != kept.overlay_addr
    found = desired([member(HIGH, net=TINY), thief], TINY_POLICY, {LOW: kept}, [kept], {key(LOW)})
    assert [p.name for p in found.peers] == [HIGH, "thief"]


def test_who_is_refused_takes_nothing_from_a_retained_peer():
    """Else any member could cut off one that is only restarting, by naming its key."""
    thief = member("thief", address=POLICY.own_address, public_key=key("m"))
    assert desired([thief], POLICY, {"m": peer("m")}, [peer("m")]).peers == (peer("m"),)


@pytest.mark.parametrize(
    "bad",
    [
        replace(peer("m"), overlay_addr=IPv4Address("172.16.0.1")),
        replace(peer("m"), public_key=POLICY.own_key),
        replace(peer("m"), endpoint=IPv4Address("127.0.0.1")),
        replace(peer("m"), name="a b", overlay_addr=derive(NET, b"a b", 0)),
        replace(peer("m"), name="me", overlay_addr=derive(NET, b"me", 1)),
    ],
)
def test_a_retained_peer_that_policy_refuses_is_left_out(bad):
    """It may come from a state file written under other options; nobody is told."""
    assert desired([], POLICY, {}, [bad]) == desired([], POLICY, {})


def test_a_retained_peer_behind_a_live_ones_overlay_address_is_left_out():
    """The helper would refuse it, and the log would speak of a member that is not there."""
    behind = replace(peer("m"), endpoint=peer("a").overlay_addr)
    assert desired([member("a")], POLICY, {}, [behind]).peers == (peer("a"),)


def test_places_go_to_the_living_first():
    """The helper prefers who is in force: a dead one must not keep a newcomer out."""
    few = replace(POLICY, max_peers=2)
    held = {name: peer(name) for name in ("dead-1", "dead-2")}
    living = [member("new")]
    assert [p.name for p in desired(living, few, held, held.values()).peers] == ["dead-1", "new"]
    living = [member(name) for name in ("new", "newer", "newest")]
    assert [p.name for p in desired(living, few, held, held.values()).peers] == ["new", "newer", "newest"]


def test_of_two_retained_peers_the_one_in_force_is_kept():
    """The state file may be older than what the helper has."""
    older = replace(peer("a"), public_key=key("z"))
    assert desired([], POLICY, {"z": peer("z")}, [older, peer("z")]).peers == (peer("z"),)


@settings(deadline=None)
@given(rivals, rivals, rivals, st.integers(1, 4))
def test_no_retained_peer_takes_anything_from_a_live_one(before, members, gone, max_peers):
    """The same living are wanted, refused and accepted by the helper, with it and without it."""
    policy = replace(TINY_POLICY, max_peers=max_peers)
    held = accepted(before)
    kept = [p for m in gone for p in desired([replace(m, state=NodeState.ALIVE)], policy, {}).peers]
    alone, found = desired(members, policy, held), desired(members, policy, held, kept)
    _check_unique(found.peers)
    assert found.refused == alone.refused
    assert set(alone.peers) <= set(found.peers) <= {*alone.peers, *kept}
    keys = {p.public_key for p in held.values()}
    verdicts = dict(zip(found.peers, policy.judge(found.peers, keys, ()), strict=True))
    assert {p: verdicts[p][0] for p in alone.peers} == {
        p: verdict for p, (verdict, _) in zip(alone.peers, policy.judge(alone.peers, keys, ()), strict=True)
    }


# --- how many, in what order


def test_a_flood_displaces_nobody():
    """Twice --max-peers may be sent, those in force first, whatever sorts before them."""
    few = replace(POLICY, max_peers=3)
    good = [member(name) for name in ("x", "y", "z")]
    held = {p.name: p for p in desired(good, few, {}).peers}
    flood = [member(f"a{number:03}") for number in range(50)]
    found = desired([*flood, *good], few, held)
    assert [p.name for p in found.peers] == ["a000", "a001", "a002", "x", "y", "z"]
    assert {(r.name, r.peer_reason) for r in found.refused} == {
        (f"a{number:03}", "more members than --max-peers") for number in range(3, 50)
    }


@settings(deadline=None)
@given(st.permutations([*"abcdef"]))
def test_the_order_does_not_depend_on_who_was_heard_of_first(names):
    """Equal sets are equal tuples: nothing is sent twice for nothing."""
    assert desired(map(member, names), POLICY, {}) == desired(map(member, sorted(names)), POLICY, {})


# --- whatever comes


@settings(deadline=None)
@given(
    st.lists(a_member(), max_size=10, unique_by=lambda m: m.name),
    st.lists(a_member(), max_size=5, unique_by=lambda m: m.name),
    st.sampled_from([POLICY, TINY_POLICY, replace(TINY_POLICY, max_peers=2)]),
)
def test_no_member_can_make_us_violate_the_helpers_protocol(before, members, policy):
    """The wanted set encodes, decodes strictly to itself, and holds no key, address or folded name twice."""
    held = {p.name: p for p in desired(before, policy, {}).peers}
    found = desired(members, policy, held)
    requests = reconcile(None, found.peers, write_hosts=False)
    received: list[Peer] = []
    for sequence, request in enumerate(requests, 1):
        assert decode_request(encode_request(sequence, request)) == (sequence, request)
        assert isinstance(request, SetPeers)
        received += request.peers
    _check_unique(received)
    assert tuple(received) == found.peers
    assert len(received) <= 2 * policy.max_peers
    named = [m.name for m in members if m.is_live and m.name != policy.node_name]
    assert sorted([p.name for p in found.peers] + [r.name for r in found.refused]) == sorted(named)


def test_a_full_mesh_of_eight_thousand_fits_the_line():
    """Twice the highest --max-peers, in parts of 512, each within a message."""
    most = replace(POLICY, max_peers=4000)
    members = [
        replace(member(f"node-{number:04}"), addr=(0xC0_00_00_00 + number).to_bytes(4, "big")) for number in range(8000)
    ]
    found = desired(members, most, {})
    requests = reconcile(None, found.peers, write_hosts=True)
    assert len(found.peers) > 7900  # some of 8000 names meet in 2**24 addresses
    assert all(len(r.peers) <= MAX_PART for r in requests if isinstance(r, SetPeers))
    for request in requests:
        decode_request(encode_request(1, request))
