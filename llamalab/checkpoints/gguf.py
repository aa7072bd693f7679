"""GGUF files: a Llama under llama.cpp's names, and its settings (its vocabulary: gguf_text).

Weights are F32, F16 or BF16, mapped, or Q8_0, Q4_0, Q4_K or Q6_K, dequantised by the gguf package a few rows
at a time. Rows of attn_q and attn_k are in Meta's order (see layout). Source: ggml-org/ggml docs/gguf.md;
llama.cpp gguf-py/gguf/constants.py and quants.py.
"""

import mmap
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

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
from llamalab.checkpoints.gguf_header import Header, TensorInfo, Value, is_gguf, map_gguf
from llamalab.checkpoints.layout import gguf_name
from llamalab.checkpoints.pages import drop_pages, settled
from llamalab.errors import FormatError, MissingError

KIND = "GGUF"
QUANTISED = ("Q8_0", "Q4_0", "Q4_K", "Q6_K")
READ = (*FLOATS, *QUANTISED)
_CHUNK_ELEMENTS = 2**22  # dequantised at a time: 16 MB of fp32, and a few times that inside the package


def recognises(path: Path) -> bool:
    """Whether a file begins with GGUF's magic."""
    return path.is_file() and is_gguf(path)


def survey(path: Path) -> Survey:
    """What the header holds. Raises FormatError where tensors do not lie in the file or overlap."""
    data, header = map_gguf(path)
    kinds = _kinds()
    stored = {name: _stored(name, info, kinds) for name, info in header.tensors.items()}
    _check_places(header, stored, len(data))
    remarks = _remarks(header, stored)
    return Survey(KIND, tuple(stored.values()), lambda: _complete(data, header, stored), remarks)


def arch_of(settings: dict[str, Value], vocab_size: int, *, tied: bool) -> LlamaArch:
    """The architecture in some settings; the vocabulary is as large as the embedding.

    Raises FormatError for what is not a Llama 2.
    """
    architecture = settings.get("general.architecture")
    if architecture != b"llama":
        raise FormatError(f"general.architecture of a GGUF file must be 'llama'; got {architecture!r}")
    scaling = settings.get("llama.rope.scaling.type", b"none")
    if scaling != b"none":
        raise FormatError(f"llama.rope.scaling.type must be 'none', as in Llama 2; got {scaling!r}")
    if settings.get("llama.expert_count"):
        raise FormatError(f"llama.expert_count must be 0, as in Llama 2; got {settings['llama.expert_count']!r}")
    heads = _setting(settings, "attention.head_count")
    arch = LlamaArch(
        dim=_setting(settings, "embedding_length"),
        n_layers=_setting(settings, "block_count"),
        n_heads=heads,
        n_kv_heads=_setting(settings, "attention.head_count_kv", heads),
        ffn_dim=_setting(settings, "feed_forward_length"),
        vocab_size=vocab_size,
        norm_eps=_setting(settings, "attention.layer_norm_rms_epsilon"),
        rope_theta=_setting(settings, "rope.freq_base", 10_000.0),
        tied_embeddings=tied,
        max_positions=_setting(settings, "context_length", 4096),
    )
    for key in ("rope.dimension_count", "attention.key_length", "attention.value_length"):
        if _setting(settings, key, arch.head_dim) != arch.head_dim:
            raise FormatError(f"llama.{key} must be the head size {arch.head_dim}; got {settings[f'llama.{key}']!r}")
    return arch


def _setting(settings: dict[str, Value], key: str, default: Any = None) -> Any:
    value = settings.get(f"llama.{key}", default)
    if value is None:
        raise FormatError(f"a GGUF file of a Llama must have the setting llama.{key}; it has none")
    # The file holds eps as fp32; what was meant is the shortest decimal that rounds to it.
    return float(np.format_float_positional(np.float32(value))) if isinstance(value, float) else value


def _kinds() -> dict[int, tuple[str, int, int]]:
    """Number of a kind in ggml to its name, elements and bytes of a block."""
    gguf = package()
    return {int(kind): (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}


def package() -> Any:
    """The gguf package. Raises MissingError where it is not installed."""
    try:
        import gguf
    except ModuleNotFoundError:
        raise MissingError("a GGUF file needs the Python package gguf; it is not installed; pip install gguf") from None
    return gguf


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
        remarks.append(f"weights of kind {', '.join(others)} are not read; those of {', '.join(READ)} are")
    return tuple(remarks)


def _complete(data: mmap.mmap, header: Header, stored: dict[str, Stored]) -> Weights:
    if gguf_name("tok_embeddings.weight") not in stored:
        raise FormatError("a GGUF file of a Llama must hold token_embd.weight; it has none")
    vocab_size = stored[gguf_name("tok_embeddings.weight")].shape[0]
    try:
        arch = arch_of(header.settings, vocab_size, tied=gguf_name("output.weight") not in stored)
    except (TypeError, ValueError) as error:
        raise FormatError(f"the settings of a GGUF file must describe a Llama; {error}") from None
    extra = set(stored) - set(map(gguf_name, model_shapes(arch)))
    if extra:
        raise FormatError(f"the file must hold a Llama 2 and nothing else; {leftover_remarks(extra)[0]}")
    for entry in stored.values():
        if entry.dtype not in READ:
            raise FormatError(f"a weight must be one of {', '.join(READ)}; {entry.name} is {entry.dtype}")
    check_shapes(arch, {name: entry.shape for name, entry in stored.items()}, gguf_name)

    def fetch(name: str, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        entry = stored[gguf_name(name)]
        raw = torch.frombuffer(
            data, dtype=torch.uint8, count=entry.nbytes, offset=header.data_start + header.tensors[entry.name].offset
        )
        if entry.dtype in FLOATS:
            return settled(raw, dtype=dtype, device=device, arrange=_as_floats(entry))
        return _dequantised(raw, entry, dtype or torch.float32).to(device)

    def dtype_of(name: str) -> torch.dtype:
        return FLOATS.get(stored[gguf_name(name)].dtype, torch.float32)

    return Weights(arch, fetch, dtype_of, common_dtype(stored.values()))


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
