"""A Transformer of 2017 trained to translate numbers from English to German words, as the paper trains.

Adam with betas 0.9 and 0.98, the rate D**-0.5 * min(step**-0.5, step * warmup**-1.5), dropout 0.1, labels smoothed by
0.1 (sections 5.3 and 5.4). Numbers are held out by their hash: none of them is ever seen. B batch, S, T tokens.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from experiments.common.number_words import ENGLISH, GERMAN, LIMIT, english, german, ids
from llamalab.classic.search import Found, Search, search
from llamalab.classic.shape import ClassicArch
from llamalab.classic.transformer import PADDING_ID, ClassicTransformer

BEGIN_ID, END_ID = 1, 2
ARCH = ClassicArch(
    dim=64,
    n_heads=4,
    ffn_dim=256,
    n_encoder_layers=2,
    n_decoder_layers=2,
    source_vocab=len(ENGLISH),
    target_vocab=len(GERMAN),
)
BATCH, WARMUP_STEPS, SMOOTHING = 64, 200, 0.1
HELD_OUT_EVERY = 10  # of a number's hash
MOST_WORDS = 24


class Pair(NamedTuple):
    """A number's tokens in both languages."""

    source: list[int]
    target: list[int]


def is_held_out(number: int) -> bool:
    """Whether the number is for testing: a tenth of all, spread by Knuth's multiplicative hash.

    >>> sum(map(is_held_out, range(100_000)))
    10001
    """
    return number * 2_654_435_761 % 2**32 % HELD_OUT_EVERY == 0


def pairs(count: int, *, held_out: bool, seed: int) -> list[Pair]:
    """Some numbers, of every length as likely, for training or for testing."""
    draw, found = random.Random(seed), []
    while len(found) < count:
        number = draw.randrange(min(10 ** draw.randint(1, 6), LIMIT))
        if is_held_out(number) == held_out:
            found.append(Pair(ids(english(number), ENGLISH), ids(german(number), GERMAN)))
    return found


def padded(rows: list[list[int]]) -> Tensor:
    """tokens_BT, short rows filled with padding."""
    longest = max(map(len, rows))
    return torch.tensor([row + [PADDING_ID] * (longest - len(row)) for row in rows])


def train(
    model: ClassicTransformer, steps: int, *, seed: int, tell: Callable[[int, float], None] = lambda step, loss: None
) -> None:
    """Steps of the paper's recipe; `tell` is called with each step's number and loss."""
    torch.manual_seed(seed)
    corpus, draw = pairs(20_000, held_out=False, seed=seed), random.Random(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda past: model.arch.dim**-0.5 * min((past + 1) ** -0.5, (past + 1) * WARMUP_STEPS**-1.5)
    )
    model.train()
    for step in range(1, steps + 1):
        loss = loss_of(model, draw.sample(corpus, BATCH))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        tell(step, loss.item())
    model.eval()


def loss_of(model: ClassicTransformer, batch: list[Pair]) -> Tensor:
    """Mean loss of the next target token."""
    target_BT = padded([[BEGIN_ID, *pair.target, END_ID] for pair in batch])
    logits_BTV = model(padded([pair.source for pair in batch]), target_BT[:, :-1])
    return functional.cross_entropy(
        logits_BTV.flatten(0, 1), target_BT[:, 1:].flatten(), ignore_index=PADDING_ID, label_smoothing=SMOOTHING
    )


def translated(model: ClassicTransformer, tested: list[Pair], beams: int) -> list[Found]:
    """What a search makes of the sources."""
    how = Search(beams, MOST_WORDS)
    return search(model, padded([pair.source for pair in tested]), begin_id=BEGIN_ID, end_id=END_ID, how=how)
