"""A synthetic text corpus: stories written by a small trained model, the same ones for the same seed.

Tokens are sampled at temperature 1, so that the writer's distribution is the truth to be learnt: no other model's loss
on such text is lower than the writer's own, except by chance and by stories cut at the end of a row's context.
Stories are separated by the piece that begins them, spelled `<s>` as in vocabularies of Llama's kind.

B rows side by side, T tokens of a row.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from llamalab.errors import FormatError, InputError
from llamalab.files.inputs import MOST_CONFIG_BYTES, read_bounded_text, read_object
from llamalab.files.outputs import check_new, write_texts
from llamalab.model import Transformer
from llamalab.text import Tokenizer, decode
from llamalab.text.decode_loop import Choice, DecodeLoop
from llamalab.train.token_stream import HELD_OUT_SHARE

_NAMES = ("stories.txt", "stories.held-out.txt", "stories.json")
SIZE_BYTES = 3_000_000  # a million tokens of 512 pieces: more than a run of minutes on a CPU reads
_ROWS = 64
_SCHEMA_VERSION = 1


class Corpus(NamedTuple):
    """Training and held-out texts, with the writer's name, seed and temperature."""

    text: str
    held_out: str
    about: dict[str, object]


def corpus_in(folder: Path) -> Corpus | None:
    """The corpus that write_corpus left in a folder; None where there is none. Raises FormatError for a spoilt one."""
    text, held_out, about = (folder / name for name in _NAMES)
    if not about.exists():
        return None
    data = read_object(about, "note on a corpus", most=MOST_CONFIG_BYTES)
    if data.get("schema_version") != _SCHEMA_VERSION:
        raise FormatError(
            f"{about} must be a note on a corpus that llamalab wrote; remove it and write the corpus anew"
        )
    return Corpus(read_bounded_text(text, "corpus"), read_bounded_text(held_out, "held-out part of the corpus"), data)


def write_corpus(
    folder: Path,
    writer: Transformer,
    tokenizer: Tokenizer,
    *,
    name: str,
    size_bytes: int = SIZE_BYTES,
    seed: int = 0,
    progress: Callable[[str, float], None] = lambda label, done: None,
) -> Corpus:
    """Have a model write at least so many bytes; 5 % of them, in rows of their own, are held out.

    A row is as long as the writer's context. Raises InputError where the folder has files of these names, or where
    the tokenizer has no piece that begins a text; nothing is left where it is interrupted.
    """
    targets = [folder / one for one in _NAMES]
    check_new(targets)
    if tokenizer.bos_id is None:
        raise InputError("the tokenizer of a writer must have a piece that begins a text; this one has none")
    rows = _written(writer, tokenizer, size_bytes, seed, progress)
    kept = len(rows) - max(1, round(HELD_OUT_SHARE * len(rows)))
    text, held_out = _joined(rows[:kept], tokenizer), _joined(rows[kept:], tokenizer)
    about: dict[str, object] = {
        "schema_version": _SCHEMA_VERSION,
        "writer": name,
        "seed": seed,
        "temperature": 1.0,
        "rows": len(rows),
        "tokens_in_row": writer.arch.max_positions,
        "bytes": len(text.encode()),
        "held_out_bytes": len(held_out.encode()),
    }
    contents = (text, held_out, json.dumps(about, indent=1) + "\n")
    write_texts(dict(zip(targets, contents, strict=True)), ours=dict.fromkeys(targets))
    return Corpus(text, held_out, about)


def _written(
    writer: Transformer, tokenizer: Tokenizer, size_bytes: int, seed: int, progress: Callable[[str, float], None]
) -> list[str]:
    """Rows of text, batch by batch until there are bytes enough."""
    begin_B1 = torch.full((_ROWS, 1), tokenizer.bos_id or 0, device=writer.norm.weight.device)
    loop = DecodeLoop(writer, batch=_ROWS, max_tokens=writer.arch.max_positions, choice=Choice(1.0))
    rows: list[str] = []
    done = 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        while done < size_bytes:
            first_B1 = loop.prefill(begin_B1)
            ids_BT = torch.cat([first_B1, loop.steps(writer.arch.max_positions - 1)], dim=1)
            batch = [_text_of(ids, tokenizer) for ids in ids_BT.tolist()]
            rows += batch
            done += sum(len(row.encode()) for row in batch)
            progress(f"writing a corpus, {done / 1e6:.1f} of {size_bytes / 1e6:.1f} MB", min(1.0, done / size_bytes))
    return rows


def _text_of(ids: list[int], tokenizer: Tokenizer) -> str:
    """The stories of a row, each without the space that decoding leaves before it."""
    stories: list[list[int]] = [[]]
    for token_id in ids:
        if token_id in (tokenizer.bos_id, tokenizer.eos_id):
            stories.append([])
        else:
            stories[-1].append(token_id)
    return _between(tokenizer).join(decode(tokenizer, story) for story in stories if story)


def _joined(rows: list[str], tokenizer: Tokenizer) -> str:
    return _between(tokenizer).join(rows) + "\n"


def _between(tokenizer: Tokenizer) -> str:
    """How the vocabulary spells the piece between two stories."""
    return next(piece.text for piece in tokenizer.settings.added if piece.token_id == tokenizer.bos_id)
