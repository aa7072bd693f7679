"""QUESTION: what do taps cost, unused and used, against the same model without a single one?

The untapped twin is made from the model's own source: every `if tap ...` and every `tap=` is cut out of
it, so that it stays the same model whatever becomes of that. Variants run in the same rounds, in
alternating order, on one thread; the figure is the median over rounds of the ratio to the twin.

    python -m experiments.tap_cost [--rounds N] [--seq 1,256] [--variants ...]      one JSON object on stdout
"""

import argparse
import ast
import copy
import inspect
import json
import sys
import textwrap
from collections.abc import Callable, Sequence
from statistics import median, quantiles
from typing import Any

import torch

from llamalab.arch import LlamaArch
from llamalab.instrument.reduce import Reduce
from llamalab.instrument.taps import Capture
from llamalab.measure.clock import CpuClock
from llamalab.measure.timer import Plan, paired_ratio, time_variants
from llamalab.model import Transformer, build

ARCH = LlamaArch(dim=512, n_layers=8, n_heads=8, n_kv_heads=8, ffn_dim=1376, vocab_size=4096)
LIMITS = {  # highest ratio to the twin, at one token and at 256
    "unused": {1: 1.005, 256: 1.005},
    "captured": {1: 1.03, 256: 1.15},
    "copied": {1: 1.03, 256: 1.15},
    "reduced": {1: 1.03, 256: 1.03},
}
FOUR = ("*.attn_out", "*.resid_mid", "*.ffn_out", "*.resid_post")


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
    """The same weights in modules whose code knows no tap."""
    twin = copy.copy(model)
    twin.__dict__ = dict(model.__dict__)
    twin._modules = {name: _twin_module(module) for name, module in model._modules.items()}
    return _without_taps(twin)


def _twin_module(module: Any) -> Any:
    twin = copy.copy(module)
    twin.__dict__ = dict(module.__dict__)
    twin._modules = {name: _twin_module(child) for name, child in module._modules.items()}
    return _without_taps(twin) if "tap" in inspect.signature(type(module).forward).parameters else twin


def _without_taps(module: Any) -> Any:
    kind = type(module)
    own = {name: untapped(function) for name, function in vars(kind).items()
           if name in ("forward", "_attend")}  # fmt: skip
    # A class of its own: an attribute of the instance would be looked up at another price.
    module.__class__ = type(kind.__name__, (kind,), own)
    return module


def measure(seq: int, plan: Plan, chosen: Sequence[str] = tuple(LIMITS)) -> dict[str, Any]:
    """Seconds of the chosen variants in the same rounds, and the ratios to the twin."""
    model = build(ARCH, dtype="fp32").eval()
    twin, tokens = twin_of(model), torch.arange(seq)[None]
    taps: dict[str, Any] = {
        "captured": Capture("*", n_layers=ARCH.n_layers),
        "copied": Capture("*", copy=True, n_layers=ARCH.n_layers),
        "reduced": Reduce(*FOUR, kind="rms", model=model),
    }
    # Scores and pattern are no part of fused attention: what they cost is their recomputation, not the tap.
    for tap in (taps["captured"], taps["copied"]):
        tap.names = frozenset(name for name in tap.names if not name.endswith((".scores", ".pattern")))
    variants: dict[str, Callable[[], Any]] = {
        "twin": lambda: twin(tokens), "twin again": lambda: twin(tokens), "unused": lambda: model(tokens),
    }  # fmt: skip
    variants |= {name: lambda tap=tap: model(tokens, tap=tap) for name, tap in taps.items()}
    variants = {name: variants[name] for name in variants if name in ("twin", "twin again", *chosen)}
    with torch.inference_mode():
        samples = time_variants(variants, CpuClock(), plan)
    ratios = {name: _ratio(samples[name], samples["twin"]) for name in variants if name != "twin"}
    return {"seq": seq, "rounds": len(samples["twin"]), "twin_s": median(samples["twin"]), "ratios": ratios}


def _ratio(times_s: list[float], twin_s: list[float]) -> dict[str, float]:
    ratios = [over / under for over, under in zip(times_s, twin_s, strict=True)]
    first, _, third = quantiles(ratios, n=4)
    return {"median": round(paired_ratio(times_s, twin_s), 4), "p25": round(first, 4), "p75": round(third, 4)}


def conclude(found: list[dict[str, Any]]) -> list[str]:
    """One sentence per limit that was missed."""
    return [
        f"{name} at {one['seq']} tokens: {one['ratios'][name]['median']} is above {limits[one['seq']]}"
        for one in found
        for name, limits in LIMITS.items()
        if one["seq"] in limits and name in one["ratios"] and one["ratios"][name]["median"] > limits[one["seq"]]
    ]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="the cost of taps against the same model without any")
    parser.add_argument("--rounds", type=int, default=0, help="rounds (default: 400 at one token, 60 at more)")
    parser.add_argument("--seq", default="1,256")
    parser.add_argument("--variants", default=",".join(LIMITS), help="fewer of them make a round shorter")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for seq in map(int, args.seq.split(",")):
        rounds = args.rounds or (400 if seq == 1 else 60)
        found.append(measure(seq, Plan(0.0, rounds, rounds, 3), args.variants.split(",")))
        print(json.dumps(found[-1]), file=sys.stderr)
    missed = conclude(found)
    print(json.dumps({"arch": ARCH._asdict(), "torch": torch.__version__, "threads": 1, "limits": LIMITS,
                      "measured": found, "missed": missed}))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
