"""Who sees whom, as people and programs read it: the whole of each output, and what hostile names come to in them."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.cli.graphs import EVIL, MIXED, A, F, S, graph, row, whole
from wesher.graph.dot import dot_lines, quoted
from wesher.graph.sights import Pair, read
from wesher.graph.svg import escaped, svg_lines
from wesher.graph.text import LARGEST_MATRIX, graph_lines
from wesher.mesh.contest import HANDSHAKE_COUNTS

FORMS = (graph_lines, dot_lines, svg_lines)
SVG = "{http://www.w3.org/2000/svg}"
DOT_TOKEN = re.compile(r'\s+|//[^\n]*\n|(?P<token>"(?:[^"\\]|\\.)*"|->|[][{};,=]|[A-Za-z_][A-Za-z_0-9]*)')
"""What a DOT file is made of, strictly: a string ends where it says, and nothing stands between tokens."""


def dot_tokens(text: str) -> list[str]:
    """The tokens of a DOT file, all of it being such."""
    found, at = [], 0
    while at < len(text):
        match = DOT_TOKEN.match(text, at)
        assert match is not None, text[at : at + 40]
        at = match.end()
        if match["token"] is not None:
            found.append(match["token"])
    return found


def statements(text: str) -> list[list[str]]:
    """The statements between a DOT file's braces."""
    tokens = dot_tokens(text)
    assert tokens[:3] == ["digraph", "wesher", "{"]
    assert tokens[-1] == "}"
    found: list[list[str]] = [[]]
    for token in tokens[3:-1]:
        if token == ";":
            found.append([])
        else:
            found[-1].append(token)
    assert found.pop() == []
    return found


# --- text


def test_the_text_of_a_mixed_mesh():
    """A matrix, then everything that is not as it should be."""
    assert list(graph_lines(MIXED)) == [
        "6 members, of whom 5 have told whom they see; 8 of their 10 pairs see each other",
        "            1  2  3  4  5  6",
        "1  alpha    .  *  o  o  x  *",
        "2  bravo    *  .  ?  *  x  *",
        "3  charlie  o  o  .  -  -  *",
        "4  delta    o  l  o  .  -  *",
        "5  echo",
        "6  go       *  *  *  *  x  .",
        "a row sees a column:  . itself   * sees it, handshake within 3m   o sees it, older handshake or none   "
        "? suspects it   x holds it for failed   l holds it for left   - does not know it",
        "echo has not answered: no answer in 4 s",
        "charlie does not see, and is seen by: delta (not known)",
        "delta does not see, and is seen by: bravo (left, handshake 7s ago)",
        "alpha does not see (and these have not told): echo (failed, handshake 30s ago)",
        "bravo does not see (and these have not told): echo (failed)",
        "charlie does not see (and these have not told): echo (not known)",
        "delta does not see (and these have not told): echo (not known)",
        "go does not see (and these have not told): echo (failed)",
        "bravo suspects: charlie",
        "alpha has had no handshake yet with: delta",
        "bravo has had no handshake yet with: charlie",
        "last handshake more than 3m ago: 1 pairs; their tunnels are idle, or do not work",
        "tell of no handshakes (Go nodes, or older versions): go",
        "not asked: 2 members; in a large mesh some are, others each time",
        "left out: 1 names that others see and this node does not",
    ]


def test_a_whole_mesh_has_nothing_to_say_but_its_matrix():
    """No sentence where nothing is missing."""
    assert list(graph_lines(whole(2))) == [
        "2 members, of whom 2 have told whom they see; 1 of their 1 pairs see each other",
        "          1  2",
        "1  n0000  .  *",
        "2  n0001  *  .",
        "a row sees a column:  . itself   * sees it, handshake within 3m",
    ]
    assert list(graph_lines(whole(1))) == ["nobody but this node is known"]


def test_a_large_mesh_is_a_summary_and_its_exceptions():
    """The matrix goes as far as a screen is wide."""
    assert len(list(graph_lines(whole(LARGEST_MATRIX)))) == LARGEST_MATRIX + 3
    assert list(graph_lines(whole(LARGEST_MATRIX + 1))) == [
        "31 members, of whom 31 have told whom they see; 465 of their 465 pairs see each other"
    ]


def test_two_halves_are_told_in_a_line_a_member_and_no_more_than_a_hundred():
    """Not one for each pair."""
    size = 300
    names = [f"n{number:04}" for number in range(size)]
    halves = [[A if (i < 150) == (j < 150) else F for j in range(size)] for i in range(size)]
    told = list(graph_lines(graph(names, *(row(n, h, [3] * size) for n, h in zip(names, halves, strict=True)))))
    named = ", ".join(f"n{number:04} (failed, handshake 3s ago)" for number in range(150, 158))
    assert told[1] == f"n0000 does not see, nor is seen by: {named} and 142 more"
    assert (len(told), told[-1]) == (102, "and 50 lines more; --json has everything")


