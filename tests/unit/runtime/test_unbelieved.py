"""Who is not believed for its clock is told for as long as it is heard of, and however many there are, of few."""

from __future__ import annotations

from wesher.runtime.unbelieved import LASTS, MOST, Unbelieved


def test_nobody_is_nothing_to_tell() -> None:
    """Of a mesh whose clocks agree."""
    assert Unbelieved().problem(0.0) == ""


def test_who_is_heard_of_is_told_until_it_is_over() -> None:
    """Since when its last news came; names are any bytes."""
    unbelieved = Unbelieved()
    unbelieved.hear("b", 0.0)
    unbelieved.hear("c\x1b\udcff", 1.0)
    unbelieved.hear("b", LASTS - 1)
    both = "not believed: 'b', 'c\\x1b\\udcff', more than a day ahead of this node's clock; set it, or theirs"
    assert unbelieved.problem(LASTS) == both
    assert "'c" not in unbelieved.problem(LASTS + 1)
    assert unbelieved.problem(2 * LASTS) == ""


def test_made_up_names_are_few() -> None:
    """And take the place of nobody who is heard of still."""
    unbelieved = Unbelieved()
    for number in range(1000):
        unbelieved.hear(f"n{number}", number / 1000)
    assert unbelieved.problem(1.0).count("'n") == MOST
    assert "'n0'" in unbelieved.problem(1.0)
    unbelieved.hear("later", LASTS + 1)
    assert "'later'" in unbelieved.problem(LASTS + 1)
