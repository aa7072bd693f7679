"""A tokenizer.json made from another source: a SentencePiece model, or byte-level pieces with their merges.

A model's merges are all pairs of pieces that make a third one, in order of its score, so that the tokenizers library
joins what sentencepiece joins. Where added pieces are cut out a space is put behind each as before a text, as
Meta's own tokenizer.json of Llama 2 has it; with user-defined ones, behind which no library puts one, before a
whole text alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from llamalab.text.added import added_token
from llamalab.text.sentencepiece_model import SentencePieceModel, ids_of
from llamalab.text.settings import Added, TextSettings
from llamalab.text.tiktoken_file import LLAMA_3_PATTERN
from llamalab.text.tokenizer import SPACE, Kind, Tokenizer


def over_bytes(
    pieces: Sequence[str], merges: Iterable[tuple[str, str]], added: Sequence[Added], pattern: str
) -> dict[str, Any]:
    """Pieces over bytes, of a text that is cut by `pattern`.

    Where all of a stretch is one piece Llama 3 takes it, whatever its merges.
    """
    bytewise = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return _description(
        {"ignore_merges": pattern == LLAMA_3_PATTERN},
        pieces,
        merges,
        added,
        pre_tokenizer={"type": "Sequence", "pretokenizers": [split, bytewise]},
        decoder=bytewise,
    )


def of_model(tokenizer: SentencePieceModel) -> dict[str, Any]:
    """The pieces of a model, and those added to it."""
    pieces, space_first = tokenizer.pieces, tokenizer.space_first
    own = [
        Added(index, text, special=False)
        for index, (text, kind) in enumerate(zip(pieces.texts, pieces.kinds, strict=True))
        if kind == Kind.USER_DEFINED
    ]
    known = {piece.token_id for piece in tokenizer.settings.added}
    added = [*tokenizer.settings.added, *(piece for piece in own if piece.token_id not in known)]
    replaced: dict[str, Any] = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    scheme = {
        "type": "Metaspace",
        "replacement": SPACE,
        "prepend_scheme": "first" if space_first else "never",
        "split": False,
    }
    prepended = [{"type": "Prepend", "prepend": SPACE}, replaced]
    steps = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        *([{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if space_first else []),
    ]
    behind_each = space_first and not own
    unknown = None if tokenizer.settings.unknown_id is None else tokenizer.name(tokenizer.settings.unknown_id)
    return _description(
        {"unk_token": unknown, "fuse_unk": True, "byte_fallback": Kind.BYTE in pieces.kinds},
        pieces.texts,
        _merges(tokenizer),
        added,
        normalizer={"type": "Sequence", "normalizers": prepended} if behind_each else None,
        pre_tokenizer=None if behind_each else scheme,
        decoder={"type": "Sequence", "decoders": steps},
    )


def with_frame(description: dict[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
    """A description with the ids that the tokenizer's settings add around a text."""
    before, after = _framing(tokenizer.settings)
    text: dict[str, Any] = {"Sequence": {"id": "A", "type_id": 0}}
    other: dict[str, Any] = {"Sequence": {"id": "B", "type_id": 1}}
    named = {index: tokenizer.name(index) for index in (*before, *after)}

    def framed(sequence: dict[str, Any]) -> list[dict[str, Any]]:
        kind = next(iter(sequence.values()))["type_id"]
        around = [[{"SpecialToken": {"id": named[index], "type_id": kind}} for index in ids] for ids in (before, after)]
        return [*around[0], sequence, *around[1]]

    return description | {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": framed(text),
            "pair": [*framed(text), *framed(other)],
            "special_tokens": {name: {"id": name, "ids": [index], "tokens": [name]} for index, name in named.items()},
        }
    }


def _framing(settings: TextSettings) -> tuple[list[int], list[int]]:
    """The ids before and after every text."""
    mark = -1  # no id
    around = settings.around([mark])
    at = around.index(mark)
    return around[:at], around[at + 1 :]


def _description(
    model: dict[str, Any],
    pieces: Sequence[str],
    merges: Iterable[tuple[str, str]],
    added: Sequence[Added],
    **parts: dict[str, Any] | None,
) -> dict[str, Any]:
    vocabulary = ids_of(list(pieces)) | {piece.text: piece.token_id for piece in added}
    empty = {
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
    }
    joined = {"type": "BPE"} | empty | model | {"vocab": vocabulary, "merges": [list(pair) for pair in merges]}
    fields = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor"))
    return {"version": "1.0", **fields, **parts, "added_tokens": list(map(added_token, added)), "model": joined}


def _merges(tokenizer: SentencePieceModel) -> Iterator[tuple[str, str]]:
    """All pairs that make a piece, the best pieces first."""
    texts, scores, kinds = tokenizer.pieces
    score_of = {
        text: score
        for text, score, kind in reversed(list(zip(texts, scores, kinds, strict=True)))
        if kind == Kind.NORMAL and text
    }
    for text in sorted(score_of, key=score_of.__getitem__, reverse=True):
        for at in range(1, len(text)):
            if text[:at] in score_of and text[at:] in score_of:
                yield text[:at], text[at:]
