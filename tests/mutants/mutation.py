"""Every way to make a function a little wrong: a mutant is one node of its syntax tree, exchanged.

    comparison      each other operator that a slip could put there: the boundary moved, and the negation
    tuples          of two that are compared, and of one that something is looked for in: each element left out
    and, or, not    exchanged; each operand left out; a bare condition negated, a `not` dropped
    min, max        exchanged, and so `any` and `all`
    numbers         one more, one less; true for false
    arithmetic      + for -, * for /, & for |, no modulus, no minus
    texts           not folded; of a slice the whole
    words           each other member of an enumeration that rules are written in
    statements      a call, a deletion, an assignment to something that outlives the function, an exception that is
                    raised, or the return of such a word, left out
    tables          of what a module holds in a name of its own: all this, and each element left out; each word of an
                    enumeration that a row permits taken from it, and each other given to it; prefix lengths one more
                    and one less; each condition of a regular expression left out

Mutants of one source come in its order. They are named by what they change and not by line, so that a name lasts.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import EnumMeta
from types import CodeType
from typing import Final

COMPARISONS: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
CALLS: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True, slots=True, eq=False)
class Mutant:
    """`function` is qualified by its class, or the name of a table. `lines` are those that change, first and last."""

    module: str
    function: str
    lines: tuple[int, int]
    before: str
    after: str
    number: int = 1
    """Counts mutants of one function that read the same."""
    _tree: ast.Module = field(repr=False, kw_only=True)
    _place: _Place = field(repr=False, kw_only=True)
    _new: ast.AST = field(repr=False, kw_only=True)

    @property
    def name(self) -> str:
        """By which it is known to the table of equivalent ones."""
        which = f" ({self.number})" if self.number > 1 else ""
        return f"{self.module.rpartition('.')[2]}.{self.function}{which}: {self.before} -> {self.after}"

    def code(self, filename: str) -> CodeType:
        """The function as it is now."""
        old = self._place.swap(self._new)
        try:
            return codes(compile(self._tree, filename, "exec", dont_inherit=True))[self.function]
        finally:
            self._place.swap(old)

    @property
    def is_of_a_table(self) -> bool:
        """Or else of a function."""
        return self.function in dict(_tables(self._tree))

    def source(self) -> ast.Module:
        """The whole module as it is now."""
        old = self._place.swap(self._new)
        try:
            return ast.parse(ast.unparse(self._tree))
        finally:
            self._place.swap(old)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a node hangs: a field of its parent, and if that is a list, where in it."""

    parent: ast.AST
    name: str
    index: int | None

    def swap(self, new: ast.AST) -> ast.AST:
        """Hang another node there; returns the former."""
        old: ast.AST
        if self.index is None:
            old = getattr(self.parent, self.name)
            setattr(self.parent, self.name, new)
        else:
            siblings = getattr(self.parent, self.name)
            old, siblings[self.index] = siblings[self.index], new
        return old

    @property
    def is_condition(self) -> bool:
        """Whether only the truth of what hangs there counts."""
        return self.name in ("test", "ifs", "guard") or isinstance(self.parent, ast.BoolOp)


def functions(source: str) -> list[str]:
    """Every function and method of a source, in its order."""
    return [name for name, _ in _functions(ast.parse(source))]


def mutants(
    module: str, source: str, only: tuple[str, ...] | None, words: dict[str, EnumMeta], *, tables: bool = False
) -> Iterator[Mutant]:
    """Mutants of `only` these functions of a source, or of all, and of its tables; `words` are the enumerations by
    name."""
    tree = ast.parse(source)
    for function, definition in _functions(tree):
        if only is None or function in only:
            birth = function.endswith("__init__")
            found = [
                (place, node, new)
                for place, node in _nodes(definition)
                for new in _alternatives(node, place, words, is_birth=birth)
            ]
            yield from _named(module, tree, function, found)
    for table, assignment in _tables(tree) if tables else ():
        yield from _named(module, tree, table, list(_of_table(assignment, words)))


def _named(
    module: str, tree: ast.Module, function: str, found: list[tuple[_Place, ast.expr | ast.stmt, ast.AST]]
) -> Iterator[Mutant]:
    seen: Counter[tuple[str, str]] = Counter()
    for place, node, new in found:
        whole = ast.fix_missing_locations(ast.copy_location(new, node))
        before, after = ast.unparse(node), ast.unparse(whole)
        seen[before, after] += 1
        lines = (node.lineno, node.end_lineno or node.lineno)
        yield Mutant(module, function, lines, before, after, seen[before, after], _tree=tree, _place=place, _new=whole)


def codes(module: CodeType) -> dict[str, CodeType]:
    """The code of every function of a module, by its qualified name."""
    found = {}
    pending = [module]
    while pending:
        code = pending.pop()
        found[code.co_qualname] = code
        pending += (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return found


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef):
            yield statement.name, statement
        elif isinstance(statement, ast.ClassDef):
            for inner in statement.body:
                if isinstance(inner, ast.FunctionDef):
                    yield f"{statement.name}.{inner.name}", inner


def _tables(tree: ast.Module) -> Iterator[tuple[str, ast.Assign | ast.AnnAssign]]:
    for statement in tree.body:
        match statement:
            case ast.Assign([ast.Name()], ast.BinOp(op=ast.BitOr())):
                pass  # a type
            case ast.Assign([ast.Name(name)]) | ast.AnnAssign(ast.Name(name), value=ast.expr()):
                yield name, statement


