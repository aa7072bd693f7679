"""Launches of the prefill kernel, in the form that was the fastest on the GPU at hand.

plain       every warp computes addresses and loads
described   the chip's copy engine brings tiles of keys and values (TMA, from compute capability 9.0 on)
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
from llamalab.attention.triton_flash.plan import full_tile

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
    the CPU, in a graph's capture and in fp32 it is the plain one.
    """
    forms: dict[str, Callable[[], Flash]] = {
        name: partial(_launch, q_BHTE, k_BKSE, v_BKSE, query_offset, window, name == "described")
        for name in ("plain", "described")
    }
    if form is not None:
        return forms[form]()
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


def _can_describe(q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor) -> bool:
    """Whether a copy engine is there, and keys and values begin and step at multiples of 16 bytes, as it asks for."""
    if not q_BHTE.is_cuda or q_BHTE.element_size() != 2 or torch.cuda.get_device_capability(q_BHTE.device) < (9, 0):
        return False
    return all(x.data_ptr() % 16 == 0 and not any(step % 8 for step in x.stride()[:-1]) for x in (k_BKSE, v_BKSE))


def _descriptor(x_BKSE: Tensor, key_tile: int, padded_dim: int) -> Any:
    from triton.tools.tensor_descriptor import TensorDescriptor

    return TensorDescriptor(x_BKSE, list(x_BKSE.shape), list(x_BKSE.stride()), [1, 1, key_tile, padded_dim])