def test_a_member_that_nobody_can_ask_has_neither_row_nor_sight():
    """Others see it, and this node does not."""
    told = list(graph_lines(graph(["a", "b"], row("a", [A, None], [None, None]))))
    assert told[2:4] == ["1  a  .  -", "2  b"]
    assert told[-1] == "a does not see (and these have not told): b (not known)"


# --- pairs


def pair(sees: str | None, seen: str | None, *ages: list[float | None] | None) -> Pair:
    """What is made of two who tell that of each other."""
    first, second = (None if told is None else [None, *told][:2] for told in ages)
    (found,) = read(
        graph(["a", "b"], row("a", [A, sees], first), row("b", [seen, A], None if second is None else second[::-1]))
    ).pairs()
    return found


def test_a_handshake_is_the_pairs():
    """Whoever of the two tells of it; the later one if both do; none is known where nobody tells anything."""
    for ages, told, age in (
        ((None, None), False, None),
        (([None], None), True, None),
        ((None, [7]), True, 7),
        (([9], None), True, 9),
        (([9], [7]), True, 7),
        (([None], [7]), True, 7),
        (([None], [None]), True, None),
    ):
        found = pair(A, A, *ages)
        assert (found.told, found.age) == (told, age)


def test_a_handshake_counts_as_long_as_wireguard_uses_it():
    """And not a moment longer."""
    assert pair(A, A, [HANDSHAKE_COUNTS], None).shakes
    assert not pair(A, A, [HANDSHAKE_COUNTS + 1], None).shakes
    assert not pair(A, A, [None], None).shakes


def test_a_suspect_is_seen_and_who_is_gone_or_unknown_is_not():
    """As gossip has it: a suspect is still in force."""
    found = [pair(sees, A, None, None).one_sees for sees in (A, S, F, "left", None, "of a newer version")]
    assert found == [True, True, False, False, False, False]
    assert [pair(A, seen, None, None).other_sees for seen in (A, S, F)] == [True, True, False]


def test_each_two_are_one_pair():
    """Of whom one at least has told; who has told comes first, where the other has not."""
    names = ["a", "b", "c"]
    told = read(graph(names, row("b", [A] * 3), row("c", [A] * 3))).pairs()
    assert [(pair.one, pair.other, pair.other_sees) for pair in told] == [
        ("b", "a", None),
        ("b", "c", True),
        ("c", "a", None),
    ]


# --- drawings


def test_the_dot_file_of_a_mixed_mesh():
    """Two-way lines have no arrow and are one; who has not told is dashed, and lines to it."""
    assert list(dot_lines(MIXED)) == [
        "digraph wesher {",
        "  // line: see each other; arrow: only one sees the other; dashed: the other has not told",
        "  // #1a7f37: handshake within 3m",
        "  // #d97706: older handshake or none",
        "  // #8c8c8c: handshakes not told",
        "  layout=circo; node [shape=box];",
        '  n0 [label="alpha"];',
        '  n1 [label="bravo"];',
        '  n2 [label="charlie"];',
        '  n3 [label="delta"];',
        '  n4 [label="echo", style=dashed];',
        '  n5 [label="go"];',
        '  n0 -> n1 [dir=none, style=solid, color="#1a7f37", label="11s"];',
        '  n0 -> n2 [dir=none, style=solid, color="#d97706", label="3m"];',
        '  n0 -> n3 [dir=none, style=solid, color="#d97706", label="never"];',
        '  n0 -> n5 [dir=none, style=solid, color="#1a7f37", label="4s"];',
        '  n1 -> n2 [dir=none, style=solid, color="#d97706", label="never"];',
        '  n1 -> n3 [dir=forward, style=solid, color="#1a7f37", label="7s"];',
        '  n1 -> n5 [dir=none, style=solid, color="#1a7f37", label="9s"];',
        '  n3 -> n2 [dir=forward, style=solid, color="#d97706", label="never"];',
        '  n2 -> n5 [dir=none, style=solid, color="#1a7f37", label="2s"];',
        '  n3 -> n5 [dir=none, style=solid, color="#1a7f37", label="100s"];',
        "}",
    ]


def test_a_line_to_who_has_not_told_is_dashed_and_grey_where_no_handshake_is_told():
    """Seen from one side, whatever the other would say."""
    text = "\n".join(dot_lines(graph(["a", "b"], row("a", [A, A]))))
    assert '  n0 -> n1 [dir=forward, style=dashed, color="#8c8c8c", label="not told"];' in text


@pytest.mark.parametrize("answer", [MIXED, EVIL, whole(12), whole(1)])
def test_a_dot_file_has_dots_grammar(answer):
    """Statements of members and of lines between them, whatever they are called."""
    count = len(answer["names"])
    members = {f"n{number}" for number in range(count)}
    layout, node, *rest = statements("\n".join(dot_lines(answer)))
    assert (layout, node[0]) == (["layout", "=", "circo"], "node")
    assert [statement[0] for statement in rest[:count]] == [f"n{number}" for number in range(count)]
    assert all(statement[1:4] == ["[", "label", "="] for statement in rest[:count])
    assert all(
        statement[0] in members and statement[1] == "->" and statement[2] in members for statement in rest[count:]
    )


