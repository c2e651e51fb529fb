"""Who gets a line in the hosts file: names that nobody else on this host uses, written by the helper and nobody else. A
name that is refused costs the line and never the tunnel."""

from __future__ import annotations

import fcntl
from contextlib import closing
from itertools import product

import pytest

from privhelper.policy import HostsVerdict
from privhelper.protocol import HostsResult, HostsWritten
from tests.hostile.cast import ALPHA, BETA, GAMMA, NAME, is_free, member
from tests.hostile.furniture import HOSTS, OPERATORS_LINES
from tests.hostile.liar import At
from tests.hostile.policy import ACCEPTED, Row, judge, rows
from tests.hostile.stage import Stage

pytestmark = pytest.mark.root

H = HostsVerdict
SUFFIX = ("--hosts-suffix", "mesh.example")


def called(name: str, verdict: HostsVerdict, **options: tuple[str, ...]) -> Row:
    """A member of that name."""
    return Row(f"{name!r}", member(name), ACCEPTED, verdict, **options)


def cased(name: str) -> str:
    """`name` in the first mixture of capitals and small letters whose address is free. It means the same to all."""
    mixtures = product(*((letter, letter.upper()) if letter.islower() else (letter,) for letter in name))
    return next(mixed for letters in mixtures if is_free(mixed := "".join(letters)))


def numbered(form: str) -> str:
    """`form` with the first number in it that makes a name whose address is free."""
    return next(name for number in range(99) if is_free(name := form.replace("{}", str(number))))


@rows(
    *(
        called(cased(name), H.RESERVED)
        for name in (
            *("localhost", "localdomain", "broadcasthost", "wpad", "isatap", "loopback", "ip6-localhost"),
            *("ip6-allnodes", "ip4-anything", "www.localhost", "localhost.localdomain", "a.b.localdomain"),
        )
    ),
    called(cased(NAME), H.OWN_NAME),
    *(
        called(cased(name), H.TAKEN)
        for name in ("git", "db", "db.internal", "printer", "printer.example.net", "node1", "node1.example.org")
    ),
)
def test_somebody_elses(stage: Stage, row: Row) -> None:
    """Reserved, this node's, or in a line of the operator's, however it is spelled."""
    judge(stage, row)


LITERALS = ("12700{}", "127.0.0.{}", "1.2.{}", "0x7f0000{}", "{}", "0{}", "0x7f.0.0x{}", "{}.0x", "0X7F.{}")
NO_NAMES = (
    *("-x{}", "x{}-", ".x{}", "a..x{}", "a.{}.", "a_{}", "a*{}", "a/{}", "../../etc/x{}", "a:{}", "a#{}", "a,{}"),
    *("$(reboot){}", "`id`{}", "a;{}", "%s%n{}", "<x>{}", "a\\n1.2.3.4\\tb{}", "!{}", "@{}", "~{}", "::{}", "{}|sh"),
    *("*.com{}", "x" * 62 + "{}x", "_dmarc.x{}", "'{}'", '"{}"', "a=b{}", "a.-b{}", "a-.b{}", "[::{}]"),
)
NAMES = (
    *("plain{}", "With-Dashes-{}", "a.b.c.d.e{}", "localhost-of-{}", "xn--{}", "x" * 61 + "{}", "1a{}", "0x{}g"),
    "1.2.3.4.{}",
)


@rows(
    *(called(name, H.ADDRESS_LITERAL) for name in map(numbered, LITERALS)),
    *(called(name, H.NOT_A_HOST_NAME) for name in map(numbered, NO_NAMES)),
)
def test_no_host_names(stage: Stage, row: Row) -> None:
    """Letters, digits and dashes, in labels of up to 63, and no number: whatever reads the file reads one name."""
    judge(stage, row)


@rows(*(called(name, H.ACCEPTED) for name in map(numbered, NAMES)))
def test_host_names(stage: Stage, row: Row) -> None:
    """What is not refused: the rules do not refuse everything."""
    judge(stage, row)


IN_SUFFIX = (member("here.mesh.example"), member("there.mesh.example"))


