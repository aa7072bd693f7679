"""The attention kernel that ran, read from the profiler's trace.

`scaled_dot_product_attention` chooses by device, dtype, mask and versions (on Hopper cuDNN may precede flash), so that
the operation in the trace is the only evidence.
"""

from collections.abc import Callable, Iterable

import torch

from llamalab.measure.device.machine import device_of
from llamalab.measure.device.profiler import profiled

_FUSED = (
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_cudnn_attention",
    "aten::_scaled_dot_product_fused_attention_overrideable",
    "aten::_scaled_dot_product_attention_math",
)
_WRITTEN = ("prefill_kernel", "decode_kernel", "combine_kernel", "flex_attention", "flex_decoding")  # in Triton
_STEPS = ("aten::bmm", "aten::baddbmm", "aten::mm", "aten::addmm", "aten::_softmax")


def attention_kernel(attend: Callable[[], object], place: torch.device) -> str | None:
    """The kernel that one call of attention, and nothing else, ran; None where it is unknown.

    A fused kernel is named by its op; attention in steps by the ops of its steps, in order.
    """
    return name_kernel(event.name() for event in profiled(attend, device=device_of(place)))


def name_kernel(op_names: Iterable[str]) -> str | None:
    """Name the attention kernel from the ops of one call, in order.

    >>> name_kernel(["aten::matmul", "aten::bmm", "aten::_softmax", "aten::bmm"])
    'aten::bmm + aten::_softmax + aten::bmm'
    """
    seen = list(op_names)
    steps = [name for name in seen if name in _STEPS]
    return kernel_of_pass(seen) or (" + ".join(steps) if "aten::_softmax" in steps else None)


def kernel_of_pass(op_names: Iterable[str]) -> str | None:
    """The fused attention kernel among the ops of a larger call; None where attention runs in steps.

    >>> kernel_of_pass(["aten::linear", "aten::_scaled_dot_product_flash_attention", "aten::mm"])
    'aten::_scaled_dot_product_flash_attention'
    """
    seen = list(op_names)
    fused = [name for name in _FUSED if name in seen]
    written = [name for name in seen if any(part in name for part in _WRITTEN)]
    return " + ".join(fused or dict.fromkeys(written)) or None


def fused_kernel(work: Callable[[], object], place: torch.device) -> str | None:
    """The fused attention kernel that a larger call ran; None where attention runs in steps."""
    return kernel_of_pass(event.name() for event in profiled(work, device=device_of(place)))
