"""One lie: what is done, how far the agent had come, and what the helper makes of it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest

from privhelper.protocol import Failed, Reply, ViolationCode
from tests.hostile.liar import At, HungUp, Liar, Message
from tests.hostile.stage import Stage


class Ending(Enum):
    """What else can come of a lie."""

    HUNG_UP = "hung up on, and the helper goes on serving"


@dataclass(frozen=True)
class Refused:
    """The sender's own kernel says no to it: the name of the error."""

    errno_name: str


Outcome = ViolationCode | Ending | Refused | type[Reply]
Act = Callable[[Liar], Reply | None]


@dataclass(frozen=True)
class Case:
    """`act` is a message, or several to be sent one after the other and each but the last answered, or anything."""

    name: str
    at: At
    act: Message | Sequence[Message] | Act
    expected: Outcome | None
    """None: nothing comes of it."""
    options: tuple[str, ...] = ()


def table(*cases: Case) -> pytest.MarkDecorator:
    """One test a row, under the row's name."""
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), "two rows of one name"
    return pytest.mark.parametrize("case", cases, ids=names)


def put(stage: Stage, case: Case) -> None:
    """Do it to a live helper; then look at the log, the helper and the host."""
    helper = stage.serve(*case.options)
    stage.said()
    with closing(stage.connect(case.at)) as liar:
        before = None if isinstance(case.expected, ViolationCode) else stage.ours()
        found = _outcome(stage, liar, case.act)
        assert case.expected == found
    if isinstance(found, ViolationCode):
        assert helper.wait(10) == 1
        assert [f"ERROR helper: violation: {found.value}"] == stage.errors()
        assert stage.ours().is_nothing
        stage.begin(*case.options)
        return
    after = stage.ours()
    assert before == after
    assert helper.alive()
    stage.assert_at_rest()
    stage.said()


def _outcome(stage: Stage, liar: Liar, act: Any) -> Outcome | None:
    try:
        reply = act(liar) if callable(act) else _say(liar, act)
    except HungUp:
        return _why(stage)
    except OSError as error:
        return Refused(errno.errorcode[error.errno or 0])
    return None if reply is None else type(reply)


def _say(liar: Liar, act: Message | Sequence[Message]) -> Reply:
    messages = act if isinstance(act, list | tuple) else [act]
    for message in messages[:-1]:
        liar.ask(message)
    return liar.ask(messages[-1])


def _why(stage: Stage) -> Outcome:
    """A helper that ends for a violation says so before it closes anything."""
    violations = [line for line in stage.helper.stderr_text().splitlines() if "violation: " in line]
    return ViolationCode(violations[-1].rpartition("violation: ")[2]) if violations else Ending.HUNG_UP


def is_failure(reply: Reply | None, number: int) -> bool:
    """Whether it is the kernel's no."""
    return isinstance(reply, Failed) and reply.errno == number
