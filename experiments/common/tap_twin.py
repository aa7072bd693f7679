"""A model to compare taps with: the same weights and the same code, without any test for a tap.

It is made from the model's own source: every condition on `tap` and every `tap=` is cut out of it, so that it
stays the same model whatever becomes of that.
"""

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable
from functools import cache
from typing import Any

from llamalab.model import Transformer


class _Cut(ast.NodeTransformer):
    """Decide every question about a tap as if there were none, and drop what can then not be reached."""

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        if isinstance(node.left, ast.Name) and node.left.id == "tap":
            return ast.Constant(isinstance(node.ops[0], ast.Is))
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(None) if node.id == "tap" and isinstance(node.ctx, ast.Load) else node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        self.generic_visit(node)
        decides = isinstance(node.op, ast.Or)
        if any(isinstance(value, ast.Constant) and value.value is decides for value in node.values):
            return ast.Constant(decides)
        return node

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        if ast.unparse(node.test) == "torch.compiler.is_compiling()":
            return node.orelse
        if isinstance(node.test, ast.Constant):
            return node.body if node.test.value else node.orelse
        return node

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        self.generic_visit(node)
        if isinstance(node.test, ast.Constant):
            return node.body if node.test.value else node.orelse
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.Assign | None:
        """What is left of `x = x if tap is None else tap(name, x)` is no code at all, nor is an assignment to tap."""
        if ast.unparse(node.targets[0]) == "tap":
            return None
        self.generic_visit(node)
        return None if [ast.unparse(target) for target in node.targets] == [ast.unparse(node.value)] else node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        node.keywords = [keyword for keyword in node.keywords if keyword.arg != "tap"]
        return node


def untapped(method: Callable[..., Any]) -> Callable[..., Any]:
    """The function without a question about a tap in it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    tree = ast.fix_missing_locations(_Cut().visit(tree))
    scope: dict[str, Any] = {}
    exec(compile(tree, inspect.getfile(method), "exec"), method.__globals__, scope)
    return scope[method.__name__]  # type: ignore[no-any-return]


def twin_of(model: Transformer) -> Transformer:
    """The same weights in modules whose code has no taps."""
    twin: Transformer = _twin_module(model)
    return twin


def _twin_module(module: Any) -> Any:
    twin = copy.copy(module)
    twin.__dict__ = dict(module.__dict__)
    twin._modules = {name: _twin_module(child) for name, child in module._modules.items()}
    if "tap" in inspect.signature(type(module).forward).parameters:
        twin.__class__ = _untapped_class(type(module))
    return twin


@cache
def _untapped_class(kind: type) -> type:
    """One class for all modules of a kind, as in the model: a class for each would run other code in every
    layer, which costs 1 % (and an attribute of the instance would be looked up at another price).
    """
    own = {name: untapped(function) for name, function in vars(kind).items() if name in ("forward", "_attend")}
    return type(kind.__name__, (kind,), own)
