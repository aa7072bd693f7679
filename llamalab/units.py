"""Bytes, tokens, FLOPs and seconds: how users write them and how they are shown.

GiB = 2**30 and GB = 10**9 are never mixed: "16G" is refused rather than guessed.
1 multiply-add = 2 FLOPs. Token counts read 4k as 4096, as model cards do.
"""

import re

from llamalab.checks import MOST_MEMORY_BYTES, whole
from llamalab.errors import InputError, UnknownNameError
from llamalab.startup.hints import NamedTuple


class Dtype(NamedTuple):
    """A storage type of weights, activations or KV cache.

    A grouped type keeps `scale_bits` of scale for every `group` elements, symmetric: no zero point.
    """

    name: str
    bits: int
    group: int = 0
    scale_bits: int = 0


class KeptWeights(NamedTuple):
    """How a model's matrices are kept: the storage, the family of kernels, the rows up to which these multiply."""

    storage: str
    product: str | None = None
    kernel_rows: int | None = None


DTYPES = {
    dtype.name: dtype
    for dtype in (
        Dtype("bf16", 16),
        Dtype("fp16", 16),
        Dtype("fp32", 32),
        Dtype("int8", 8),
        Dtype("fp8", 8),
        Dtype("int4", 4, group=128, scale_bits=16),
        # llama.cpp's: 18 bytes for 32 elements, 34 for 32, 210 for 256; the K_M ones mix two, so much on average.
        Dtype("q4_0", 4, group=32, scale_bits=16),
        Dtype("q8_0", 8, group=32, scale_bits=16),
        Dtype("q4_k_m", 4, group=256, scale_bits=218),
        Dtype("q5_k_m", 5, group=256, scale_bits=177),
        Dtype("q6_k", 6, group=256, scale_bits=144),
    )
}

QUANTISED = ("int8", "int4", "q8_0", "q4_0")  # that the built-in model keeps matrices in (llamalab.model.quantised)
_LEAST_GROUP = 32  # of its kernels
FLOAT_DTYPES = ("bf16", "fp16", "fp32")  # that a model computes in
PLAIN_DTYPES = tuple(name for name, dtype in DTYPES.items() if not dtype.group)

MEMORY_UNITS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_TOKEN_SUFFIXES = {"": 1, "k": 2**10, "m": 2**20}


def dtype_bits(name: str) -> int:
    """Bits that one element takes, the scales of a grouped type apart.

    >>> dtype_bits("bf16")
    16
    """
    return _dtype(name).bits


def takes_whole_bytes(dtype: str) -> bool:
    """Whether every element takes whole bytes of its own, so that storage goes with elements in a straight line.

    >>> takes_whole_bytes("bf16"), takes_whole_bytes("int4")
    (True, False)
    """
    kind = _dtype(dtype)
    return kind.bits % 8 == 0 and not kind.group


def storage_bytes(elements: int, dtype: str) -> int:
    """Bytes that `elements` values take with the scales of their groups, rounded up to whole bytes.

    >>> storage_bytes(3, "fp16"), storage_bytes(256, "int4")  # 256 / 2 and two fp16 scales
    (6, 132)
    >>> storage_bytes(8192, "2.5bpw")
    2560
    """
    try:
        kind = DTYPES[dtype]
    except (KeyError, TypeError):  # an average width, or no type at all
        kind = _dtype(dtype)
    if type(elements) is not int or elements < 0:  # the op table asks some thousand times for one prediction
        elements = whole(elements, "elements", least=0)
    scales = -(-elements // kind.group) * kind.scale_bits if kind.group else 0
    return -(-(elements * kind.bits + scales) // 8)


def group_in_row(name: str, inner: int) -> int | None:
    """Weights of a row of `inner` that share a scale where the built-in model keeps them so; None where it does not.

    int8 has a scale for each row. A row that is not whole groups has smaller ones, halved down to 32.

    >>> group_in_row("int8", 172), group_in_row("int4", 4096), group_in_row("int4", 288), group_in_row("int4", 172)
    (172, 128, 32, None)
    """
    if name not in QUANTISED:
        raise UnknownNameError("weight dtype", name, QUANTISED)
    group = DTYPES[name].group
    if not group:
        return inner
    while inner % group:
        group //= 2
        if group < _LEAST_GROUP:
            return None
    return group


def _dtype(name: str) -> Dtype:
    if isinstance(name, str) and name in DTYPES:
        return DTYPES[name]
    if isinstance(name, str) and (average := re.fullmatch(r"([1-9](?:\.\d{1,3})?)bpw", name)):
        # Formats that mix widths are given by their average, as ExLlamaV2 does: 4.65bpw.
        bits, fraction = divmod(float(average[1]), 1)
        return Dtype(name, int(bits), group=1024, scale_bits=round(1024 * fraction))
    raise UnknownNameError("dtype", name, DTYPES)


def check_unscaled(name: str, what: str = "dtype") -> None:
    """Raise UnknownNameError for a type with scales, which only weights have."""
    if _dtype(name).group:
        raise UnknownNameError(what, name, PLAIN_DTYPES)


def parse_count(text: str, what: str = "count") -> int:
    """Read a positive whole number: 4096, 4_096, 4,096, or 4k (= 4096) and 1m (= 1,048,576).

    >>> parse_count("4k"), parse_count("4,096")
    (4096, 4096)
    """
    if text.isdecimal():  # as all that thousands of calls in a sweep write
        value = int(text)
    else:
        match = re.fullmatch(r"(\d+(?:[_,]\d{3})*)([km]?)", text.strip().lower())
        if not match:
            raise InputError(f"{what} must be a whole number of at least 1; got {text!r}; try 4096, 4_096 or 4k")
        value = int(re.sub("[_,]", "", match[1])) * _TOKEN_SUFFIXES[match[2]]
    return whole(value, what)


def parse_memory(text: str, what: str = "memory") -> int:
    """Read an amount of memory with its unit: 24GiB is 24 * 2**30 bytes, 10GB is 10**10.

    >>> parse_memory("24GiB"), parse_memory("10 GB")
    (25769803776, 10000000000)
    """
    match = re.fullmatch(r"(\d+(?:[_,]\d{3})*(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if not match:
        raise InputError(f"{what} must be a number with a unit; got {text!r}; try 24GiB or 24GB")
    number, unit = re.sub("[_,]", "", match[1]), match[2]
    by_lower = {known.lower(): scale for known, scale in MEMORY_UNITS.items()}
    if unit.lower() not in by_lower:
        letter = unit[:1].upper() if unit[:1].upper() in tuple("KMGT") else "G"
        choices = f"{number}{letter}iB (powers of 2) or {number}{'k' if letter == 'K' else letter}B (powers of 10)"
        raise InputError(f"{what} must name its unit in full; got {text!r}; write {choices}")
    whole, _, fraction = number.partition(".")
    scale = by_lower[unit.lower()]
    value = int(whole) * scale + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0)
    if not 1 <= value <= MOST_MEMORY_BYTES:
        raise InputError(f"{what} must be between 1 B and 1,000,000 TB; got {text!r}; try 24GiB or 24GB")
    return value
