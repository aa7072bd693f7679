"""GGUF files: tensors of a Llama under llama.cpp's names, and its settings (the vocabulary: gguf_text).

Weights are F32, F16 or BF16, mapped, or of a kind that the gguf package dequantises, a few rows at a time.
gguf_settings interprets the settings, gguf_architectures lists the architectures, gguf_split opens files in parts.
Tensor names and row order depend on the architecture (see layout).
Source: ggml-org/ggml docs/gguf.md; llama.cpp gguf-py/gguf/constants.py and quants.py.
"""

from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llamalab.checkpoints.checkpoint import (
    FLOATS,
    StoredTensor,
    Survey,
    Weights,
    check_no_others,
    check_tensors,
    common_dtype,
)
from llamalab.checkpoints.gguf_architectures import architecture_called
from llamalab.checkpoints.gguf_codes import codes_of
from llamalab.checkpoints.gguf_rope import DIVISORS
from llamalab.checkpoints.gguf_settings import Tensors, arch_of
from llamalab.checkpoints.gguf_split import GgufPart, split_parts
from llamalab.checkpoints.layout import gguf_name
from llamalab.checkpoints.pages import drop_pages, settled
from llamalab.checkpoints.quantisers import package
from llamalab.errors import FormatError
from llamalab.formats.gguf_header import GgufHeader, TensorInfo, is_gguf
from llamalab.model.quantised.codes import Codes

KIND = "GGUF"
QUANTISED_CODES = (
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "IQ1_S",
    "IQ1_M",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ2_S",
    "IQ3_XXS",
    "IQ3_S",
    "IQ4_NL",
    "IQ4_XS",
    "TQ1_0",
    "TQ2_0",
    "MXFP4",
    "NVFP4",
)
READ = (*FLOATS, *QUANTISED_CODES)
_CHUNK_ELEMENTS = 2**22  # dequantised at a time: 16 MB of fp32, and a few times that inside the package


def recognises(path: Path) -> bool:
    """Whether a file begins with GGUF's magic."""
    return path.is_file() and is_gguf(path)


def survey(path: Path) -> Survey:
    """Architecture and tensors from the header. Raises FormatError where tensors overlap or lie outside their file."""
    parts, kinds = split_parts(path), _kinds()
    stored: dict[str, StoredTensor] = {}
    for part in parts:
        mine = {name: _stored(name, info, kinds) for name, info in part.header.tensors.items()}
        _check_places(part.header, mine, len(part.data))
        stored |= mine
    kind = KIND if len(parts) == 1 else f"{KIND}, {len(parts)} parts"
    remarks = _remarks(parts[0].header, stored)
    return Survey(kind, tuple(stored.values()), lambda: _complete(parts, stored), remarks)


