"""Our own flash attention for NVIDIA GPUs, in Triton: prefill by tiles of queries, decode by splits of keys.

Triton is imported when a call is made, not before: it is no dependency of llamalab. With
TRITON_INTERPRET=1 in the environment before that, the kernels run on the CPU, which is how they
are tested where there is no GPU.
"""

import importlib.util
import os
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention.limits import shape_of
from llamalab.attention.shapes import in_view
from llamalab.errors import MissingError, UnavailableError

LOG2_E = 1.4426950408889634
MAX_HEAD_DIM = 256  # a larger tile does not fit the registers of one program
DECODE_ROWS = 64  # up to so many rows of queries, K and V are what takes the time, and are split
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
    few_rows = shape.new_tokens == 1 or shape.n_heads // shape.n_kv_heads * shape.new_tokens <= DECODE_ROWS
    run = decode if few_rows else prefill
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
        tile = {"QUERY_TILE": 64, "KEY_TILE": 16, "num_warps": 8, "num_stages": 2}
        prefill_kernel[grid](*arguments, _scale(q_BHTE), **constants, **tile, **_FUSED)
    else:
        tuned_prefill_kernel[grid](*arguments, _scale(q_BHTE), **constants, **_FUSED)
    return Flash(z_BHTE, lse_BHT)


def decode(
    q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None,
    n_splits: int | None = None,
) -> Flash:  # fmt: skip
    """Few queries: one program per group of heads and split of the keys, then the splits weighed together."""
    from llamalab.attention.triton_flash.decode_kernel import decode_kernel

    batch, n_heads, new_tokens, head_dim = q_BHTE.shape
    n_kv_heads, context = k_BKSE.shape[1:3]
    half = q_BHTE.element_size() <= 2
    key_tile = 64 if half else 32
    tiles = -(-context // key_tile)
    n_splits = n_splits or choose_splits(batch * n_kv_heads, tiles, _slots(q_BHTE.device))
    keys_per_split = -(-tiles // n_splits) * key_tile
    n_splits = -(-context // keys_per_split)  # rounding up to whole tiles may have made the last ones empty
    # With one split the partial result is the result.
    part_dtype = q_BHTE.dtype if n_splits == 1 else torch.float32
    part_sBHTE = q_BHTE.new_empty((n_splits, batch, n_heads, new_tokens, head_dim), dtype=part_dtype)
    part_lse_sBHT = q_BHTE.new_empty(part_sBHTE.shape[:-1], dtype=torch.float32)
    rows = max(16, _power_of_2(n_heads // n_kv_heads * new_tokens))  # a matrix unit takes 16 rows at least
    decode_kernel[(n_splits, n_kv_heads, batch)](
        q_BHTE, k_BKSE, v_BKSE, part_sBHTE, part_lse_sBHT,
        *_strides(q_BHTE, k_BKSE, v_BKSE), *part_sBHTE.stride()[:-1], part_lse_sBHT.stride(0),
        new_tokens, context, query_offset, keys_per_split, window or 0, _scale(q_BHTE),
        **_constants(q_BHTE, k_BKSE, window), ROWS=rows, KEY_TILE=key_tile,
        num_warps=4 if half and rows <= DECODE_ROWS else 8, num_stages=3, **_FUSED,
    )  # fmt: skip
    if n_splits == 1:
        return Flash(part_sBHTE[0], part_lse_sBHT[0])
    return _combine(part_sBHTE, part_lse_sBHT, q_BHTE.dtype)


def choose_splits(groups: int, tiles: int, slots: int) -> int:
    """Into how many parts to cut the keys: the fewest that keep the chip nearly as busy as it can be.

    `groups` programs per split run in waves of `slots`; a last wave that is nearly empty wastes the
    others' time. Each split holds at least one of the `tiles` of keys.

    >>> choose_splits(groups=8, tiles=64, slots=264), choose_splits(groups=256, tiles=64, slots=264)
    (29, 1)
    """
    busy = {}
    for splits in range(1, tiles + 1):
        programs = groups * splits
        busy[splits] = programs / (-(-programs // slots) * slots)
        if programs >= 4 * slots:
            break
    enough = 0.85 * max(busy.values())
    return next(splits for splits, share in busy.items() if share >= enough)


def _combine(part_sBHTE: Tensor, part_lse_sBHT: Tensor, dtype: torch.dtype) -> Flash:
    from llamalab.attention.triton_flash.decode_kernel import combine_kernel

    n_splits, *size, head_dim = part_sBHTE.shape
    z_BHTE = part_sBHTE.new_empty((*size, head_dim), dtype=dtype)
    lse_BHT = part_lse_sBHT.new_empty(size)
    rows = lse_BHT.numel()
    combine_kernel[(rows,)](
        part_sBHTE, part_lse_sBHT, z_BHTE, lse_BHT, n_splits, rows,
        HEAD_DIM=head_dim, PADDED_DIM=_power_of_2(head_dim), SPLITS=_power_of_2(n_splits), num_warps=4, **_FUSED,
    )  # fmt: skip
    return Flash(z_BHTE, lse_BHT)


def _constants(q_BHTE: Tensor, k_BKSE: Tensor, window: int | None) -> dict[str, Any]:
    head_dim = q_BHTE.shape[-1]
    return {
        "WINDOWED": window is not None,
        "GROUP": q_BHTE.shape[1] // k_BKSE.shape[1],
        "HEAD_DIM": head_dim,
        "PADDED_DIM": max(16, _power_of_2(head_dim)),
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


def _power_of_2(n: int) -> int:
    return 1 << (n - 1).bit_length()
