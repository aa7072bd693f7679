"""The speed of the built-in model: a block, a prefill, a decode step, and a generation with sampling."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from llamalab import StaticKVCache, Transformer, build
from llamalab.text.generate import Generation
from llamalab.text.sampling import Sampler
from tests.benchmarks.conftest import ARCH

Benchmark = Callable[..., torch.Tensor]
CONTEXT = 64


@pytest.mark.parametrize("new_tokens", [1, CONTEXT])
def test_block(benchmark: Benchmark, new_tokens: int) -> None:
    """With the embedding and the head of one position around it."""
    one = build(ARCH.replace(n_layers=1), dtype="fp32").eval()
    logits_B1V = benchmark(one, torch.arange(new_tokens)[None], logits="last")
    assert logits_B1V.shape == (1, 1, ARCH.vocab_size)
    assert logits_B1V.isfinite().all()


def test_prefill(benchmark: Benchmark, model: Transformer) -> None:
    cache = StaticKVCache(ARCH, batch=1, max_tokens=CONTEXT, dtype="fp32")

    def prefill() -> Any:
        cache.rewind()
        return model(torch.arange(CONTEXT)[None], cache=cache, logits="last")

    assert benchmark(prefill).isfinite().all()
    assert cache.length == CONTEXT


@pytest.mark.parametrize("batch", [1, 4])
def test_decode_step(benchmark: Benchmark, model: Transformer, batch: int) -> None:
    cache = StaticKVCache(ARCH, batch=batch, max_tokens=CONTEXT + 1, dtype="fp32")
    tokens_BT = torch.arange(CONTEXT).expand(batch, -1)
    model(tokens_BT, cache=cache, logits="last")

    def step() -> Any:
        cache.rewind(CONTEXT)
        return model(tokens_BT[:, :1], cache=cache, logits="last")

    assert benchmark(step).shape == (batch, 1, ARCH.vocab_size)
    assert cache.length == CONTEXT + 1


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_generation(benchmark: Callable[..., list[int]], model: Transformer, temperature: float) -> None:
    def generate() -> list[int]:
        return list(Generation(model, range(1, 9), max_new_tokens=8, sampler=Sampler(temperature=temperature)))

    ids = benchmark(generate)
    assert len(ids) == 8
    assert ids == generate()
