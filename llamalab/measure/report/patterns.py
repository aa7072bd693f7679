"""Attention shares of a checkpoint's heads over a sentence, from one pass outside all timing.

B batch, T query tokens of the sentence, S key tokens (as many), H query heads.
"""

import os
import shlex
from pathlib import PurePath
from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.checkpoints.checkpoint import Weights
from llamalab.errors import InputError, LlamaLabError
from llamalab.instrument.taps import capture
from llamalab.model import Transformer
from llamalab.plain_text import in_one_line, sentence
from llamalab.records.patterns import HEAD_KINDS, WHOLE, HeadShares, HeadWeights, Patterns, sentence_without_weights
from llamalab.text import Tokenizer, load_tokenizer, tokenizer_of

SENTENCE = "Lily had a red ball. Tom had no ball, so Lily gave Tom the red ball."
MOST_PIECES = 40  # most tokens of a pattern that is still legible as a picture
MOST_HEADS = 128  # layers and heads whose shares are stored
_DIGITS = 3
AnyPath = str | os.PathLike[str]


class ReadSentence(NamedTuple):
    """A sentence as a checkpoint reads it: its ids and their texts, or the reason why it cannot.

    `options` are those of llamalab report that named it, a tokenizer by the last part of its path.
    """

    text: str
    ids: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    reason: str | None = None
    options: str = ""


def read_sentence(
    checkpoint: AnyPath | LlamaArch, weights: Weights | None, text: str | None = None, tokenizer: AnyPath | None = None
) -> ReadSentence | None:
    """The sentence for a checkpoint, cut to MOST_PIECES tokens; None where weights are random and look at nothing.

    Args:
        checkpoint: its path; the tokenizer is its own, or one that lies beside it.
        weights: of it, whose vocabulary the tokenizer must be of.
        text: the sentence (default: SENTENCE).
        tokenizer: a file or folder with the tokenizer to take instead.

    Where neither text nor tokenizer was named, a sentence that cannot be read has a reason; else that is raised, and
    InputError where there are no weights.
    """
    named = text is not None or tokenizer is not None
    if weights is None or isinstance(checkpoint, LlamaArch):
        if named:
            raise sentence_without_weights()
        return None
    shown = in_one_line(SENTENCE if text is None else text)
    try:
        found = tokenizer_of(checkpoint) if tokenizer is None else load_tokenizer(tokenizer)
        options = (
            ("text", text and shlex.quote(shown)),
            ("tokenizer", tokenizer and shlex.quote(PurePath(tokenizer).name)),
        )
        given_words = "".join(f" --{name} {value}" for name, value in options if value)
        return _read(found, weights.arch, shown)._replace(options=given_words)
    except (LlamaLabError, OSError) as error:
        if named:
            raise
        return ReadSentence(shown, reason=sentence(str(error)))


def _read(tokenizer: Tokenizer, arch: LlamaArch, text: str) -> ReadSentence:
    ids = tokenizer.prompt_ids(text)[:MOST_PIECES]
    if max(ids, default=0) >= arch.vocab_size:
        raise InputError(
            f"the tokenizer must be of the checkpoint's {arch.vocab_size:,} pieces; the one found has "
            f"{tokenizer.vocab_size:,}",
            hint="name the checkpoint's own with {tokenizer}",
        )
    if len(ids) < 2:
        raise InputError(f"the text must have at least two tokens; it has {len(ids)}", hint="give a sentence as {text}")
    return ReadSentence(text, tuple(ids), tuple(_label(tokenizer, one) for one in ids))


def patterns_of(model: Transformer, read: ReadSentence) -> Patterns:
    """Run the sentence once and record the attention shares of every head of the blocks that run."""
    if read.reason is not None:
        return Patterns(text=read.text, reason=read.reason)
    ids_BT = torch.tensor([read.ids], device=model.norm.weight.device)
    with torch.inference_mode(), capture(model, "layers.*.attention.pattern") as got:
        model(ids_BT, logits="last")
        patterns_LHTS = torch.stack([one[0].float().cpu() for one in got.values()])
    if not patterns_LHTS.isfinite().all():
        return Patterns(text=read.text, reason="the weights of the pass are not all numbers")
    layers, n_heads = patterns_LHTS.shape[:2]
    every = [
        head_shares(layer, head, patterns_LHTS[layer, head], read.ids)
        for layer in range(layers)
        for head in range(n_heads)
    ]
    kept = sorted(sorted(every, key=lambda one: -one.most[1])[:MOST_HEADS], key=lambda one: (one.layer, one.head))
    return Patterns(
        text=read.text,
        tokens=list(read.tokens),
        layers=layers,
        n_heads=n_heads,
        heads=kept,
        shown=[_weights(kind, one, patterns_LHTS[one.layer, one.head]) for kind, one in strongest(kept)],
    )


def head_shares(layer: int, head: int, pattern_TS: Tensor, ids: tuple[int, ...]) -> HeadShares:
    """Attention shares of one head: means over the tokens from the third on (the second's previous is also the first).

    >>> uniform_TS = torch.ones(4, 4).tril() / torch.arange(1, 5)[:, None]
    >>> one = head_shares(0, 0, uniform_TS, (7, 5, 7, 6))
    >>> one.first, one.same, one.after_same, one.distance_tokens
    (0.292, 0.333, 0.333, 1.25)
    """
    tokens, rows = len(ids), range(min(2, len(ids) - 1), len(ids))
    same = [(t, s) for t in rows for s in range(t) if ids[s] == ids[t]]
    place_T = torch.arange(tokens, dtype=torch.float32)
    back_TS = (place_T[:, None] - place_T).clamp(min=0)
    places = {
        "first": [(t, 0) for t in rows],
        "previous": [(t, t - 1) for t in rows],
        "itself": [(t, t) for t in rows],
        "same": same,
        "after_same": [(t, s + 1) for t, s in same if s + 1 < t],
    }
    shares = {kind: _mean_share(pattern_TS, cells) for kind, cells in places.items()}
    distance = float((pattern_TS * back_TS).sum(1)[rows.start :].mean())
    return HeadShares(layer=layer, head=head, **shares, distance_tokens=round(distance, _DIGITS))


def strongest(heads: list[HeadShares]) -> list[tuple[str, HeadShares]]:
    """For each kind the head with the largest share; each head once."""
    chosen: list[tuple[str, HeadShares]] = []
    for kind in HEAD_KINDS:
        free = [one for one in heads if getattr(one, kind) is not None and all(one is not head for _, head in chosen)]
        chosen += [(kind, one) for one in sorted(free, key=lambda one: -getattr(one, kind))[:1]]
    return chosen


def _mean_share(pattern_TS: Tensor, cells: list[tuple[int, int]]) -> float | None:
    """The mean share of these cells in the attention of each token that has any; None where none has."""
    if not cells:
        return None
    return round(sum(float(pattern_TS[cell]) for cell in cells) / len({row for row, _ in cells}), _DIGITS)


def _weights(kind: str, one: HeadShares, pattern_TS: Tensor) -> HeadWeights:
    rows = [[round(WHOLE * weight) for weight in row[: t + 1]] for t, row in enumerate(pattern_TS.tolist())]
    return HeadWeights(layer=one.layer, head=one.head, kind=kind, rows_permille=rows)


def _label(tokenizer: Tokenizer, token_id: int) -> str:
    """The text of an id; the vocabulary's spelling where it is a partial character or white space."""
    text = tokenizer.label(token_id)
    return in_one_line(tokenizer.name(token_id) if "\N{REPLACEMENT CHARACTER}" in text or not text.strip() else text)
