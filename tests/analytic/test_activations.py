"""Predicted peak of activations against the bytes that the allocator really handed out: exact."""

import pytest

from llamalab.analytic.activations import Live, attention_bytes, live_steps, memory_of, peak_activation_bytes
from llamalab.analytic.attention_cost import AttentionShape
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.scratch import CpuBound
from llamalab.arch import LlamaArch
from llamalab.presets import PRESETS

SMALL = LlamaArch(384, 2, 6, 2, 1000, 700)


WIDE = LlamaArch(48, 2, 6, 2, 20, 40)  # so narrow a feed-forward that attention, norms or RoPE are the largest


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("attention", ["sdpa", "naive", "chunked"])
@pytest.mark.parametrize(
    ("arch", "batch", "past", "new", "kv_dtype"),
    [
        (SMALL, 1, 0, 200, None),
        (PRESETS["tiny"].arch.replace(n_layers=2), 1, 0, 200, None),
        (WIDE, 3, 40, 150, None),
        (WIDE.replace(n_kv_heads=6), 2, 90, 7, "int8"),
        (WIDE.replace(n_kv_heads=1), 3, 400, 1, None),
    ],
    ids=["gqa", "tiny", "chunk", "decoded cache", "decode"],
)
def test_peak_is_what_the_allocator_hands_out(
    arch: LlamaArch, batch: int, past: int, new: int, kv_dtype: str | None, attention: str, dtype: str
) -> None:
    """To the byte but for scalars, with what this CPU's kernels take for themselves probed shape by shape."""
    import torch

    from llamalab.measure.device.peak_memory import allocation_peak
    from llamalab.measure.profile.scratch import ProbedScratch
    from llamalab.model import StaticKVCache, Transformer

    model, tokens_BT = Transformer(arch, attention=attention, dtype=dtype), torch.zeros(batch, new, dtype=torch.long)
    cache = StaticKVCache(arch, batch=batch, max_tokens=past + new, dtype=kv_dtype or dtype)

    def run() -> object:
        cache.rewind(0)
        cache.advance(past)
        return model(tokens_BT, cache=cache, logits="last")

    with torch.inference_mode():
        run()
        measured = allocation_peak(run)
    asked = {"new_tokens": new, "context_tokens": past + new, "batch": batch, "dtype": dtype, "kv_dtype": kv_dtype}
    way = memory_of(attention, "naive" if attention == "naive" else "flash")
    exact = peak_activation_bytes(arch, PassShape(**asked, attention=way), scratch=ProbedScratch()).bytes
    assert measured is not None
    assert 0 <= measured - exact <= 8  # scalars
    bound = peak_activation_bytes(
        arch, PassShape(**asked, attention=way), scratch=CpuBound(torch.get_num_threads())
    ).bytes
    assert peak_activation_bytes(arch, PassShape(**asked, attention=way)).bytes <= exact <= bound


# The peak is in another step each time: head norms, attention, a full window put together, feed-forward.
NORMED = LlamaArch(96, 2, 6, 2, 100, 70, head_dim=64, qk_norm=True)
SLIDING = LlamaArch(96, 3, 6, 6, 100, 70, window=240, full_layers=(1,))
OTHERS = {"normed": NORMED, "mixed": SLIDING, "sliding": SLIDING.replace(full_layers=())}


@pytest.mark.parametrize("new_share", [1, 5])
@pytest.mark.parametrize(
    ("attention", "way", "dtype", "tokens"),
    [
        ("naive", "naive", "fp32", 400),
        ("naive", "naive", "bf16", 400),
        ("chunked", "chunked", "fp32", 400),
        ("chunked", "chunked", "bf16", 400),
        ("sdpa", "masked", "fp32", 3000),  # long, so that the scratch of the fused kernel all but drowns
    ],
)
@pytest.mark.parametrize("kind", OTHERS)
def test_peak_of_other_families(kind: str, attention: str, way: str, dtype: str, tokens: int, new_share: int) -> None:
    import torch

    from llamalab.measure.device.machine import measure_peak
    from llamalab.model import StaticKVCache, Transformer

    arch, new, tokens_BT = OTHERS[kind], tokens // new_share, torch.zeros(1, tokens, dtype=torch.long)
    model = Transformer(arch, attention=attention, dtype=dtype)
    with torch.inference_mode():
        caches = [StaticKVCache(arch, batch=1, max_tokens=tokens, dtype=dtype) for _ in range(3)]
        for cache in caches:
            if new < tokens:
                model(tokens_BT[:, :-new], cache=cache, logits="last")

        def run() -> object:
            return model(tokens_BT[:, -new:], cache=caches.pop(), logits="last")

        run()
        measured = measure_peak(run, torch.device("cpu")).peak_bytes
    predicted = peak_activation_bytes(
        arch, PassShape(new_tokens=new, context_tokens=tokens, dtype=dtype, attention=way)
    )
    # Each thread of the fused kernel has scores of its own: 256 queries by 512 keys in fp32, of short prompts 64.
    scratch = (550_000 if new >= 768 else 150_000) * torch.get_num_threads() if attention == "sdpa" else 0
    assert measured == pytest.approx(predicted.bytes, rel=0.02, abs=scratch), predicted.step


def test_peak_of_a_decode_is_the_logits() -> None:
    # One row in bf16 and its fp32 copy, the residual stream, and the turns of 64 pairs.
    expected = 32_000 * (2 + 4) + 4096 * 2 + 128 * 4
    peak = peak_activation_bytes(PRESETS["7b"].arch, PassShape(new_tokens=1, context_tokens=513))
    assert peak == Live("logits", expected)


def test_depth_does_not_count_and_batch_is_linear_but_for_the_turns() -> None:
    shape = {"new_tokens": 96, "context_tokens": 160, "dtype": "bf16"}
    assert live_steps(SMALL, PassShape(**shape)) == live_steps(SMALL.replace(n_layers=9), PassShape(**shape))
    turns = 96 * SMALL.head_dim * 4
    one, three = (peak_activation_bytes(SMALL, PassShape(batch=batch, **shape)).bytes - turns for batch in (1, 3))
    assert three == 3 * one


def test_naive_attention_grows_with_the_square() -> None:
    short, long = (attention_bytes(AttentionShape(1, t, t, 8, 2, 64), "naive") for t in (512, 1024))
    assert (short, long) == (2 * 2 * 8 * 512**2, 4 * short)


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_ranks_share_heads_and_feed_forward_but_neither_residual_nor_logits(ranks: int) -> None:
    arch, rows = PRESETS["70b"].arch, 8192
    steps = {
        live.step: live.bytes
        for live in live_steps(arch, PassShape(new_tokens=rows, tensor_parallel=ranks, logits="all"))
    }
    assert steps["feed-forward"] == max(
        rows * (3 * arch.dim + 4 * arch.ffn_dim // ranks) * 2 + rows * 128 * 4,
        rows * 3 * arch.dim * 2 + 2 * 4 * rows * (arch.dim + 1) + rows * 128 * 4,  # the norm, in fp32
    )
    assert steps["logits"] >= rows * (arch.dim * 2 + arch.vocab_size * (2 + 4))


def test_all_logits_cost_more_than_the_last() -> None:
    last, everything = (
        {live.step: live.bytes for live in live_steps(SMALL, PassShape(new_tokens=50, logits=logits))}
        for logits in ("last", "all")
    )
    assert everything["logits"] - last["logits"] == 49 * 700 * 6
    assert everything["feed-forward"] == last["feed-forward"]
