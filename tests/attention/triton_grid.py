"""The grid of the Triton kernels, run as a program in a process that interprets them.

The interpreter takes milliseconds for every tile of every head, so where queries fill several tiles one group of at
most three heads stands for all; one case keeps every sequence and head. A GPU runs the whole grid (test_cuda.py).
The last line of its output is a JSON object: case -> "ok" or what was wrong.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from llamalab.attention import triton_flash
from tests.attention.grid import DTYPES, GRID, WINDOWS, assert_close, reference, tensors
from tests.verdicts import print_verdicts

WHOLE = (2, 6, 3, 150, 150, 80)
# (position, keys of the cache, window): at the beginning, between, at the end, beyond a ring, in a window.
POSITIONS = [(0, 300, None), (131, 300, None), (299, 300, None), (700, 300, None), (200, 300, 70)]


def _interpreted(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with as many sequences and heads as the interpreter gets through in a second."""
    _, heads, kv_heads, new, keys, head_dim = shape
    return (1, min(3, heads // kv_heads), 1, new, keys, head_dim) if new > 64 else shape


def _grid_case(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    q, k, v = tensors(shape, dtype)
    flash = triton_flash.flash(q, k, v, query_offset=shape[4] - shape[3])
    assert_close(flash.z_BHTE, flash.lse_BHT, q, k, v)


def _splits(n_splits: int) -> None:
    q, k, v = tensors((2, 6, 2, 3, 301, 80))
    flash = triton_flash.decode_attention(q, k, v, query_offset=298, n_splits=n_splits)
    assert_close(flash.z_BHTE, flash.lse_BHT, q, k, v)


def _split_that_some_queries_do_not_see() -> None:
    """The last of 3 splits of 32 keys holds key 64 alone, which only the last query sees."""
    q, k, v = tensors((1, 4, 2, 5, 65, 64))
    flash = triton_flash.decode_attention(q, k, v, query_offset=60, n_splits=3)
    assert_close(flash.z_BHTE, flash.lse_BHT, q, k, v)


def _position_in_memory(position: int, keys: int, window: int | None) -> None:
    """One launch for all positions, as a graph replays it: what lies behind the position is not looked at."""
    q, k, v = tensors((2, 6, 2, 1, keys, 64))
    k[:, :, position + 1 :], v[:, :, position + 1 :] = float("nan"), float("nan")
    arrived_G = torch.zeros(4, dtype=torch.int32)
    seen = min(position + 1, keys)
    for _ in range(2):  # the second call finds the counts as the first one left them
        flash = triton_flash.decode_attention(
            q, k, v, query_offset=torch.tensor([position]), window=window, n_splits=5, arrived_G=arrived_G
        )
        assert_close(flash.z_BHTE, flash.lse_BHT, q, k[:, :, :seen], v[:, :, :seen], window)
        assert arrived_G.tolist() == [0] * 4


def _described(shape: tuple[int, ...], dtype: torch.dtype, window: int | None) -> None:
    """Tiles that descriptors bring, of keys that are a part of a longer cache."""
    q, k, v = tensors(shape, dtype)
    longer = [torch.cat([x, torch.full_like(x, float("nan"))], dim=2)[:, :, : shape[4]] for x in (k, v)]
    flash = triton_flash.prefill(q, *longer, query_offset=shape[4] - shape[3], window=window, form="described")
    assert_close(flash.z_BHTE, flash.lse_BHT, q, k, v, window)


def _parts_of_many_rows() -> None:
    """More parts than one program should read: a second kernel weighs them."""
    q, k, v = tensors((1, 48, 1, 1, 513, 64))
    flash = triton_flash.decode_attention(q, k, v, query_offset=512, n_splits=9)
    assert_close(flash.z_BHTE, flash.lse_BHT, q, k, v)


def _views_of_a_cache() -> None:
    q, k, v = tensors((2, 6, 2, 5, 70, 64))
    longer = [torch.cat([x, torch.full_like(x, float("nan"))], dim=2)[:, :, :70] for x in (k, v)]
    q_view = q.transpose(1, 2).contiguous().transpose(1, 2)  # as the model makes it: heads are the inner axis
    for run in (triton_flash.decode_attention, triton_flash.prefill):
        flash = run(q_view, *longer, query_offset=65)
        assert_close(flash.z_BHTE, flash.lse_BHT, q, k, v)


def _head_dim_with_a_stride() -> None:
    q, k, v = tensors((2, 6, 2, 5, 70, 64))
    flash = triton_flash.flash(q.mT.contiguous().mT, k.mT.contiguous().mT, v.mT.contiguous().mT, query_offset=65)
    assert_close(flash.z_BHTE, flash.lse_BHT, q, k, v)


def _keys_after_the_last_query() -> None:
    q, k, v = tensors((2, 6, 2, 35, 90, 64))
    k[:, :, 52:], v[:, :, 52:] = 99.0, 99.0
    expected = reference(q, k[:, :, :52], v[:, :, :52])[0]
    for run in (triton_flash.decode_attention, triton_flash.prefill):
        z: Tensor = run(q, k, v, query_offset=17).z_BHTE
        torch.testing.assert_close(z.double(), expected, rtol=0, atol=3e-6)


def _window(new: int, keys: int, window: int) -> None:
    """The kernel that is chosen; and where few queries let either run, the other too."""
    q, k, v = tensors(_interpreted((2, 6, 2, new, keys, 64)))
    runs = [triton_flash.flash]
    if new > 1 and 3 * new <= 64:
        runs += [triton_flash.prefill, triton_flash.decode_attention]
    for run in runs:
        flash = run(q, k, v, query_offset=keys - new, window=window)
        assert_close(flash.z_BHTE, flash.lse_BHT, q, k, v, window)


CASES: dict[str, Callable[[], None]] = {
    **{f"{s} {d}": lambda s=s, d=d: _grid_case(s, d) for s in map(_interpreted, GRID) for d in DTYPES},  # type: ignore[misc]
    f"{WHOLE} whole": lambda: _grid_case(WHOLE, torch.float32),
    **{f"{n} splits": lambda n=n: _splits(n) for n in (1, 2, 5, 100)},  # type: ignore[misc]
    "a split that some queries do not see": _split_that_some_queries_do_not_see,
    **{f"{w} window": lambda w=w: _window(*w) for w in WINDOWS},  # type: ignore[misc]
    **{f"{c} in memory": lambda c=c: _position_in_memory(*c) for c in POSITIONS},  # type: ignore[misc]
    "described": lambda: _described((2, 2, 1, 70, 133, 80), torch.bfloat16, None),
    "described, a window": lambda: _described((1, 2, 2, 37, 70, 64), torch.float16, 30),
    "parts of many rows": _parts_of_many_rows,
    "views of a cache": _views_of_a_cache,
    "head dim with a stride": _head_dim_with_a_stride,
    "keys after the last query": _keys_after_the_last_query,
}


if __name__ == "__main__":
    print_verdicts(CASES)