def _kinds() -> dict[int, tuple[str, int, int]]:
    """By ggml's number of a kind: its name, elements of a block and bytes of a block."""
    gguf = package()
    return {int(kind): (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}


def _stored(name: str, info: TensorInfo, kinds: dict[int, tuple[str, int, int]]) -> StoredTensor:
    if info.kind not in kinds:
        raise FormatError(f"a GGUF tensor must be of a kind that ggml knows; {name!r} is of kind {info.kind}")
    kind, block, block_bytes = kinds[info.kind]
    if info.shape[-1] % block:
        raise FormatError(f"rows of {name!r} must be whole blocks of {block} as {kind}; got {info.shape[-1]}")
    return StoredTensor(name, info.shape, kind, prod(info.shape) // block * block_bytes)


def _check_places(header: GgufHeader, stored: dict[str, StoredTensor], size: int) -> None:
    at = 0
    for offset, nbytes, name in sorted((header.tensors[n].offset, s.nbytes, n) for n, s in stored.items()):
        if offset < at:
            raise FormatError(f"tensors of a GGUF file must not overlap; {name!r} begins inside another")
        at = offset + nbytes
    if header.data_start + at > size:
        raise FormatError(f"a GGUF file must hold its tensors, {header.data_start + at:,} bytes; it has {size:,}")


def _remarks(header: GgufHeader, stored: dict[str, StoredTensor]) -> tuple[str, ...]:
    remarks = []
    if "tokenizer.ggml.tokens" not in header.settings:
        remarks.append("it has no vocabulary")
    others = sorted({entry.dtype for entry in stored.values()} - set(READ))
    if others:
        remarks.append(f"weights of kind {', '.join(others)} are not read")
    return tuple(remarks)


def _complete(parts: list[GgufPart], stored: dict[str, StoredTensor]) -> Weights:
    embedding = gguf_name("tok_embeddings.weight")
    if embedding not in stored:
        raise FormatError(f"a GGUF file of a Llama must hold {embedding}; it has none")
    places = {name: part for part in parts for name in part.header.tensors}

    def raw(entry: StoredTensor) -> Tensor:
        data, header = places[entry.name]
        offset = header.data_start + header.tensors[entry.name].offset
        return torch.frombuffer(data, dtype=torch.uint8, count=entry.nbytes, offset=offset)

    settings = parts[0].header.settings
    divisors = {name: _divisors(stored[name], raw) for name in DIVISORS if name in stored}
    try:
        arch = arch_of(settings, Tensors(stored[embedding].shape[0], stored, divisors))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise FormatError(f"the settings of a GGUF file must describe a Llama; {error}") from None
    layout = architecture_called(settings["general.architecture"]).arranged(arch)
    check_no_others(stored, {*layout.shapes, *DIVISORS})
    for entry in stored.values():
        if entry.dtype not in READ:
            raise FormatError(f"a weight must be one of {', '.join(READ)}; {entry.name} is {entry.dtype}")
    check_tensors(layout.shapes, {name: entry.shape for name, entry in stored.items()})

    def fetch(name: str, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        tensor, rows = layout.places[name]
        entry, data = _rows(stored[tensor], raw(stored[tensor]), rows)
        if entry.dtype in FLOATS:
            floats = _as_floats(entry)
            arrange = lambda given: layout.as_ours(name, floats(given))  # noqa: E731
            return settled(data, dtype=dtype, device=device, arrange=arrange)
        return layout.as_ours(name, _dequantised(data, entry, dtype or torch.float32)).to(device)

    def dtype_of(name: str) -> torch.dtype:
        return FLOATS.get(stored[layout.places[name].tensor].dtype, torch.float32)

    def codes(name: str) -> Codes | None:
        tensor, rows = layout.places[name]
        entry, data = _rows(stored[tensor], raw(stored[tensor]), rows)
        found = codes_of(data, entry.dtype, entry.shape)
        if found is None:
            return None
        return found._replace(codes=layout.as_ours(name, found.codes), scales=layout.as_ours(name, found.scales))

    return Weights(arch, fetch, dtype_of, common_dtype(stored.values()), codes)


def _rows(entry: StoredTensor, raw: Tensor, rows: slice) -> tuple[StoredTensor, Tensor]:
    """Some rows of a tensor, as a tensor of its own."""
    count, whole = rows.stop - rows.start, entry.shape[0]
    if count == whole:
        return entry, raw
    nbytes = entry.nbytes // whole
    part = entry._replace(shape=(count, *entry.shape[1:]), nbytes=count * nbytes)
    return part, raw[rows.start * nbytes : rows.stop * nbytes]


def _divisors(entry: StoredTensor, raw: Callable[[StoredTensor], Tensor]) -> tuple[float, ...]:
    """Divisors of RoPE's frequencies, each the shortest decimal of its fp32 value. Raises FormatError if not F32."""
    if entry.dtype != "F32" or len(entry.shape) != 1:
        raise FormatError(f"{entry.name} must be a row of F32; it is {entry.dtype} of shape {entry.shape}")
    values = _as_floats(entry)(raw(entry)).numpy()
    return tuple(float(np.format_float_positional(value)) for value in values)


def _as_floats(entry: StoredTensor) -> Callable[[Tensor], Tensor]:
    kind = FLOATS[entry.dtype]

    def view(raw: Tensor) -> Tensor:
        aligned = raw.clone() if raw.data_ptr() % kind.itemsize else raw
        return aligned.view(kind).view(entry.shape)

    return view


def _dequantised(raw: Tensor, entry: StoredTensor, dtype: torch.dtype) -> Tensor:
    """The values of a quantised tensor, dequantised a few rows at a time, so that it is never whole in fp32."""
    gguf = package()
    kind = gguf.GGMLQuantizationType[entry.dtype]
    rows, columns = prod(entry.shape[:-1]), entry.shape[-1]
    raw_RB, made = raw.view(rows, -1), torch.empty(rows, columns, dtype=dtype)
    step = max(1, _CHUNK_ELEMENTS // columns)
    for start in range(0, rows, step):
        with np.errstate(all="ignore"):  # scales of a damaged file may overflow to inf or NaN, which are kept
            values = gguf.dequantize(raw_RB[start : start + step].numpy(), kind)
        made[start : start + step] = torch.from_numpy(np.ascontiguousarray(values))
    drop_pages(raw)
    return made.view(entry.shape)
