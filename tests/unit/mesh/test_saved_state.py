"""The state file: Go's files read without losing the key, ours written so that Go can read them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wesher.mesh import node_meta
from wesher.mesh.node_meta import MetaForm
from wesher.mesh.rotation import Dropped, HeldKey, Keys
from wesher.mesh.saved_state import (
    MAX_NODES,
    MAX_SIZE,
    LastSeen,
    OwnClaim,
    SavedNode,
    SavedState,
    StateError,
    parse,
    render,
)
from wesher.wire.words import KeyPhase

GOLDEN = Path(__file__).parents[2] / "golden" / "mesh"
GO_026 = (GOLDEN / "state_go_0.2.6.json").read_bytes()
GO_MASTER = (GOLDEN / "state_go_master.json").read_bytes()
CAPTURED_KEY = base64.b64decode("ILICZ3yBMCGAWNIq5Pn0bewBVimW3Q2yRVJ/Be+b1Uc=")

KEY = bytes(range(32))
KEY_TEXT = base64.b64encode(KEY).decode()
NODE = SavedNode("node-b", "192.0.2.11", b"meta")
OWN = OwnClaim("node-a", 215_000_000, 3, 214_000_000)
FULL = SavedState(KEY, (NODE, SavedNode("node-c", "2001:db8::1", None)), OWN, MetaForm.V02)
OWN_MEMBERS = {"NodeName": "node-a", "Incarnation": 2, "Attempt": 3, "ClaimTime": 4}
KINDS = [
    pytest.param(GO_026, CAPTURED_KEY, id="0.2.6"),
    pytest.param(GO_MASTER, CAPTURED_KEY, id="master"),
    pytest.param(render(FULL), KEY, id="ours"),
]

names = st.binary(min_size=1, max_size=80).map(lambda name: name.decode("utf-8", "surrogateescape"))
u32s = st.integers(0, 2**32 - 1)
metas = st.none() | st.binary(max_size=600)
addresses = st.ip_addresses().map(str)
saved_nodes = st.builds(SavedNode, names, addresses, metas) | st.builds(
    SavedNode, names, addresses, metas, u32s, st.sampled_from(LastSeen)
)
own_claims = st.builds(OwnClaim, names, u32s, st.integers(0, 15) | st.just(255), u32s)
states = st.builds(
    SavedState,
    st.none() | st.binary(min_size=32, max_size=32),
    st.lists(saved_nodes, max_size=5).map(tuple),
    st.none() | own_claims,
    st.none() | st.sampled_from(MetaForm),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def file_with(**members: object) -> bytes:
    """A file with the good key, and these members beside or instead of it."""
    return json.dumps({"ClusterKey": KEY_TEXT} | members).encode()


def refusal(data: bytes) -> str:
    with pytest.raises(StateError) as caught:
        parse(data)
    return caught.value.reason


def test_a_file_of_wesher_0_2_6_keeps_its_key_and_nodes() -> None:
    """As written by test1 of the captured cluster; address and public key of the peers come by gossip again."""
    expected_nodes = (SavedNode("test3", "10.99.0.4", None), SavedNode("test2", "10.99.0.3", None))

    assert parse(GO_026) == SavedState(CAPTURED_KEY, expected_nodes, None)


def test_a_file_of_master_keeps_its_key_nodes_and_metadata() -> None:
    """As written by test1 of the captured cluster; the peers' data is in Meta alone."""
    state = parse(GO_MASTER)

    assert (state.cluster_key, state.own) == (CAPTURED_KEY, None)
    assert [(node.name, node.addr) for node in state.nodes] == [("test3", "10.99.0.4"), ("test2", "10.99.0.3")]
    overlay = [str(node_meta.decode(node.meta or b"").overlay_addr) for node in state.nodes]
    assert overlay == ["10.171.251.146", "10.171.252.205"]


