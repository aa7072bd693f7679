"""A text as token ids, and the windows of it for each step, chosen by seed and step number alone.

There is no state between steps, so that a resumed run reads the same windows.
N tokens of the text, B windows of a pass, T tokens of a window.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from llamalab.errors import InputError
from llamalab.text import Tokenizer

HELD_OUT_SHARE = 0.05  # of a text that comes without a held-out part
_PASSES_A_SEED = 1 << 31


class TokenStream(NamedTuple):
    """The ids that are learned from and those held out; both int64 on the model's device."""

    train_N: Tensor
    held_out_N: Tensor


def stream_of(
    text: str, tokenizer: Tokenizer, *, held_out: str | None = None, device: str | torch.device = "cpu"
) -> TokenStream:
    """The ids of a text, BOS first where there is one; its last 5 % are held out where no other text is given.

    A special piece that the text spells, such as `<s>` between two stories, is read as that piece.
    """

    def ids(part: str) -> Tensor:
        bos = tokenizer.bos_id is not None
        return torch.tensor(tokenizer.encode(part, bos=bos, special=True), dtype=torch.int64, device=device)

    train_N = ids(text)
    if held_out is not None:
        return TokenStream(train_N, ids(held_out))
    kept = len(train_N) - round(HELD_OUT_SHARE * len(train_N))
    return TokenStream(train_N[:kept], train_N[kept:])


def check_stream(stream: TokenStream, *, seq: int, vocab_size: int) -> None:
    """Raise InputError where a part is shorter than a window, or has an id that the model lacks."""
    for name, ids_N in zip(("text", "held-out part"), stream, strict=True):
        if len(ids_N) < seq + 1:
            raise InputError(
                f"the {name} must have at least {seq + 1:,} tokens, a window and the token after it; it has "
                f"{len(ids_N):,}; give more text or a smaller context"
            )
        if int(ids_N.max()) >= vocab_size:
            raise InputError(
                f"the tokenizer must not have more pieces than the model's {vocab_size:,}; the {name} has the id "
                f"{int(ids_N.max()):,}"
            )


def training_batch(stream: TokenStream, *, number: int, batch: int, seq: int, seed: int) -> tuple[Tensor, Tensor]:
    """inputs_BT and targets_BT, one token further, of the pass of that number: windows from anywhere in the text.

    >>> stream = TokenStream(torch.arange(100), torch.arange(10))
    >>> inputs_BT, targets_BT = training_batch(stream, number=3, batch=2, seq=5, seed=0)
    >>> inputs_BT.shape, bool((targets_BT == inputs_BT + 1).all())
    (torch.Size([2, 5]), True)
    """
    generator = torch.Generator().manual_seed(seed * _PASSES_A_SEED + number)
    starts_B1 = torch.randint(len(stream.train_N) - seq, (batch, 1), generator=generator)
    window_BT = stream.train_N[(starts_B1 + torch.arange(seq + 1)).to(stream.train_N.device)]
    return window_BT[:, :-1], window_BT[:, 1:]


def held_out_batches(
    stream: TokenStream, *, seq: int, batch: int, windows: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets of the held-out part from its beginning, in batches: all of it, or so many windows."""
    whole = (len(stream.held_out_N) - 1) // seq
    count = whole if windows is None else min(whole, windows)
    inputs_WT = stream.held_out_N[: count * seq].view(count, seq)
    targets_WT = stream.held_out_N[1 : count * seq + 1].view(count, seq)
    for at in range(0, count, batch):
        yield inputs_WT[at : at + batch], targets_WT[at : at + batch]
