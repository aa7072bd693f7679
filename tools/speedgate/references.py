"""References of the same run: work of a benchmark's class that no change of llamalab can alter.

A machine that is slow for a while is slow for both, as far as both lean on the same part of it: products on the
vector units, reading weights on memory and on torch's dispatch, loops on the interpreter. Each takes some milliseconds.
Plain copies follow memory-bound work worse than rows through weights do: see docs/benchmarks.md.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Work = Callable[[], object]
DIM, FFN_DIM, KV_DIM, LAYERS, TOKENS = 512, 1376, 256, 4, 64


def gemm() -> Work:
    """Square products whose operands stay in a core's caches."""
    left, right, out = torch.ones(384, 384), torch.ones(384, 384), torch.empty(384, 384)

    def work() -> None:
        for _ in range(4):
            torch.mm(left, right, out=out)

    return work


def products() -> Work:
    """Products of a few rows with weights, as in a prefill."""
    wide, narrow = torch.ones(FFN_DIM, DIM), torch.ones(DIM, FFN_DIM)
    few_DIM, few_FFN = torch.ones(TOKENS, DIM), torch.ones(TOKENS, FFN_DIM)

    def work() -> None:
        for _ in range(3):
            functional.linear(few_DIM, wide)
            functional.linear(few_FFN, narrow)

    return work


def stream() -> Work:
    """One row through more weights than a core's caches hold, with small operations between, as in a decode step."""
    shapes = ((DIM, DIM), (KV_DIM, DIM), (KV_DIM, DIM), (DIM, DIM), (FFN_DIM, DIM), (FFN_DIM, DIM), (DIM, FFN_DIM))
    layers = [[torch.full(shape, shape[1] ** -0.5) for shape in shapes] for _ in range(LAYERS)]
    row = torch.ones(1, 1, DIM)

    def work() -> None:
        x = row
        for wq, wk, wv, wo, w1, w3, w2 in layers:
            h = _normed(x)
            query = functional.linear(h, wq)
            functional.linear(h, wk)
            functional.linear(h, wv)
            x = x + functional.linear(query, wo)
            h = _normed(x)
            x = x + functional.linear(functional.silu(functional.linear(h, w1)) * functional.linear(h, w3), w2)

    return work


def _normed(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)


class _Row(NamedTuple):
    name: str
    flops: int
    size: int


def _row(name: str, rows: int, columns: int) -> _Row:
    return _Row(name=name, flops=2 * rows * columns * 7, size=rows * columns * 2)


def loop() -> Work:
    """Calls, small objects and whole numbers of the interpreter."""
    names = ("wq", "wk", "wv", "wo", "w1", "w2")

    def work() -> None:
        total = 0
        for number in range(250):
            rows = [_row(f"layers.*.{name}", 512 + number, 1376 + place) for place, name in enumerate(names)]
            total += sum(row.flops * 32 for row in rows) + sum(row.size for row in rows)

    return work


REFERENCES: dict[str, Callable[[], Work]] = {"gemm": gemm, "products": products, "stream": stream, "loop": loop}
