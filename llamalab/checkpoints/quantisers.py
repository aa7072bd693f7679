"""Quantisation to ggml's blocks: plain kinds by the gguf package, K kinds by llama.cpp's own code.

The package xllamacpp contains llama.cpp, whose `ggml_quantize_chunk` is called without an importance matrix. A matrix
whose rows do not divide into blocks is written in the next kind that fits, as llama.cpp's quantize does.
Source: llama.cpp ggml/include/ggml.h, src/llama-quant.cpp.
"""

import ctypes
from functools import cache
from typing import Any

import numpy as np

from llamalab.extras import missing

UNQUANTISED = ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
OF_LLAMA_CPP = ("q6_k", "q5_k", "q4_k")
_SMALLER_BLOCKS = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


def package() -> Any:
    """The gguf package. Raises MissingError where it is not installed."""
    try:
        import gguf
    except ModuleNotFoundError:
        raise missing("gguf", "a GGUF file") from None
    return gguf


def check_quantiser(name: str) -> None:
    """Raise MissingError where the package that makes a kind is not installed."""
    package()
    if name in OF_LLAMA_CPP:
        _llama_cpp()


def fitting_kind(name: str, columns: int) -> str:
    """The kind that replaces `name` for rows of this many values.

    >>> fitting_kind("q4_k", 512), fitting_kind("q4_k", 352), fitting_kind("q4_k", 40)
    ('Q4_K', 'Q5_0', 'F16')
    """
    gguf, kind = package(), name.upper()
    for candidate in (kind, _SMALLER_BLOCKS.get(kind, kind)):
        if columns % gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[candidate]][0] == 0:
            return candidate
    return "F16"


def quantised(weight: "np.ndarray[Any, Any]", kind: str) -> "np.ndarray[Any, Any]":
    """fp32 values, in rows of whole blocks, as the bytes of a kind."""
    gguf = package()
    number = gguf.GGMLQuantizationType[kind]
    if kind.lower() in UNQUANTISED:
        made: np.ndarray[Any, Any] = gguf.quantize(weight, number)
        return made
    rows, columns = weight.shape
    block, nbytes = gguf.GGML_QUANT_SIZES[number]
    made, values = np.empty((rows, columns // block * nbytes), np.uint8), np.ascontiguousarray(weight, np.float32)
    written = _llama_cpp()(int(number), values.ctypes.data, made.ctypes.data, 0, rows, columns, None)
    assert written == made.nbytes, (written, made.nbytes)  # the sizes of blocks are the same in both packages
    return made


@cache
def _llama_cpp() -> Any:
    try:
        from xllamacpp import xllamacpp

        call = ctypes.CDLL(xllamacpp.__file__).ggml_quantize_chunk
    except (ImportError, OSError, AttributeError):
        raise missing("xllamacpp", f"each of {', '.join(OF_LLAMA_CPP)}") from None
    call.restype = ctypes.c_size_t
    call.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    return call
