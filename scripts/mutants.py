"""The faults that ``scripts/mutate.py`` puts into a module, and what each of them changes."""

from __future__ import annotations

import ast
import contextlib
import copy
import difflib
import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass

PACKAGE = "mlx_tinyagent"
SWAPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One fault.

    Attributes:
        module: File within the package.
        line: First line of what is changed.
        operator: What kind of change it is.
        start: First byte that is replaced.
        end: One past the last.
        text: What stands there instead.
    """

    module: str
    line: int
    operator: str
    start: int
    end: int
    text: str

    def applied(self, source: bytes) -> bytes:
        """The module with the fault in it."""
        return source[: self.start] + self.text.encode() + source[self.end :]

    def key(self, source: bytes) -> str:
        """Names this fault in this version of the module."""
        seed = json.dumps([asdict(self), hashlib.sha256(source).hexdigest()])
        return hashlib.sha256(seed.encode()).hexdigest()[:16]


def sampled(found: list[Mutant], size: int, seed: int) -> list[Mutant]:
    """So many of the faults, the same ones for the same seed; all for 0."""
    if not 0 < size < len(found):
        return found
    picked = random.Random(seed).sample(range(len(found)), size)
    return [found[k] for k in sorted(picked)]


def mutants(module: str, source: bytes) -> list[Mutant]:
    """All faults that can be put into a module, in order of place.

    Left alone are docstrings, annotations, decorators, the insides of f-strings (before Python
    3.12 their places are unknown), and whatever runs for type checkers only.
    """
    tree = ast.parse(source)
    starts = _line_starts(source)
    found: list[Mutant] = []
    for node, inside in _walked(tree, inside=False):
        for operator, old, new in _changes(node, inside=inside):
            start = starts[old.lineno - 1] + old.col_offset
            end = starts[(old.end_lineno or 0) - 1] + (old.end_col_offset or 0)
            made = Mutant(
                module=module, line=old.lineno, operator=operator, start=start, end=end, text=new
            )
            with contextlib.suppress(SyntaxError):  # "yield" removed from where it is a value
                compile(made.applied(source), module, "exec")
                found.append(made)
    return sorted(found, key=lambda m: (m.start, m.end, m.operator, m.text))


def _line_starts(source: bytes) -> list[int]:
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def _walked(node: ast.AST, *, inside: bool) -> Iterator[tuple[ast.expr | ast.stmt, bool]]:
    """Statements and expressions that may be changed, and whether a function holds them."""
    if isinstance(node, ast.JoinedStr) or _for_types(node):
        return
    if isinstance(node, ast.expr | ast.stmt):
        yield node, inside
    function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        children = value if isinstance(value, list) else [value]
        for k, child in enumerate(children):
            if isinstance(child, ast.AST) and not (name == "body" and k == 0 and _is_text(child)):
                yield from _walked(child, inside=inside or (function and name == "body"))


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _is_text(node: ast.AST) -> bool:
    """Whether a first statement is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


Change = tuple[str, ast.expr | ast.stmt, str]  # operator, what is replaced, by which text


def _changes(node: ast.expr | ast.stmt, *, inside: bool) -> Iterator[Change]:
    """Faults at one node of the syntax tree."""
    match node:
        case ast.Compare():
            for k, operator in enumerate(node.ops):
                swapped = copy.copy(node)
                swapped.ops = [*node.ops[:k], SWAPPED[type(operator)](), *node.ops[k + 1 :]]
                yield "comparison", node, f"({ast.unparse(swapped)})"
        case ast.BoolOp():
            other = ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
            yield "and/or", node, f"({ast.unparse(other)})"
        case ast.UnaryOp(op=ast.Not()):
            yield "not removed", node, f"({ast.unparse(node.operand)})"
        case ast.Constant(value=bool()):
            yield "boolean", node, str(not node.value)
        case ast.Constant(value=int(number)):
            yield "constant + 1", node, str(number + 1)
            yield "constant - 1", node, f"({number - 1})"
        case ast.If() | ast.While() | ast.IfExp():
            yield "condition negated", node.test, f"(not ({ast.unparse(node.test)}))"
        case ast.Return(value=ast.expr()) if ast.unparse(node.value or node) != "None":
            yield "return None", node, "return None"
        case ast.Expr() | ast.Assign() | ast.AugAssign() | ast.Raise() | ast.Delete() if inside:
            yield "statement removed", node, "pass"
        case ast.Continue() | ast.Break():
            yield "statement removed", node, "pass"


def change(mutant: Mutant, source: bytes) -> str:
    """The place of a fault with the lines that it changes."""
    before, after = source.decode().splitlines(), mutant.applied(source).decode().splitlines()
    lines = list(difflib.unified_diff(before, after, lineterm="", n=0))[2:]
    shown = "\n".join(f"    {line}" for line in lines if not line.startswith("@@"))
    return f"{PACKAGE}/{mutant.module}:{mutant.line}: {mutant.operator}\n{shown}"
