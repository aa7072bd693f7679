"""Codes: nearest, bounded, and those that GGML's own quantiser makes."""

import gguf
import pytest
import torch

from llamalab.errors import InputError, UnknownNameError
from llamalab.model.quantised.codes import coded
from llamalab.units import QUANTISED


def values(out: int = 48, inner: int = 256) -> torch.Tensor:
    return torch.randn(out, inner, generator=torch.Generator().manual_seed(1)) * 0.02


@pytest.mark.parametrize("storage", QUANTISED)
def test_no_value_is_further_off_than_a_step(storage: str) -> None:
    weight = values()
    made = coded(weight, storage)
    steps = made.scales.abs().repeat_interleave(made.group, 1)
    # The value opposite to the largest of a group may be one step beyond the codes of 4 bits.
    most = 0.5 if made.bits == 8 else 1.0
    assert bool(((made.widened(torch.float32) - weight).abs() <= most * steps * 1.0001).all())
    assert -(1 << (made.bits - 1)) <= int(made.codes.min()) < 0 < int(made.codes.max()) < 1 << (made.bits - 1)


@pytest.mark.parametrize(("storage", "kind"), [("q8_0", "Q8_0"), ("q4_0", "Q4_0")])
def test_blocks_are_as_good_as_those_of_ggml(storage: str, kind: str) -> None:
    weight = values()
    number = gguf.GGMLQuantizationType[kind]
    theirs = torch.from_numpy(gguf.dequantize(gguf.quantize(weight.numpy(), number), number))
    ours = coded(weight, storage).widened(torch.float32)
    assert (ours - weight).pow(2).mean() <= 1.01 * (theirs - weight).pow(2).mean()


@pytest.mark.parametrize("storage", QUANTISED)
def test_a_group_of_zeros_stays_zeros(storage: str) -> None:
    assert not coded(torch.zeros(4, 128), storage).widened(torch.float32).any()


def test_rows_that_are_no_groups_are_refused() -> None:
    with pytest.raises(InputError, match="whole groups"):
        coded(values(4, 40), "int4")
    with pytest.raises(UnknownNameError, match="weight dtype"):
        coded(values(4, 64), "int3")
