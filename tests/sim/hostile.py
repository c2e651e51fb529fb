"""A member with the cluster key that means harm: it forges, floods and fuzzes, and answers for members it made up.

It knows whoever it attacks: their names, addresses, keys and incarnations, as any insider does. Each act is one kind
of the table at the end, sent to one machine, to some or to all, by datagram or in a full exchange. Its made-up members
live at its own addresses and answer pings as long as it is there, so that the mesh has to bear them; they claim other
members' overlay addresses, keys and names, as far as a stranger can without being refused at once.

What it cannot do is listen in on others or hold back their packets: that is the weather's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address
from itertools import count
from random import Random
from typing import Final

from privhelper.addressing import Address, derive, is_derived
from tests.sim.cluster import Cluster
from tests.sim.machine import OVERLAY_NET, Machine
from tests.sim.network import KEY, PORT
from tests.sim.underlay import Pipe
from wesher.mesh.node_meta import Claim, MetaForm, NodeMeta
from wesher.mesh.node_meta import encode as encode_meta
from wesher.swim.io import Endpoint, StreamAccepted, StreamConnected, StreamData, StreamEnded, StreamInput
from wesher.swim.member import Member
from wesher.swim.members import CLOCK_IS_SET, highest_sane
from wesher.wire.codec import encode
from wesher.wire.errors import WireError
from wesher.wire.keyring import Keyring
from wesher.wire.limits import VSN
from wesher.wire.messages import (
    Ack,
    Alive,
    Dead,
    IndirectPing,
    Message,
    MessageType,
    Nack,
    NodeState,
    Ping,
    PushNodeState,
    PushPull,
    Suspect,
    UserMessage,
)
from wesher.wire.packet import open_packet, seal_packet
from wesher.wire.stream import StreamReader, seal_stream

MOST_FAKES: Final = 20
"""Made-up members at once: the bound for recovery rests on it."""

_RING: Final = Keyring([KEY])
_FIRST_PLACE: Final = 200


class Stranger:
    """An address of the attacker's, at which some made-up members live."""

    def __init__(self, attacker: Attacker, at: Endpoint) -> None:
        self.at = at
        self.streams: dict[int, Pipe | None] = {}
        self.last_accepted = -1
        self._attacker = attacker
        self._readers: dict[int, StreamReader] = {}
        self._to_send: dict[int, bytes] = {}
        self._last_dialled = 0

    def take_datagram(self, data: bytes, source: Endpoint) -> None:
        """Pings for made-up members are answered."""
        self._attacker.hear(self, data, source)

    def take_stream(self, event: StreamInput) -> None:
        """Exchanges are answered with lies."""
        match event:
            case StreamAccepted(number):
                self._readers[number] = StreamReader(_RING, limit=1 << 20)
            case StreamConnected(number):
                self._attacker.underlay.send_stream(self, number, self._to_send.pop(number))
            case StreamData(number, data) if number in self._readers:
                self._answer(number, data)
            case StreamEnded(number):
                self._readers.pop(number, None)
                self._to_send.pop(number, None)
            case _:
                pass

    def dial(self, to: Endpoint, data: bytes) -> None:
        """Send `data` over a new stream, and listen no more."""
        self._last_dialled += 2
        self._to_send[self._last_dialled] = data
        self._attacker.underlay.dial(self, self._last_dialled, to)

    def _answer(self, number: int, data: bytes) -> None:
        try:
            asked = self._readers[number].feed(data)
        except WireError:
            return
        if asked is not None:
            del self._readers[number]
            self._attacker.underlay.send_stream(self, number, self._attacker.answer(asked))
            self._attacker.underlay.close_stream(self, number)


