"""The vocabulary of a GGUF file as a tokenizer: that of SentencePiece models, which Llama 2's is."""

import math
import os
from pathlib import Path

from llamalab.errors import FormatError
from llamalab.text.pieces import PieceTokenizer


def gguf_tokenizer(path: str | os.PathLike[str]) -> PieceTokenizer:
    """Open it. Raises FormatError for a vocabulary of another kind, without BOS or EOS, or that is no sound one."""
    from llamalab.checkpoints.gguf import vocabulary  # here: it needs torch, which other tokenizers do not

    words = vocabulary(Path(path))
    name = os.fspath(path)
    if words.model != "llama":
        raise FormatError(f"the vocabulary of {name} must be of kind 'llama' (SentencePiece); it is {words.model!r}")
    if words.bos_id is None or words.eos_id is None:
        raise FormatError(f"{name} must name the ids of BOS and EOS; it does not")
    if not all(map(math.isfinite, words.scores)):
        raise FormatError(f"the scores of the pieces of {name} must be finite; some are not")
    try:
        pieces = [piece.decode() for piece in words.pieces]
    except UnicodeDecodeError as error:
        raise FormatError(f"the pieces of {name} must be UTF-8; got {error.object[:20]!r}") from None
    return PieceTokenizer(
        pieces,
        words.scores,
        words.types,
        bos_id=words.bos_id,
        eos_id=words.eos_id,
        space_first=words.add_space_prefix,
    )
