"""Taps: every point, in order, directly after its operation, with its shape; edits and gradients flow."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.instrument.points import ALWAYS as POINTS
from llamalab.instrument.points import op_of
from llamalab.instrument.taps import Capture, Edit
from llamalab.model import StaticKVCache, Transformer
from tests.model.shrunk import ARCHES, small_model, some_tokens

ALGORITHMS = {"naive": "naive", "sdpa": "flash"}
PASSES = {"prefill": (7, 0), "chunk": (5, 11), "decode": (1, 11), "uncached": (7, None)}
LAYER_POINTS = [point for point in POINTS if point.name.startswith("layers.")]


def expected_names(n_layers: int) -> list[str]:
    per_layer = [point.name.replace("*", str(layer)) for layer in range(n_layers) for point in LAYER_POINTS]
    return [POINTS[0].name, *per_layer, *(point.name for point in POINTS[-2:])]


def starred(name: str) -> str:
    parts = name.split(".")
    return ".".join(["layers", "*", *parts[2:]]) if parts[0] == "layers" else name


def run(model: Transformer, phase: str, tap: Any) -> Tensor:
    new_tokens, cached = PASSES[phase]
    if cached is None:
        return model(some_tokens(3, new_tokens), tap=tap)
    cache = StaticKVCache(model.arch, batch=3, max_tokens=cached + new_tokens, dtype="fp32")
    if cached:
        model(some_tokens(3, cached), cache=cache)
    return model(some_tokens(3, new_tokens), cache=cache, tap=tap)


@pytest.mark.parametrize("phase", PASSES)
@pytest.mark.parametrize("attention", ALGORITHMS)
@pytest.mark.parametrize("kind", ARCHES)
def test_every_point_fires_once_in_order_with_its_shape(kind: str, attention: str, phase: str) -> None:
    arch, fired = ARCHES[kind], []
    run(
        small_model(arch, attention=attention),
        phase,
        lambda name, tensor: fired.append((name, tuple(tensor.shape))) or tensor,
    )
    new_tokens, cached = PASSES[phase]
    sizes = {"B": 3, "T": new_tokens, "S": new_tokens + (cached or 0), "D": 120, "H": 12, "E": 10, "F": 182, "V": 97}
    sizes["K"] = arch.n_kv_heads
    shapes = {point.name: tuple(sizes[letter] for letter in point.shape) for point in POINTS}
    assert fired == [(name, shapes[starred(name)]) for name in expected_names(arch.n_layers)]


@pytest.mark.parametrize("algorithm", ["naive", "flash"])
def test_points_and_cost_table_name_each_other(algorithm: str) -> None:
    table = [op.name for op in forward_ops(ARCHES["GQA"], PassShape(new_tokens=5, attention=algorithm))]
    of_points = [op_of(point.name, algorithm=algorithm) for point in POINTS]
    assert list(dict.fromkeys(op for op in of_points if op is not None)) == table


_KINDS = {"mm": "gemm", "bmm": "attention", "baddbmm": "attention", "embedding": "gather"}


class _Products(TorchDispatchMode):
    """Counts matrix products, fused attention and lookups since the last tap, under the tap's name."""

    def __init__(self) -> None:
        super().__init__()
        self.since: list[str] = []
        self.by_point: dict[str, list[str]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        kind = "attention" if "flash" in name or "softmax" in name else _KINDS.get(name)
        self.since += [kind] if kind else []
        return func(*args, **(kwargs or {}))

    def tap(self, name: str, tensor: Tensor) -> Tensor:
        self.by_point[name], self.since = self.since, []
        return tensor

    def wants(self, name: str) -> bool:
        return False


@pytest.mark.parametrize("attention", ALGORITHMS)
def test_each_point_follows_its_operation_directly(attention: str) -> None:
    """Between two points lies the operation of the second and no other: its time is theirs."""
    model, products = small_model(ARCHES["GQA"], attention=attention), _Products()

    class Tap:
        wants = staticmethod(products.wants)
        __call__ = staticmethod(products.tap)

    with torch.no_grad(), products:
        model(some_tokens(3, 7), tap=Tap())
    algorithm = ALGORITHMS[attention]
    kinds = {op.name: op.kind for op in forward_ops(ARCHES["GQA"], PassShape(new_tokens=7, attention=algorithm))}
    for name, done in products.by_point.items():
        kind = kinds.get(op_of(name, algorithm=algorithm) or "")
        assert done == ([kind] if kind in ("gemm", "gather", "attention") else []), name
    assert not products.since


@pytest.mark.parametrize("phase", PASSES)
@pytest.mark.parametrize("attention", [*ALGORITHMS, "math", "tiled"])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_looking_changes_nothing(attention: str, phase: str, mode: Any) -> None:
    model = small_model(ARCHES["GQA"], attention=attention)
    with mode():
        assert torch.equal(run(model, phase, None), run(model, phase, Capture("*")))


def test_fused_attention_recomputes_scores_only_on_demand() -> None:
    model, fired = small_model(ARCHES["GQA"]), []

    class Timestamps:
        def wants(self, name: str) -> bool:
            return not name.endswith((".scores", ".pattern"))

        def __call__(self, name: str, tensor: Tensor) -> Tensor:
            fired.append(name)
            return tensor

    model(some_tokens(3, 7), tap=Timestamps())
    unwanted = (".scores", ".pattern")
    assert fired == [name for name in expected_names(2) if not name.endswith(unwanted)]
    fired.clear()
    small_model(ARCHES["GQA"], attention="naive")(some_tokens(3, 7), tap=Timestamps())
    assert fired == expected_names(2)  # there they are operations of their own, to be timed like any


@pytest.mark.parametrize("phase", PASSES)
@pytest.mark.parametrize("kind", ARCHES)
def test_recomputed_scores_and_pattern_are_the_naive_ones(kind: str, phase: str) -> None:
    seen = {}
    for attention in ALGORITHMS:
        tap = Capture("*.scores", "*.pattern")
        run(small_model(ARCHES[kind], attention=attention), phase, tap)
        seen[attention] = tap.tensors
    assert list(seen["naive"]) == list(seen["sdpa"])
    for name, tensor in seen["naive"].items():
        torch.testing.assert_close(seen["sdpa"][name], tensor, rtol=0, atol=1e-5)


@pytest.mark.parametrize("phase", ["chunk", "uncached"])
@pytest.mark.parametrize("point", [point.name for point in POINTS])
def test_an_edit_at_any_point_changes_the_logits_alike(point: str, phase: str) -> None:
    edited = {}
    for attention in ALGORITHMS:
        model = small_model(ARCHES["GQA"], attention=attention)
        edited[attention] = run(model, phase, Edit(point.replace("*", "1"), _reweigh))
        assert (edited[attention] - run(model, phase, None)).abs().max() > 1e-2
    torch.testing.assert_close(edited["sdpa"], edited["naive"], rtol=0, atol=2e-5)


def _reweigh(tensor: Tensor) -> Tensor:
    """Not one factor for all: a norm would undo that."""
    return tensor * torch.linspace(0.5, 1.5, tensor.shape[-1])


def _zero_head_2(tensor: Tensor) -> Tensor:
    return tensor * (torch.arange(12) != 2).view(-1, 1, 1)


def _zero_head_2_in_place(tensor: Tensor) -> Tensor:
    tensor[:, 2] = 0
    return tensor


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("edit", [_zero_head_2, _zero_head_2_in_place])
@pytest.mark.parametrize("point", ["pattern", "z"])
def test_ablating_a_head_is_the_same_under_either_backend(point: str, edit: Any, mode: Any) -> None:
    """A pattern of zeros is a head that is silent: also when the fused kernel had computed z."""
    logits = []
    with mode():
        for attention in ALGORITHMS:
            model = small_model(ARCHES["GQA"], attention=attention)
            logits.append(model(some_tokens(3, 7), tap=Edit(f"layers.0.attention.{point}", edit)))
        block = model.layers[0]
        block.attention.wo.weight[:, 20:30] = 0  # head 2 of head dim 10
        ablated = model(some_tokens(3, 7))
        assert (ablated - small_model(ARCHES["GQA"])(some_tokens(3, 7))).abs().max() > 1e-2
    for result in logits:
        torch.testing.assert_close(result, ablated, rtol=0, atol=1e-5)


def test_each_tensor_is_its_operation_on_those_before() -> None:
    """What the names mean, written out once more in plain formulas."""
    arch = ARCHES["GQA"]
    model, tap = small_model(arch), Capture("*")
    with torch.no_grad():
        model(some_tokens(3, 7), tap=tap)
        w = {name.removeprefix("layers.1.").removesuffix(".weight"): p for name, p in model.state_dict().items()}
    x = {name.removeprefix("layers.1."): tensor for name, tensor in tap.tensors.items()}

    def norm(t: Tensor, weight: Tensor) -> Tensor:
        return t / (t.pow(2).mean(-1, keepdim=True) + arch.norm_eps).sqrt() * weight

    def heads(t: Tensor) -> Tensor:
        return t.view(3, 7, -1, 10).transpose(1, 2)

    def turned(t: Tensor) -> Tensor:
        angle = torch.arange(7)[:, None] * arch.rope_theta ** (-torch.arange(0, 10, 2) / 10)
        a, b = t[..., 0::2], t[..., 1::2]
        pairs = a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()
        return torch.stack(pairs, dim=-1).flatten(-2)

    expected = {
        "resid_pre": tap.tensors["layers.0.resid_post"],
        "attn_norm": norm(x["resid_pre"], w["attention_norm"]),
        "attention.q": heads(x["attn_norm"] @ w["attention.wq"].T),
        "attention.k": heads(x["attn_norm"] @ w["attention.wk"].T),
        "attention.v": heads(x["attn_norm"] @ w["attention.wv"].T),
        "attention.rot_q": turned(x["attention.q"]),
        "attention.rot_k": turned(x["attention.k"]),
        "attention.k_cache": x["attention.rot_k"],
        "attention.v_cache": x["attention.v"],
        "attention.pattern": x["attention.scores"].softmax(-1),
        "attention.z": x["attention.pattern"] @ x["attention.v"].repeat_interleave(3, dim=1),
        "attn_out": x["attention.z"].transpose(1, 2).reshape(3, 7, 120) @ w["attention.wo"].T,
        "resid_mid": x["resid_pre"] + x["attn_out"],
        "ffn_norm": norm(x["resid_mid"], w["ffn_norm"]),
        "feed_forward.gate": x["ffn_norm"] @ w["feed_forward.w1"].T,
        "feed_forward.up": x["ffn_norm"] @ w["feed_forward.w3"].T,
        "feed_forward.act": functional.silu(x["feed_forward.gate"]) * x["feed_forward.up"],
        "ffn_out": x["feed_forward.act"] @ w["feed_forward.w2"].T,
        "resid_post": x["resid_mid"] + x["ffn_out"],
        "final_norm": norm(x["resid_post"], w["norm"]),
        "logits": x["final_norm"] @ w["output"].T,
    }
    for name, tensor in expected.items():
        torch.testing.assert_close(x[name], tensor, rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("attention", ALGORITHMS)
def test_gradients_flow_through_every_tapped_tensor(attention: str) -> None:
    model, tap = small_model(ARCHES["GQA"], attention=attention), Capture("*")
    logits = model(some_tokens(3, 7), tap=tap)
    # Beside a fused kernel, scores and pattern are looked at, not computed with.
    aside = () if attention == "naive" else (".scores", ".pattern")
    through = {name: tensor for name, tensor in tap.tensors.items() if not name.endswith(aside)}
    gradients = torch.autograd.grad(logits[:, -1].logsumexp(-1).sum(), list(through.values()))
    for name, gradient in zip(through, gradients, strict=True):
        assert gradient.abs().max() > 0, name
