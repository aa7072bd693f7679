"""PyTorch's kernels by name: right results, the kernel that was asked for, and errors instead of another one."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention import get_backend, sdpa
from llamalab.errors import UnavailableError
from llamalab.measure.profile.attention_kernel import attention_kernel
from tests.attention.grid import DTYPES, GRID, assert_close, tensors

FLASH = "aten::_scaled_dot_product_flash_attention_for_cpu"
MATH = "aten::_scaled_dot_product_attention_math"


@pytest.mark.parametrize("name", ["math", "flash"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", GRID, ids=str)
def test_kernel_on_the_grid(name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    q, k, v = tensors(shape, dtype)
    z = get_backend(name).attend(q, k, v, query_offset=shape[4] - shape[3])
    assert_close(z, None, q, k, v)


@pytest.mark.parametrize(("name", "kernel"), [("math", MATH), ("flash", FLASH)])
@pytest.mark.parametrize("new", [1, 5, 17])
def test_the_kernel_asked_for_is_the_one_that_runs(name: str, kernel: str, new: int) -> None:
    q, k, v = tensors((2, 6, 2, new, 17, 64))
    backend = get_backend(name)
    assert attention_kernel(lambda: backend.attend(q, k, v, query_offset=17 - new), torch.device("cpu")) == kernel
    assert backend.kernel is not None
    assert backend.kernel in kernel


@pytest.mark.parametrize("name", ["efficient", "cudnn"])
def test_a_cpu_has_no_such_kernel(name: str) -> None:
    backend, (q, k, v) = get_backend(name), tensors((2, 6, 2, 5, 17, 64))
    with pytest.raises(UnavailableError, match=f"attention '{name}' needs a PyTorch kernel .* take 'sdpa'"):
        backend.check(AttentionShape(2, 5, 17, 6, 2, 64), torch.device("cpu"))
    with pytest.raises(UnavailableError, match=f"attention '{name}' needs a PyTorch kernel"):
        backend.attend(q, k, v, query_offset=12)


def test_other_errors_pass_through() -> None:
    q, k, v = tensors((2, 6, 2, 5, 17, 64))
    with pytest.raises(RuntimeError, match="dtype"):
        get_backend("flash").attend(q, k.half(), v, query_offset=12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_compile_trap() -> None:
    """A choice around a compiled function is ignored: the kernel of the first trace stays. Ours is inside."""
    q, k, v = tensors((2, 6, 6, 17, 17, 64))

    def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return sdpa.attend(q, k, v, query_offset=0)

    def ours(name: str) -> str | None:
        attend = get_backend(name).attend
        compiled = torch.compile(lambda q, k, v: attend(q, k, v, query_offset=0), backend="aot_eager")
        compiled(q, k, v)
        return _fused(lambda: compiled(q, k, v))

    outside = torch.compile(plain, backend="aot_eager")
    outside(q, k, v)
    with sdpa_kernel(SDPBackend.MATH):
        assert _fused(lambda: outside(q, k, v)) == FLASH  # the trap is still there
    assert ours("flash") == FLASH
    assert ours("math") is None  # traced into its steps: nothing fused runs


def _fused(call: object) -> str | None:
    kernel = attention_kernel(call, torch.device("cpu"))  # type: ignore[arg-type]
    return kernel if kernel and "scaled_dot_product" in kernel else None
