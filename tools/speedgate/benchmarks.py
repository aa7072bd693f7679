"""The benchmarks: pieces of llamalab that are timed against another revision of it.

Only names that old revisions have too are used, imported inside the function that needs them: a revision that lacks
one lacks that benchmark and no other. Sizes are such that a call takes a few milliseconds on one thread.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

Work = Callable[[], object]
SHAPE = {"dim": 512, "n_layers": 4, "n_heads": 8, "n_kv_heads": 4, "ffn_dim": 1376, "vocab_size": 4096}
CONTEXT = 64


class Benchmark(NamedTuple):
    """How to make the work, and the class of its reference."""

    make: Callable[[], Work]
    reference: str


def _model(n_layers: int) -> Any:
    from llamalab import LlamaArch, build

    sizes: dict[str, Any] = SHAPE | {"n_layers": n_layers}
    return build(LlamaArch(**sizes), dtype="fp32").eval()


def decode_step() -> Work:
    """One token of a small model behind a filled cache."""
    from llamalab import StaticKVCache

    model = _model(SHAPE["n_layers"])
    cache = StaticKVCache(model.arch, batch=1, max_tokens=CONTEXT + 1, dtype="fp32")
    tokens_BT = torch.arange(CONTEXT)[None]
    model(tokens_BT, cache=cache, logits="last")

    def work() -> None:
        cache.rewind(CONTEXT)
        model(tokens_BT[:, :1], cache=cache, logits="last")

    return work


def prefill_block() -> Work:
    """One block, with embedding and head of one position, over 64 tokens."""
    model = _model(1)
    tokens_BT = torch.arange(CONTEXT)[None]
    return lambda: model(tokens_BT, logits="last")


def calculators() -> Work:
    """The op table of a 70B prefill and the KV caches of a 7B model."""
    from llamalab.analytic.kv_cache import kv_variants
    from llamalab.analytic.op import add_up
    from llamalab.analytic.ops import forward_ops
    from llamalab.analytic.pass_shape import PassShape
    from llamalab.presets import PRESETS

    large, small = PRESETS["70b"].arch, PRESETS["7b"].arch

    def work() -> None:
        for _ in range(24):
            add_up(forward_ops(large, PassShape(new_tokens=2048)))
            kv_variants(small, seq=4096, batch=16)

    return work


def attention() -> Work:
    """Fused attention of 256 queries, grouped heads."""
    from llamalab.attention import get_backend

    attend = get_backend("sdpa").attend
    generator = torch.Generator().manual_seed(0)
    q_BHTE = torch.randn(1, 8, 256, 64, generator=generator)
    k_BKSE, v_BKSE = (torch.randn(1, 4, 256, 64, generator=generator) for _ in range(2))
    return lambda: attend(q_BHTE, k_BKSE, v_BKSE, query_offset=0)


BENCHMARKS = {
    "decode step": Benchmark(decode_step, "stream"),
    "prefill block": Benchmark(prefill_block, "products"),
    "calculators": Benchmark(calculators, "loop"),
    "attention": Benchmark(attention, "gemm"),
}