class Attacker:
    """Attacks `victims` from `begin` until `expel`."""

    def __init__(self, cluster: Cluster, victims: Sequence[Machine], *, addresses: int = 2) -> None:
        self.underlay = cluster.underlay
        self.victims = victims
        cluster.forged = True
        self._cluster = cluster
        self._rng = Random(f"attacker of {cluster.underlay.seed}")
        self._nonces = count(1 << 80)
        places = (Endpoint(IPv4Address((10 << 24) + _FIRST_PLACE + number), PORT) for number in range(addresses))
        self._strangers = [Stranger(self, place) for place in places]
        self._fakes: dict[str, Alive] = {}
        self._is_active = False

    def begin(self, *, pace: tuple[float, float]) -> None:
        """Attack, with so many seconds from act to act."""
        self._is_active = True
        for stranger in self._strangers:
            self.underlay.settle_at(stranger)
        self._next_act(pace)

    def expel(self) -> None:
        """It is gone, and its made-up members are silent."""
        self._is_active = False
        for stranger in self._strangers:
            self.underlay.vacate(stranger)

    def _next_act(self, pace: tuple[float, float]) -> None:
        def act() -> None:
            if self._is_active:
                self._act()
                self._next_act(pace)

        self.underlay.after(self._rng.uniform(*pace), act)

    def _act(self) -> None:
        victims = [machine for machine in self.victims if machine.node is not None]
        if not victims:
            return
        kind = self._rng.choice(ACTS)
        name = kind.__name__.strip("_")
        listeners = (
            victims if self._rng.random() < 0.3 else self._rng.sample(victims, self._rng.randint(1, len(victims)))
        )
        self._cluster.tell(f"attack: {name} on {', '.join(machine.name for machine in listeners)}")
        messages = list(kind(self, self._rng.choice(victims)))
        for machine in listeners:
            self._send(machine, messages)

    def _send(self, to: Machine, messages: Sequence[Message | bytes]) -> None:
        stranger = self._rng.choice(self._strangers)
        entries = [entry for message in messages if (entry := _as_entry(message)) is not None]
        if entries and self._rng.random() < 0.3:
            stranger.dial(to.at, self._sealed_stream(PushPull(self._rng.random() < 0.5, tuple(entries))))
            return
        parts: list[bytes] = []
        for message in messages:
            part = message if isinstance(message, bytes) else encode(message)
            if parts and sum(map(len, parts)) + len(part) > 50_000:
                break
            parts.append(part)
        if parts:
            # By hand: our own would not make a compound of so many parts.
            lengths = b"".join(len(part).to_bytes(2, "big") for part in parts)
            compound = bytes((MessageType.COMPOUND, len(parts))) + lengths + b"".join(parts)
            self.underlay.send_datagram(stranger.at, to.at, seal_packet([compound], _RING, self._nonce()))

    # --- answering for members that do not exist

    def hear(self, stranger: Stranger, data: bytes, source: Endpoint) -> None:
        """Ack every ping; refute what is said of a fake; sometimes play what was heard back."""
        try:
            messages = open_packet(data, _RING).messages
        except WireError:
            return
        for message in messages:
            answer: Message | None = None
            match message:
                case Ping(seq_no, name) if name in self._fakes:
                    answer = Ack(seq_no)
                case IndirectPing(seq_no):
                    answer = self._rng.choice((Ack(seq_no), Nack(seq_no), None))
                case Suspect(incarnation, name) | Dead(incarnation, name) if name in self._fakes:
                    answer = self._fakes[name] = _raised(self._fakes[name], incarnation + 1)
                case _:
                    pass
            if answer is not None:
                self.underlay.send_datagram(stranger.at, source, seal_packet([encode(answer)], _RING, self._nonce()))

    def answer(self, asked: object) -> bytes:
        """What comes back on a stream."""
        if isinstance(asked, Ping):
            return self._sealed_stream(Ack(asked.seq_no))
        entries = (_as_entry(fake) for fake in self._fakes.values())
        return self._sealed_stream(PushPull(False, tuple(entry for entry in entries if entry is not None)))

    # --- what it does

    def _accuse(self, victim: Machine) -> Iterator[Message]:
        me = _me(victim)
        accuser = self._rng.choice([machine.name for machine in self.victims])
        yield self._rng.choice((Suspect, Dead))(self._incarnation(me), me.name, accuser)

    def _forge_a_leave(self, victim: Machine) -> Iterator[Message]:
        me = _me(victim)
        yield Dead(self._incarnation(me), me.name, me.name)
        if self._rng.random() < 0.5:
            yield self._alive(me.name, meta=self._meta(me.name))

    def _impersonate(self, victim: Machine) -> Iterator[Message]:
        me = _me(victim)
        own_place = self._rng.random() < 0.5
        at = victim.at if own_place else self._place()
        meta = self._rng.choice((self._meta(me.name), b"", me.meta, self._rng.randbytes(40)))
        yield Alive(self._incarnation(me), me.name, at.ip.packed, PORT, meta)

    def _invent(self, victim: Machine) -> Iterator[Message]:
        """Members that want what is the victim's."""
        if len(self._fakes) >= MOST_FAKES:
            return
        peer_key = victim.helper.tunnels.public_key if victim.helper is not None else None
        address = derive(OVERLAY_NET, victim.name.encode(), 0)
        names = [
            victim.name.upper(),
            f"x{len(self._fakes)}",
            f"x{len(self._fakes)}.example.org",
            colliding_name(address),
        ]
        name = self._rng.choice(names)
        key = self._rng.choice((peer_key or bytes(32), self._rng.randbytes(31) + b"\0", bytes(32)))
        claimed = self._rng.choice((address, derive(OVERLAY_NET, name.encode(), self._rng.randint(0, 15))))
        form, claim = self._rng.choice(tuple(MetaForm)), self._rng.choice((None, Claim(0, CLOCK_IS_SET), Claim(255, 1)))
        yield self._remember(self._alive(name, meta=encode_meta(NodeMeta(claimed, key, form, claim))))

    def _invent_badly(self, victim: Machine) -> Iterator[Message]:
        """Members that nobody can be."""
        if len(self._fakes) >= MOST_FAKES:
            return
        name = self._rng.choice(
            ("", "a b", "\n127.0.0.1 localhost", "x" * 300, "ünï", "localhost", "10.0.0.1", "-", "n1\0")
        )
        meta = self._rng.choice((b"", self._rng.randbytes(512), bytes(512), _me(victim).meta[:-3], b"\xff" * 200))
        yield self._remember(self._alive(name, meta=meta))

    def _take_back(self, victim: Machine) -> Iterator[Message]:
        """Made-up members change, leave and move."""
        if not self._fakes:
            return
        name, fake = self._rng.choice(list(self._fakes.items()))
        yield Dead(fake.incarnation, name, name)
        if self._rng.random() < 0.5:
            yield self._remember(self._alive(name, meta=fake.meta))
        else:
            del self._fakes[name]

    def _rush(self, victim: Machine) -> Iterator[Message]:
        """Very many small messages in one packet."""
        me = _me(victim)
        for _ in range(250):
            yield self._rng.choice(
                (Ping(self._rng.getrandbits(32), me.name), Suspect(1, me.name, "x"), Ack(self._rng.getrandbits(32)))
            )

    def _misdirect(self, victim: Machine) -> Iterator[Message]:
        """Pings whose answers go elsewhere, acks and nacks for nothing, requests to ping strangers."""
        other = self._rng.choice(self.victims)
        where = self._rng.choice((other.at, self._place()))
        number = self._rng.getrandbits(32)
        yield Ping(number, self._rng.choice(("", victim.name)), where.ip.packed, where.port, other.name)
        yield IndirectPing(number, where.ip.packed, where.port, other.name, True, where.ip.packed, where.port, "x")
        yield self._rng.choice((Ack(number), Nack(number), UserMessage(b"x" * 100)))

    def _fuzz(self, victim: Machine) -> Iterator[bytes]:
        """Something real, with some bytes changed."""
        data = bytearray(encode(self._alive(victim.name, meta=_me(victim).meta)))
        for _ in range(self._rng.randint(1, 8)):
            data[self._rng.randrange(len(data))] = self._rng.getrandbits(8)
        yield bytes(data[: self._rng.randint(1, len(data))])

    def _flood_streams(self, victim: Machine) -> Iterator[Message]:
        """Streams that say nothing, half of something, or something wrong."""
        data = self._sealed_stream(PushPull(True, ()))
        for _ in range(self._rng.randint(1, 20)):
            piece = self._rng.choice((b"", data[: len(data) // 2], self._rng.randbytes(100), b"\x0a\xff\xff\xff\xff"))
            self._rng.choice(self._strangers).dial(victim.at, piece)
        yield from ()

    # --- below

    def _incarnation(self, me: Member) -> int:
        """Somewhere at an edge."""
        edge = highest_sane(int(self.victims[0].calendar()))
        near = me.incarnation + self._rng.choice((-1, 0, 0, 0, 1, 1, 2, 100))
        far = self._rng.choice((0, edge - 1, edge, edge + 1, edge + 2, 0xFFFFFFFF, me.incarnation + 5000))
        return max(0, near if self._rng.random() < 0.8 else far)

    def _alive(self, name: str, *, meta: bytes) -> Alive:
        at = self._place()
        return Alive(int(self.victims[0].calendar()), name, at.ip.packed, PORT, meta, VSN)

    def _remember(self, fake: Alive) -> Alive:
        self._fakes[fake.node] = fake
        return fake

    def _meta(self, name: str) -> bytes:
        address = derive(OVERLAY_NET, name.encode(), 0)
        return encode_meta(NodeMeta(address, self._rng.randbytes(31) + b"\0", MetaForm.V03, Claim(0, 1)))

    def _place(self) -> Endpoint:
        return self._rng.choice(self._strangers).at

    def _nonce(self) -> bytes:
        return next(self._nonces).to_bytes(12, "big")

    def _sealed_stream(self, message: Message) -> bytes:
        return seal_stream(encode(message), _RING, self._nonce(), compress=False)


ACTS: Final[Sequence[Callable[[Attacker, Machine], Iterator[Message | bytes]]]] = (
    Attacker._accuse,
    Attacker._accuse,
    Attacker._forge_a_leave,
    Attacker._impersonate,
    Attacker._invent,
    Attacker._invent,
    Attacker._invent_badly,
    Attacker._take_back,
    Attacker._rush,
    Attacker._misdirect,
    Attacker._fuzz,
    Attacker._flood_streams,
)
"""Each as often as it stands here."""


def _me(machine: Machine) -> Member:
    assert machine.node is not None
    return machine.node.me


def _raised(fake: Alive, incarnation: int) -> Alive:
    return Alive(
        min(max(fake.incarnation, incarnation), 0xFFFFFFFF), fake.node, fake.addr, fake.port, fake.meta, fake.vsn
    )


def _as_entry(message: Message | bytes) -> PushNodeState | None:
    match message:
        case Alive(incarnation, name, addr, port, meta, vsn):
            return PushNodeState(name, addr, port, meta, incarnation, NodeState.ALIVE, vsn)
        case Suspect(incarnation, name) | Dead(incarnation, name):
            state = NodeState.SUSPECT if isinstance(message, Suspect) else NodeState.LEFT
            return PushNodeState(name, bytes((10, 0, 0, 1)), PORT, b"", incarnation, state, VSN)
        case _:
            return None


@lru_cache(maxsize=256)
def colliding_name(address: Address) -> str:
    """A name that can claim an overlay address which is another's."""
    return next(name for number in count() if is_derived(OVERLAY_NET, (name := f"c{number}").encode(), address))
