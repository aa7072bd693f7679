"""Tokenizers written into a GGUF file: every supported kind as one of the two kinds that llama.cpp reads.

SentencePiece pieces are written unchanged, followed by added pieces; a tokenizer.json with byte fallback is converted
to SentencePiece, the score of a piece being its negative rank among the merges. Byte-level vocabularies need merges,
which a tiktoken file lacks; a merge is the pair of parts left when a piece is encoded with lower ranks only.
"""

from itertools import pairwise
from typing import Any

from llamalab.errors import InputError
from llamalab.text import TextSettings, Tokenizer
from llamalab.text.byte_level import written
from llamalab.text.gguf_text import BYTE_LEVEL, SENTENCEPIECE, Vocabulary
from llamalab.text.gguf_vocabulary import GPT_2_PATTERN, PATTERNS, model_of
from llamalab.text.sentencepiece_model import SentencePieceModel, check_plain
from llamalab.text.settings import Added
from llamalab.text.tiktoken_file import LLAMA_3_PATTERN, TiktokenTokenizer
from llamalab.text.tokenizer import SPACE, Kind
from llamalab.text.tokenizer_json import JsonTokenizer


def vocabulary_from(tokenizer: Tokenizer) -> Vocabulary:
    """A tokenizer as GGUF's lists. Raises InputError for a pre-tokenizer that GGUF has no name for."""
    if isinstance(tokenizer, SentencePieceModel):
        return _from_model(tokenizer)
    if isinstance(tokenizer, TiktokenTokenizer):
        return _over_bytes(
            tokenizer, [written(piece) for piece in tokenizer.pieces], merges_of(tokenizer.pieces), LLAMA_3_PATTERN
        )
    assert isinstance(tokenizer, JsonTokenizer)  # the only other kind
    texts = [tokenizer.texts.get(index, "") for index in range(tokenizer.vocab_size)]
    merges = _merges(tokenizer.description["model"])
    if tokenizer.is_byte_level:
        return _over_bytes(tokenizer, texts, merges, _pattern(tokenizer.description))
    return _from_fallback(tokenizer, texts, merges)


def as_model(tokenizer: Tokenizer) -> SentencePieceModel | None:
    """A tokenizer with byte fallback as a SentencePiece model; None for others."""
    if isinstance(tokenizer, SentencePieceModel):
        return tokenizer
    words = vocabulary_from(tokenizer)
    return None if words.model != SENTENCEPIECE else model_of(words, getattr(tokenizer, "source", ""))


def fitted_vocabulary(words: Vocabulary, size: int) -> Vocabulary:
    """A vocabulary of exactly as many pieces as embeddings: padded with unused ones, added pieces beyond it dropped.

    Raises InputError where a piece that is not an added one has no embedding.
    """
    missing, added = size - len(words.pieces), {piece.token_id for piece in words.settings.added}
    if not all(index in added for index in range(size, len(words.pieces))):
        raise InputError(
            f"the vocabulary must fit the model's {size:,} embeddings; it has {len(words.pieces):,} pieces"
        )
    settings = words.settings
    bos_id, eos_id, pad_id = (
        index if index is not None and index < size else None
        for index in (settings.bos_id, settings.eos_id, settings.pad_id)
    )
    kept = settings._replace(
        bos_id=bos_id,
        eos_id=eos_id,
        pad_id=pad_id,
        added=tuple(piece for piece in settings.added if piece.token_id < size),
        stop_ids=frozenset(index for index in settings.stop_ids if index < size),
    )
    return words._replace(
        pieces=[*words.pieces[:size], *(b"<unused%d>" % index for index in range(missing))],
        scores=[*words.scores[:size], *[0.0] * missing],
        types=[*words.types[:size], *[int(Kind.UNUSED)] * missing],
        settings=kept,
    )


def merges_of(pieces: list[bytes]) -> list[tuple[str, str]]:
    """The pair of parts whose merge makes each piece, in order of rank; bytes are written as characters.

    >>> merges_of([b"a", b"b", b"c", b"ab", b"abc"])
    [('a', 'b'), ('ab', 'c')]
    """
    ranks = {piece: rank for rank, piece in enumerate(pieces)}
    merges = []
    for rank, piece in enumerate(pieces):
        parts = _parts(piece, ranks, rank)
        if len(parts) == 2:
            merges.append((written(parts[0]), written(parts[1])))
    return merges


