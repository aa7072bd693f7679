"""The form with specialised warps: its own source on the host, and what the compiler makes of it."""

from pathlib import Path

import pytest

pytest.importorskip("triton.experimental.gluon")

import torch

from llamalab.attention import triton_flash
from llamalab.attention.triton_flash import launch, many_queries, plan
from tests.attention.grid import assert_close, tensors
from tests.kernels.on_host import Descriptor, Pointer, on_host
from tests.kernels.test_compiled import assert_fits, on_meta
from tests.kernels.without_gpu import compiling_for

KERNEL = Path(launch.__file__).with_name("specialised_kernel.py")
# (B, H, K, T, S, E): one tile, exact tiles, tails of queries and keys, chunks with a past, groups.
SHAPES = [
    (1, 1, 1, 1, 1, 16), (1, 2, 1, 32, 32, 16), (2, 4, 2, 50, 50, 16), (1, 2, 2, 64, 64, 32), (1, 2, 1, 33, 100, 16),
    (2, 2, 1, 20, 37, 16), (1, 1, 1, 96, 160, 16),
]  # fmt: skip


def run(shape: tuple[int, ...], key_tile: int, stages: int, late: bool, change: str = "", to: str = "") -> None:
    q, k, v = tensors(shape, torch.bfloat16)
    source = KERNEL.read_text()
    assert change in source
    z, lse = torch.full_like(q, float("nan")), torch.full(q.shape[:3], float("nan"))
    with on_host(KERNEL, late=late) as (host, module):
        exec(compile(source.replace(change, to) if change else source, str(KERNEL), "exec"), vars(module))
        tile = 32
        host.launch(
            module.specialised_kernel, (-(-shape[3] // tile), shape[1], shape[0]),
            Descriptor(q, [1, 1, tile, shape[5]]), *(Descriptor(x, [1, 1, key_tile, shape[5]]) for x in (k, v)),
            Pointer(z.view(-1)), Pointer(lse.view(-1)), *z.stride()[:3], shape[3], shape[4] - shape[3],
            launch.default_scale(q), shape[1] // shape[2], stages, 8,
        )  # fmt: skip
    assert_close(z, lse, q, k, v)


@pytest.mark.parametrize("late", [False, True], ids=["copies at once", "copies late"])
@pytest.mark.parametrize(("key_tile", "stages"), [(16, 2), (32, 2), (16, 3)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_attention_in_whatever_order_things_end(
    shape: tuple[int, ...], key_tile: int, stages: int, late: bool
) -> None:
    run(shape, key_tile, stages, late)


BROKEN = [
    ("mbarrier.wait(k_ready.index(after), ((tile + 1) // STAGES) & 1)", "pass", True),
    ("mbarrier.wait(v_ready.index(place), (tile // STAGES) & 1)", "pass", True),
    ("mbarrier.wait(v_free.index(place), phase ^ 1)", "pass", False),
    ("mbarrier.wait(k_free.index(place), phase ^ 1)", "pass", False),
    ("raw = gl.where(key[None, :] <= position[:, None]", "raw = gl.where(key[None, :] < position[:, None]", False),
    ("values = warpgroup_mma_wait(1, deps=[acc])", "values = warpgroup_mma_wait(2, deps=[acc])", False),
    ("        mbarrier.arrive(k_free.index(after), count=1)\n", "", False),
]


@pytest.mark.parametrize(("change", "to", "late"), BROKEN)
def test_a_kernel_that_does_not_wait_or_mask_is_found(
    change: str, to: str, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.kernels.on_host.MOST_WAIT_S", 0.5)
    with pytest.raises(AssertionError):
        run((1, 1, 1, 96, 160, 16), 16, 2, late, change, to)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("head_dim", [64, 128])
def test_it_compiles_for_hopper(head_dim: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer that copies, consumers that multiply with one product in flight, registers that move between them."""
    monkeypatch.setattr(many_queries, "_can_specialise", lambda *_: True)
    q, k, v = on_meta(512, 8, 2, head_dim, dtype)
    with compiling_for(90) as made:
        triton_flash.prefill(q, k, v, query_offset=1536, form="specialised")
    (kernel,) = made
    tile = plan.specialised_tile(head_dim)
    assert tile is not None
    assert_fits(kernel)
    # Two loops over tiles, the first product of keys and the last of values: three of each.
    assert kernel.count(r"wgmma\.mma_async") == 3 * (head_dim + tile.key_tile) // 16
    assert kernel.count(r"wgmma\.wait_group\.sync\.aligned\s+1") >= 4
    assert kernel.count(r"cp\.async\.bulk\.tensor\.4d") >= 3
    assert kernel.count(r"setmaxnreg") > 0
    assert kernel.count(r"mbarrier\.try_wait") >= 7


def test_where_it_cannot_run_the_plain_form_does() -> None:
    q, k, v = on_meta(512, 8, 2, 128, torch.bfloat16)
    with compiling_for(80) as made:
        triton_flash.prefill(q, k, v, query_offset=0, form="specialised")
    assert {kernel.name for kernel in made} == {"prefill_kernel"}
