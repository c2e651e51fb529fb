"""The page for operators says what the programs say: every line that it quotes is one of theirs, and no reason for
which a start or a command ends, and nothing that is logged as a warning or an error, is missing from it.

A line is compared by its fixed words, with … for what is filled in. The page may leave off the end of one, which is
where it says what to do.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
PAGE: Final = ROOT / "docs" / "troubleshooting.md"

FATAL: Final = frozenset(
    "LaunchError StartError Refused BadUsers NoSandbox BadKeyFile NoGround HostsUnavailable NoAddress NoUnit "
    "NotRunning Unusable Declined AddressGone".split()
)
"""Exceptions whose text ends a start or a command."""

LOUD: Final = frozenset(("warning", "error", "_warn", "warn"))
"""Who logs, prints or finds something that is not well: of a logger, of the launcher, of a check."""

PLACE: Final = re.compile(r"%(?:\.\d)?[a-z]")

PREFIX: Final = re.compile("f?['\"]wesher: (error|warning): ")

SHORTEST: Final = 6
"""Letters of a text that says something by itself; `%s` alone is another's."""

NOT_AN_OPERATORS: Final = frozenset(
    (
        "name whom to forget",  # of words that the command line never sends
        "a cluster key is the base64 of 32 bytes",
        "no such key is held here; see wesher key list",
        "without is a list of the members who need not have it",
        "the helper does not tell its policy; restart wesher-privhelper",  # of a helper that is none
    )
)
"""Texts that only another program than ours can provoke."""


def templates(source: str, *, all_of_it: bool = False) -> Iterator[tuple[str, bool]]:
    """Every text in a source, and whether it must be on the page: what is said to an operator, or `all_of_it`."""
    tree = ast.parse(source)
    required = {id(text) for node in ast.walk(tree) for text in said_by(node)}
    aside = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    aside |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        text = text_of(node)
        if text is not None and id(node) not in aside:
            yield text, all_of_it or id(node) in required


def said_by(node: ast.AST) -> Iterator[ast.expr]:
    """The texts that are said to an operator: by a call, or by a rule of `status --check`."""
    if isinstance(node, ast.Call) and node.args:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in FATAL or name in LOUD or (name == "print" and PREFIX.match(ast.unparse(node.args[0]))):
            yield node.args[0]
        elif name == "log" and len(node.args) > 1:  # at a level that is found out
            yield node.args[1]
    elif isinstance(node, ast.Lambda):
        yield node.body


def text_of(node: ast.AST) -> str | None:
    """A text with … for what is filled in, None where it is none or says nothing by itself."""
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        parts = [PLACE.sub("…", node.value)]
    else:
        return None
    text = re.sub("^wesher: (error|warning): ", "", "".join(map(str, parts)))
    return text if sum(map(str.isalpha, text)) >= SHORTEST else None


SHELL_SAYS: Final = re.compile(r'\b(fail|say) "((?:\$\([^()]*\)|[^"\\]|\\.)*)"')
SHELL_FILLS_IN: Final = (re.compile(r"\$\([^()]*\)"), re.compile(r"\$\{[^}]*\}|\$\w+"))
"""What a command says, which may stand in the second: a variable."""


def shell_templates(source: str) -> Iterator[tuple[str, bool]]:
    """What a script says, and whether it ends with that."""
    commands, variables = SHELL_FILLS_IN
    for how, text in SHELL_SAYS.findall(source):
        said = variables.sub("…", commands.sub("…", text))
        if sum(map(str.isalpha, said)) >= SHORTEST:
            yield said, how == "fail" and not said.startswith("usage: ")


def scripts() -> list[Path]:
    """Those of dist/ that an operator starts, and their parts."""
    return [ROOT / "dist" / f"{name}.sh" for name in "install uninstall take-over build tree services".split()]


def sources() -> list[Path]:
    """All of the product."""
    return [path for package in ("wesher", "privhelper") for path in sorted((ROOT / package).rglob("*.py"))]


def quoted(page: str) -> list[str]:
    """The lines that the page explains: the first cell of each row, as code."""
    return re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)


def repeated(page: str) -> list[str]:
    """The lines that it comes back to, in the lists of what they mean elsewhere: before the colon."""
    heads = re.findall(r"^- (.*?): (?=[^`]*(?:`[^`]*`[^`]*)*$)", page, re.MULTILINE)
    return [line for head in heads for line in re.findall(r"`([^`]+)`", head)]


def is_in(line: str, text: str) -> bool:
    """Whether the page's line is the beginning of a text, or, behind what is filled in, of its rest."""
    return text.startswith(line) or text.removeprefix("…").lstrip(" :").startswith(line.removeprefix("…").lstrip(" :"))


def test_every_quoted_line_is_said_somewhere() -> None:
    """A line that is no longer said would be looked for in vain."""
    said = [text for path in sources() for text, _ in templates(path.read_text())]
    said += [text for path in scripts() for text, _ in shell_templates(path.read_text())]
    page = PAGE.read_text()
    lines = [*quoted(page), *repeated(page)]
    assert len(quoted(page)) > 50
    assert len(repeated(page)) > 10
    assert [line for line in lines if not any(is_in(line, text) for text in said)] == []


def test_nothing_that_ends_a_start_or_is_logged_is_missing() -> None:
    """Who reads an error line finds it."""
    lines = quoted(PAGE.read_text())
    said = [found for path in sources() for found in templates(path.read_text(), all_of_it=path.name == "refusals.py")]
    said += [found for path in scripts() for found in shell_templates(path.read_text())]
    required = [text for text, is_required in said if is_required]
    assert len(required) > 70
    missing = [text for text in required if not any(is_in(line, text) for line in lines)]
    assert sorted(set(missing) - NOT_AN_OPERATORS) == []
    assert set(required) >= NOT_AN_OPERATORS


def test_no_line_is_explained_twice() -> None:
    """Or one of the two would go stale."""
    lines = quoted(PAGE.read_text())
    assert sorted(lines) == sorted(set(lines))


def test_the_checks_themselves_can_fail() -> None:
    """Each kind of text is seen."""
    source = (
        'raise LaunchError(f"no {x} here, sorry to say; do")\nlog.error("it is all gone: %s", y)\nf("not for them")'
    )
    found = dict(templates(source))
    assert found["no … here, sorry to say; do"] == found["it is all gone: …"] is True
    assert found["not for them"] is False
    assert is_in("no … here", "no … here, sorry to say; do")
    assert not is_in("no … there", "no … here, sorry to say; do")
    assert quoted("| `a …` | why | do |\n| b | `c` | d |") == ["a …"]
    script = 'if x; then fail "cannot make $it: $(tail -n 1 "$log")"; fi\nsay "moved $file to ${file}s"'
    assert list(shell_templates(script)) == [("cannot make …: …", True), ("moved … to …s", False)]


def test_what_the_documents_link_to_is_there() -> None:
    """Files beside them, and their headings as GitHub names them."""
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("security/*.md")]
    links = [(path, link) for path in documents for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text())]
    inside = [(path, *link.partition("#")[::2]) for path, link in links if "://" not in link]
    assert len(inside) > 10
    targets = [(path, (path.parent / file if file else path).resolve(), heading) for path, file, heading in inside]
    assert [(path.name, target.name) for path, target, _ in targets if not target.exists()] == []
    assert [
        (path.name, heading) for path, target, heading in targets if heading and heading not in headings(target)
    ] == []


def headings(path: Path) -> set[str]:
    """Anchors of a document's headings."""
    found = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}