def _parts(piece: bytes, ranks: dict[bytes, int], below: int) -> list[bytes]:
    """The parts of a piece under byte-pair encoding with all ranks below its own."""
    parts = [bytes([byte]) for byte in piece]
    while len(parts) > 1:
        pairs = [(ranks.get(left + right, below), at) for at, (left, right) in enumerate(pairwise(parts))]
        rank, at = min(pairs)
        if rank >= below:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _from_model(tokenizer: SentencePieceModel) -> Vocabulary:
    check_plain(tokenizer)
    added, own = {piece.token_id: piece for piece in tokenizer.settings.added}, tokenizer.pieces
    pieces, scores, kinds = [], [], []
    for index in range(tokenizer.vocab_size):
        kind = Kind(tokenizer.kind(index)) if tokenizer.kind(index) in set(Kind) else Kind.UNUSED
        text = added[index].text if index in added else own.texts[index] if index < len(own.texts) else ""
        # llama.cpp matches user-defined pieces against the raw text, where a space is a space.
        text = text.replace(SPACE, " ") if kind == Kind.USER_DEFINED else text.replace(" ", SPACE)
        pieces.append((text or f"<unused{index}>").encode())
        scores.append(own.scores[index] if index < len(own.scores) else 0.0)
        kinds.append(int(kind))
    return Vocabulary(
        model=SENTENCEPIECE,
        pieces=pieces,
        scores=scores,
        types=kinds,
        settings=tokenizer.settings,
        add_space_prefix=tokenizer.space_first,
    )


def _from_fallback(tokenizer: JsonTokenizer, texts: list[str], merges: list[tuple[str, str]]) -> Vocabulary:
    joined: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        joined.setdefault(left + right, rank)
    kinds = _kinds(texts, tokenizer.settings, plain=Kind.NORMAL)
    for index, text in enumerate(texts):
        if tokenizer.is_byte(index):
            kinds[index] = Kind.BYTE
        elif index == tokenizer.settings.unknown_id or text == tokenizer.description["model"].get("unk_token"):
            kinds[index] = Kind.UNKNOWN
    scores = [-float(joined.get(text, len(merges))) for text in texts]
    pieces = _named(texts)
    return Vocabulary(
        model=SENTENCEPIECE,
        pieces=pieces,
        scores=scores,
        types=kinds,
        settings=tokenizer.settings,
        add_space_prefix=tokenizer.space_first,
    )


def _over_bytes(tokenizer: Tokenizer, texts: list[str], merges: list[tuple[str, str]], pattern: str) -> Vocabulary:
    if pattern not in PATTERNS.values():
        raise InputError("the vocabulary must cut a text as Llama 3 or GPT-2 does to be written as GGUF; it does not")
    texts = texts + [""] * (tokenizer.vocab_size - len(texts))
    for piece in tokenizer.settings.added:
        texts[piece.token_id] = piece.text
    kinds = _kinds(texts, tokenizer.settings, plain=Kind.NORMAL)
    name = next(name for name, known in PATTERNS.items() if known == pattern)
    joined = tuple(f"{left} {right}".encode() for left, right in merges)
    return Vocabulary(
        model=BYTE_LEVEL,
        pieces=_named(texts),
        scores=[0.0] * len(texts),
        types=kinds,
        settings=tokenizer.settings,
        add_space_prefix=False,
        merges=joined,
        pre=name,
    )


def _named(texts: list[str]) -> list[bytes]:
    return [(text or f"<unused{index}>").encode() for index, text in enumerate(texts)]


def _kinds(texts: list[str], settings: TextSettings, *, plain: Kind) -> list[int]:
    added: dict[int, Added] = {piece.token_id: piece for piece in settings.added}
    kinds = []
    for index, text in enumerate(texts):
        kind = plain if text else Kind.UNUSED
        if index in added:
            kind = Kind.CONTROL if added[index].special else Kind.USER_DEFINED
        kinds.append(int(kind))
    return kinds


def _merges(model: dict[str, Any]) -> list[tuple[str, str]]:
    """The merges of a tokenizer.json, each a text with a space or, since 2024, a pair."""
    pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model.get("merges", []))
    return [(left, right) for left, right in pairs]


def _pattern(description: dict[str, Any]) -> str:
    """The pre-tokenizer's regular expression: the one of a Split, or GPT-2's, which is built into the library."""
    part = description.get("pre_tokenizer") or {}
    parts = part.get("pretokenizers", [part])
    found = [step["pattern"].get("Regex", "") for step in parts if step.get("type") == "Split"]
    if not found:
        return GPT_2_PATTERN if any(step.get("use_regex") for step in parts) else ""
    return str(found[0]) if len(found) == 1 else ""
