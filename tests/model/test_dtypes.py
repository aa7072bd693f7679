"""Names of dtypes and devices."""

import pytest
import torch

from llamalab.choices import ACTIVATION_DTYPES
from llamalab.errors import InputError, UnknownNameError
from llamalab.model.dtypes import TORCH_DTYPES, activation_dtype, torch_device, torch_dtype
from llamalab.units import dtype_bits


@pytest.mark.parametrize("name", TORCH_DTYPES)
def test_sizes_agree_with_the_calculators(name: str) -> None:
    assert torch_dtype(name).itemsize * 8 == dtype_bits(name)


def test_activations_are_floating_point() -> None:
    assert all(activation_dtype(name).is_floating_point for name in ACTIVATION_DTYPES)
    for name in set(TORCH_DTYPES) - set(ACTIVATION_DTYPES):
        with pytest.raises(InputError, match="dtype of a model must be one of"):
            activation_dtype(name)
    with pytest.raises(UnknownNameError, match=r"did you mean .*bf16"):
        torch_dtype("bfp16")


def test_devices() -> None:
    assert torch_device("meta") == torch.device("meta")
    assert torch_device(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(InputError, match="got 'graphics'"):
        torch_device("graphics")
