"""Writing a Llama as GGUF, through the gguf package's writer, one tensor at a time.

Norms are F32, as llama.cpp requires; matrices are F32, F16, BF16 or a kind of `quantisers`. The vocabulary comes
from any supported tokenizer (gguf_words) and is padded with unused pieces to the rows of the embedding.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.checkpoints.checkpoint import FLOAT_NAMES, Weights
from llamalab.checkpoints.gguf_architectures import Architecture, architecture_of
from llamalab.checkpoints.gguf_rope import written_scaling
from llamalab.checkpoints.gguf_words import fitted_vocabulary, vocabulary_from
from llamalab.checkpoints.quantisers import fitting_kind, package
from llamalab.checkpoints.quantisers import quantised as in_blocks
from llamalab.formats.gguf_header import is_gguf
from llamalab.text import TextSettings
from llamalab.text.gguf_text import SENTENCEPIECE, Vocabulary, vocabulary
from llamalab.text.load import load_vocabulary


def write_gguf(
    path: Path, weights: Weights, *, dtype: torch.dtype | None, quantised: str | None, words: Vocabulary | None
) -> None:
    """Write a file; `quantised` names a kind for the matrices in place of `dtype`.

    Raises InputError where the vocabulary has more pieces than the embedding rows, and the errors of architecture_of.
    """
    gguf, arch = package(), weights.arch
    row = architecture_of(arch)
    layout, (settings, divisors) = row.arranged(arch), written_scaling(arch)
    writer = gguf.GGUFWriter(path, row.name)
    try:
        _add_settings(writer, arch)
        _add_scaling(writer, settings, row)
        if quantised is not None:
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        if words is not None:
            _add_vocabulary(writer, fitted_vocabulary(words, arch.vocab_size))
        kinds = {
            name: _kind(shape, dtype or layout.dtype_of(name, weights), quantised)
            for name, shape in layout.shapes.items()
        }
        shapes = {name: (len(values),) for name, values in divisors.items()} | layout.shapes
        for name, shape in shapes.items():
            ggml = gguf.GGMLQuantizationType[kinds.get(name, "F32")]
            rows = gguf.quants.quant_shape_to_byte_shape(shape, ggml)
            writer.add_tensor_info(name, rows, np.dtype(np.uint8), int(np.prod(rows)), raw_dtype=ggml)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for values in divisors.values():
            writer.write_tensor_data(_bytes(torch.tensor(values), "F32"))
        for name, kind in kinds.items():
            writer.write_tensor_data(_bytes(layout.as_theirs(name, weights, dtype=None).detach().cpu(), kind))
    finally:
        writer.close()


def words_of(path: Path) -> Vocabulary:
    """The GGUF vocabulary of a tokenizer's file or folder. Raises as load_tokenizer and gguf_text.vocabulary."""
    return vocabulary(path) if path.is_file() and is_gguf(path) else vocabulary_from(load_vocabulary(path))


def _add_settings(writer: Any, arch: LlamaArch) -> None:
    writer.add_vocab_size(arch.vocab_size)
    writer.add_context_length(arch.max_positions)
    writer.add_embedding_length(arch.dim)
    writer.add_block_count(arch.n_layers)
    writer.add_feed_forward_length(arch.ffn_dim)
    writer.add_head_count(arch.n_heads)
    writer.add_head_count_kv(arch.n_kv_heads)
    writer.add_key_length(arch.head_dim)
    writer.add_value_length(arch.head_dim)
    writer.add_rope_dimension_count(arch.rotary_dim)
    writer.add_rope_freq_base(arch.rope_theta)
    writer.add_layer_norm_rms_eps(arch.norm_eps)
    if arch.window is not None:
        writer.add_sliding_window(arch.window)


def _add_scaling(writer: Any, settings: dict[str, Any], row: Architecture) -> None:
    adders = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}
    for key, value in settings.items():
        adders[type(value)](f"{row.name}.{key}", value)


def _add_vocabulary(writer: Any, words: Vocabulary) -> None:
    settings = words.settings
    writer.add_tokenizer_model(words.model)
    if words.pre:
        writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(words.pieces)
    if words.model == SENTENCEPIECE:
        writer.add_token_scores(words.scores)
    writer.add_token_types(words.types)
    if words.merges:
        writer.add_token_merges(list(words.merges))
    for key, token_id in special_ids(settings).items():
        writer.add_uint32(f"tokenizer.ggml.{key}_token_id", token_id)
    writer.add_add_bos_token(settings.add_bos)
    writer.add_add_eos_token(settings.add_eos)
    writer.add_add_space_prefix(words.add_space_prefix)
    if settings.chat_template is not None:
        writer.add_chat_template(settings.chat_template)


def special_ids(settings: TextSettings) -> dict[str, int]:
    """GGUF's keys for special ids: EOS, and at most two further ids that end a text."""
    infill = settings.infill
    # Clients read the ids for end of turn and end of infilling under these keys.
    ends = ([infill.eot_id] if infill else []) + sorted(settings.stop_ids - {settings.eos_id})
    ids = {
        "bos": settings.bos_id,
        "eos": settings.eos_id,
        "unknown": settings.unknown_id,
        "padding": settings.pad_id,
        **dict(zip(("eot", "eom"), dict.fromkeys(ends), strict=False)),
    }
    if infill is not None:
        ids |= {"fim_pre": infill.prefix_id, "fim_suf": infill.suffix_id, "fim_mid": infill.middle_id}
    return {key: index for key, index in ids.items() if index is not None}


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
