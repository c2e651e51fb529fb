"""Node metadata: byte-exact with both Go versions, our claim beside it, and every reason to refuse a member's."""

from __future__ import annotations

import base64
import json
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wesher.mesh import node_meta
from wesher.mesh.node_meta import MAX_ENCODED, MAX_KEYS, Claim, MetaError, MetaFault, MetaForm, NodeMeta, decode, encode

GOLDEN = Path(__file__).parents[2] / "golden" / "mesh"
VECTORS = {name: bytes.fromhex(data) for name, data in json.loads((GOLDEN / "gob_vectors.json").read_text()).items()}
FACTS = {fact["name"]: fact for fact in json.loads((GOLDEN / "gob_go_verdicts.json").read_text())["facts"]}
CAPTURES = json.loads((GOLDEN / "captured_meta.json").read_text())["captures"]

KEY = bytes(range(32))
KEY_TEXT = base64.b64encode(KEY).decode()
V4 = IPv4Address("10.221.153.165")
V6 = IPv6Address("2001:db8:c575:7277:b806:e994:13dd:99a5")

SHARED_VECTORS = {
    "v026_v4": NodeMeta(V4, KEY, MetaForm.V02, None),
    "v026_v6": NodeMeta(V6, KEY, MetaForm.V02, None),
    "master_v4": NodeMeta(V4, KEY, MetaForm.V03, None),
    "master_v6": NodeMeta(V6, KEY, MetaForm.V03, None),
}

overlay_addresses = st.ip_addresses(v=4) | st.ip_addresses(v=6).filter(lambda ip: not getattr(ip, "ipv4_mapped", None))
claims = st.builds(Claim, st.integers(0, 15) | st.just(255), st.integers(0, 2**32 - 1), st.integers(0, 255))
public_keys = st.binary(min_size=32, max_size=32)
fingerprints = st.lists(st.binary(min_size=4, max_size=4), max_size=MAX_KEYS).map(tuple)
metas = st.builds(NodeMeta, overlay_addresses, public_keys, st.sampled_from(MetaForm), st.none() | claims) | st.builds(
    NodeMeta, overlay_addresses, public_keys, st.sampled_from(MetaForm), claims, fingerprints
)


def refusal(data: bytes) -> str:
    with pytest.raises(MetaError) as caught:
        decode(data)
    return caught.value.reason


def with_key(key: str) -> bytes:
    """The metadata of a 0.3 node with this text for its key (shorter than 76 bytes, so lengths take one byte)."""
    body = b"\xff\x82\1\4" + V4.packed + b"\1" + bytes([len(key.encode())]) + key.encode() + b"\0"
    return VECTORS["master_v4"][: -1 - 55] + bytes([len(body)]) + body


def with_address(packed: bytes) -> bytes:
    """The metadata of a 0.3 node with these opaque bytes for its address."""
    body = b"\xff\x82\1" + bytes([len(packed)]) + packed + b"\1\x2c" + KEY_TEXT.encode() + b"\0"
    return VECTORS["master_v4"][: -1 - 55] + bytes([len(body)]) + body


def with_net(ip: bytes, mask: bytes) -> bytes:
    """The metadata of a 0.2.6 node with this IP and this mask."""
    net = b"".join(bytes([1, len(part)]) + part for part in (ip, mask))
    body = b"\xff\x82\1" + net + b"\0\1\x2c" + KEY_TEXT.encode() + b"\0"
    return VECTORS["v026_v4"][: -1 - 63] + bytes([len(body)]) + body


def with_extension(extension: bytes) -> bytes:
    """The metadata of a 0.3 node with these bytes, fewer than 50, in the field Wesher."""
    plain = encode(NodeMeta(V4, KEY, MetaForm.V03, Claim(0, 0)))
    before, _, _ = plain.partition(b"\x40\xff\x82\1\4")  # the value's message, 64 bytes, with a version 1 extension
    body = b"\xff\x82\1\4" + V4.packed + b"\1\x2c" + KEY_TEXT.encode() + bytes([1, len(extension)]) + extension + b"\0"
    return before + bytes([len(body)]) + body


