"""Members to try the mesh rules on: honest ones, and whatever else gossip may hold."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_network

from hypothesis import strategies as st

from privhelper.addressing import derive
from privhelper.policy import Policy, Surroundings
from wesher.mesh.node_meta import Claim, MetaForm, NodeMeta, encode
from wesher.swim.member import Member
from wesher.wire.messages import NodeState

NET = ip_network("10.0.0.0/8")
TINY = ip_network("10.9.8.0/29")
POLICY = Policy(
    overlay_net=NET,
    node_name="me",
    own_address=derive(NET, b"me", 0),
    own_key=b"\xee" * 32,
    max_peers=1000,
    etc_hosts=True,
    hosts_suffix="",
    surroundings=Surroundings(),
)


def key(name: str) -> bytes:
    """Some public key that belongs to `name`."""
    return (name.encode() + bytes(31) + b"\x09")[:32]


def metadata(
    name: str,
    *,
    address: IPv4Address | None = None,
    public_key: bytes | None = None,
    net: IPv4Network = NET,
    form: MetaForm = MetaForm.V03,
    claim: Claim | None = None,
) -> bytes:
    """Honest metadata of `name`, a Go node without a `claim`, but for what is given."""
    return encode(NodeMeta(address or derive(net, name.encode(), 0), public_key or key(name), form, claim))


def member(
    name: str,
    *,
    state: NodeState = NodeState.ALIVE,
    since: float = 0.0,
    meta: bytes | None = None,
    **changes: object,
) -> Member:
    """A member whose gossip address follows from its name; `changes` are those of its metadata."""
    addr = bytes((192, 0, 2, sum(name.encode("utf-8", "surrogateescape")) % 250 + 1))
    return Member(name, addr, 7946, metadata(name, **changes) if meta is None else meta, 1, state, since)


a_name = st.one_of(
    st.sampled_from(["a", "b", "A", "B", "me", "node-1", "NODE-1", "", "x" * 64, "x" * 65, "é", "a\n"]),
    st.text(max_size=70),
    st.binary(min_size=1, max_size=70).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)
an_address = st.ip_addresses(v=4) | st.ip_addresses(v=6).filter(lambda ip: ip.ipv4_mapped is None)
a_key = st.sampled_from([b"\x01" * 32, b"\x02" * 32, bytes(32), b"\xee" * 32]) | st.binary(min_size=32, max_size=32)


@st.composite
def a_member(draw: st.DrawFn) -> Member:
    """Anything that gossip may hold: mostly nonsense, often colliding, sometimes honest."""
    name = draw(a_name)
    net = draw(st.sampled_from([NET, TINY]))
    raw = name.encode("utf-8", "surrogateescape")
    address = draw(st.integers(0, 15).map(lambda attempt: derive(net, raw, attempt)) | an_address)
    meta = draw(st.builds(NodeMeta, st.just(address), a_key, st.sampled_from(MetaForm), st.none()).map(encode))
    meta = draw(st.just(meta) | st.binary(max_size=40))
    addr = draw(st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16))
    return Member(name, addr, draw(st.integers(0, 65535)), meta, 1, draw(st.sampled_from(NodeState)), 0.0)


RIVALS = ["a", "A", "b", "B", "c", "d"]


@st.composite
def a_rival(draw: st.DrawFn) -> Member:
    """An acceptable member of the tiny net, mostly at odds with others over address, key, name or endpoint."""
    name = draw(st.sampled_from(RIVALS))
    address = derive(TINY, name.encode(), draw(st.integers(0, 3)))
    claim = draw(st.none() | st.builds(Claim, st.sampled_from([0, 255]), st.sampled_from([0, 200_000_000])))
    meta = encode(NodeMeta(address, draw(st.sampled_from([key("a"), key("b"), key(name)])), MetaForm.V03, claim))
    addr = draw(st.sampled_from([b"\xc0\x00\x02\x01", derive(TINY, draw(st.sampled_from(RIVALS)).encode(), 0).packed]))
    return Member(name, addr, 7946, meta, 1, draw(st.sampled_from([NodeState.ALIVE, NodeState.DEAD])), 0.0)


rivals = st.lists(a_rival(), max_size=6, unique_by=lambda m: m.name)
