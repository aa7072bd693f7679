"""Every fused backend on a GPU, on the grid that the CPU ones pass; what cannot run there must say so."""

import importlib.util
import subprocess
import sys
from contextlib import nullcontext, suppress

import pytest
import torch

from llamalab.attention import BACKENDS, Backend, get_backend, triton_flash
from llamalab.attention.limits import shape_of
from llamalab.errors import UnavailableError
from llamalab.measure.profile.attention_kernel import attention_kernel
from tests.attention.grid import DTYPES, GRID, assert_close, tensors

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning"),
]
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
LONG = [(2, 8, 2, 1000, 3001, 128), (4, 32, 8, 1, 4096, 128), (32, 32, 8, 1, 4096, 128), (1, 6, 6, 2048, 2048, 64)]


@pytest.mark.parametrize("name", [name for name in BACKENDS if name not in ("flex", "triton")])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", GRID, ids=str)
def test_backend_or_its_refusal(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    backend, (q, k, v) = get_backend(name), tensors(shape, dtype, "cuda")
    with suppress(UnavailableError) if name in ("flash", "efficient", "cudnn") else nullcontext():
        backend.check(shape_of(q, k), q.device)
        z = backend.attend(q, k, v, query_offset=shape[4] - shape[3])
        _assert_right(z, backend, q, k, v)


def _assert_right(z: torch.Tensor, backend: Backend, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    assert_close(z, None, q, k, v)
    seen = attention_kernel(lambda: backend.attend(q, k, v, query_offset=k.shape[2] - q.shape[2]), q.device)
    assert backend.kernel is None or backend.kernel in (seen or "")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_flash_runs_a_plain_prefill_in_half_precision(dtype: torch.dtype) -> None:
    q, k, v = tensors((2, 8, 2, 150, 150, 64), dtype, "cuda")
    get_backend("flash").check(shape_of(q, k), q.device)
    seen = attention_kernel(lambda: get_backend("flash").attend(q, k, v, query_offset=0), q.device)
    assert seen == "aten::_scaled_dot_product_flash_attention"


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((2, 6, 3, 150, 150, 64), torch.bfloat16), ((2, 6, 1, 70, 257, 128), torch.float16)],
    ids=str,
)
def test_flex(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    q, k, v = tensors(shape, dtype, "cuda")
    assert_close(get_backend("flex").attend(q, k, v, query_offset=shape[4] - shape[3]), None, q, k, v)


@needs_triton
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", GRID, ids=str)
def test_triton_on_the_grid(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    q, k, v = tensors(shape, dtype, "cuda")
    flash = triton_flash.flash(q, k, v, query_offset=shape[4] - shape[3])
    assert_close(flash.z_BHTE, flash.lse_BHT, q, k, v)


@needs_triton
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", LONG, ids=str)
def test_triton_on_long_contexts(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    q, k, v = tensors(shape, dtype, "cuda")
    flash = triton_flash.flash(q, k, v, query_offset=shape[4] - shape[3])
    assert_close(flash.z_BHTE, flash.lse_BHT, q, k, v)


@needs_triton
@pytest.mark.parametrize("form", ["plain", "described"])
@pytest.mark.parametrize("shape", [shape for shape in GRID if shape[3] > 64] + LONG[:1], ids=str)
def test_triton_in_every_form(shape: tuple[int, ...], form: str) -> None:
    if torch.cuda.get_device_capability() < (9, 0) and form != "plain":
        pytest.skip("the chip has no copy engine for tiles")
    q, k, v = tensors(shape, torch.bfloat16, "cuda")
    flash = triton_flash.prefill(q, k, v, query_offset=shape[4] - shape[3], form=form)
    assert_close(flash.z_BHTE, flash.lse_BHT, q, k, v)


_SPECIALISED = """
import torch
from llamalab.attention import triton_flash
from tests.attention.grid import GRID, assert_close, tensors
shapes = [shape for shape in GRID if shape[3] > 64 and shape[5] in (64, 128)]
for shape in [*shapes, (2, 8, 2, 1000, 3001, 128), (1, 6, 6, 2048, 2048, 64)]:
    q, k, v = tensors(shape, torch.bfloat16, "cuda")
    flash = triton_flash.prefill(q, k, v, query_offset=shape[4] - shape[3], form="specialised")
    assert_close(flash.z_BHTE, flash.lse_BHT, q, k, v)
"""


@needs_triton
def test_the_specialised_form_ends_and_is_right() -> None:
    """In a process of its own: warps that wait for each other may wait for ever."""
    if torch.cuda.get_device_capability()[0] != 9:
        pytest.skip("not a Hopper chip")
    ran = subprocess.run([sys.executable, "-c", _SPECIALISED], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-3000:]


@needs_triton
@pytest.mark.parametrize("n_splits", [1, 2, 7, 100])
def test_triton_splits(n_splits: int) -> None:
    q, k, v = tensors((2, 6, 2, 3, 301, 80), torch.bfloat16, "cuda")
    flash = triton_flash.decode_attention(q, k, v, query_offset=298, n_splits=n_splits)
    assert_close(flash.z_BHTE, flash.lse_BHT, q, k, v)


@needs_triton
def test_triton_runs_under_a_cuda_graph() -> None:
    q, k, v = tensors((4, 8, 2, 1, 513, 64), torch.bfloat16, "cuda")
    attend = get_backend("triton").attend
    expected = attend(q, k, v, query_offset=512)  # compiled before the graph is captured
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        z = attend(q, k, v, query_offset=512)
    z.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(z, expected)


@needs_triton
@pytest.mark.parametrize(("new", "kernel"), [(1, "decode_kernel"), (150, "prefill_kernel")])
def test_the_profiler_sees_our_kernel(new: int, kernel: str) -> None:
    q, k, v = tensors((2, 6, 2, new, 300, 64), torch.bfloat16, "cuda")
    seen = attention_kernel(lambda: get_backend("triton").attend(q, k, v, query_offset=300 - new), q.device)
    assert kernel in (seen or "")
