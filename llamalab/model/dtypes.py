"""Torch dtypes and torch devices by name.

The names are those of llamalab.units, as far as torch has a type that stores them value by value.
"""

import torch

from llamalab.choices import ACTIVATION_DTYPES
from llamalab.errors import InputError, MissingError, UnknownNameError
from llamalab.units import QUANTISED, check_unscaled

TORCH_DTYPES = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "int8": torch.int8,
    "fp8": torch.float8_e4m3fn,
}


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype that stores `name`; raises UnknownNameError.

    >>> torch_dtype("fp8")
    torch.float8_e4m3fn
    """
    if name not in TORCH_DTYPES:
        raise UnknownNameError("dtype", name, TORCH_DTYPES)
    return TORCH_DTYPES[name]


def activation_dtype(name: str) -> torch.dtype:
    """As torch_dtype, for weights and activations: raises InputError for storage-only types.

    >>> activation_dtype("bf16")
    torch.bfloat16
    """
    dtype = torch_dtype(name)
    if name not in ACTIVATION_DTYPES:
        raise InputError(f"dtype of a model must be one of {', '.join(ACTIVATION_DTYPES)}; got {name!r}")
    return dtype


def check_number_formats(dtype: str, weight_dtype: str | None = None, kv_dtype: str | None = None) -> None:
    """Raise InputError for a dtype that no model computes in, UnknownNameError for a storage that none is kept in.

    `weight_dtype` is of the matrices, `kv_dtype` of the KV cache; None where they are in `dtype`.
    """
    activation_dtype(dtype)
    if weight_dtype is not None and weight_dtype not in QUANTISED:
        raise UnknownNameError("weight dtype", weight_dtype, QUANTISED)
    if kv_dtype is not None:
        check_unscaled(kv_dtype, "kv dtype")


def torch_device(name: str | torch.device) -> torch.device:
    """The device of that name; raises InputError for no such kind, MissingError where it is absent.

    >>> torch_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device must be cpu, cuda, cuda:N, mps or meta; got {name!r}") from None
    if device.type not in ("cpu", "meta") and (device.index or 0) >= _present(device.type):
        seen = f"torch sees {_present(device.type)} {device.type.upper()} devices"
        raise MissingError(f"device {name} must be present; {seen}; try device cpu")
    return device


def _present(kind: str) -> int:
    """How many accelerators of that kind torch sees."""
    found = torch.accelerator.current_accelerator()
    return torch.accelerator.device_count() if found is not None and found.type == kind else 0