@pytest.mark.parametrize("nodes", [None, [], {}, "x", 7])
def test_a_file_without_a_list_of_nodes_keeps_its_key(nodes: object) -> None:
    """Go writes null where nobody was ever seen."""
    assert parse(file_with(Nodes=nodes)) == SavedState(KEY, (), None)


@pytest.mark.parametrize("text", ['{"ClusterKey": null, "Nodes": null}', "{}", '{"Nodes": []}'])
def test_a_file_without_a_key_has_none(text: str) -> None:
    """What to do without one is the caller's to decide."""
    assert parse(text.encode()) == SavedState(None, (), None)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="empty"),
        pytest.param("not base64!", id="junk"),
        pytest.param(KEY_TEXT[:-1], id="no padding"),
        pytest.param(base64.b64encode(KEY[:16]).decode(), id="16 bytes"),
        pytest.param(base64.b64encode(KEY + b"\0").decode(), id="33 bytes"),
        pytest.param("ключ", id="not ASCII"),
        pytest.param(7, id="a number"),
        pytest.param(True, id="a boolean"),
        pytest.param(list(KEY), id="a list of bytes"),
    ],
)
def test_an_unusable_key_is_an_error(key: object) -> None:
    """To go on would be to start a new cluster in silence."""
    assert refusal(file_with(ClusterKey=key)) == "ClusterKey is not the base64 of 32 bytes"


def test_line_breaks_in_the_key_do_not_matter() -> None:
    """As for Go; they get there from `openssl rand -base64 32` in a template."""
    assert parse(file_with(ClusterKey=KEY_TEXT + "\r\n")).cluster_key == KEY


def test_members_match_in_any_case_and_the_last_wins() -> None:
    """As in Go's encoding/json, so that both take the same key from one file."""
    other = base64.b64encode(bytes(32)).decode()
    text = f'{{"ClusterKey": "{other}", "clusterkey": "{KEY_TEXT}", "NODES": [{{"name": "b", "ADDR": "192.0.2.1"}}]}}'

    assert parse(text.encode()) == SavedState(KEY, (SavedNode("b", "192.0.2.1", None),), None)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(None, id="null"),
        pytest.param("node-b", id="a text"),
        pytest.param([], id="a list"),
        pytest.param({}, id="nothing"),
        pytest.param({"Name": "x"}, id="no address"),
        pytest.param({"Addr": "192.0.2.1"}, id="no name"),
        pytest.param({"Name": "", "Addr": "192.0.2.1"}, id="an empty name"),
        pytest.param({"Name": 7, "Addr": "192.0.2.1"}, id="a number for a name"),
        pytest.param({"Name": "x", "Addr": ""}, id="an empty address"),
        pytest.param({"Name": "x", "Addr": "host.example"}, id="a host name"),
        pytest.param({"Name": "x", "Addr": "192.0.2.1:7946"}, id="a port"),
        pytest.param({"Name": "x", "Addr": "fe80::1%eth0"}, id="a zone"),
        pytest.param({"Name": "x", "Addr": 3221225985}, id="a number for an address"),
        pytest.param({"Name": "\ud83d", "Addr": "192.0.2.1"}, id="half a character"),
        pytest.param({"Name": "\udcc3\udca9", "Addr": "192.0.2.1"}, id="bytes that are a character"),
    ],
)
def test_an_unusable_node_costs_only_itself(entry: object) -> None:
    """The others and the key stay."""
    good = {"Name": "good", "Addr": "192.0.2.2"}

    expected = SavedState(KEY, (SavedNode("good", "192.0.2.2", None),) * 2, None)
    assert parse(file_with(Nodes=[good, entry, good])) == expected


