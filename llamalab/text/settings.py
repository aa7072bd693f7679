"""The text settings of a checkpoint besides its pieces, in one object, whatever their source.

Hugging Face spreads it over config.json, generation_config.json, tokenizer_config.json, added_tokens.json,
special_tokens_map.json and tokenizer.json (hf_settings); GGUF has keys for it (gguf_vocabulary); a SentencePiece model
knows BOS and EOS alone. `generate`, `chat`, `tokenizer`, `convert` and every export go by this object.
"""

from collections.abc import Callable
from typing import NamedTuple

MAX_ID = 2**24  # the embedding of a larger vocabulary would fit into no memory


class Added(NamedTuple):
    """A piece that is cut out of a text before the rest is encoded.

    `special` pieces have no text when decoded. One that is not `always` cut out is so only where special pieces
    are asked for, as GGUF's control pieces. `lstrip` and `rstrip` take the white space beside it along; one that is a
    `single_word` is no part of a longer one.
    """

    token_id: int
    text: str
    special: bool = True
    always: bool = True
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False


class Rules(NamedTuple):
    """Where libraries differ on one SentencePiece vocabulary; by default sentencepiece's own way.

    `space_first` says whether a space is put before a text, None that the vocabulary knows; `space_in_middle` whether
    one is put after each added piece too, `space_before_space` whether also before a text that begins with one. With
    `whole_runs` bytes are text only where all of the run that they stand in is UTF-8.
    """

    space_first: bool | None = None
    space_in_middle: bool = False
    space_before_space: bool = True
    whole_runs: bool = False


class Infill(NamedTuple):
    """The ids that Code Llama's infilling is written with; `eot_id` ends the middle."""

    prefix_id: int
    suffix_id: int
    middle_id: int
    eot_id: int


# codellama e81b597, llama/tokenizer.py
INFILL_PIECES = ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>")


def infill_of(id_of: Callable[[str], int | None]) -> Infill | None:
    """The ids of Code Llama's four pieces for infilling, where all are there."""
    ids = [index for index in map(id_of, INFILL_PIECES) if index is not None]
    return Infill(*ids) if len(ids) == len(INFILL_PIECES) else None


class TextSettings(NamedTuple):
    """Special ids (None where there is none), ends of a text, additions around a prompt, and the chat template.

    `stop_ids` end a generation and are not shown, nor is what a text has of `stop_strings`. `add_bos` and
    `add_eos` say what a prompt gets, `special_in_prompts` whether special pieces that are spelled in it are read
    as such: transformers and llama.cpp do, Meta's code does not.
    """

    bos_id: int | None
    eos_id: int | None
    stop_ids: frozenset[int] = frozenset()
    stop_strings: tuple[str, ...] = ()
    add_bos: bool = True
    add_eos: bool = False
    unknown_id: int | None = None
    pad_id: int | None = None
    added: tuple[Added, ...] = ()
    chat_template: str | None = None
    infill: Infill | None = None
    special_in_prompts: bool = True
    rules: Rules = Rules()

    def around(self, ids: list[int]) -> list[int]:
        """The ids of a prompt with the ids that the checkpoint adds before and after them.

        >>> TextSettings(bos_id=1, eos_id=2).around([5])
        [1, 5]
        """
        before = [self.bos_id] if self.add_bos and self.bos_id is not None else []
        after = [self.eos_id] if self.add_eos and self.eos_id is not None else []
        return before + ids + after