@pytest.mark.parametrize("name", SHARED_VECTORS)
def test_without_a_claim_the_bytes_are_those_of_go(name: str) -> None:
    """Both forms, both address families."""
    assert encode(SHARED_VECTORS[name]) == VECTORS[name]


@pytest.mark.parametrize("name", SHARED_VECTORS)
def test_go_metadata_decodes_to_a_node_without_a_claim(name: str) -> None:
    """The form is told apart by the type of OverlayAddr."""
    assert decode(VECTORS[name]) == SHARED_VECTORS[name]


def test_a_claim_is_one_more_field_after_pubkey() -> None:
    """Field by field: the count 3, the definition of Wesher as bytes, and the version 1 layout at the end."""
    expected = bytes.fromhex(
        "3d ff81 03 01 01 08 6e6f64654d657461 01 ff82 00 01 03"
        "01 0b 4f7665726c617941646472 01 ff84 00  01 06 5075624b6579 01 0c 00  01 06 576573686572 01 0a 00  00 00"
        "10 ff83 06 01 01 04 41646472 01 ff84 00 00 00"
        "40 ff82 01 04 0add99a5"
    )
    expected += b"\x01\x2c" + KEY_TEXT.encode() + bytes.fromhex("01 07  01 80 03 01020304  00")

    assert encode(NodeMeta(V4, KEY, MetaForm.V03, Claim(3, 0x01020304, 0x80))) == expected


@settings(deadline=None)
@given(metas)
def test_decoding_undoes_encoding(meta: NodeMeta) -> None:
    """For every node there can be."""
    assert decode(encode(meta)) == meta


@settings(deadline=None)
@given(metas)
def test_the_encoding_leaves_a_hundred_bytes_for_an_identity(meta: NodeMeta) -> None:
    """memberlist's limit is 512."""
    assert len(encode(meta)) <= MAX_ENCODED == 512 - 100


CAPTURED = [
    pytest.param(capture, node, id=f"{name}-{number}-{node['name']}")
    for name, capture in CAPTURES.items()
    for number, node in enumerate(capture["nodes"])
]


@pytest.mark.parametrize(("capture", "node"), CAPTURED)
def test_captured_metadata_decodes_to_the_known_address_and_key(
    capture: dict[str, object], node: dict[str, object]
) -> None:
    """Real Go nodes of both versions; the key is one that WireGuard on the other nodes was given."""
    meta = decode(bytes.fromhex(str(node["meta"])))

    assert (str(meta.overlay_addr), meta.form.value, meta.claim) == (node["overlay_addr"], capture["form"], None)
    wireguard_keys = capture["wireguard_keys"]
    assert isinstance(wireguard_keys, list)
    assert (meta.public_key.hex() in wireguard_keys) == node["seen"]


def test_the_captured_metadata_accounts_for_every_key_in_the_wireguard_tables() -> None:
    """The other way round: no peer was configured from metadata that we did not find."""
    for capture in CAPTURES.values():
        decoded = {decode(bytes.fromhex(node["meta"])).public_key.hex() for node in capture["nodes"]}
        assert set(capture["wireguard_keys"]) <= decoded


# Where we are stricter than Go on purpose: it goes on with no address, or with a mask of nothing.
STRICTER = {
    "only PubKey": MetaFault.NO_ADDRESS,
    "OverlayAddr in another case": MetaFault.NO_ADDRESS,
    "0.2 without a mask": MetaFault.NO_MASK,
}


@pytest.mark.parametrize("name", sorted(FACTS.keys() - STRICTER.keys()))
def test_what_a_go_node_of_its_form_makes_of_metadata_we_make_of_it(name: str) -> None:
    """Appended, preceding and renamed things, wrong types, garbage: Go's own verdicts, in each of its two versions."""
    fact = FACTS[name]
    readable = {form: text for form, text in (("0.2", fact["go_0_2"]), ("0.3", fact["go_0_3"])) if text != "error"}

    if readable:
        meta = decode(bytes.fromhex(fact["hex"]))
        assert {meta.form.value: f"{meta.overlay_addr} {base64.b64encode(meta.public_key).decode()}"} == readable
    else:
        assert refusal(bytes.fromhex(fact["hex"])) in set(MetaFault)


