"""The sequences of a forward pass: a batch, a ragged batch, or one chunk of a prompt.

T new tokens end a context of S tokens: prefill is T = S, decode is T = 1, a later chunk is T < S.
"""

from collections.abc import Sequence

from llamalab.analytic.attention_cost import causal_pairs
from llamalab.checks import whole
from llamalab.errors import InputError
from llamalab.startup.hints import NamedTuple


class Sequences(NamedTuple):
    """`number` sequences alike: T new tokens each, at the end of a context of S."""

    number: int
    new_tokens: int
    context_tokens: int


def ragged(new_tokens: int, context_tokens: int | Sequence[int] | None, batch: int) -> tuple[Sequences, ...]:
    """The batch as groups of equal sequences.

    >>> ragged(1, [100, 7, 100], 1)
    (Sequences(number=2, new_tokens=1, context_tokens=100), Sequences(number=1, new_tokens=1, context_tokens=7))
    """
    batch, new_tokens = whole(batch, "batch"), whole(new_tokens, "new_tokens")
    if context_tokens is None or not isinstance(context_tokens, Sequence) or isinstance(context_tokens, str):
        counts = {new_tokens if context_tokens is None else whole(context_tokens, "context_tokens"): batch}
    else:
        context_tokens = [whole(context, "context_tokens") for context in context_tokens]
        if not context_tokens or batch not in (1, len(context_tokens)):
            raise InputError(
                f"context_tokens must be one length per sequence; got {len(context_tokens)} for a batch of {batch}"
            )
        counts = dict.fromkeys(context_tokens, 0)
        for context in context_tokens:
            counts[context] += 1
    for context in counts:
        causal_pairs(new_tokens, context)
    return tuple(Sequences(count, new_tokens, context) for context, count in counts.items())


def last_chunk(prompt: int, chunk: int) -> int:
    """New tokens of the last pass of a prompt that is prefilled `chunk` tokens at a time.

    >>> last_chunk(5, 2), last_chunk(4, 2)
    (1, 2)
    """
    return (prompt - 1) % chunk + 1


def chunks(prompt: int, chunk: int) -> tuple[tuple[int, int], ...]:
    """(new_tokens, context_tokens) of each pass of a prompt that is prefilled `chunk` tokens at a time.

    >>> chunks(5, 2)
    ((2, 2), (2, 4), (1, 5))
    """
    prompt, chunk = whole(prompt, "prompt"), whole(chunk, "chunk")
    return tuple((min(chunk, prompt - start), min(start + chunk, prompt)) for start in range(0, prompt, chunk))
