"""Common parts of launches of both kernels: output, constants, strides and precision."""

import os
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llamalab.attention.triton_flash.plan import power_of_2

LOG2_E = 1.4426950408889634
FUSED = {"enable_fp_fusion": True}  # a * b + c as one instruction; Triton 3.10 will not take it for granted


class Flash(NamedTuple):
    """The output and the natural log-sum-exp of each query's scores, fp32."""

    z_BHTE: Tensor
    lse_BHT: Tensor


def interpreted() -> bool:
    """Whether Triton was asked to interpret its kernels on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def constants(q_BHTE: Tensor, k_BKSE: Tensor, window: int | None) -> dict[str, Any]:
    """The compile-time constants of both kernels."""
    head_dim = q_BHTE.shape[-1]
    return {
        "WINDOWED": window is not None,
        "GROUP": q_BHTE.shape[1] // k_BKSE.shape[1],
        "HEAD_DIM": head_dim,
        "PADDED_DIM": padded(head_dim),
        "PRECISION": precision(q_BHTE.dtype),
    }


def precision(dtype: torch.dtype) -> str:
    """How products take their operands."""
    if dtype == torch.float32:
        return "ieee"  # tf32 keeps 10 of fp32's 23 bits: not what is expected of fp32
    return "wide" if interpreted() else "tf32"  # of no effect on half precision


def strides(*tensors: Tensor) -> tuple[int, ...]:
    """Of all axes but the last, which is 1."""
    return tuple(stride for tensor in tensors for stride in tensor.stride()[:-1])


def default_scale(q_BHTE: Tensor) -> float:
    """E**-0.5, and the change to base 2."""
    return float(q_BHTE.shape[-1] ** -0.5 * LOG2_E)


def empty_lse(q_BHTE: Tensor) -> Tensor:
    """Room for the log-sum-exp of every query."""
    return q_BHTE.new_empty(q_BHTE.shape[:-1], dtype=torch.float32)


def padded(head_dim: int) -> int:
    """The head dim of a tile: a power of two."""
    return max(16, power_of_2(head_dim))
