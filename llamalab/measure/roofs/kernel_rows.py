"""The number of rows up to which a quantised kernel is faster on this machine than widening the weight.

A kernel's time grows with the rows from the first one on; widening costs a copy independent of the rows. The crossing
depends on the machine: it is measured once a process, on a matrix of 1024 x 1024, in a fraction of a second.
"""

from functools import cache, partial

import torch
from torch import Tensor

from llamalab.measure.device.machine import clock_for
from llamalab.measure.timing.clock import Clock
from llamalab.measure.timing.timer import Plan, time_one
from llamalab.model import torch_dtype
from llamalab.model.quantised.codes import coded
from llamalab.model.quantised.linear import QuantisedLinear

_MOST_ROWS = 256  # beyond this no CPU kernel is faster than a product of many rows
_SIDE = 1024
_PLAN = Plan(0.02, 2, 6, 1, 0.0)


@cache
def kernel_rows_here(device: torch.device, dtype: str, weight_dtype: str) -> int | None:
    """Rows up to which the kernel of this storage is faster on this device; None where there is no other product."""
    layer = trial_layer(device, dtype, weight_dtype)
    if layer.kernel.widen is None:
        return None
    return crossing(layer, clock_for(device))


def product_here(device: torch.device, dtype: str, weight_dtype: str) -> str:
    """The kernel of products with matrices of this storage on this device."""
    return trial_layer(device, dtype, weight_dtype).kernel.name


@cache
def trial_layer(device: torch.device, dtype: str, weight_dtype: str) -> QuantisedLinear:
    """The layer used for the trial."""
    weight = torch.randn(_SIDE, _SIDE, generator=torch.Generator().manual_seed(0)).to(device)
    return QuantisedLinear.of(coded(weight, weight_dtype), weight_dtype, torch_dtype(dtype))


@torch.inference_mode()
def crossing(layer: QuantisedLinear, clock: Clock) -> int:
    """The last of the row counts, doubling from one, at which the kernel is no slower than the widened weight."""
    device, rows = layer.parts[0].device, 1
    while rows < _MOST_ROWS:
        x = torch.full((2 * rows, layer.in_features), 0.5, dtype=layer.dtype, device=device)
        by_kernel, widened = (min(time_one(partial(_call, layer, x, most), clock, _PLAN)) for most in (2 * rows, 0))
        if by_kernel > widened:
            break
        rows *= 2
    return rows


def _call(layer: QuantisedLinear, x: Tensor, kernel_rows: int) -> Tensor:
    layer.kernel_rows = kernel_rows
    made: Tensor = layer(x)
    return made
