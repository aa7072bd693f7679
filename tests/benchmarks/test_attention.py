"""The speed of attention by itself: every backend that this machine can run, grouped heads, prefill and decode."""

from collections.abc import Callable

import pytest
import torch

from llamalab.attention import BACKENDS, naive

Benchmark = Callable[..., torch.Tensor]
SHAPES = {"prefill": (128, 128), "decode": (1, 512)}  # queries, keys
# Both compile before the first call, for many seconds: they have measurements of their own.
EAGER = [name for name in BACKENDS if name not in ("flex", "triton", "efficient", "cudnn")]


@pytest.mark.parametrize("phase", SHAPES)
@pytest.mark.parametrize("backend", EAGER)
def test_backend(benchmark: Benchmark, backend: str, phase: str) -> None:
    queries, keys = SHAPES[phase]
    generator = torch.Generator().manual_seed(0)
    q_BHTE = torch.randn(1, 8, queries, 64, generator=generator)
    k_BKSE, v_BKSE = (torch.randn(1, 4, keys, 64, generator=generator) for _ in range(2))
    offset = keys - queries
    z_BHTE = benchmark(BACKENDS[backend].attend, q_BHTE, k_BKSE, v_BKSE, query_offset=offset)
    torch.testing.assert_close(z_BHTE, naive.attend(q_BHTE, k_BKSE, v_BKSE, query_offset=offset), rtol=0, atol=1e-5)