@pytest.mark.parametrize("meta", [None, 7, "?", "AAA", {"a": 1}])
def test_unusable_metadata_costs_only_the_metadata(meta: object) -> None:
    """Where the node was is what a restart needs."""
    nodes = [{"Name": "b", "Addr": "192.0.2.1", "Meta": meta}]

    assert parse(file_with(Nodes=nodes)).nodes == (SavedNode("b", "192.0.2.1", None),)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"NodeName": ""}, id="no name"),
        pytest.param({"NodeName": None}, id="null name"),
        pytest.param({"Attempt": 16}, id="no such attempt"),
        pytest.param({"Attempt": "3"}, id="a text"),
        pytest.param({"Attempt": True}, id="a boolean"),
        pytest.param({"Incarnation": -1}, id="a negative number"),
        pytest.param({"Incarnation": 2**32}, id="more than 32 bits"),
        pytest.param({"ClaimTime": 1.0}, id="a fraction"),
        pytest.param({"ClaimTime": 2**32}, id="a time after 2156"),
    ],
)
def test_an_unusable_claim_of_our_own_is_dropped(change: dict[str, object]) -> None:
    """It costs a refutation, perhaps the address, never the start."""
    own: dict[str, object] = {"NodeName": "a", "Incarnation": 1, "Attempt": 3, "ClaimTime": 2}

    assert parse(file_with(Wesher={"Own": own})).own == OwnClaim("a", 1, 3, 2)
    assert parse(file_with(Wesher={"Own": own | change})) == SavedState(KEY, (), None)


@pytest.mark.parametrize("ours", [None, 7, [], {}, {"Own": None}, {"Own": []}, {"Own": {"NodeName": "a"}}])
def test_an_object_of_ours_in_another_shape_is_ignored(ours: object) -> None:
    """A later release may have put other things there."""
    assert parse(file_with(Wesher=ours)) == SavedState(KEY, (), None)


@pytest.mark.parametrize("form", [None, "", "0.4", "V02", 0.2, ["0.2"]])
def test_a_form_of_metadata_that_does_not_exist_is_none(form: object) -> None:
    """It is found out anew."""
    assert parse(file_with(Wesher={"MetaForm": "0.2"})).meta_form is MetaForm.V02
    assert parse(file_with(Wesher={"MetaForm": form})).meta_form is None


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"Wesher": {"Version": 2}}, id="a higher version"),
        pytest.param({"Wesher": {"Version": "1b"}}, id="a version that is no number"),
        pytest.param({"Wesher": {"Version": 1, "RetiredKeys": ["a"]}}, id="a member of ours"),
        pytest.param({"Wesher": {"Version": 1, "MetaForm": "0.4"}}, id="a form of metadata"),
        pytest.param({"Wesher": {"Own": OWN_MEMBERS | {"Until": 5}}}, id="a member of the claim"),
        pytest.param({"Wesher": {"Own": OWN_MEMBERS | {"Attempt": 16}}}, id="an attempt"),
        pytest.param({"Wesher": [1]}, id="a list of ours"),
        pytest.param({"Keys": [KEY_TEXT]}, id="a member of the file"),
        pytest.param({"Nodes": {"node-b": "192.0.2.11"}}, id="nodes by name"),
        pytest.param({"Nodes": [{"Name": "node-b", "Addr": "192.0.2.11", "Port": 7946}]}, id="a member of a node"),
        pytest.param({"Nodes": [{"Name": "node-b", "Addr": "192.0.2.11:7946"}]}, id="an address with a port"),
        pytest.param({"Nodes": [{"Name": "node-b", "Addr": "192.0.2.11", "Meta": {}}]}, id="metadata that is no text"),
    ],
)
def test_what_a_newer_version_wrote_is_used_as_far_as_it_is_known_and_remarked_upon(members: dict[str, object]) -> None:
    """So that whoever overwrites it keeps a copy."""
    state = parse(file_with(**members))

    assert state.cluster_key == KEY
    assert state.remark == "part of it is not known to this version (a newer one wrote it?) and is left out"


