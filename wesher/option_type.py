"""Our options as click sees them: a value is parsed by the option's own parser, whose sentence is the error."""

from __future__ import annotations

from typing import Any

import click

from privhelper.options import Option


class OptionType(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic since click 8.3
    """A value parsed by the option's own parser."""

    def __init__(self, option: Option) -> None:
        self.name = option.metavar or option.name
        self._option = option

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse text; a value that is parsed already stays."""
        if not isinstance(value, str):
            return value
        try:
            return self._option.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