@rows(
    Row("another domain's", member(numbered("www.bank.example{}")), ACCEPTED, H.OUTSIDE_SUFFIX, options=SUFFIX),
    Row(
        "a longer domain that ends so",
        member(numbered("a{}.notmesh.example")),
        ACCEPTED,
        H.OUTSIDE_SUFFIX,
        options=SUFFIX,
    ),
    Row("the domain's own name", member(cased("mesh.example")), ACCEPTED, H.OUTSIDE_SUFFIX, options=SUFFIX),
    Row("a single label, which gets the suffix", member(numbered("git{}")), ACCEPTED, H.ACCEPTED, options=SUFFIX),
    Row("a name that the operator has, under the suffix", member(cased("git")), ACCEPTED, H.ACCEPTED, options=SUFFIX),
    Row("this node's under the suffix", member(cased(f"{NAME}.mesh.example")), ACCEPTED, H.OWN_NAME, options=SUFFIX),
    Row(
        "one that the suffix would make another's",
        member(cased("twin")),
        ACCEPTED,
        H.DOUBLE,
        others=(member(cased("twin.mesh.example")),),
        options=SUFFIX,
    ),
)
def test_a_pinned_suffix(stage: Stage, row: Row) -> None:
    """No name outside it is ever written."""
    ours = judge(stage, row, standing=())
    assert all(name.lower().endswith(".mesh.example") for name in ours.lines)


def test_without_a_hosts_file_no_name_is_written(stage: Stage) -> None:
    """The descriptor is not even there."""
    stage.serve("--no-etc-hosts")
    with closing(stage.connect(At.ADDRESSED)) as liar:
        assert [(ACCEPTED, H.DISABLED)] == liar.set([GAMMA])
        assert HostsWritten(HostsResult.DISABLED) == liar.write()
        assert {} == stage.ours().lines
    stage.stop()


def test_what_an_operator_adds_later_is_taken_from_then_on(stage: Stage) -> None:
    """Also a name that is in force: the line goes with the next set."""
    stage.serve()
    with closing(stage.connect(At.CONFIGURED)) as liar:
        assert set(stage.ours().lines) == {ALPHA.name, BETA.name}
        before = stage.node.hosts()
        added = OPERATORS_LINES + f"192.0.2.13\t{ALPHA.name.upper()}\n".encode()
        stage.node.write_hosts(added + before.removeprefix(OPERATORS_LINES))
        try:
            assert [(ACCEPTED, H.TAKEN), (ACCEPTED, H.ACCEPTED)] == liar.set([ALPHA, BETA])
            liar.write()
            assert stage.node.hosts().startswith(added)
            assert stage.node.hosts().count(ALPHA.name.encode()) == 0
        finally:
            stage.node.write_hosts(HOSTS)
        liar.write()
    stage.assert_at_rest()
    assert set(stage.ours().lines) == {BETA.name}


def test_a_name_goes_with_its_tunnel(stage: Stage) -> None:
    """An agent that never asks for it keeps no name for an address that nothing leads to any more."""
    stage.serve()
    with closing(stage.connect(At.CONFIGURED)) as liar:
        liar.set([BETA])
        assert ALPHA.name.encode() not in stage.node.hosts()
        assert set(stage.ours().lines) == {BETA.name}


def test_a_name_goes_with_its_tunnel_whoever_holds_a_lock(stage: Stage) -> None:
    """Any local user may; until it can be taken away, the line says nothing."""
    stage.serve()
    with closing(stage.connect(At.CONFIGURED)) as liar, (stage.node.inside.root / "etc/hosts").open("rb") as file:
        fcntl.lockf(file, fcntl.LOCK_SH)
        liar.set([BETA])
        assert [BETA] == liar.in_force()
        said = [line.partition(b"#")[0].split() for line in stage.node.hosts().splitlines()]
        assert [BETA.name.encode()] == [name for fields in said for name in fields[1:] if name.startswith(b"old-")]
        fcntl.lockf(file, fcntl.LOCK_UN)
        liar.write()
        assert ALPHA.name.encode() not in stage.node.hosts()
        assert set(stage.ours().lines) == {BETA.name}


def test_a_hosts_file_in_anothers_place_is_left_alone(stage: Stage) -> None:
    """An editor wrote a new one: nothing is written to either, and the agent is told."""
    stage.serve()
    root = stage.node.inside.root
    with closing(stage.connect(At.CONFIGURED)) as liar:
        before = stage.node.hosts()
        (root / "etc/hosts").rename(root / "etc/hosts.before")
        try:
            stage.node.write("/etc/hosts", b"192.0.2.20\tother\n", mode=0o644)
            liar.set([GAMMA])
            assert HostsWritten(HostsResult.REPLACED) == liar.write()
            assert b"192.0.2.20\tother\n" == stage.node.hosts()
            assert before == stage.node.read("/etc/hosts.before")
        finally:
            (root / "etc/hosts.before").rename(root / "etc/hosts")
        liar.write()
        assert set(stage.ours().lines) == {GAMMA.name}
    stage.assert_at_rest()
