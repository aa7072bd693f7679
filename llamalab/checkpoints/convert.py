"""Conversion between formats: each weight is fetched, cast where asked, and written, one at a time.

Without a dtype every weight keeps its bits where the target can store them: llama2.c and ONNX are fp32, norms in
GGUF are F32. The target appears only when it is complete. Tokenizer and text settings (text_side) are converted too;
the sentence on what was written names settings that the target cannot hold.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from llamalab.checkpoints import open_weights
from llamalab.checkpoints.checkpoint import Weights, model_shapes
from llamalab.checkpoints.gguf_write import words_of, write_gguf
from llamalab.checkpoints.huggingface import write_huggingface
from llamalab.checkpoints.llama2c import write_weights
from llamalab.checkpoints.lora import merged
from llamalab.checkpoints.meta import check_shards, write_meta
from llamalab.checkpoints.onnx_file import write_onnx
from llamalab.checkpoints.quantisers import check_quantiser
from llamalab.checkpoints.text_side import (
    TextSource,
    config_ids,
    gguf_losses,
    llama2c_text,
    llama_cpps_spaces,
    place_model,
    place_text,
    text_source,
)
from llamalab.checkpoints.vocabulary import resized
from llamalab.choices import QUANTISERS, WRITTEN_FORMATS
from llamalab.errors import InputError, UnknownNameError
from llamalab.extras import check_extra
from llamalab.files.outputs import check_new, new_outputs, replacing
from llamalab.model import Transformer
from llamalab.model.dtypes import activation_dtype


class Wishes(NamedTuple):
    """Options of a conversion: `dtype` also names GGUF's kinds, of QUANTISERS; `shards` are Meta's."""

    dtype: str | None = None
    shards: int = 1
    lora: str | None = None
    vocab_size: int | None = None
    tokenizer: str | None = None


AS_IT_IS = Wishes()


def convert(source: str | os.PathLike[str], target: str | os.PathLike[str], to: str, wishes: Wishes = AS_IT_IS) -> str:
    """Write the checkpoint `source` in the format `to`; gives a sentence that describes what was written.

    Raises UnknownNameError for a format, InputError where the target exists or cannot hold the model, MissingError
    where it cannot be written or the disk is full, and the errors of load.
    """
    if to not in WRITTEN_FORMATS:
        raise UnknownNameError("format", to, WRITTEN_FORMATS)
    place = Path(target)
    check_new([place])
    _check(to, wishes)
    weights = open_weights(source)
    if wishes.lora is not None:
        weights = merged(weights, wishes.lora)
    if wishes.vocab_size is not None:
        weights = resized(weights, wishes.vocab_size)
    text = text_source(Path(source), tokenizer=wishes.tokenizer, lora=wishes.lora)
    writers: dict[str, Callable[[TextSource, Path, Weights, Wishes], str]] = {
        "hf": _to_hf,
        "meta": _to_meta,
        "llama2c": _to_llama2c,
        "gguf": _to_gguf,
        "onnx": _to_onnx,
    }
    return writers[to](text, place, weights, wishes)


def _check(to: str, wishes: Wishes) -> None:
    """Checks that need no file to be opened."""
    if wishes.dtype in QUANTISERS:
        if to != "gguf":
            raise InputError(f"dtype {wishes.dtype} must be written as gguf; got {to}")
        check_quantiser(wishes.dtype)
    elif wishes.dtype is not None:
        activation_dtype(wishes.dtype)
    if to in ("llama2c", "onnx") and wishes.dtype not in (None, "fp32"):
        raise InputError(f"dtype of a {to} file must be fp32; got {wishes.dtype!r}")
    if to == "onnx":
        check_extra("onnx", "ONNX")
    if wishes.shards != 1 and to != "meta":
        raise InputError(f"shards must be asked for with meta only; got {wishes.shards} with {to}")


def _to_hf(text: TextSource, target: Path, weights: Weights, wishes: Wishes) -> str:
    kind = None if wishes.dtype is None else activation_dtype(wishes.dtype)

    def fill(folder: Path) -> None:
        place_text(text, folder)
        write_huggingface(folder, weights, dtype=kind, ids=config_ids(text))

    _new_folder(target, fill)
    return f"{target} is a Hugging Face checkpoint"


def _to_meta(text: TextSource, target: Path, weights: Weights, wishes: Wishes) -> str:
    kind = None if wishes.dtype is None else activation_dtype(wishes.dtype)
    check_shards(weights.arch, wishes.shards)
    lost = ""

    def fill(folder: Path) -> None:
        nonlocal lost
        place_text(text, folder)
        lost = place_model(text, folder)
        write_meta(folder, weights, dtype=kind, shards=wishes.shards)

    _new_folder(target, fill)
    return f"{target} is a checkpoint as Meta's, of {wishes.shards} shard{'s' if wishes.shards > 1 else ''}{lost}"


def _to_llama2c(text: TextSource, target: Path, weights: Weights, wishes: Wishes) -> str:
    beside = target.parent / "tokenizer.bin"
    made, lost = (None, "") if text.place is None else llama2c_text(text.place, weights.arch.vocab_size)
    with new_outputs([target]) as place:
        write_weights(place / target.name, weights)
    if made is None:
        return f"{target} is a llama2.c checkpoint, v0{lost}"
    if os.path.lexists(beside):
        return f"{target} is a llama2.c checkpoint, v0; its tokenizer is not written, as {beside} exists"
    with replacing(beside) as file:
        file.write(made)
    return f"{target} is a llama2.c checkpoint, v0, with its tokenizer {beside}{lost}"


def _to_gguf(text: TextSource, target: Path, weights: Weights, wishes: Wishes) -> str:
    quantised = wishes.dtype if wishes.dtype in QUANTISERS else None
    kind = None if wishes.dtype is None or quantised else activation_dtype(wishes.dtype)
    words = None if text.place is None else words_of(text.place)
    with new_outputs([target]) as place:
        write_gguf(place / target.name, weights, dtype=kind, quantised=quantised, words=words)
    lost = "" if words is None else gguf_losses(words, weights.arch.vocab_size)
    if words is not None and text.place is not None:
        lost += llama_cpps_spaces(words, text.place, weights.arch.vocab_size)
    return f"{target} is a GGUF file {'with' if words else 'without'} a vocabulary{lost}"


def _to_onnx(text: TextSource, target: Path, weights: Weights, wishes: Wishes) -> str:
    kind = activation_dtype("fp32")
    model = Transformer(weights.arch, device="meta")
    state = {name: weights.fetch(name, dtype=kind) for name in model_shapes(weights.arch)}
    model.load_state_dict(state, assign=True)
    difference = write_onnx(target, model)
    lost = "" if text.place is None else "; it has no place for the tokenizer"
    off = f"its logits differ from the model's by {difference:.2g} of the largest at most"
    return f"{target} is an ONNX graph; {off}{lost}"


def _new_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """A temporary folder that is renamed to its final name when it is complete."""
    with new_outputs([target]) as place:
        aside = place / target.name
        aside.mkdir()
        fill(aside)
