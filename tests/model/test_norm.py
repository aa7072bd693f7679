"""RMSNorm: in fp32, then cast, then times the weight."""

import pytest
import torch

from llamalab.model.norm import RMSNorm


def norm_of(weight: torch.Tensor, eps: float = 1e-5) -> RMSNorm:
    norm = RMSNorm(len(weight), eps, dtype=weight.dtype)
    with torch.no_grad():
        norm.weight.copy_(weight)
    return norm


def test_fp32_equals_the_formula_in_fp64() -> None:
    x, weight = torch.randn(3, 5, 37), torch.randn(37)
    exact = x.double() / (x.double().pow(2).mean(-1, keepdim=True) + 0.1).sqrt() * weight.double()
    torch.testing.assert_close(norm_of(weight, 0.1)(x).double(), exact, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_cast_before_the_weight(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 128, generator=generator).to(dtype)
    weight = torch.randn(128, generator=generator).to(dtype)
    normed = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5)
    right, wrong = normed.to(dtype) * weight, (normed * weight.float()).to(dtype)
    ours = norm_of(weight)(x)
    assert (ours != right).float().mean() < 1e-3  # an fp32 rounding apart
    assert (ours != wrong).float().mean() > 0.1


def test_squares_do_not_overflow_fp16() -> None:
    x = torch.full((1, 64), 6e4, dtype=torch.float16)
    torch.testing.assert_close(norm_of(torch.ones(64).half())(x), torch.ones(1, 64).half())
