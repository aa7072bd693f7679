"""The choice of a weight's kernel: the first one that supports it, runs, and gives the right result."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from llamalab.model.onednn import widened_type
from llamalab.model.quantised import int4_groups, int8_groups, int8_rows, kleidi, plain, streamed_codes
from llamalab.model.quantised.codes import Codes
from llamalab.model.quantised.kernel import Parts, Spot, WeightKernel

WEIGHT_KERNELS = (
    streamed_codes.STREAMED_CODES,
    int8_rows.INT8_ROWS,
    kleidi.KLEIDI,
    int4_groups.INT4_CPU,
    int4_groups.INT4_CUDA,
    int8_groups.INT8_HALVES,
    plain.WIDENED,
)
# Rows up to which a kernel multiplies codes as they are, where nothing was measured: torch's CPU kernels decode a
# weight once for four rows, so that decoding it four times takes about as long as widening it once.
KERNEL_ROWS = 16
_TRIED_ROWS = (1, 3, 40)


def kernel_for(spot: Spot, *, offsets: bool = False) -> WeightKernel:
    """The kernel for a weight at a spot; the last takes anything. `offsets`: whether the codes have any."""
    made_for = (one for one in WEIGHT_KERNELS if one.takes(spot))
    return next(one for one in made_for if one is plain.WIDENED or _is_right(one, spot, offsets))


def multiply(x: Tensor, kernel: WeightKernel, parts: Parts, group: int, kernel_rows: int) -> Tensor:
    """The product x W^T of any number of rows: by the kernel, or beyond `kernel_rows` by a widened weight."""
    x_MI = x.reshape(-1, x.shape[-1])
    if kernel.widen is not None and len(x_MI) > kernel_rows:
        wide = widened_type(x.device, x.dtype)
        made = functional.linear(x_MI.to(wide), kernel.widen(parts, group, wide)).to(x.dtype)
    else:
        made = kernel.multiply(x_MI, parts, group)
    return made.view(*x.shape[:-1], made.shape[-1])


def _is_right(kernel: WeightKernel, spot: Spot, offsets: bool) -> bool:
    """Whether the kernel computes a small product as it should, tried once a process for each kind of spot."""
    out = 64 + spot.out % 64
    inner = 256 + spot.inner % 64 if spot.by_row else 4 * spot.group
    small = spot._replace(out=out, inner=inner, group=inner if spot.by_row else spot.group)
    return _computes(kernel, small, offsets)


@cache
def _computes(kernel: WeightKernel, spot: Spot, offsets: bool) -> bool:
    most = 1 << (spot.bits - 1)
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(), torch.device("cpu"):
        codes = torch.randint(-most, most, (spot.out, spot.inner), generator=generator, dtype=torch.int8)
        scales = torch.rand(spot.out, spot.inner // spot.group, generator=generator).add_(0.5) / most
        shifts = torch.randn(scales.shape, generator=generator) / most if offsets else None
        rows = [torch.randn(count, spot.inner, generator=generator).to(spot.dtype) for count in _TRIED_ROWS]
    scales = scales.to(spot.dtype).float()  # as they are kept
    shifts = None if shifts is None else shifts.to(spot.dtype).float()
    coded = Codes(spot.bits, codes, scales, shifts)
    exact = coded.widened(torch.float64)
    try:
        with torch.inference_mode():
            parts = kernel.arrange(coded.on(spot.device), spot.dtype)
            return all(_close(kernel, parts, spot, x_MI, exact) for x_MI in rows)
    except (RuntimeError, AttributeError, NotImplementedError, AssertionError):  # not on this device or in this build
        return False


def _close(kernel: WeightKernel, parts: Parts, spot: Spot, x_MI: Tensor, exact_OI: Tensor) -> bool:
    wanted = x_MI.double() @ exact_OI.T
    most = float(wanted.abs().max())
    made = [kernel.multiply(x_MI.to(spot.device), parts, spot.group)]
    if kernel.widen is not None:
        made.append(functional.linear(x_MI.to(spot.device), kernel.widen(parts, spot.group, spot.dtype)))
    precision = max(torch.finfo(spot.dtype).eps, 1 / 127 if kernel is kleidi.KLEIDI else 0.0)
    return all(float((one.double().cpu() - wanted).abs().max()) <= kernel.close * most * precision for one in made)
