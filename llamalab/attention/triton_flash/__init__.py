"""Our own flash attention for NVIDIA GPUs, in Triton: prefill by tiles of queries, decode by splits of keys.

Triton is imported when a call is made, not before: it is no dependency of llamalab. With
TRITON_INTERPRET=1 in the environment before that, the kernels run on the CPU, which is how they
are tested where there is no GPU.

Belongs here: one file a kernel, `plan` (tiles and splits by shape), and the calls that launch them.
Does not belong here: other backends (attention), KV caches (model), what attention costs (analytic.attention_cost).
"""

import importlib.util
import os
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention.limits import shape_of
from llamalab.attention.shapes import in_view
from llamalab.attention.triton_flash.plan import decode_plan, decode_tile, full_tile, power_of_2, takes_decode
from llamalab.errors import MissingError, UnavailableError

LOG2_E = 1.4426950408889634
MAX_HEAD_DIM = 256  # a larger tile does not fit the registers of one program
_FUSED = {"enable_fp_fusion": True}  # a * b + c as one instruction; Triton 3.10 will not take it for granted
_PROGRAMS_PER_SM = 2  # programs of the decode kernel that share a multiprocessor's memory on chip
_INTERPRETED_SMS = 4  # stands for a small GPU, so that the interpreter runs the splits too


class Flash(NamedTuple):
    """The output and the natural log-sum-exp of each query's scores, fp32."""

    z_BHTE: Tensor
    lse_BHT: Tensor


def attend(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None) -> Tensor:
    """Causal attention in one of the two kernels; query t sees keys 0 .. query_offset + t, or the window's."""
    return flash(q_BHTE, k_BKSE, v_BKSE, query_offset=query_offset, window=window).z_BHTE


