"""RoPE against complex numbers in fp64, and the property that it is made for."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llamalab.arch import LlamaArch
from llamalab.model.rope import rotate, rotations

CPU = torch.device("cpu")


def arch_of(theta: float = 10_000.0) -> LlamaArch:
    """A head of 10."""
    return LlamaArch(10, 1, 1, 1, 8, 8, rope_theta=theta)


def exact(x: torch.Tensor, start: int, theta: float) -> torch.Tensor:
    """Neighbours as complex numbers, turned in fp64."""
    new_tokens, head_dim = x.shape[-2:]
    turned = x.double().clone()
    for t in range(new_tokens):
        for j in range(head_dim // 2):
            angle = (start + t) * theta ** (-2 * j / head_dim)
            pair = torch.complex(x[..., t, 2 * j].double(), x[..., t, 2 * j + 1].double())
            pair = pair * complex(math.cos(angle), math.sin(angle))
            turned[..., t, 2 * j], turned[..., t, 2 * j + 1] = pair.real, pair.imag
    return turned


@pytest.mark.parametrize("theta", [10_000.0, 1_000_000.0])
@pytest.mark.parametrize("start", [0, 5, 4095])
def test_rotation_equals_complex_numbers(start: int, theta: float) -> None:
    x = torch.randn(2, 3, 7, 10, generator=torch.Generator().manual_seed(start))
    turned = rotate(x, rotations(start, 7, arch_of(theta), CPU))
    # An angle of 4101 radians has an fp32 step of 5e-4; early positions are exact to rounding.
    torch.testing.assert_close(turned.double(), exact(x, start, theta), rtol=0, atol=5e-7 * (start + 8) + 5e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_turned_in_fp32(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 7, 10, generator=torch.Generator().manual_seed(1)).to(dtype)
    turn = rotations(900, 7, arch_of(), CPU)
    assert turn.dtype == torch.complex64
    assert torch.equal(rotate(x, turn), rotate(x.float(), turn).to(dtype))


def test_transposed_heads_are_turned_alike() -> None:
    x = torch.randn(2, 7, 3, 10, generator=torch.Generator().manual_seed(2)).transpose(1, 2)
    turn = rotations(3, 7, arch_of(), CPU)
    torch.testing.assert_close(rotate(x, turn), rotate(x.contiguous(), turn), rtol=0, atol=1e-6)


@given(query=st.integers(0, 200), key=st.integers(0, 200), shift=st.integers(0, 200))
def test_scores_depend_on_the_distance_only(query: int, key: int, shift: int) -> None:
    q, k = torch.randn(2, 1, 1, 1, 10, generator=torch.Generator().manual_seed(3))

    def score(query_position: int, key_position: int) -> float:
        turned = (rotate(x, rotations(at, 1, arch_of(), CPU)) for x, at in ((q, query_position), (k, key_position)))
        return torch.mul(*turned).sum().item()

    assert score(query, key) == pytest.approx(score(query + shift, key + shift), abs=5e-4)


def test_a_later_start_continues_the_positions() -> None:
    whole, part = rotations(0, 20, arch_of(), CPU), rotations(13, 7, arch_of(), CPU)
    assert torch.equal(whole[13:], part)
