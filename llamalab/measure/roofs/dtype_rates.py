"""The rate of products by dtype, from a short trial: reported instruction sets are not reliable.

A CPU without units for bf16 or fp16 computes them through fp32, which may take longer than fp32 itself. A prompt is
bound by such products; a decode step by bytes, which a narrow dtype halves.
"""

from functools import partial
from typing import NamedTuple

import torch

from llamalab.measure.device.machine import clock_for
from llamalab.measure.timing.clock import Clock
from llamalab.measure.timing.timer import Plan, time_one
from llamalab.model import torch_dtype
from llamalab.model.packed import product_for

_SIDE, _ROWS = 1024, 128
_PLAN = Plan(0.05, 2, 10, 1, 0.0)


class ProductRate(NamedTuple):
    """How weights of an element type are multiplied here, and how fast: FLOP/s of many rows."""

    dtype: str
    product: str
    flops_per_s: float


def cpu_product_rates() -> dict[str, ProductRate]:
    """The rates of this CPU by element type."""
    return {dtype: product_rate(torch.device("cpu"), dtype) for dtype in ("fp32", "bf16", "fp16")}


def product_rate(device: torch.device, dtype: str, *, clock: Clock | None = None) -> ProductRate:
    """The rate of a product of 128 rows with a 1024 x 1024 weight, laid out as in the model; takes 0.1 s."""
    kind = torch_dtype(dtype)
    with torch.inference_mode():
        product = product_for(device, kind)
        weight = product.arrange(torch.full((_SIDE, _SIDE), 0.5, dtype=kind, device=device))
        x = torch.full((_ROWS, _SIDE), 0.25, dtype=kind, device=device)
        seconds = min(time_one(partial(product.multiply, x, weight), clock or clock_for(device), _PLAN))
    return ProductRate(dtype, product.name, 2.0 * _ROWS * _SIDE * _SIDE / max(seconds, 1e-9))
