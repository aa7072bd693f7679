"""The text settings of a GGUF file: pieces, scores, kinds and merges, and llama.cpp's settings for them.

Defaults of missing keys are llama.cpp's: BOS 1, EOS 2 and unknown 0 of a SentencePiece vocabulary, BOS before a prompt
there and in Llama 3's. A text ends at EOS, at eot_token_id, at eom_token_id and, as in llama.cpp, at pieces with one
of the usual names of an end. Source: ggml-org/ggml docs/gguf.md; llama.cpp src/llama-vocab.cpp, 2026.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llamalab.errors import FormatError
from llamalab.formats.gguf_header import Value, map_gguf
from llamalab.text.settings import INFILL_PIECES, Added, Infill, TextSettings
from llamalab.text.tokenizer import Kind

SENTENCEPIECE, BYTE_LEVEL = "llama", "gpt2"  # the two kinds in tokenizer.ggml.model
LLAMA_3 = ("llama3", "llama-v3", "llama-bpe")  # Llama 3's pre-tokenizer in tokenizer.ggml.pre
_ENDS = frozenset(
    (
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|eom_id|>",
        "<EOT>",
        "_<EOT>",
        "▁<EOT>",
        "<|end_of_text|>",
        "<end_of_utterance>",
    )
)
_FIM = (("fim_pre", "prefix"), ("fim_suf", "suffix"), ("fim_mid", "middle"))  # the second names are the old ones


class Vocabulary(NamedTuple):
    """The tokenizer of a GGUF file.

    `model` is "llama" for SentencePiece, whose `pieces` are UTF-8 with U+2581 for a space, and "gpt2" for bytes, whose
    pieces are written in printable characters and have `merges` and a way to cut a text, `pre`. `types` are
    numbered as sentencepiece numbers them; `add_space_prefix` says whether a space is put before a text.
    """

    model: str
    pieces: list[bytes]
    scores: list[float]
    types: list[int]
    settings: TextSettings
    add_space_prefix: bool = True
    merges: tuple[bytes, ...] = ()
    pre: str = ""


def vocabulary(path: Path) -> Vocabulary:
    """The pieces of a file's tokenizer and its settings.

    Raises FormatError where it has none or its settings are of the wrong kind, MissingError where there is no file.
    """
    settings = map_gguf(path)[1].settings
    pieces = settings.get("tokenizer.ggml.tokens")
    if not isinstance(pieces, list):
        raise FormatError(f"the GGUF file must hold tokenizer.ggml.tokens; {path} has none")
    scores = _numbers(settings, "scores", len(pieces), "fiu")
    types = _numbers(settings, "token_type", len(pieces), "iu")
    merges = settings.get("tokenizer.ggml.merges")
    kinds = [int(Kind.NORMAL)] * len(pieces) if types is None else [int(kind) for kind in types]
    model, pre = _word(settings, "model"), _word(settings, "pre")
    return Vocabulary(
        model=model,
        pieces=pieces,
        scores=[0.0] * len(pieces) if scores is None else [float(score) for score in scores],
        types=kinds,
        settings=_settings(settings, model, pre, pieces, kinds),
        add_space_prefix=_flag(settings, "add_space_prefix", True),
        merges=tuple(merges) if isinstance(merges, list) else (),
        pre=pre,
    )


def _settings(settings: dict[str, Value], model: str, pre: str, pieces: list[bytes], kinds: list[int]) -> TextSettings:
    def special(key: str, default: int | None = None) -> int | None:
        return _special(settings, f"{key}_token_id", len(pieces), default)

    is_sentencepiece = model == SENTENCEPIECE
    bos_id, eos_id, unknown_id = (
        special(key, default if is_sentencepiece else None) for key, default in (("bos", 1), ("eos", 2), ("unknown", 0))
    )
    texts = [piece.decode("utf-8", "replace") for piece in pieces]
    eot_id = special("eot")
    stops = {eos_id, eot_id, special("eom"), *(index for index, text in enumerate(texts) if text in _ENDS)}
    cut = {
        Kind.CONTROL: False,
        Kind.USER_DEFINED: True,
    }  # the kinds that are no part of a plain text, if always cut out
    return TextSettings(
        bos_id,
        eos_id,
        frozenset(index for index in stops if index is not None),
        add_bos=_flag(settings, "add_bos_token", is_sentencepiece or pre in LLAMA_3),
        add_eos=_flag(settings, "add_eos_token", False),
        unknown_id=unknown_id,
        pad_id=special("padding"),
        added=tuple(
            Added(index, text, special=kind == Kind.CONTROL, always=cut[Kind(kind)])
            for index, (text, kind) in enumerate(zip(texts, kinds, strict=True))
            if kind in cut and text
        ),
        chat_template=_template(settings),
        infill=_infill(texts, [special(new, special(old)) for new, old in _FIM], eot_id),
    )


def _infill(texts: list[str], ids: list[int | None], eot_id: int | None) -> Infill | None:
    """The ids that keys name, or those of Code Llama's pieces."""
    found = [texts.index(name) if name in texts else None for name in INFILL_PIECES]
    whole = [given if given is not None else own for given, own in zip((*ids, eot_id), found, strict=True)]
    known = [index for index in whole if index is not None]
    return Infill(*known) if len(known) == len(INFILL_PIECES) else None


def _template(settings: dict[str, Value]) -> str | None:
    value = settings.get("tokenizer.chat_template")
    if value is None or value == b"":
        return None
    if not isinstance(value, bytes):
        raise FormatError(f"tokenizer.chat_template of a GGUF file must be a text; got {type(value).__name__}")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"tokenizer.chat_template of a GGUF file must be UTF-8; {error}") from None


def _word(settings: dict[str, Value], key: str) -> str:
    value = settings.get(f"tokenizer.ggml.{key}")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _numbers(settings: dict[str, Value], key: str, count: int, kinds: str) -> "np.ndarray[Any, Any] | None":
    """A list of numbers, of numpy's `kinds`, as long as the vocabulary."""
    value = settings.get(f"tokenizer.ggml.{key}")
    if value is None:
        return None
    if not isinstance(value, np.ndarray) or len(value) != count or value.dtype.kind not in kinds:
        raise FormatError(f"tokenizer.ggml.{key} of a GGUF file must be {count:,} numbers, one for each piece")
    return value


def _flag(settings: dict[str, Value], key: str, default: bool) -> bool:
    value = settings.get(f"tokenizer.ggml.{key}", default)
    if not isinstance(value, bool):
        raise FormatError(f"tokenizer.ggml.{key} of a GGUF file must be true or false; got {type(value).__name__}")
    return value


def _special(settings: dict[str, Value], key: str, count: int, default: int | None) -> int | None:
    value = settings.get(f"tokenizer.ggml.{key}")
    if value is not None and type(value) is not int:
        raise FormatError(f"tokenizer.ggml.{key} of a GGUF file must be a piece's id; got {value!r}")
    # llama.cpp ignores an id outside the vocabulary, such as -1, and takes its default.
    given = default if value is None or not 0 <= value < count else value
    return given if given is not None and given < count else None