def _nodes(parent: ast.AST) -> Iterator[tuple[_Place, ast.expr | ast.stmt]]:
    """Expressions and statements below `parent`, in order. What is asserted tells the type checker, and is no rule."""
    for name, value in ast.iter_fields(parent):
        if (isinstance(parent, ast.FunctionDef) and name != "body") or name == "annotation":
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or isinstance(child, ast.Assert):
                continue
            if isinstance(child, (ast.expr, ast.stmt)):
                yield _Place(parent, name, index if isinstance(value, list) else None), child
            yield from _nodes(child)


def _alternatives(
    node: ast.expr | ast.stmt, place: _Place, words: dict[str, EnumMeta], *, is_birth: bool
) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(left, ops, comparators):
            yield from _comparisons(left, ops, comparators)
        case ast.BoolOp(op, values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            for index in range(len(values)):
                rest = _without(values, index)
                yield ast.BoolOp(op, rest) if len(rest) > 1 else rest[0]
        case ast.UnaryOp((ast.Not() | ast.USub()), operand):
            yield operand
        case ast.Call(ast.Name(name), args, keywords) if name in CALLS:
            yield ast.Call(ast.Name(CALLS[name], ast.Load()), args, keywords)
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
        case ast.BinOp(left, ast.Mod(), _):
            yield left
        case ast.Call(ast.Attribute(text, "lower"), []):
            yield text
        case ast.Subscript(whole, ast.Slice()) if not isinstance(node.ctx, ast.Del):
            yield whole
        case ast.BinOp(left, op, right) if type(op) in ARITHMETIC:
            yield ast.BinOp(left, ARITHMETIC[type(op)](), right)
        case ast.AugAssign(target, op, value) if type(op) in ARITHMETIC:
            yield ast.AugAssign(target, ARITHMETIC[type(op)](), value)
            yield ast.Pass()
        case ast.Attribute(ast.Name(word), attr, context) if word in words:
            for other in words[word].__members__:
                if other != attr:
                    yield ast.Attribute(ast.Name(word, ast.Load()), other, context)
        case ast.Expr(ast.Call(ast.Attribute(ast.Call(ast.Name("super"))))):
            return  # without it the function has another closure, and its code cannot take the place of this one's
        case ast.Expr(ast.Call()) | ast.Delete() | ast.Raise():
            yield ast.Pass()
        case ast.Return(ast.Attribute(ast.Name(word))) if word in words:
            yield ast.Pass()
        case ast.Assign([ast.Attribute() | ast.Subscript()]) if not is_birth:
            yield ast.Pass()
    if place.is_condition and isinstance(node, (ast.Name, ast.Attribute, ast.Call)):
        yield ast.UnaryOp(ast.Not(), node)


def _comparisons(left: ast.expr, ops: list[ast.cmpop], comparators: list[ast.expr]) -> Iterator[ast.Compare]:
    for index, op in enumerate(ops):
        for other in COMPARISONS[type(op)]:
            yield ast.Compare(left, [*ops[:index], other(), *ops[index + 1 :]], comparators)
    match left, ops, comparators:
        case ast.Tuple(mine), [_], [ast.Tuple(theirs)]:
            for index in range(len(mine)):
                yield ast.Compare(_tuple(_without(mine, index)), ops, [_tuple(_without(theirs, index))])
        case _, [ast.In() | ast.NotIn()], [ast.Tuple(choices)]:
            for index in range(len(choices)):
                yield ast.Compare(left, ops, [_tuple(_without(choices, index))])


_NET: Final = re.compile(r"([0-9a-f.:]+)/([0-9]+)")
_LOOKAROUND: Final = re.compile(r"\(\?<?!.*?\)")


def _of_table(
    assignment: ast.Assign | ast.AnnAssign, words: dict[str, EnumMeta]
) -> Iterator[tuple[_Place, ast.expr | ast.stmt, ast.AST]]:
    """Of what is assigned, and not of the types that it is said to have: those say which words a row may permit."""
    assert assignment.value is not None
    types = ast.walk(assignment.annotation) if isinstance(assignment, ast.AnnAssign) else ()
    permitted = [
        node.slice.id
        for node in types
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Name) and node.slice.id in words
    ]
    for place, node in (_Place(assignment, "value", None), assignment.value), *_nodes(assignment.value):
        match place.parent, place.name:
            case ast.Tuple(), "elts":
                yield place, node, ast.Starred(_tuple([]), ast.Load())
            case ast.Dict(), "values":
                for word, member in ((each, member) for each in permitted for member in words[each].__members__):
                    toggled = ast.Set([ast.Attribute(ast.Name(word, ast.Load()), member, ast.Load())])
                    assert isinstance(node, ast.expr)
                    yield place, node, ast.BinOp(node, ast.BitXor(), toggled)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for text in _texts(node.value):
                yield place, node, ast.Constant(text)
        for new in _alternatives(node, place, words, is_birth=False):
            yield place, node, new


def _texts(text: str) -> Iterator[str]:
    if net := _NET.fullmatch(text):
        yield from (f"{net[1]}/{int(net[2]) + by}" for by in (1, -1))
    for condition in _LOOKAROUND.finditer(text):
        yield text[: condition.start()] + text[condition.end() :]


def _without(values: list[ast.expr], index: int) -> list[ast.expr]:
    return values[:index] + values[index + 1 :]


def _tuple(values: list[ast.expr]) -> ast.Tuple:
    return ast.Tuple(values, ast.Load())
