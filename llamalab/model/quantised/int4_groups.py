"""int4 in groups: torch's `_weight_int4pack_mm_for_cpu` on a CPU, `_weight_int4pack_mm` on CUDA.

Both keep a scale and an offset for each group in the dtype of activations, as a tensor of (G, O, 2).
"""

import torch
from torch import Tensor

from llamalab.model.quantised import nibbles
from llamalab.model.quantised.codes import Codes
from llamalab.model.quantised.kernel import Parts, Spot, WeightKernel

KERNEL_GROUPS = (32, 64, 128, 256)
_TILES = 8  # of the CUDA kernel: 16 columns each


def grouped_constants(scales_OG: Tensor, offsets_OG: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Scales and offsets in the layout of both kernels: (G, O, 2)."""
    offsets_OG = torch.zeros_like(scales_OG) if offsets_OG is None else offsets_OG
    return torch.stack((scales_OG.t(), offsets_OG.t()), -1).to(dtype).contiguous()


def multiply_on_cpu(x_MI: Tensor, packed: Tensor, group: int, constants_GO2: Tensor) -> Tensor:
    """The product x W^T of the CPU's packed codes."""
    made: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x_MI, packed, group, constants_GO2)
    return made


def scaled(codes_OI: Tensor, constants_GO2: Tensor, group: int, dtype: torch.dtype) -> Tensor:
    """weight_OI of codes and constants, in the dtype that the kernel computes a weight in."""
    scales_OG, offsets_OG = (constants_GO2[..., which].t() for which in (0, 1))
    weight = codes_OI.to(dtype).view(len(codes_OI), -1, group).mul_(scales_OG[..., None].to(dtype))
    return weight.add_(offsets_OG[..., None].to(dtype)).view_as(codes_OI)


def _takes_on_cpu(spot: Spot) -> bool:
    shaped = spot.out % 16 == 0 and spot.group in KERNEL_GROUPS and nibbles.block_rows() is not None
    return spot.bits == 4 and spot.device.type == "cpu" and shaped


def _arrange_on_cpu(codes: Codes, dtype: torch.dtype) -> Parts:
    return nibbles.in_nibbles(codes.codes), grouped_constants(codes.scales, codes.offsets, dtype)


def _widen_on_cpu(parts: Parts, group: int, dtype: torch.dtype) -> Tensor:
    block = nibbles.block_rows()
    assert block is not None
    return scaled(nibbles.from_nibbles(parts[0], block), parts[1], group, dtype)


def _takes_on_cuda(spot: Spot) -> bool:
    shaped = spot.out % 8 == 0 and spot.inner % (16 * _TILES) == 0 and spot.group in KERNEL_GROUPS
    return spot.bits == 4 and spot.device.type == "cuda" and spot.dtype == torch.bfloat16 and shaped


def _arrange_on_cuda(codes: Codes, dtype: torch.dtype) -> Parts:
    unsigned = (codes.codes + 8).to(torch.uint8)
    pairs = (unsigned[:, ::2] << 4) | unsigned[:, 1::2]
    packed: Tensor = torch.ops.aten._convert_weight_to_int4pack(pairs.contiguous(), _TILES)
    return packed, grouped_constants(codes.scales, codes.offsets, dtype)


def _multiply_on_cuda(x_MI: Tensor, parts: Parts, group: int) -> Tensor:
    made: Tensor = torch.ops.aten._weight_int4pack_mm(x_MI, parts[0], group, parts[1])
    return made


INT4_CPU = WeightKernel(
    "int4pack",
    _takes_on_cpu,
    _arrange_on_cpu,
    lambda x_MI, parts, group: multiply_on_cpu(x_MI, parts[0], group, parts[1]),
    _widen_on_cpu,
)
INT4_CUDA = WeightKernel("int4pack CUDA", _takes_on_cuda, _arrange_on_cuda, _multiply_on_cuda, None)
