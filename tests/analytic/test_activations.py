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

    from llamalab.measure.profile.peak_memory import measure_peak
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

    from llamalab.measure.profile.peak_memory import measure_peak
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
    predicted = peak_activation_bytes(arch, new_tokens=new, context_tokens=tokens, dtype=dtype, attention=way)
    scratch = 150_000 if attention == "sdpa" else 0
    assert measured == pytest.approx(predicted.bytes, rel=0.02, abs=scratch), predicted.step


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