def flash(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None) -> Flash:
    """Causal attention with its log-sum-exp. Raises InputError, UnavailableError before anything runs."""
    k_BKSE, v_BKSE, query_offset, window = in_view(q_BHTE, k_BKSE, v_BKSE, query_offset, window)
    shape = shape_of(q_BHTE, k_BKSE, window)
    check(shape, q_BHTE.device)
    # The kernels step through a head with stride 1.
    q_BHTE, k_BKSE, v_BKSE = (x if x.stride(-1) == 1 else x.contiguous() for x in (q_BHTE, k_BKSE, v_BKSE))
    few_rows = takes_decode(shape.n_heads // shape.n_kv_heads, shape.new_tokens, q_BHTE.element_size() <= 2)
    run = decode_attention if few_rows else prefill
    return run(q_BHTE, k_BKSE, v_BKSE, query_offset=query_offset, window=window)


def check(shape: AttentionShape, device: torch.device) -> None:
    """Say what the kernels cannot do. Raises MissingError, UnavailableError."""
    if importlib.util.find_spec("triton") is None:
        raise MissingError("attention 'triton' needs the package triton; it is not installed; pip install triton")
    if not interpreted():
        if device.type != "cuda":
            raise UnavailableError(
                f"attention 'triton' runs on NVIDIA GPUs; the tensors are on {device.type}; "
                "take 'tiled' or 'sdpa', or set TRITON_INTERPRET=1 to try the kernels slowly on the CPU"
            )
        if torch.cuda.get_device_capability(device) < (8, 0):
            raise UnavailableError("attention 'triton' needs compute capability 8.0 or newer (A100); take 'sdpa'")
    if shape.dtype not in ("bf16", "fp16", "fp32"):
        raise UnavailableError(f"attention 'triton' computes in bf16, fp16 or fp32; got {shape.dtype}; take 'naive'")
    if shape.head_dim > MAX_HEAD_DIM:
        raise UnavailableError(
            f"attention 'triton' takes head dims up to {MAX_HEAD_DIM}; got {shape.head_dim}; take 'sdpa'"
        )


def interpreted() -> bool:
    """Whether Triton was asked to interpret its kernels on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def prefill(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None) -> Flash:
    """Many queries: one program per tile of queries and head."""
    from llamalab.attention.triton_flash.prefill_kernel import prefill_kernel, tuned_prefill_kernel

    batch, n_heads, new_tokens, _ = q_BHTE.shape
    z_BHTE, lse_BHT = torch.empty_like(q_BHTE), _empty_lse(q_BHTE)
    sizes = (new_tokens, k_BKSE.shape[2], query_offset, window or 0, new_tokens.bit_length())
    arguments = (q_BHTE, k_BKSE, v_BKSE, z_BHTE, lse_BHT, *_strides(q_BHTE, k_BKSE, v_BKSE, z_BHTE), *sizes)
    constants = _constants(q_BHTE, k_BKSE, window)

    def grid(meta: dict[str, Any]) -> tuple[int, int, int]:
        return -(-new_tokens // meta["QUERY_TILE"]), n_heads, batch

    if interpreted() or q_BHTE.dtype == torch.float32:
        query_tile, key_tile, num_warps, num_stages = full_tile(constants["PADDED_DIM"])
        prefill_kernel[grid](
            *arguments,
            _scale(q_BHTE),
            **constants,
            QUERY_TILE=query_tile,
            KEY_TILE=key_tile,
            num_warps=num_warps,
            num_stages=num_stages,
            **_FUSED,
        )
    else:
        tuned_prefill_kernel[grid](*arguments, _scale(q_BHTE), **constants, **_FUSED)
    return Flash(z_BHTE, lse_BHT)


def decode_attention(
    q_BHTE: Tensor,
    k_BKSE: Tensor,
    v_BKSE: Tensor,
    *,
    query_offset: int | Tensor,
    window: int | None = None,
    n_splits: int | None = None,
    arrived_G: Tensor | None = None,
) -> Flash:
    """Few queries: one program per group of heads and split of the keys, then the splits weighed together.

    `query_offset` may be a tensor of one integer, which the kernel reads: keys behind it are not looked at.
    `arrived_G` is room for a count per group of heads, int32 and zeros before the call and after it; without it
    the call makes its own. Two calls that may run at once must not share it.
    """
    from llamalab.attention.triton_flash.decode_kernel import combine_kernel, decode_kernel

    batch, n_heads, new_tokens, head_dim = q_BHTE.shape
    n_kv_heads, context = k_BKSE.shape[1:3]
    group_rows, groups = n_heads // n_kv_heads * new_tokens, batch * n_kv_heads
    rows = max(16, power_of_2(group_rows))  # a matrix unit takes 16 rows at least
    key_tile, num_warps, num_stages = decode_tile(rows, _padded(head_dim), q_BHTE.element_size() <= 2)
    plan = decode_plan(groups, group_rows, -(-context // key_tile), _slots(q_BHTE.device), n_splits)
    z_BHTE = q_BHTE.new_empty(q_BHTE.shape)
    lse_BHT = _empty_lse(q_BHTE)
    part_sBHTE, part_lse_sBHT = z_BHTE, lse_BHT  # with one split the part is the result
    if plan.n_splits > 1:
        part_sBHTE = q_BHTE.new_empty((plan.n_splits, *q_BHTE.shape), dtype=torch.float32)
        part_lse_sBHT = q_BHTE.new_empty(part_sBHTE.shape[:-1], dtype=torch.float32)
    if plan.folded and arrived_G is None:
        arrived_G = torch.zeros(groups, dtype=torch.int32, device=q_BHTE.device)
    decode_kernel[(plan.n_splits, n_kv_heads, batch)](
        q_BHTE, k_BKSE, v_BKSE, z_BHTE, lse_BHT, part_sBHTE, part_lse_sBHT, arrived_G if plan.folded else lse_BHT,
        *_strides(q_BHTE, k_BKSE, v_BKSE), new_tokens, context, query_offset, window or 0, _scale(q_BHTE),
        **_constants(q_BHTE, k_BKSE, window), POSITION_IN_MEMORY=isinstance(query_offset, Tensor), ROWS=rows,
        KEY_TILE=key_tile, PARTS=plan.n_splits > 1, FOLDED=plan.folded, FOLD_ROWS=plan.fold_rows,
        FOLD_SPLITS=plan.fold_splits, num_warps=num_warps, num_stages=num_stages, **_FUSED,
    )  # fmt: skip
    if plan.n_splits > 1 and not plan.folded:
        n_rows = lse_BHT.numel()
        combine_kernel[(n_rows,)](
            part_sBHTE, part_lse_sBHT, z_BHTE, lse_BHT, plan.n_splits, n_rows, HEAD_DIM=head_dim,
            PADDED_DIM=_padded(head_dim), SPLITS=plan.fold_splits, num_warps=4, **_FUSED,
        )  # fmt: skip
    return Flash(z_BHTE, lse_BHT)


def _constants(q_BHTE: Tensor, k_BKSE: Tensor, window: int | None) -> dict[str, Any]:
    head_dim = q_BHTE.shape[-1]
    return {
        "WINDOWED": window is not None,
        "GROUP": q_BHTE.shape[1] // k_BKSE.shape[1],
        "HEAD_DIM": head_dim,
        "PADDED_DIM": _padded(head_dim),
        "PRECISION": _precision(q_BHTE.dtype),
    }


def _precision(dtype: torch.dtype) -> str:
    if dtype == torch.float32:
        return "ieee"  # tf32 keeps 10 of fp32's 23 bits: not what is expected of fp32
    return "wide" if interpreted() else "tf32"  # of no effect on half precision


def _strides(*tensors: Tensor) -> tuple[int, ...]:
    return tuple(stride for tensor in tensors for stride in tensor.stride()[:-1])


def _scale(q_BHTE: Tensor) -> float:
    return float(q_BHTE.shape[-1] ** -0.5 * LOG2_E)


def _empty_lse(q_BHTE: Tensor) -> Tensor:
    return q_BHTE.new_empty(q_BHTE.shape[:-1], dtype=torch.float32)


def _slots(device: torch.device) -> int:
    if device.type != "cuda":
        return _INTERPRETED_SMS * _PROGRAMS_PER_SM
    return torch.cuda.get_device_properties(device).multi_processor_count * _PROGRAMS_PER_SM


def _padded(head_dim: int) -> int:
    return max(16, power_of_2(head_dim))