def test_of_a_newer_file_all_that_is_known_is_used() -> None:
    """A node that goes back a version keeps its key, its members and its address."""
    newer = json.loads(render(FULL))
    newer |= {"Keys": []}
    newer["Nodes"][0]["Identity"] = "AAAA"
    newer["Wesher"] |= {"Version": 3, "Forgotten": {}}

    assert parse(json.dumps(newer).encode()) == FULL


@pytest.mark.parametrize(("data", "key"), KINDS)
def test_a_file_that_is_understood_whole_needs_no_remark(data: bytes, key: bytes) -> None:
    """Overwriting it loses nothing, whichever wesher wrote it."""
    assert parse(data).remark is None


@pytest.mark.parametrize("change", [{"Nodes": None}, {"Nodes": []}, {"Wesher": {}}, {"ClusterKey": KEY_TEXT + "\n"}])
def test_nothing_there_is_nothing_lost(change: dict[str, object]) -> None:
    """Null, empty, and line breaks in the key."""
    assert parse(file_with(**change)).remark is None


def test_a_claim_belongs_to_the_node_name_beside_it() -> None:
    """A renamed node starts afresh."""
    assert FULL.own_for("node-a") == OWN
    assert FULL.own_for("node-b") is None
    assert SavedState(KEY, (), None).own_for("node-a") is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b" \n", "empty", id="blanks"),
        pytest.param(b"[]", "not a JSON object", id="a list"),
        pytest.param(b"null", "not a JSON object", id="null"),
        pytest.param(b'{"a": NaN}', "not JSON: NaN, Infinity or a number without end", id="NaN"),
        pytest.param(b'{"a": -Infinity}', "not JSON: NaN, Infinity or a number without end", id="Infinity"),
        pytest.param(
            b'{"a": ' + b"9" * 5000 + b"}", "not JSON: NaN, Infinity or a number without end", id="5000 digits"
        ),
        pytest.param(b'{"a": ' + b"[" * 100_000, "nested too deeply", id="100000 lists"),
        pytest.param(b'{"a": ' * 100_000, "nested too deeply", id="100000 objects"),
    ],
)
def test_a_file_that_is_no_json_object_is_an_error(data: bytes, reason: str) -> None:
    """Go refuses each of these too, except the long number."""
    assert refusal(data) == reason


def test_a_syntax_error_is_located() -> None:
    """For whoever edited the file."""
    reason = refusal(b'{"ClusterKey":\n  oops}')

    assert reason.startswith("not JSON: ")
    assert reason.endswith("(line 2 column 3)")


@pytest.mark.parametrize(("data", "key"), KINDS)
@pytest.mark.parametrize("rest", [b"", b"\0" * 512, b"\xff" * 512], ids=["cut off", "zeros", "ones"])
def test_a_file_cut_off_anywhere_keeps_its_key_from_the_closing_quote_on(data: bytes, key: bytes, rest: bytes) -> None:
    """Go did not write atomically, and after a power cut some disks fill up. Before that quote it is an error."""
    whole = data.index(base64.b64encode(key)) + 44 + 1
    for end in range(len(data)):
        cut = data[:end] + rest
        if end < whole:
            assert "key" not in refusal(cut)
        else:
            state = parse(cut)
            assert (state, state.cluster_key) == (SavedState(key, (), None), key)
            assert state.remark is not None
            assert state.remark.endswith("; only its cluster key can be used")


