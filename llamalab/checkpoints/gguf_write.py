"""Writing a Llama as GGUF, through the gguf package's writer, one tensor at a time.

Norms are F32, as llama.cpp needs them; matrices are F32, F16, BF16 or of a kind that quantisers makes.
The vocabulary comes from a SentencePiece
model, a llama2.c tokenizer.bin or another GGUF file; a larger model gets unused pieces for the rest of its rows.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.checkpoints.checkpoint import FLOAT_NAMES, Weights, model_shapes
from llamalab.checkpoints.gguf import Vocabulary, vocabulary
from llamalab.checkpoints.gguf_header import is_gguf
from llamalab.checkpoints.layout import gguf_name
from llamalab.checkpoints.quantisers import fitting_kind, package
from llamalab.checkpoints.quantisers import quantised as in_blocks
from llamalab.errors import InputError
from llamalab.text.load import load_tokenizer
from llamalab.text.pieces import PieceTokenizer
from llamalab.text.sentencepiece_model import SentencePieceTokenizer
from llamalab.text.tokenizer import SPACE, Kind


def write_gguf(
    path: Path, weights: Weights, *, dtype: torch.dtype | None, quantised: str | None, words: Vocabulary | None
) -> None:
    """Write a file; `quantised` names a kind for the matrices in place of `dtype`.

    Raises InputError where the vocabulary is larger than the model's.
    """
    gguf, arch = package(), weights.arch
    writer = gguf.GGUFWriter(path, "llama")
    try:
        _add_settings(writer, arch)
        if quantised is not None:
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        if words is not None:
            _add_vocabulary(writer, _fitted(words, arch.vocab_size))
        plans = [
            (name, _kind(shape, dtype or weights.dtype_of(name), quantised))
            for name, shape in model_shapes(arch).items()
        ]
        for name, kind in plans:
            ggml = gguf.GGMLQuantizationType[kind]
            rows = gguf.quants.quant_shape_to_byte_shape(model_shapes(arch)[name], ggml)
            size = int(np.prod(rows))
            writer.add_tensor_info(gguf_name(name), rows, np.dtype(np.uint8), size, raw_dtype=ggml)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, kind in plans:
            writer.write_tensor_data(_bytes(weights.fetch(name).detach().cpu(), kind))
    finally:
        writer.close()


def words_of(path: Path) -> Vocabulary:
    """The vocabulary of a tokenizer's file. Raises as load_tokenizer and, for GGUF, gguf.vocabulary."""
    if path.is_file() and is_gguf(path):
        return vocabulary(path)
    tokenizer = load_tokenizer(path)
    if isinstance(tokenizer, SentencePieceTokenizer):
        return _of_model(tokenizer)
    assert isinstance(tokenizer, PieceTokenizer)  # tokenizer.bin: the only kind that is left
    pieces = [piece.replace(" ", SPACE).encode() for piece in tokenizer.pieces]
    for index in (tokenizer.bos_id, tokenizer.eos_id):
        pieces[index] = pieces[index].strip()  # llama2.c puts them on lines of their own
    return Vocabulary(
        "llama", pieces, list(tokenizer.scores), list(tokenizer.kinds), tokenizer.bos_id, tokenizer.eos_id,
        tokenizer.unknown_id, add_bos=True, add_space_prefix=tokenizer.space_first,
    )  # fmt: skip


def _of_model(tokenizer: SentencePieceTokenizer) -> Vocabulary:
    model = tokenizer.model
    ids = range(tokenizer.vocab_size)
    return Vocabulary(
        "llama",
        [model.id_to_piece(index).encode() for index in ids],
        [model.get_score(index) for index in ids],
        [_kind_of(model, index) for index in ids],
        model.bos_id(),
        model.eos_id(),
        model.unk_id(),
        add_bos=True,
        add_space_prefix=tokenizer.space_first,
    )


def _kind_of(model: Any, index: int) -> Kind:
    kinds = ((model.is_unknown, Kind.UNKNOWN), (model.is_control, Kind.CONTROL), (model.is_unused, Kind.UNUSED))
    for asks, kind in (*kinds, (model.is_byte, Kind.BYTE)):
        if asks(index):
            return kind
    return Kind.NORMAL


def _fitted(words: Vocabulary, size: int) -> Vocabulary:
    missing = size - len(words.pieces)
    if missing < 0:
        raise InputError(
            f"the vocabulary must fit the model's {size:,} embeddings; it has {len(words.pieces):,} pieces"
        )
    return words._replace(
        pieces=[*words.pieces, *(b"<unused%d>" % index for index in range(missing))],
        scores=[*words.scores, *[0.0] * missing],
        types=[*words.types, *[Kind.UNUSED] * missing],
    )


def _add_settings(writer: Any, arch: LlamaArch) -> None:
    writer.add_vocab_size(arch.vocab_size)
    writer.add_context_length(arch.max_positions)
    writer.add_embedding_length(arch.dim)
    writer.add_block_count(arch.n_layers)
    writer.add_feed_forward_length(arch.ffn_dim)
    writer.add_head_count(arch.n_heads)
    writer.add_head_count_kv(arch.n_kv_heads)
    writer.add_rope_dimension_count(arch.head_dim)
    writer.add_rope_freq_base(arch.rope_theta)
    writer.add_layer_norm_rms_eps(arch.norm_eps)


def _add_vocabulary(writer: Any, words: Vocabulary) -> None:
    writer.add_tokenizer_model(words.model)
    writer.add_token_list(words.pieces)
    writer.add_token_scores(words.scores)
    writer.add_token_types(words.types)
    specials = (
        (writer.add_bos_token_id, words.bos_id),
        (writer.add_eos_token_id, words.eos_id),
        (writer.add_unk_token_id, words.unknown_id),
    )
    for add, index in specials:
        if index is not None and index >= 0:
            add(index)
    writer.add_add_bos_token(words.add_bos)
    writer.add_add_space_prefix(words.add_space_prefix)


def _kind(shape: tuple[int, ...], dtype: torch.dtype, quantised: str | None) -> str:
    if len(shape) == 1:
        return "F32"
    if quantised is None:
        return FLOAT_NAMES[dtype]
    return fitting_kind(quantised, shape[-1])


def _bytes(weight: Tensor, kind: str) -> "np.ndarray[Any, Any]":
    for name, dtype in (("F32", torch.float32), ("F16", torch.float16), ("BF16", torch.bfloat16)):
        if name == kind:
            return weight.to(dtype).contiguous().view(-1).view(torch.uint8).numpy()
    return in_blocks(weight.float().numpy(), kind)
