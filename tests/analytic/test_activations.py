"""Predicted peak of activations against the bytes that the allocator really handed out: exact."""

import pytest

from llamalab.analytic.activations import Live, attention_bytes, live_steps, peak_activation_bytes
from llamalab.analytic.attention_cost import AttentionShape
from llamalab.arch import LlamaArch
from llamalab.presets import PRESETS

SMALL = LlamaArch(384, 2, 6, 2, 1000, 700)


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize(("attention", "algorithm"), [("sdpa", "flash"), ("naive", "naive")])
@pytest.mark.parametrize("arch", [SMALL, PRESETS["tiny"].arch.replace(n_layers=2)], ids=["gqa", "tiny"])
def test_peak_of_a_prefill_is_exact(arch: LlamaArch, attention: str, algorithm: str, dtype: str) -> None:
    import torch

    from llamalab.measure.device.machine import measure_peak
    from llamalab.model import StaticKVCache, Transformer

    model, tokens_BT = Transformer(arch, attention=attention, dtype=dtype), torch.zeros(1, 200, dtype=torch.long)
    caches = [StaticKVCache(arch, batch=1, max_tokens=200, dtype=dtype) for _ in range(3)]

    def prefill() -> object:
        return model(tokens_BT, cache=caches.pop(), logits="last")

    with torch.inference_mode():
        prefill()
        measured = measure_peak(prefill, torch.device("cpu")).peak_bytes
    predicted = peak_activation_bytes(arch, new_tokens=200, dtype=dtype, attention=algorithm)
    assert measured == predicted.bytes


def test_peak_of_a_decode_is_the_logits() -> None:
    # One row in bf16 and its fp32 copy, the residual stream, and the turns of 64 pairs.
    expected = 32_000 * (2 + 4) + 4096 * 2 + 128 * 4
    peak = peak_activation_bytes(PRESETS["7b"].arch, new_tokens=1, context_tokens=513)
    assert peak == Live("logits", expected)


def test_depth_does_not_count_and_batch_is_linear_but_for_the_turns() -> None:
    shape = {"new_tokens": 96, "context_tokens": 160, "dtype": "bf16"}
    assert live_steps(SMALL, **shape) == live_steps(SMALL.replace(n_layers=9), **shape)
    turns = 96 * SMALL.head_dim * 4
    one, three = (peak_activation_bytes(SMALL, batch=batch, **shape).bytes - turns for batch in (1, 3))
    assert three == 3 * one


def test_naive_attention_grows_with_the_square() -> None:
    short, long = (attention_bytes(AttentionShape(1, t, t, 8, 2, 64), "naive") for t in (512, 1024))
    assert (short, long) == (2 * 2 * 8 * 512**2, 4 * short)


def test_all_logits_cost_more_than_the_last() -> None:
    last, everything = (
        {live.step: live.bytes for live in live_steps(SMALL, new_tokens=50, logits=logits)}
        for logits in ("last", "all")
    )
    assert everything["logits"] - last["logits"] == 49 * 700 * 6
    assert everything["feed-forward"] == last["feed-forward"]