@given(st.text())
def test_a_quoted_string_is_one_token(text):
    """And says what it was given, once escapes are taken back."""
    (token,) = dot_tokens(quoted(text))
    inside = re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL)
    assert inside.replace("&amp;", "&") == text


def test_the_drawing_of_a_pair():
    """All of it: whoever changes it looks at it again."""
    answer = graph(["a", "b"], row("a", [A, A], [None, 3]), row("b", [F, A], [3, None]))
    assert list(svg_lines(answer)) == [
        '<svg xmlns="http://www.w3.org/2000/svg" width="712" height="400" viewBox="0 0 712 400" '
        'font-family="monospace" font-size="13">',
        "<title>wesher: who sees whom</title>",
        '<rect width="100%" height="100%" fill="white"/>',
        '<marker id="arrow" viewBox="0 0 10 10" refX="16" refY="5" markerWidth="9" markerHeight="9" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L10 5L0 10z"/></marker>',
        '<line x1="356.0" y1="50.0" x2="356.0" y2="290.0" stroke="#1a7f37" marker-end="url(#arrow)">'
        "<title>a sees b; handshake: 3s</title></line>",
        '<circle cx="356.0" cy="50.0" r="5" fill="black" stroke="black"/>'
        '<text x="366.0" y="54.0" text-anchor="start">a</text>',
        '<circle cx="356.0" cy="290.0" r="5" fill="black" stroke="black"/>'
        '<text x="366.0" y="294.0" text-anchor="start">b</text>',
        '<text x="20" y="340" fill="#1a7f37">handshake within 3m</text>',
        '<text x="20" y="356" fill="#d97706">older handshake or none</text>',
        '<text x="20" y="372" fill="#8c8c8c">handshakes not told</text>',
        '<text x="20" y="388">line: see each other; arrow: only one sees the other; dashed: the other has not told'
        "</text>",
        "</svg>",
    ]


@pytest.mark.parametrize("answer", [MIXED, EVIL, whole(40), whole(1)])
def test_a_drawing_is_xml_with_its_members_inside(answer):
    """Nothing in it but what is drawn, and nothing beyond its edge."""
    root = ElementTree.fromstring("\n".join(svg_lines(answer)))
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        *("svg", "title", "rect", "marker", "path", "line", "circle", "text")
    }
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    circles = root.findall(f"{SVG}circle")
    assert len(circles) == len(answer["names"])
    for circle in circles:
        assert 0 < float(circle.attrib["cx"]) < width
        assert 0 < float(circle.attrib["cy"]) < height - 70
    for text in root.findall(f"{SVG}text"):
        begin, length = float(text.attrib["x"]), 8 * len(text.text or "")
        assert 0 <= begin - length if text.get("text-anchor") == "end" else begin + length <= width


def test_a_drawings_lines_are_the_dot_files():
    """Two-way, one-way and half-known ones."""
    drawn = ElementTree.fromstring("\n".join(svg_lines(MIXED))).findall(f"{SVG}line")
    dotted = [line for line in dot_lines(MIXED) if "->" in line]
    assert len(drawn) == len(dotted)
    for line, text in zip(drawn, dotted, strict=True):
        assert ("marker-end" in line.attrib) == ("dir=forward" in text)
        assert line.attrib["stroke"] in text


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_escaped_text_is_text(text):
    """Inside an element and inside quotes."""
    element = ElementTree.fromstring(f'<a b="{escaped(text)}">{escaped(text)}</a>')
    assert (element.text or "", element.attrib["b"]) == (text, text)


# --- what comes from members


@pytest.mark.parametrize("form", FORMS)
def test_a_members_name_is_a_name_and_nothing_else(form):
    """No escape sequence, no line of its own, nothing to run, and no more than fits."""
    lines = list(form(EVIL))
    assert lines == list(form(deepcopy(EVIL)))
    assert len(lines) < 40
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert form is graph_lines or "z" * 65 not in "".join(lines)
    assert form is not svg_lines or "<script" not in "".join(lines)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "change",
    [
        {"names": ["b", "a"]},
        {"names": ["a", "a"]},
        {"names": ["a", 7]},
        {"names": ["a"]},
        {"observers": [row("x", [A, A])]},
        {"observers": [row("a", [A])]},
        {"observers": [row("a", [A, A], [1])]},
        {"observers": [row("a", [A, 7])]},
        {"observers": [row("a", [A, A], [None, "1"])]},
        {"observers": [row("a", [A, A], [None, "x"])]},
        {"observers": [{"name": "a", "sees": "ab", "handshakes": None, "failure": ""}]},
        {"observers": [{"name": "a", "sees": None, "handshakes": None, "failure": 7}]},
        {"observers": ["a"]},
        {"not_asked": None},
    ],
)
def test_an_answer_of_another_shape_is_refused(form, change):
    """Whatever an agent that is no longer itself says: an error that the command tells in one line."""
    answer: dict[str, Any] = graph(["a", "b"], row("a", [A, A], [None, 1])) | change
    with pytest.raises((KeyError, TypeError, ValueError)):
        list(form(answer))