@pytest.mark.parametrize("name", STRICTER)
def test_an_address_that_go_would_leave_empty_is_refused(name: str) -> None:
    """Go's decoder reports success here; what it then configures is nonsense."""
    fact = FACTS[name]

    assert fact["go_0_2"] != "error"
    assert refusal(bytes.fromhex(fact["hex"])) == STRICTER[name]


@pytest.mark.parametrize("member", [b"IP", b"Mask"])
def test_a_net_of_texts_is_refused(member: bytes) -> None:
    """Go's decoder wants bytes for both, however right the text looks."""
    name = bytes([len(member)]) + member + b"\1"
    as_text = VECTORS["v026_v4"].replace(name + b"\x0a", name + b"\x0c")

    assert as_text != VECTORS["v026_v4"]
    assert refusal(as_text) == "overlay address does not parse"


def test_an_address_of_another_kind_of_marshaler_is_refused() -> None:
    """The same four bytes, said to come from a GobEncoder: Go wants both sides to agree."""
    as_gob_encoder = VECTORS["master_v4"].replace(b"\xff\x83\6", b"\xff\x83\5")

    assert as_gob_encoder != VECTORS["master_v4"]
    assert refusal(as_gob_encoder) == "overlay address does not parse"


def test_a_field_after_pubkey_is_ignored() -> None:
    """What makes our own extension possible, the other way round."""
    assert decode(VECTORS["master_with_extra_fields"]) == SHARED_VECTORS["master_v4"]
    assert decode(VECTORS["v026_with_extra_fields"]) == SHARED_VECTORS["v026_v4"]


def test_garbage_after_the_value_is_ignored() -> None:
    """Behind a claim as well."""
    meta = NodeMeta(V6, KEY, MetaForm.V02, Claim(255, 7))

    assert decode(encode(meta) + b"\xff\xff\xff") == meta


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "no metadata", id="nothing"),
        pytest.param(b"\x05hello", "metadata does not parse", id="noise"),
        pytest.param(VECTORS["master_v4"][:-1], "metadata does not parse", id="cut off"),
        pytest.param(b"\1" * 5000, "metadata does not parse", id="too long"),
        pytest.param(VECTORS["master_zero-addr"], "no overlay address", id="0.3 zero address"),
        pytest.param(VECTORS["master_zero"], "no overlay address", id="0.3 zero"),
        pytest.param(VECTORS["v026_zero-addr"], "no overlay address", id="0.2 zero address"),
        pytest.param(VECTORS["v026_zero"], "no overlay address", id="0.2 zero"),
        pytest.param(with_address(b""), "no overlay address", id="0.3 address of no bytes"),
        pytest.param(with_address(b"\x0a\0\0"), "overlay address does not parse", id="0.3 address of 3 bytes"),
        pytest.param(with_address(V6.packed[:15]), "overlay address does not parse", id="0.3 address of 15 bytes"),
        pytest.param(VECTORS["master_zone"], "overlay address has a zone", id="zone"),
        pytest.param(with_net(b"\x0a\0\0", b"\xff" * 4), "overlay address does not parse", id="0.2 IP of 3 bytes"),
        pytest.param(with_net(V4.packed, b""), "overlay address has no mask", id="0.2 mask of no bytes"),
        pytest.param(with_key(""), "no public key", id="key of no bytes"),
    ],
)
def test_a_refused_member_gets_a_reason_for_the_operator(data: bytes, reason: str) -> None:
    """Fixed texts, so that `wesher status` can show them as they are."""
    assert refusal(data) == reason


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("x", id="junk"),
        pytest.param(KEY_TEXT[:-1], id="no padding"),
        pytest.param(KEY_TEXT + "=", id="too much padding"),
        pytest.param(KEY_TEXT + "\n", id="line break after, which Go skips"),
        pytest.param(KEY_TEXT[:20] + "\r\n" + KEY_TEXT[20:], id="line break within, which Go skips"),
        pytest.param(" " + KEY_TEXT, id="blank"),
        pytest.param(KEY_TEXT[:-2] + "9=", id="trailing bits set, which Go drops"),
        pytest.param(base64.urlsafe_b64encode(b"\xff" * 32).decode(), id="the other alphabet"),
        pytest.param(base64.b64encode(KEY[:31]).decode(), id="31 bytes"),
        pytest.param(base64.b64encode(KEY + b"\0").decode(), id="33 bytes"),
        pytest.param("ä" + KEY_TEXT[2:], id="not ASCII"),
        pytest.param("\0" + KEY_TEXT[1:], id="a null byte"),
    ],
)
def test_a_key_is_the_one_canonical_text_of_32_bytes(key: str) -> None:
    """The helper and the kernel get bytes, and no two texts mean the same ones."""
    assert refusal(with_key(key)) == "public key does not parse"


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_a_canonical_key_is_accepted(key: bytes) -> None:
    """Whether it is a good key (low order, our own) is policy."""
    assert decode(with_key(base64.b64encode(key).decode())).public_key == key


