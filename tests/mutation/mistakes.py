"""Small mistakes that a programmer makes, as changes of one place in a syntax tree."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Mod: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.Pow: ast.Mult,
}  # fmt: skip
_TWINS = (("min", "max"), ("any", "all"), ("minimum", "maximum"), ("floor", "ceil"))
_CALLS = {name: other for pair in _TWINS for name, other in (pair, pair[::-1])}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True)
class Mistake:
    """One change of one file.

    Attributes:
        number: Its place among the file's mistakes, from 0.
        function: Names of the class and functions around it, with dots; empty where it runs with the import.
        first: First line of what is changed, and where a tracer sees it run.
        last: Last such line.
        text: The first line as it stands in the file.
        before: What is changed.
        after: What it becomes.
    """

    number: int
    function: str
    first: int
    last: int
    text: str
    before: str
    after: str

    @property
    def key(self) -> str:
        """What an explanation names it by: no line numbers, which any edit would change."""
        return f"{self.function or 'import'} | {self.text} | {self.before} -> {self.after}"


def _places(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield what can be changed, in the order of the file, and the function that runs it."""
    stack: list[tuple[ast.AST, str, str]] = [(tree, "", "")]
    while stack:
        node, path, runs = stack.pop()
        if _changes(node):
            yield node, runs
        # What an error says is not what is tested, nor are lists of public names.
        if isinstance(node, ast.Raise):
            continue
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets):
            continue
        skipped: set[int] = set()
        for name in ("annotation", "returns", "decorator_list"):
            held = getattr(node, name, None)
            skipped |= {id(each) for each in (held if isinstance(held, list) else [held]) if each is not None}
        inner = path
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            inner = ".".join(filter(None, (path, getattr(node, "name", "<lambda>"))))
        body = getattr(node, "body", [])
        bodies = {id(each) for each in (body if isinstance(body, list) else [body])}
        children = []
        for child in ast.iter_child_nodes(node):
            if id(child) in skipped:
                continue
            # Defaults of arguments are computed where the function is defined.
            within = isinstance(node, _FUNCTIONS) and id(child) in bodies
            children.append((child, inner if id(child) in bodies else path, inner if within else runs))
        stack += reversed(children)


def _changes(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        return type(node.ops[0]) in _COMPARE
    if isinstance(node, ast.BinOp):
        return type(node.op) in _ARITHMETIC and not any(_text(side) for side in (node.left, node.right))
    if isinstance(node, ast.AugAssign):
        return type(node.op) in _ARITHMETIC and not isinstance(node.value, ast.List | ast.Set | ast.Tuple)
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not)
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, bool)
    if isinstance(node, ast.Call):
        return _called(node) in _CALLS
    if isinstance(node, ast.Return):
        return node.value is not None and not (
            isinstance(node.value, ast.Constant) and node.value.value is None
        )
    return isinstance(node, ast.BoolOp | ast.If | ast.IfExp | ast.Raise | ast.Continue)


def _called(node: ast.Call) -> str:
    return str(getattr(node.func, "id", getattr(node.func, "attr", "")))


def _text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", None), str)


def _change(node: Any) -> ast.AST:
    """Make the mistake in a node; what is returned stands in its place."""
    if isinstance(node, ast.Compare):
        node.ops[0] = _COMPARE[type(node.ops[0])]()
    elif isinstance(node, ast.BinOp | ast.AugAssign):
        node.op = _ARITHMETIC[type(node.op)]()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.UnaryOp):
        return node.operand
    elif isinstance(node, ast.Constant):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name):
            node.func.id = _CALLS[node.func.id]
        else:
            node.func.attr = _CALLS[node.func.attr]
    elif isinstance(node, ast.If | ast.IfExp):
        node.test = ast.Constant(False)
    elif isinstance(node, ast.Raise):
        return ast.Pass()
    elif isinstance(node, ast.Return):
        node.value = ast.Constant(None)
    else:
        return ast.Break()
    return node


def mistakes(source: str) -> list[Mistake]:
    """Return every mistake that can be made in a file."""
    rows = source.splitlines()
    found = []
    for number, (node, function) in enumerate(_places(ast.parse(source))):
        # Of an `if`, what counts is whether its condition runs.
        seen: Any = node.test if isinstance(node, ast.If | ast.IfExp) else node
        changed = _change(copy.deepcopy(node))
        first, last = seen.lineno, seen.end_lineno or seen.lineno
        text = rows[first - 1].strip()
        found.append(Mistake(number, function, first, last, text, _shown(node), _shown(changed)))
    counts: Counter[str] = Counter()
    for place, each in enumerate(found):
        counts[each.key] += 1
        if counts[each.key] > 1:
            found[place] = Mistake(**{**vars(each), "after": f"{each.after} (#{counts[each.key]})"})
    return found


def _shown(node: ast.AST) -> str:
    text = ast.unparse(ast.fix_missing_locations(node)).splitlines()[0]
    return text if len(text) < 100 else f"{text[:97]}..."


def mistaken(source: str, number: int) -> ast.Module:
    """Return a file's tree with one of its mistakes."""
    tree = ast.parse(source)
    node = [each for each, _ in _places(tree)][number]
    replacement = _change(node)
    if replacement is not node:
        tree = _Swap(node, replacement).visit(tree)
    ast.fix_missing_locations(tree)
    return tree


class _Swap(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self._new if node is self._old else self.generic_visit(node)