@pytest.mark.parametrize(("data", "key"), KINDS)
def test_a_damaged_block_anywhere_behind_the_key_costs_only_the_rest(data: bytes, key: bytes) -> None:
    """A bad sector, a page of another file."""
    begin = data.index(b"[")
    for at in range(begin, len(data)):
        state = parse(data[:at] + b"\0" + data[at + 1 :])
        assert (state.cluster_key, state.remark is None) == (key, False)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(f'"ClusterKey": "{KEY_TEXT[:-1]}', id="cut off before the padding"),
        pytest.param(f'"ClusterKey": "{KEY_TEXT}', id="cut off before the quote"),
        pytest.param(f'"ClusterKey": "{KEY_TEXT[:-1]}"', id="no padding"),
        pytest.param(f'"ClusterKey": "{KEY_TEXT[:39]}="', id="29 bytes"),
        pytest.param(f'"ClusterKey": "{KEY_TEXT}AA=="', id="more than 32 bytes"),
        pytest.param(f'"ClusterKey": "{KEY_TEXT[:-2]}9="', id="bits behind the end"),
        pytest.param(f'"ClusterKey": "{KEY_TEXT[:20]}\0{KEY_TEXT[21:]}"', id="a zero in it"),
        pytest.param(f'"ClusterKey": {KEY_TEXT}', id="no quotes"),
        pytest.param(f'"PubKey": "{KEY_TEXT}"', id="another key"),
        pytest.param(f'"Name": "\\n  \\"ClusterKey\\": \\"{KEY_TEXT}\\""', id="a name that looks like one"),
        pytest.param(f'"Name": "x", "ClusterKey": "{KEY_TEXT}"', id="not on a line of its own"),
    ],
)
def test_nothing_but_a_whole_key_passes_for_the_key_of_a_damaged_file(line: str) -> None:
    """With a wrong one the node would start, and be alone for ever."""
    assert refusal(f"{{\n  {line},\n  ".encode()).startswith("not JSON: ")


def test_a_damaged_file_with_two_different_keys_has_none() -> None:
    """Which of them held is what the damage has taken; the same one twice is no question."""
    line, other = f'  "ClusterKey": "{KEY_TEXT}",\n', f'  "clusterkey": "{base64.b64encode(bytes(32)).decode()}",\n'

    assert refusal(f"{{\n{line}{other}".encode()).startswith("not JSON: ")
    assert parse(f"{{\n{line}{line}".encode()).cluster_key == KEY


def test_sixteen_mebibytes_are_read_and_one_byte_more_is_refused() -> None:
    """The size is checked before anything else looks at the bytes."""
    padded = file_with().ljust(MAX_SIZE)

    assert parse(padded).cluster_key == KEY
    assert refusal(padded + b" ") == "larger than 16 MiB"


