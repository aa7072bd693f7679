"""Training a vocabulary like Llama's from a text: sentencepiece's BPE, with the settings Llama's file names.

Read from the trainer_spec of Llama 2's tokenizer.model: BPE, character coverage 0.99995, digits split,
pieces of white space alone allowed, bytes for what is no piece, no normalisation, no white space
removed, ids 0 to 2 for unknown, BOS and EOS, no padding.
"""

import io
import os
from collections.abc import Iterator

import sentencepiece

from llamalab.errors import InputError
from llamalab.files.inputs import read_bounded_text
from llamalab.files.outputs import check_target, replacing
from llamalab.plain_text import sentence
from llamalab.text.tokenizer import check_text

LEAST_VOCABULARY = 3 + 256 + 1  # the fixed ids, the bytes, and the space
MOST_TEXT_BYTES = 2**30  # it is held in memory twice
_LONGEST_LINE = 4096  # characters of a sentence; longer lines are cut, where sentencepiece would leave them out


def train_tokenizer(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, vocab_size: int = 32_000
) -> None:
    """Write a `tokenizer.model` of `vocab_size` pieces learned from a UTF-8 text file.

    The same text gives the same pieces. Raises MissingError where there is no text, InputError where
    it is empty or no UTF-8, and for a vocabulary smaller than the fixed ids or larger than the text
    has pieces for. A failure leaves the target as it was.
    """
    if vocab_size < LEAST_VOCABULARY:
        raise InputError(
            f"vocab_size must be at least {LEAST_VOCABULARY}, for 3 fixed ids, 256 bytes and a space; got {vocab_size}"
        )
    check_target(target)
    lines = list(_sentences(read_bounded_text(source, "text", most=MOST_TEXT_BYTES)))
    if not lines:
        raise InputError(f"the text must have at least one line that is not empty; {os.fspath(source)} has none")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            vocab_size=vocab_size,
            model_type="bpe",
            byte_fallback=True,
            split_digits=True,
            allow_whitespace_only_pieces=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            character_coverage=0.99995,
            max_sentence_length=8 * _LONGEST_LINE,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{os.fspath(source)} must have enough distinct text for {vocab_size} pieces and no more characters than "
            f"that; sentencepiece says: {sentence(str(error))}",
            hint="choose another {vocab_size} or text",
        ) from None
    with replacing(target) as file:
        file.write(model.getvalue())


def _sentences(text: str) -> Iterator[str]:
    check_text(text)
    # A zero character is sentencepiece's own end of text; it is spelled as a byte anyway.
    for line in text.replace("\0", " ").splitlines():
        for start in range(0, len(line), _LONGEST_LINE):
            yield line[start : start + _LONGEST_LINE]
