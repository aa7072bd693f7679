"""Launches of the prefill kernel, in the form that was the fastest on the GPU at hand.

Plain: every warp computes addresses and loads. Described: tiles of keys and values are copied by TMA (from compute
capability 9.0 on). Specialised: one warp loads tiles while others multiply (Hopper); where it is unavailable, the
plain form runs. The last has not run on a GPU yet, where a bug could hang: it runs only where it is named.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from llamalab.attention.triton_flash.fastest import Fastest
from llamalab.attention.triton_flash.launch import (
    FUSED,
    Flash,
    constants,
    default_scale,
    empty_lse,
    interpreted,
    strides,
)
from llamalab.attention.triton_flash.plan import full_tile, specialised_tile

_FASTEST = Fastest()  # as long as the process lives, like what Triton's own tuning remembers


def prefill(
    q_BHTE: Tensor,
    k_BKSE: Tensor,
    v_BKSE: Tensor,
    *,
    query_offset: int,
    window: int | None = None,
    form: str | None = None,
) -> Flash:
    """Many queries: one program per tile of queries and head.

    Without a `form` those that the device can run are timed once for each kind of call, and the fastest is taken; on
    the CPU, in a graph's capture and in fp32 it is the plain one. The specialised form is not among those timed.
    """
    forms: dict[str, Callable[[], Flash]] = {
        name: partial(_launch, q_BHTE, k_BKSE, v_BKSE, query_offset, window, name == "described")
        for name in ("plain", "described")
    }
    if form == "specialised" and _can_specialise(q_BHTE, k_BKSE, v_BKSE, window):
        return _launch_specialised(q_BHTE, k_BKSE, v_BKSE, query_offset)
    if form is not None:
        return forms["plain" if form == "specialised" else form]()
    if not _can_describe(q_BHTE, k_BKSE, v_BKSE):
        return forms["plain"]()
    kind = (q_BHTE.device, q_BHTE.dtype, q_BHTE.shape[-1], window is None, q_BHTE.shape[2].bit_length())
    return forms[_FASTEST.of(kind, forms)]()


def _launch(
    q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, query_offset: int, window: int | None, described: bool
) -> Flash:
    from llamalab.attention.triton_flash.prefill_kernel import (
        prefill_kernel,
        tuned_described_kernel,
        tuned_prefill_kernel,
    )

    batch, n_heads, new_tokens, _ = q_BHTE.shape
    z_BHTE, lse_BHT = torch.empty_like(q_BHTE), empty_lse(q_BHTE)
    sizes = (new_tokens, k_BKSE.shape[2], query_offset, window or 0, new_tokens.bit_length())
    given = constants(q_BHTE, k_BKSE, window) | {"DESCRIBED": described}
    query_tile, key_tile, num_warps, num_stages = full_tile(given["PADDED_DIM"])
    k_at, v_at = (
        _descriptor(x_BKSE, key_tile, given["PADDED_DIM"]) if described else x_BKSE for x_BKSE in (k_BKSE, v_BKSE)
    )
    arguments = (q_BHTE, k_at, v_at, z_BHTE, lse_BHT, *strides(q_BHTE, k_BKSE, v_BKSE, z_BHTE), *sizes)

    def grid(meta: dict[str, Any]) -> tuple[int, int, int]:
        return -(-new_tokens // meta["QUERY_TILE"]), n_heads, batch

    if interpreted() or q_BHTE.dtype == torch.float32:
        prefill_kernel[grid](
            *arguments,
            default_scale(q_BHTE),
            **given,
            QUERY_TILE=query_tile,
            KEY_TILE=key_tile,
            num_warps=num_warps,
            num_stages=num_stages,
            **FUSED,
        )
    else:
        tuned = tuned_described_kernel if described else tuned_prefill_kernel
        tuned[grid](*arguments, default_scale(q_BHTE), **given, **FUSED)
    return Flash(z_BHTE, lse_BHT)


def _can_specialise(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, window: int | None) -> bool:
    """Whether the chip has Hopper's products of warp groups, and the heads a tile of their own size."""
    if window is not None or specialised_tile(q_BHTE.shape[-1]) is None or not _can_describe(q_BHTE, k_BKSE, v_BKSE):
        return False
    steps = not any(step % 8 for step in q_BHTE.stride()[:-1])
    return steps and q_BHTE.data_ptr() % 16 == 0 and torch.cuda.get_device_capability(q_BHTE.device)[0] == 9


def _launch_specialised(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, query_offset: int) -> Flash:
    from triton.experimental.gluon import language
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

    from llamalab.attention.triton_flash.specialised_kernel import specialised_kernel

    batch, n_heads, new_tokens, head_dim = q_BHTE.shape
    tile = specialised_tile(head_dim)
    assert tile is not None
    kind = language.bfloat16 if q_BHTE.dtype == torch.bfloat16 else language.float16

    def described(x: Tensor, rows: int) -> Any:
        block = [1, 1, rows, head_dim]
        layout = language.NVMMASharedLayout.get_default_for(block, kind)
        return TensorDescriptor(x, list(x.shape), list(x.stride()), block, layout)

    z_BHTE, lse_BHT = torch.empty_like(q_BHTE), empty_lse(q_BHTE)
    specialised_kernel[(-(-new_tokens // tile.query_tile), n_heads, batch)](
        described(q_BHTE, tile.query_tile),
        described(k_BKSE, tile.key_tile),
        described(v_BKSE, tile.key_tile),
        z_BHTE,
        lse_BHT,
        *strides(z_BHTE),
        new_tokens,
        query_offset,
        default_scale(q_BHTE),
        GROUP=n_heads // k_BKSE.shape[1],
        STAGES=tile.stages,
        WARPS=tile.num_warps,
        num_warps=tile.num_warps,
    )
    return Flash(z_BHTE, lse_BHT)


def _can_describe(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor) -> bool:
    """Whether a copy engine is there, and keys and values begin and step at multiples of 16 bytes, as it asks for."""
    if not q_BHTE.is_cuda or q_BHTE.element_size() != 2 or torch.cuda.get_device_capability(q_BHTE.device) < (9, 0):
        return False
    return all(x.data_ptr() % 16 == 0 and not any(step % 8 for step in x.stride()[:-1]) for x in (k_BKSE, v_BKSE))


def _descriptor(x_BKSE: Tensor, key_tile: int, padded_dim: int) -> Any:
    from triton.tools.tensor_descriptor import TensorDescriptor

    return TensorDescriptor(x_BKSE, list(x_BKSE.shape), list(x_BKSE.stride()), [1, 1, key_tile, padded_dim])