@pytest.mark.parametrize("data", [VECTORS["master_v4in6"], with_net(b"\0" * 10 + b"\xff\xff\x0a\1\2\3", b"\xff" * 16)])
def test_a_mapped_address_is_the_ipv4_address(data: bytes) -> None:
    """In either form; Go keeps the 16 bytes and means the same."""
    assert decode(data).overlay_addr == IPv4Address("10.1.2.3")


@pytest.mark.parametrize("mask", [b"\0" * 4, b"\xff", b"\xff" * 16, b"\x0f\xf0\x0f\xf0"])
def test_the_mask_is_ignored(mask: bytes) -> None:
    """0.2.6 routes the IPNet as sent, so a member that says /0 takes all traffic there. Here it is one address."""
    assert decode(with_net(V4.packed, mask)) == SHARED_VECTORS["v026_v4"]


def test_a_longer_extension_of_the_same_version_is_read() -> None:
    """What a later release appends, such as an identity, does not cost this one the claim."""
    assert decode(with_extension(bytes.fromhex("01 00 0f ffffffff") + b"identity")).claim == Claim(15, 2**32 - 1)


@pytest.mark.parametrize(
    "extension",
    [
        pytest.param(bytes.fromhex("02 00 03 00000009"), id="another version"),
        pytest.param(bytes.fromhex("00 00 03 00000009"), id="version 0"),
        pytest.param(bytes.fromhex("01 00 03 000000"), id="too short"),
        pytest.param(b"\1", id="only a version"),
        pytest.param(b"", id="nothing"),
        pytest.param(bytes.fromhex("01 00 10 00000009"), id="attempt 16"),
        pytest.param(bytes.fromhex("01 00 fe 00000009"), id="attempt 254"),
    ],
)
def test_an_extension_that_we_cannot_read_counts_as_absent(extension: bytes) -> None:
    """The member stays a peer, as it does for a Go node; it only has no claim."""
    assert decode(with_extension(extension)) == NodeMeta(V4, KEY, MetaForm.V03, None)


CLAIMED = b"\1\0\3\0\0\0\7"


@pytest.mark.parametrize(
    ("rest", "keys"),
    [
        (b"", ()),
        (b"\0", ()),
        (b"\1aaaa", (b"aaaa",)),
        (b"\1aaaabbbb", (b"aaaa",)),
        (b"\2aaaabbbb", (b"aaaa", b"bbbb")),
        (b"\4aaaabbbbccccdddd", (b"aaaa", b"bbbb", b"cccc", b"dddd")),
        (b"\1aaa", ()),
        (b"\1", ()),
        (b"\5aaaabbbbccccddddeeee", ()),
    ],
)
def test_fingerprints_of_cluster_keys_follow_the_claim(rest: bytes, keys: tuple[bytes, ...]) -> None:
    """Missing or cut off there are none; the claim counts all the same."""
    meta = decode(with_extension(CLAIMED + rest))
    assert (meta.claim, meta.keys) == (Claim(3, 7), keys)


def test_a_node_without_keys_announces_what_it_did_before() -> None:
    """So do nodes of before."""
    assert CLAIMED in encode(NodeMeta(V4, KEY, MetaForm.V03, Claim(3, 7)))
    assert encode(NodeMeta(V4, KEY, MetaForm.V03, Claim(3, 7))).endswith(CLAIMED + b"\0")


