"""A mutant of a table: what a module holds in a name of its own is made anew, and with it all that was made of it.

Functions look a name up when they run, so it is enough to bind it again: in its module, and wherever it was imported,
the tests too, as if the source had been edited. What else a module made of it when it was loaded is made again:
constants, default arguments, and what it asserts of itself.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Sequence
from functools import cache
from types import FunctionType
from typing import Any

from tests.mutants.mutation import Mutant
from tests.mutants.rules import Rules


def make_anew(mutant: Mutant) -> None:
    """Have the table be what `mutant` says. Raises what loading such a module would."""
    module = sys.modules[mutant.module]
    changed: set[str] = set()
    for statement in mutant.source().body:
        if _bound(statement) != mutant.function and not _reads(statement) & changed:
            continue
        match statement:
            case ast.Assign() | ast.AnnAssign() | ast.Assert():
                former = dict(vars(module))
                exec(compile(ast.Module([statement], []), str(module.__file__), "exec"), vars(module))
                if name := _bound(statement):
                    changed.add(name)
                    _bind_elsewhere(name, former[name], vars(module)[name])
            case ast.FunctionDef(name):
                _give_defaults(vars(module)[name], statement, vars(module))


def readers(mutant: Mutant, rules: Rules) -> Sequence[tuple[str, int, int]]:
    """Lines in functions of `rules` that use the table, or what is made of it: file, first line, last line."""
    return _readers(mutant.function, tuple(rules.modules))


@cache
def _readers(table: str, modules: tuple[str, ...]) -> Sequence[tuple[str, int, int]]:
    names, found = {table}, []
    for module in modules:
        path = str(importlib.import_module(module).__file__)
        with open(path, encoding="utf-8") as file:
            tree = ast.parse(file.read())
        names |= {name for node in tree.body if (name := _bound(node)) and _reads(node) & names}
        for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
            if _reads(function) & names:
                found.append((path, function.body[0].lineno, function.end_lineno or function.lineno))
            inside = [node for statement in function.body for node in ast.walk(statement)]
            lines = {node.lineno for node in inside if isinstance(node, ast.Name) and node.id in names}
            found += [(path, line, line) for line in sorted(lines)]
    return found


def _bound(statement: ast.stmt) -> str | None:
    match statement:
        case ast.Assign([ast.Name(name)]) | ast.AnnAssign(ast.Name(name), value=ast.expr()):
            return name
    return None


def _reads(node: ast.AST) -> set[str]:
    """Names that are looked up when `node` is run; when a function is defined, that is its defaults only."""
    if isinstance(node, ast.FunctionDef):
        return _reads(node.args)
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load)}


def _bind_elsewhere(name: str, former: object, new: object) -> None:
    """Wherever it was imported under its name."""
    for module in list(sys.modules.values()):
        if vars(module).get(name) is former:
            setattr(module, name, new)


def _give_defaults(function: FunctionType, definition: ast.FunctionDef, space: dict[str, Any]) -> None:
    fresh: dict[str, Any] = {}
    exec(compile(ast.Module([definition], []), "defaults", "exec"), space | {"__name__": "defaults"}, fresh)
    made = fresh[definition.name]
    function.__defaults__, function.__kwdefaults__ = made.__defaults__, made.__kwdefaults__