@pytest.mark.parametrize("piece", [b"[],", b"{},", b'"":1,', b'[[[["",0]]]],'])
def test_a_file_of_more_pieces_than_any_state_has_is_not_parsed(piece: bytes) -> None:
    """Left by who was taken over, 16 MiB of them cost the next start and root's `wesher check` half a gigabyte. The key
    still counts."""
    pieces = piece * ((MAX_SIZE - 100) // len(piece))
    bomb = b'{"Nodes": [' + pieces + b"0]}" if b":" not in piece else b'{"Nodes": {' + pieces + b'"":0}}'

    assert refusal(bomb).startswith("more than ")
    assert parse(f'{{\n"ClusterKey": "{KEY_TEXT}",\n'.encode() + bomb[1:]).cluster_key == KEY


def test_a_damaged_byte_in_a_name_costs_nothing() -> None:
    """It is kept as the byte it is, like a name that came so over the wire."""
    data = file_with(Nodes=[{"Name": "b?", "Addr": "192.0.2.1"}]).replace(b"b?", b"b\xff")

    assert parse(data).nodes == (SavedNode("b\udcff", "192.0.2.1", None),)


def test_the_rendered_file_is_exactly_this() -> None:
    """Two spaces, the key on a line of its own, no OverlayAddr, our own data apart, no final newline."""
    expected = f"""\
{{
  "ClusterKey": "{KEY_TEXT}",
  "Nodes": [
    {{
      "Name": "node-b",
      "Addr": "192.0.2.11",
      "Meta": "bWV0YQ=="
    }},
    {{
      "Name": "node-c",
      "Addr": "2001:db8::1"
    }}
  ],
  "Wesher": {{
    "Version": 1,
    "Own": {{
      "NodeName": "node-a",
      "Incarnation": 215000000,
      "Attempt": 3,
      "ClaimTime": 214000000
    }},
    "MetaForm": "0.2"
  }}
}}"""

    assert render(FULL).decode() == expected


def test_a_state_without_nodes_has_an_empty_list() -> None:
    """Both Go versions read it."""
    expected = f'{{\n  "ClusterKey": "{KEY_TEXT}",\n  "Nodes": [],\n  "Wesher": {{\n    "Version": 1\n  }}\n}}'

    assert render(SavedState(KEY, (), None)).decode() == expected


def test_undecodable_bytes_in_a_name_become_escaped_surrogates() -> None:
    """Go reads such an escape as U+FFFD and goes on; we read the byte back."""
    state = SavedState(KEY, (SavedNode("b\udcff", "192.0.2.1", None),), None)

    assert b'"Name": "b\\udcff"' in render(state)
    assert parse(render(state)) == state


@settings(deadline=None)
@given(states)
def test_parsing_undoes_rendering(state: SavedState) -> None:
    """Names of any bytes, either address family, with and without key, metadata and claim; and nothing is left out."""
    assert parse(render(state)) == state
    assert parse(render(state)).remark is None


@settings(deadline=None)
@given(states)
def test_a_rendered_file_is_ascii_with_one_line_for_the_key(state: SavedState) -> None:
    """`grep ClusterKey` prints the key and nothing else, whatever the nodes are called."""
    lines = [line for line in render(state).decode("ascii").split("\n") if line.startswith('  "ClusterKey": ')]

    key = None if state.cluster_key is None else base64.b64encode(state.cluster_key).decode()
    assert [json.loads("{" + line.rstrip(",") + "}") for line in lines] == [{"ClusterKey": key}]


def test_the_key_is_in_no_repr() -> None:
    """A repr ends up in logs and tracebacks."""
    assert repr(KEY) not in repr(FULL)
    assert "cluster_key" not in repr(FULL)


@pytest.mark.parametrize("name", ["", "\ud83d", "\udcc3\udca9"])
def test_a_name_that_is_no_byte_string_cannot_be_saved(name: str) -> None:
    """Empty, half a character, and a second spelling of one."""
    with pytest.raises(ValueError, match=r"name|surrogates"):
        SavedNode(name, "192.0.2.1", None)
    with pytest.raises(ValueError, match=r"name|surrogates"):
        OwnClaim(name, 1, 0, 1)


@pytest.mark.parametrize("addr", ["", "host", "192.0.2.1:7946", "fe80::1%eth0"])
def test_an_address_that_go_would_not_read_cannot_be_saved(addr: str) -> None:
    """One such text makes Go drop the whole file, and the key with it."""
    with pytest.raises(ValueError, match=r"address|zone"):
        SavedNode("b", addr, None)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_cluster_key_of_another_size_cannot_be_saved(size: int) -> None:
    """The original takes 32 bytes only."""
    with pytest.raises(ValueError, match="32 bytes"):
        SavedState(b"k" * size, (), None)


def parse_or_refuse(data: bytes) -> SavedState | StateError:
    try:
        return parse(data)
    except StateError as error:
        return error


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_state_error(data: bytes) -> None:
    """Whatever the disk holds."""
    outcome = parse_or_refuse(data)

    assert isinstance(outcome, StateError) or outcome.nodes == ()


@settings(deadline=None)
@given(json_values, json_values, json_values)
def test_arbitrary_values_in_the_right_places_never_cost_the_key(nodes: object, node: object, ours: object) -> None:
    """Types are checked wherever they are used."""
    own = {"NodeName": ours, "Incarnation": ours, "Attempt": ours, "ClaimTime": ours}
    entries = [node, {"Name": node, "Addr": node, "Meta": node}, {"Name": "b", "Addr": "192.0.2.1", "Meta": node}]

    assert parse(file_with(Nodes=nodes, Wesher=ours)).cluster_key == KEY
    state = parse(file_with(Nodes=entries, Wesher={"Own": own}))
    assert (state.cluster_key, state.nodes[-1].addr, state.own) == (KEY, "192.0.2.1", None)


Edit = tuple[float, int, bytes]
edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=4)), min_size=1, max_size=4)