@pytest.mark.parametrize(
    ("claim", "keys"), [(None, (b"aaaa",)), (Claim(0, 0), (b"aaa",)), (Claim(0, 0), (b"aaaa",) * (MAX_KEYS + 1))]
)
def test_fingerprints_that_make_no_sense_cannot_be_announced(claim: Claim | None, keys: tuple[bytes, ...]) -> None:
    """Of a Go node, of another size, or too many."""
    with pytest.raises(ValueError, match=r"fingerprints|claim"):
        NodeMeta(V4, KEY, MetaForm.V03, claim, keys)


def test_a_field_wesher_of_another_type_counts_as_absent() -> None:
    """Someone else's field of our name, here a string, is none of our business."""
    data = encode(NodeMeta(V4, KEY, MetaForm.V03, Claim(3, 9)))
    as_string = data.replace(b"\x06Wesher\x01\x0a", b"\x06Wesher\x01\x0c")

    assert as_string != data
    assert decode(as_string).claim is None


@pytest.mark.parametrize(
    ("attempt", "claim_time", "flags"),
    [(-1, 0, 0), (16, 0, 0), (254, 0, 0), (256, 0, 0), (0, -1, 0), (0, 2**32, 0), (0, 0, -1), (0, 0, 256)],
)
def test_a_claim_out_of_range_cannot_be_made(attempt: int, claim_time: int, flags: int) -> None:
    """The type cannot be wrong."""
    with pytest.raises(ValueError, match=r"attempt|claim time|flags"):
        Claim(attempt, claim_time, flags)


@pytest.mark.parametrize("address", ["::ffff:10.1.2.3", "fe80::1%eth0"])
def test_metadata_with_a_mapped_or_zoned_address_cannot_be_made(address: str) -> None:
    """There is one way to write an address."""
    with pytest.raises(ValueError, match="overlay address"):
        NodeMeta(ip_address(address), KEY, MetaForm.V03, None)


@pytest.mark.parametrize("size", [0, 31, 33, 44])
def test_metadata_with_a_key_of_another_size_cannot_be_made(size: int) -> None:
    """44 would be the text of a key."""
    with pytest.raises(ValueError, match="32 bytes"):
        NodeMeta(V4, b"k" * size, MetaForm.V03, None)


def decode_or_refuse(data: bytes) -> NodeMeta | MetaError:
    try:
        return decode(data)
    except MetaError as error:
        return error


def check_outcome(outcome: NodeMeta | MetaError) -> None:
    """Either a reason out of the fixed vocabulary, or a well-formed node that says the same when we say it."""
    if isinstance(outcome, MetaError):
        assert outcome.reason in set(MetaFault)
        assert str(outcome) == outcome.reason
    else:
        assert decode(encode(outcome)) == outcome


@settings(deadline=None)
@given(st.binary(max_size=600))
@example(b"\xff" * 4096)
def test_arbitrary_bytes_raise_only_meta_error(data: bytes) -> None:
    """Whatever a stranger sends."""
    check_outcome(decode_or_refuse(data))


Edit = tuple[float, int, bytes]
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=4)), min_size=1, max_size=4)
corpus = st.sampled_from([*VECTORS.values(), *(bytes.fromhex(fact["hex"]) for fact in FACTS.values())])


@settings(deadline=None)
@given(corpus | metas.map(encode), edits)
def test_mutated_metadata_is_refused_or_means_something_encodable(data: bytes, changes: list[Edit]) -> None:
    """Near-valid bytes reach deeper than noise."""
    for place, removed, inserted in changes:
        at = int(place * len(data))
        data = data[:at] + inserted + data[at + removed :]

    check_outcome(decode_or_refuse(data))


def test_what_does_not_parse_is_parsed_once(monkeypatch):
    """It comes with every event: two thousand such members once kept a node busy for two minutes."""
    parsed = []
    real = node_meta.gob.decode
    monkeypatch.setattr(node_meta.gob, "decode", lambda data: parsed.append(data) or real(data))
    for _ in range(3):
        with pytest.raises(MetaError, match="metadata does not parse"):
            decode(b"\x03parsed once")
    assert parsed == [b"\x03parsed once"]
