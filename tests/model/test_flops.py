"""FLOPs of the cost table against a counter of the matrix products that really run: no difference at all."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from llamalab.analytic.op import add_up
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.model import StaticKVCache, Transformer
from tests.model.families import FAMILIES
from tests.model.shrunk import ARCHES

PASSES = {"prefill": (7, 0), "chunk": (5, 11), "decode": (1, 11)}  # new tokens, cached tokens
ALGORITHMS = {"naive": "naive", "sdpa": "flash"}


def count_fused(q: torch.Size, k: torch.Size, v: torch.Size, *_: Any, **__: Any) -> int:
    """QK^T and PV of every query with every key: stock counters have no entry for this op and count 0."""
    batch, heads, new_tokens, head_dim = q
    return 2 * (2 * batch * heads * new_tokens * k[2] * head_dim)


def counted_flops(model: Transformer, new_tokens: int, cached: int, logits: str, device: str) -> int:
    cache = StaticKVCache(model.arch, batch=3, max_tokens=cached + new_tokens, dtype="fp32", device=device)
    tokens = torch.ones(3, cached + new_tokens, dtype=torch.long, device=device)
    with torch.no_grad():
        if cached:
            model(tokens[:, :cached], cache=cache)
        op = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        with FlopCounterMode(display=False, custom_mapping={op: count_fused}) as counter:
            model(tokens[:, cached:], cache=cache, logits=logits)
    return counter.get_total_flops()


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("logits", ["last", "all"])
@pytest.mark.parametrize("phase", PASSES)
@pytest.mark.parametrize("attention", ALGORITHMS)
@pytest.mark.parametrize("kind", ARCHES)
def test_flops_equal_the_counter(kind: str, attention: str, phase: str, logits: str, device: str) -> None:
    new_tokens, cached = PASSES[phase]
    model = Transformer(ARCHES[kind], attention=attention, device=device)
    ops = forward_ops(
        ARCHES[kind],
        PassShape(
            batch=3,
            new_tokens=new_tokens,
            context_tokens=cached + new_tokens,
            dtype="fp32",
            attention=ALGORITHMS[attention],
            logits=logits,
        ),
    )
    counted = counted_flops(model, new_tokens, cached, logits, device)
    assert counted > 0
    assert counted - add_up(ops).flops_full == 0


@pytest.mark.parametrize("phase", [*PASSES, "full window"])
@pytest.mark.parametrize("attention", ALGORITHMS)
@pytest.mark.parametrize("kind", FAMILIES)
def test_flops_of_other_families_equal_the_counter(kind: str, attention: str, phase: str) -> None:
    """Biases, norms of heads and RoPE are no products; windows take keys out of view."""
    new_tokens, cached = (PASSES | {"full window": (3, 70)})[phase]
    arch, algorithm = FAMILIES[kind], ALGORITHMS[attention]
    run = {"batch": 3, "new_tokens": new_tokens, "context_tokens": cached + new_tokens, "dtype": "fp32"}
    table = add_up(forward_ops(arch, PassShape(**run, attention=algorithm))).flops_full  # type: ignore[arg-type]
    counted = counted_flops(Transformer(arch, attention=attention), new_tokens, cached, "last", "cpu")
    assert counted - table == 0


def test_the_stock_counter_misses_fused_attention_on_the_cpu() -> None:
    """Why the mapping above is there; when this fails, torch has learnt to count."""
    model = Transformer(ARCHES["GQA"])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.ones(3, 7, dtype=torch.long))
    ops = forward_ops(ARCHES["GQA"], PassShape(batch=3, new_tokens=7, logits="all"))
    fused = sum(op.count * op.flops_full for op in ops if op.kind == "attention")
    assert add_up(ops).flops_full - counter.get_total_flops() == fused > 0
