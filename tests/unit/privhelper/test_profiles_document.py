"""The system calls of `security/privileges.md` are those of the profiles, and the table says of them what they say."""

import errno

import pytest

from privhelper.profiles import Row
from security.privileges import FILE, REWRITE, calls
from security.privileges.calls import CARRIED_OUT, KILLED, NOT_DONE, PROFILES, condition, lines, table


def told(column: int) -> set[tuple[str, calls.Condition, str]]:
    """What the table says of one process, with one value for each argument."""
    return {
        (call, when, line.answers[column])
        for line in lines()
        for call in line.calls
        for when in one_by_one(line.condition)
    }


def one_by_one(when: calls.Condition) -> list[calls.Condition]:
    """Every combination of values."""
    found: list[calls.Condition] = [()]
    for argument, values in when:
        found = [(*before, (argument, (value,))) for before in found for value in values]
    return found


def test_the_file_has_the_table_of_the_profiles() -> None:
    """As it would be written now."""
    section = FILE.read_text(encoding="utf-8").partition("\n## System calls\n")[2]
    written = [line for line in section.splitlines() if line.startswith("|")]
    assert table() == written, f"{FILE.name} is not true; if the change is meant, as root: {REWRITE}"


@pytest.mark.parametrize("name", PROFILES)
def test_every_row_is_told_and_no_other(name: str) -> None:
    """What one process is answered without conditions is told again where another one's arguments are asked for."""
    rows = {(row.call, condition(row)): row.answer for row in PROFILES[name]}
    said = {None: CARRIED_OUT, 0: NOT_DONE}
    expected = {(call, when, said.get(answer) or errno.errorcode[answer or 0]) for (call, when), answer in rows.items()}
    found = told(list(PROFILES).index(name))

    assert expected <= found
    for call, when, answer in found - expected:
        default = {answered for other, without, answered in expected if (other, without) == (call, ())}
        assert (default or {KILLED}) == {answer}, (call, when)


def test_no_two_numbers_have_one_name() -> None:
    """Else two rows would read the same."""
    for profile in PROFILES.values():
        assert len({(row.call, row.when) for row in profile}) == len({(row.call, condition(row)) for row in profile})


def test_a_number_without_a_name_is_an_error() -> None:
    """It is not told as a number: nobody could read it."""
    with pytest.raises(LookupError, match="request 21522 of ioctl has no name"):
        condition(Row("ioctl", ((1, "==", 21522),)))