@settings(deadline=None)
@given(st.sampled_from([GO_026, GO_MASTER, render(FULL)]), edits)
def test_mutated_files_raise_only_state_error_and_never_quote_the_key(data: bytes, changes: list[Edit]) -> None:
    """What comes through can be written and read again."""
    for place, removed, inserted in changes:
        at = int(place * len(data))
        data = data[:at] + inserted + data[at + removed :]
    outcome = parse_or_refuse(data)

    said = outcome.reason if isinstance(outcome, StateError) else outcome.remark or ""
    assert KEY_TEXT not in said
    assert base64.b64encode(CAPTURED_KEY).decode() not in said
    if not isinstance(outcome, StateError):
        assert parse(render(outcome)) == outcome


def test_no_more_nodes_are_read_than_a_node_can_have_members() -> None:
    """Who was taken over may leave a file of hundreds of thousands, and each is somebody to join."""
    nodes = [{"Name": f"n{number}", "Addr": "192.0.2.1"} for number in range(MAX_NODES + 10)]
    text = json.dumps({"ClusterKey": base64.b64encode(bytes(32)).decode(), "Nodes": nodes})
    assert [node.name for node in parse(text.encode()).nodes] == [f"n{number}" for number in range(MAX_NODES)]


# --- when and as what a member was seen


def test_when_and_as_what_a_member_was_seen_stands_under_a_name_that_no_go_program_reads():
    """A newer memberlist has a State of its own, a number; a text there would cost the whole file, key included."""
    node = SavedNode("b", "192.0.2.1", None, 217_000_000, LastSeen.FAILED)
    (written,) = json.loads(render(SavedState(KEY, (node,), None)))["Nodes"]
    assert written == {"Name": "b", "Addr": "192.0.2.1", "Wesher": {"Seen": 217_000_000, "Last": "failed"}}


@pytest.mark.parametrize(
    "ours",
    [
        *(None, 7, "alive", [], {}, {"Seen": 5}, {"Last": "left"}, {"Seen": "5", "Last": "left"}),
        *({"Seen": -1, "Last": "left"}, {"Seen": 2**32, "Last": "left"}, {"Seen": True, "Last": "left"}),
    ],
)
def test_what_cannot_be_read_of_it_costs_the_member_nothing_else(ours):
    """It counts as seen, alive, when the file is read."""
    data = file_with(Nodes=[{"Name": "b", "Addr": "192.0.2.1", "Wesher": ours}])
    assert parse(data).nodes == (SavedNode("b", "192.0.2.1", None),)


def test_a_way_of_being_seen_that_a_newer_version_knows_counts_as_alive():
    """And the file is kept aside, since it says more than we can."""
    data = file_with(Nodes=[{"Name": "b", "Addr": "192.0.2.1", "Wesher": {"Seen": 5, "Last": "asleep"}}])
    state = parse(data)
    assert state.nodes == (SavedNode("b", "192.0.2.1", None, 5),)
    assert state.remark is not None


@pytest.mark.parametrize("seen", [-1, 2**32])
def test_no_member_is_seen_at_a_time_that_is_none(seen):
    """A u32."""
    with pytest.raises(ValueError, match="u32"):
        SavedNode("b", "192.0.2.1", None, seen)


# --- keys that were changed

