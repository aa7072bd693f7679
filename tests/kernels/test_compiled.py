"""Kernels compiled for GPUs that are not here: they fit, spill nothing, and multiply with the chip's own units."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("triton")

import torch
from torch import Tensor

from llamalab.attention import triton_flash
from llamalab.attention.triton_flash import plan
from tests.kernels.without_gpu import REGISTERS_PER_SM, SHARED_BYTES, Compiled, compiling_for

CAPABILITIES = tuple(SHARED_BYTES)
KEYS = 2048
CHIPS_AND_DIMS = list(itertools.product(CAPABILITIES, [64, 128, 256]))


def on_meta(new_tokens: int, heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """q_BHTE, k_BKSE, v_BKSE, of which a compiler sees no more than types and strides."""
    q = torch.empty(1, heads, new_tokens, head_dim, dtype=dtype, device="meta")
    k, v = (torch.empty(1, kv_heads, KEYS, head_dim, dtype=dtype, device="meta") for _ in range(2))
    return q, k, v


def compiled(capability: int, launch: Callable[..., Any], *shape: Any, **options: Any) -> list[Compiled]:
    with compiling_for(capability) as made:
        q, k, v = on_meta(*shape)
        launch(q, k, v, query_offset=options.pop("query_offset", KEYS - q.shape[2]), **options)
    return made


def assert_fits(kernel: Compiled) -> None:
    assert kernel.shared_bytes <= SHARED_BYTES[kernel.capability], kernel.label
    assert kernel.registers * kernel.threads <= REGISTERS_PER_SM, kernel.label
    assert (kernel.stack_bytes, kernel.local_bytes) == (0, 0), kernel.label


@pytest.mark.parametrize("windowed", [False, True], ids=["whole", "windowed"])
@pytest.mark.parametrize(("capability", "head_dim"), [*CHIPS_AND_DIMS, (90, 80)])
def test_prefill_in_half_precision(capability: int, head_dim: int, windowed: bool) -> None:
    made = compiled(
        capability, triton_flash.prefill, 512, 8, 2, head_dim, torch.bfloat16, window=100 if windowed else None
    )
    parts = ("QUERY_TILE", "KEY_TILE", "num_warps", "num_stages")
    tiles = plan.half_tiles(plan.power_of_2(head_dim), capability)
    assert sorted(tuple(kernel.config[part] for part in parts) for kernel in made) == sorted(tiles)
    for kernel in made:
        assert_fits(kernel)
        assert_multiplies_as_it_should(kernel, loops=3 if windowed else 2)


@pytest.mark.parametrize("windowed", [False, True], ids=["whole", "windowed"])
@pytest.mark.parametrize(("capability", "head_dim"), [(90, 64), (90, 128), (90, 256), (90, 80), (100, 128), (100, 256)])
def test_prefill_by_descriptors(capability: int, head_dim: int, windowed: bool) -> None:
    """Every tile of keys and values is brought by the copy engine, and signalled by barriers in shared memory."""
    made = compiled(
        capability, triton_flash.prefill, 512, 8, 2, head_dim, torch.bfloat16, window=100 if windowed else None,
        form="described",
    )  # fmt: skip
    tiles = plan.half_tiles(plan.power_of_2(head_dim), capability, described=True)
    assert len(made) == len(tiles)
    for kernel in made:
        assert_fits(kernel)
        assert kernel.count(r"cp\.async\.bulk\.tensor\.4d") >= 4  # of keys and of values, in two loops or more
        assert kernel.count(r"mbarrier\.try_wait") > 0
        assert kernel.count(r"cp\.async\.cg") == 0
        if capability == 90:
            query_tile, key_tile, dim = (kernel.config[name] for name in ("QUERY_TILE", "KEY_TILE", "PADDED_DIM"))
            needed = (3 if windowed else 2) * (dim + key_tile) // 16
            assert kernel.count(r"wgmma\.mma_async") >= needed
            assert query_tile < 128 or kernel.count(r"wgmma\.mma_async") == needed
        else:
            assert kernel.count(r"tcgen05\.mma") > 0


def assert_multiplies_as_it_should(kernel: Compiled, loops: int) -> None:
    """Two products for each loop over keys, made of the instructions of the chip, and no more than are needed.

    Where a tile has fewer queries than the warps have rows, some products are made twice.
    """
    query_tile, key_tile, dim = (kernel.config[name] for name in ("QUERY_TILE", "KEY_TILE", "PADDED_DIM"))
    warps = kernel.threads // 32
    if kernel.capability == 80:  # m16n8k16: 16 rows, 8 columns and a depth of 16 for one warp
        made, needed = kernel.count(r"mma\.sync\.aligned\.m16n8k16"), 2 * query_tile * key_tile * dim // 2048 // warps
    elif kernel.capability == 90:  # m64nNk16: 64 rows for four warps, as wide as the tile, a depth of 16
        made, needed = kernel.count(r"wgmma\.mma_async"), (dim + key_tile) // 16
    else:
        assert kernel.count(r"tcgen05\.mma") > 0
        assert kernel.count(r"tcgen05\.alloc") == kernel.count(r"tcgen05\.dealloc") == 1
        return
    assert made == loops * needed if query_tile >= 16 * warps else made >= loops * needed, kernel.label
    assert kernel.count(r"cp\.async\.cg") > 0  # tiles arrive while others are multiplied
    # A stage of loads is waited for by all warps, before it is read and before it is written again.
    assert loops * 2 <= kernel.count(r"bar\.sync") <= loops * 16, kernel.label


@pytest.mark.parametrize(("capability", "head_dim"), CHIPS_AND_DIMS)
def test_prefill_in_full_precision(capability: int, head_dim: int) -> None:
    (kernel,) = compiled(capability, triton_flash.prefill, 512, 8, 2, head_dim, torch.float32)
    assert_fits(kernel)
    assert kernel.count("tf32") == 0


@pytest.mark.parametrize("heads", [(64, 8), (32, 1), (64, 1)], ids=str)  # 16 rows and up to the most
@pytest.mark.parametrize(("capability", "head_dim"), [(80, 256), (90, 64), (90, 128), (90, 256), (100, 256)])
def test_decode(capability: int, head_dim: int, heads: tuple[int, int]) -> None:
    for dtype in (torch.bfloat16, torch.float32):
        if not plan.takes_decode(heads[0] // heads[1], 1, dtype.itemsize <= 2):
            continue
        made = compiled(capability, triton_flash.decode_attention, 1, *heads, head_dim, dtype, n_splits=8)
        assert made[0].name == "decode_kernel"
        for kernel in made:
            assert_fits(kernel)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_decode_at_a_position_in_memory(capability: int) -> None:
    position = torch.empty(1, dtype=torch.int64, device="meta")
    for window in (None, 100):
        for kernel in compiled(
            capability,
            triton_flash.decode_attention,
            1,
            64,
            8,
            128,
            torch.bfloat16,
            query_offset=position,
            window=window,
        ):
            assert_fits(kernel)
            assert kernel.count(r"ld\.global\S*b64") > 0


def test_the_last_program_weighs_the_parts_after_it_has_counted_them() -> None:
    """One kernel, in which the count is acquired and released, and the parts are read past the first-level cache."""
    (kernel,) = compiled(90, triton_flash.decode_attention, 1, 32, 32, 128, torch.bfloat16, n_splits=8)
    assert kernel.config["FOLDED"]
    assert_fits(kernel)
    assert kernel.count(r"atom\S*\.acq_rel\S*\.add") == 1
    assert kernel.count(r"ld\.global\.cg") > 0


def test_what_does_not_fit_is_found() -> None:
    """The check itself: a tile that spills on this chip, and asks for more shared memory than it has."""
    q, k, v = on_meta(512, 8, 2, 256, torch.bfloat16)
    from llamalab.attention.triton_flash import prefill_kernel

    with compiling_for(80) as made:
        prefill_kernel.prefill_kernel[(1,)](
            q, k, v, q, q, *[256] * 12, 512, KEYS, 0, 0, 9, 1.0, GROUP=4, HEAD_DIM=256, PADDED_DIM=256,
            PRECISION="tf32", WINDOWED=False, DESCRIBED=False, QUERY_TILE=128, KEY_TILE=128, num_warps=8, num_stages=2,
        )  # fmt: skip
    assert made[0].shared_bytes > SHARED_BYTES[80]
    assert made[0].stack_bytes > 0
