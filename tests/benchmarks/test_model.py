"""How fast is the built-in model? A shape small enough for `make test`, timed by `make bench`."""

from collections.abc import Callable

import pytest
import torch

from llamalab import LlamaArch, StaticKVCache, Transformer
from llamalab.presets import PRESETS

Benchmark = Callable[..., torch.Tensor]
ARCH = PRESETS["tiny"].arch


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.manual_seed(0)
    return Transformer(ARCH).eval()


@torch.inference_mode()
def _prefill(model: Transformer, arch: LlamaArch, tokens_BT: torch.Tensor) -> torch.Tensor:
    cache = StaticKVCache(arch, batch=1, max_tokens=tokens_BT.shape[1], dtype="fp32")
    return model(tokens_BT, cache=cache, logits="last")


@pytest.mark.parametrize("tokens", [1, 128])
def test_forward(benchmark: Benchmark, model: Transformer, tokens: int) -> None:
    tokens_BT = torch.arange(tokens)[None]
    logits_B1V = benchmark(_prefill, model, ARCH, tokens_BT)
    assert logits_B1V.shape == (1, 1, ARCH.vocab_size)
    assert logits_B1V.isfinite().all()