SECOND, THIRD = b"\x02" * 32, b"\x03" * 32
RING = Keys(
    (HeldKey(SECOND, 5, KeyPhase.USED, 90), HeldKey(THIRD, 9, KeyPhase.INSTALLED, 100, 86_000), HeldKey(KEY, left=60)),
    (Dropped(b"abcd", KeyPhase.USED), Dropped(b"efgh", KeyPhase.INSTALLED)),
)
CHANGED = SavedState(SECOND, (NODE,), OWN, keys=RING)


def test_all_keys_come_back_as_they_were() -> None:
    """The one that seals stands where Go looks for it."""
    assert parse(render(CHANGED)) == CHANGED
    assert parse(render(CHANGED)).remark is None
    assert json.loads(render(CHANGED))["ClusterKey"] == base64.b64encode(SECOND).decode()


def test_a_cluster_that_never_changed_its_key_has_the_file_of_before() -> None:
    """A node may go back to an older version."""
    assert render(SavedState(KEY, (), None, keys=Keys.of(KEY))) == render(SavedState(KEY, (), None))
    assert parse(render(SavedState(KEY, (), None))).keys is None


def test_what_is_left_is_kept_in_whole_seconds() -> None:
    """Rounded down by less than one."""
    keys = Keys((HeldKey(SECOND, 5), HeldKey(KEY, left=59.9)))
    found = parse(render(SavedState(SECOND, (), None, keys=keys))).keys
    assert found is not None
    assert [key.left for key in found.held] == [None, 59]


def test_another_cluster_key_in_the_file_stands_alone() -> None:
    """An operator has written it there, or a Go node has run in between."""
    file = json.loads(render(CHANGED))
    file["ClusterKey"] = base64.b64encode(b"\x09" * 32).decode()
    state = parse(json.dumps(file, indent=2).encode())
    assert (state.cluster_key, state.keys) == (b"\x09" * 32, None)
    assert state.remark is not None


@pytest.mark.parametrize(
    ("where", "member", "value"),
    [
        ("Keys", "Key", "no key"),
        ("Keys", "Key", KEY_TEXT[:-4]),
        ("Keys", "Key", KEY_TEXT),
        ("Keys", "Epoch", -1),
        ("Keys", "Epoch", True),
        ("Keys", "Epoch", "5"),
        ("Keys", "Phase", "PERHAPS"),
        ("Keys", "Phase", "INSTALLED"),
        ("Keys", "Grace", 59),
        ("Keys", "Grace", False),
        ("Keys", "Left", "soon"),
        ("Keys", "Left", True),
        ("Keys", "Left", -1),
        pytest.param("Keys", "Left", 5, id="the one that seals is dropped"),
        ("DroppedKeys", "Fingerprint", "61"),
        ("DroppedKeys", "Fingerprint", "no hex !"),
        ("DroppedKeys", "Phase", 2),
    ],
)
def test_keys_that_make_no_sense_cost_all_but_the_cluster_key(where: str, member: str, value: object) -> None:
    """Half of them would be worse than none; the log says that there was more."""
    file = json.loads(render(CHANGED))
    file["Wesher"][where][0][member] = value
    state = parse(json.dumps(file, indent=2).encode())
    assert (state.cluster_key, state.keys) == (SECOND, None)
    assert state.remark is not None


def test_a_key_without_end_costs_all_but_the_cluster_key() -> None:
    """Only the one that seals has none."""
    file = json.loads(render(CHANGED))
    file["Wesher"]["Keys"][2]["Left"] = None
    assert parse(json.dumps(file, indent=2).encode()).keys is None


def test_thousands_of_keys_are_not_looked_at() -> None:
    """Only this node's uid can write them, but its parser is not to stand for minutes."""
    file = json.loads(render(CHANGED))
    file["Wesher"]["DroppedKeys"] *= 60
    assert parse(json.dumps(file, indent=2).encode()).keys is None


def test_the_cluster_key_is_the_one_that_seals() -> None:
    """Or the node would go on with another after a restart."""
    with pytest.raises(ValueError, match="seals"):
        SavedState(KEY, (), None, keys=RING)
