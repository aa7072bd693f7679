"""GGUF files: a Llama under llama.cpp's names, and its settings (its vocabulary: gguf_text).

Weights are F32, F16 or BF16, mapped, or of a kind that the gguf package dequantises, a few rows at a time. What
settings mean says gguf_settings, how a file may be in parts gguf_split. Rows of attn_q and attn_k are in Meta's order
(see layout). Source: ggml-org/ggml docs/gguf.md; llama.cpp gguf-py/gguf/constants.py and quants.py.
"""

from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.checkpoints.checkpoint import (
    FLOATS,
    Stored,
    Survey,
    Weights,
    check_shapes,
    common_dtype,
    leftover_remarks,
    model_shapes,
)
from llamalab.checkpoints.gguf_settings import arch_of
from llamalab.checkpoints.gguf_split import Part, parts_of
from llamalab.checkpoints.layout import gguf_name
from llamalab.checkpoints.pages import drop_pages, settled
from llamalab.checkpoints.quantisers import package
from llamalab.errors import FormatError
from llamalab.formats.gguf_header import Header, TensorInfo, is_gguf

KIND = "GGUF"
QUANTISED = (
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S", "IQ1_M", "IQ2_XXS",
    "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4"
)  # fmt: skip
READ = (*FLOATS, *QUANTISED)
_FACTORS = "rope_freqs.weight"
_CHUNK_ELEMENTS = 2**22  # dequantised at a time: 16 MB of fp32, and a few times that inside the package


def recognises(path: Path) -> bool:
    """Whether a file begins with GGUF's magic."""
    return path.is_file() and is_gguf(path)


def survey(path: Path) -> Survey:
    """What the headers hold. Raises FormatError where tensors do not lie in their file or overlap."""
    parts, kinds = parts_of(path), _kinds()
    stored: dict[str, Stored] = {}
    for part in parts:
        mine = {name: _stored(name, info, kinds) for name, info in part.header.tensors.items()}
        _check_places(part.header, mine, len(part.data))
        stored |= mine
    kind = KIND if len(parts) == 1 else f"{KIND}, {len(parts)} parts"
    remarks = _remarks(parts[0].header, stored)
    return Survey(kind, tuple(stored.values()), lambda: _complete(parts, stored), remarks)


def _kinds() -> dict[int, tuple[str, int, int]]:
    """Number of a kind in ggml to its name, elements and bytes of a block."""
    gguf = package()
    return {int(kind): (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}


def _stored(name: str, info: TensorInfo, kinds: dict[int, tuple[str, int, int]]) -> Stored:
    if info.kind not in kinds:
        raise FormatError(f"a GGUF tensor must be of a kind that ggml knows; {name!r} is of kind {info.kind}")
    kind, block, block_bytes = kinds[info.kind]
    if info.shape[-1] % block:
        raise FormatError(f"rows of {name!r} must be whole blocks of {block} as {kind}; got {info.shape[-1]}")
    return Stored(name, info.shape, kind, prod(info.shape) // block * block_bytes)


def _check_places(header: Header, stored: dict[str, Stored], size: int) -> None:
    at = 0
    for offset, nbytes, name in sorted((header.tensors[n].offset, s.nbytes, n) for n, s in stored.items()):
        if offset < at:
            raise FormatError(f"tensors of a GGUF file must not overlap; {name!r} begins inside another")
        at = offset + nbytes
    if header.data_start + at > size:
        raise FormatError(f"a GGUF file must hold its tensors, {header.data_start + at:,} bytes; it has {size:,}")


def _remarks(header: Header, stored: dict[str, Stored]) -> tuple[str, ...]:
    remarks = []
    if "tokenizer.ggml.tokens" not in header.settings:
        remarks.append("it has no vocabulary")
    others = sorted({entry.dtype for entry in stored.values()} - set(READ))
    if others:
        remarks.append(f"weights of kind {', '.join(others)} are not read")
    return tuple(remarks)


def _complete(parts: list[Part], stored: dict[str, Stored]) -> Weights:
    if gguf_name("tok_embeddings.weight") not in stored:
        raise FormatError("a GGUF file of a Llama must hold token_embd.weight; it has none")
    vocab_size = stored[gguf_name("tok_embeddings.weight")].shape[0]
    try:
        arch = arch_of(parts[0].header.settings, vocab_size, tied=gguf_name("output.weight") not in stored)
    except (TypeError, ValueError) as error:
        raise FormatError(f"the settings of a GGUF file must describe a Llama; {error}") from None
    places = {name: part for part in parts for name in part.header.tensors}

    def raw(entry: Stored) -> Tensor:
        data, header = places[entry.name]
        offset = header.data_start + header.tensors[entry.name].offset
        return torch.frombuffer(data, dtype=torch.uint8, count=entry.nbytes, offset=offset)

    if _FACTORS in stored:
        _check_factors(stored[_FACTORS], raw, arch)
    extra = set(stored) - set(map(gguf_name, model_shapes(arch))) - {_FACTORS}
    if extra:
        raise FormatError(f"the file must hold a Llama 2 and nothing else; {leftover_remarks(extra)[0]}")
    for entry in stored.values():
        if entry.dtype not in READ:
            raise FormatError(f"a weight must be one of {', '.join(READ)}; {entry.name} is {entry.dtype}")
    check_shapes(arch, {name: entry.shape for name, entry in stored.items()}, gguf_name)

    def fetch(name: str, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        entry = stored[gguf_name(name)]
        if entry.dtype in FLOATS:
            return settled(raw(entry), dtype=dtype, device=device, arrange=_as_floats(entry))
        return _dequantised(raw(entry), entry, dtype or torch.float32).to(device)

    def dtype_of(name: str) -> torch.dtype:
        return FLOATS.get(stored[gguf_name(name)].dtype, torch.float32)

    return Weights(arch, fetch, dtype_of, common_dtype(stored.values()))


def _check_factors(entry: Stored, raw: Callable[[Stored], Tensor], arch: LlamaArch) -> None:
    """Raise FormatError for divisors of RoPE's frequencies that change any."""
    is_plain = entry.dtype == "F32" and entry.shape == (arch.head_dim // 2,)
    if not is_plain or not bool((_as_floats(entry)(raw(entry)) == 1).all()):
        raise FormatError(f"{_FACTORS} must be {arch.head_dim // 2} ones, as Llama 2 scales no RoPE; it is not")


def _as_floats(entry: Stored) -> Callable[[Tensor], Tensor]:
    kind = FLOATS[entry.dtype]

    def view(raw: Tensor) -> Tensor:
        aligned = raw.clone() if raw.data_ptr() % kind.itemsize else raw
        return aligned.view(kind).view(entry.shape)

    return view


def _dequantised(raw: Tensor, entry: Stored, dtype: torch.dtype) -> Tensor:
    """The values of a quantised tensor, a few rows at a time so that fp32 never holds all of it."""
    gguf = package()
    kind = gguf.GGMLQuantizationType[entry.dtype]
    rows, columns = prod(entry.shape[:-1]), entry.shape[-1]
    raw_RB, made = raw.view(rows, -1), torch.empty(rows, columns, dtype=dtype)
    step = max(1, _CHUNK_ELEMENTS // columns)
    for start in range(0, rows, step):
        with np.errstate(all="ignore"):  # scales of a damaged file overflow; the values are what they are
            values = gguf.dequantize(raw_RB[start : start + step].numpy(), kind)
        made[start : start + step] = torch.from_numpy(np.ascontiguousarray(values))
    drop_pages(raw)
    return made.view(entry.shape)
