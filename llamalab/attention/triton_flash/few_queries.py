"""Launches of the decode kernel: keys in splits, so that a few queries use all multiprocessors."""

import torch
from torch import Tensor

from llamalab.attention.triton_flash.launch import FUSED, Flash, constants, default_scale, empty_lse, padded, strides
from llamalab.attention.triton_flash.plan import decode_plan, decode_tile, power_of_2

_PROGRAMS_PER_SM = 2  # programs of the decode kernel per multiprocessor, limited by its shared memory
_INTERPRETED_SMS = 4  # a small GPU, so that the interpreter runs the splits too


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
    key_tile, num_warps, num_stages = decode_tile(rows, padded(head_dim), q_BHTE.element_size() <= 2)
    plan = decode_plan(groups, group_rows, -(-context // key_tile), _slots(q_BHTE.device), n_splits)
    z_BHTE = q_BHTE.new_empty(q_BHTE.shape)
    lse_BHT = empty_lse(q_BHTE)
    part_sBHTE, part_lse_sBHT = z_BHTE, lse_BHT  # with one split the part is the result
    if plan.n_splits > 1:
        part_sBHTE = q_BHTE.new_empty((plan.n_splits, *q_BHTE.shape), dtype=torch.float32)
        part_lse_sBHT = q_BHTE.new_empty(part_sBHTE.shape[:-1], dtype=torch.float32)
    if plan.folded and arrived_G is None:
        arrived_G = torch.zeros(groups, dtype=torch.int32, device=q_BHTE.device)
    decode_kernel[(plan.n_splits, n_kv_heads, batch)](
        q_BHTE,
        k_BKSE,
        v_BKSE,
        z_BHTE,
        lse_BHT,
        part_sBHTE,
        part_lse_sBHT,
        arrived_G if plan.folded else lse_BHT,
        *strides(q_BHTE, k_BKSE, v_BKSE),
        new_tokens,
        context,
        query_offset,
        window or 0,
        default_scale(q_BHTE),
        **constants(q_BHTE, k_BKSE, window),
        POSITION_IN_MEMORY=isinstance(query_offset, Tensor),
        ROWS=rows,
        KEY_TILE=key_tile,
        PARTS=plan.n_splits > 1,
        FOLDED=plan.folded,
        FOLD_ROWS=plan.fold_rows,
        FOLD_SPLITS=plan.fold_splits,
        num_warps=num_warps,
        num_stages=num_stages,
        **FUSED,
    )
    if plan.n_splits > 1 and not plan.folded:
        n_rows = lse_BHT.numel()
        combine_kernel[(n_rows,)](
            part_sBHTE,
            part_lse_sBHT,
            z_BHTE,
            lse_BHT,
            plan.n_splits,
            n_rows,
            HEAD_DIM=head_dim,
            PADDED_DIM=padded(head_dim),
            SPLITS=plan.fold_splits,
            num_warps=4,
            **FUSED,
        )
    return Flash(z_BHTE, lse_BHT)


def _slots(device: torch.device) -> int:
    if device.type != "cuda":
        return _INTERPRETED_SMS * _PROGRAMS_PER_SM
    return torch.cuda.get_device_properties(device).multi_processor_count * _PROGRAMS_PER_SM
