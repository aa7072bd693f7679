"""Documents in a training sequence: packed one after another, each attending to itself alone, the rest padding.

A document's causal pairs are its own: n (n + 1) / 2 of n tokens. Documents of equal length have the fewest pairs for
their number, so that a mean length gives a lower bound. A kernel with cumulative lengths (FlashAttention's varlen)
takes them in int32; one with a mask takes S x S values for each sequence. Padding is computed like a document of its
own, without contributing to the loss. Source: Krell et al. 2021, arXiv 2107.02027.
"""

from collections import Counter
from collections.abc import Sequence

from llamalab.checks import whole
from llamalab.errors import InputError

LENGTH_BYTES = 4  # a cumulative length, int32


def packed(seq: int, documents: int | None = None, tokens: Sequence[int] = ()) -> tuple[int, ...]:
    """The lengths of a sequence's documents; empty where neither is given: one document fills it.

    So many documents fill it alike; of one length there are as many as fit, or `documents`; several lengths are theirs.
    Raises InputError for documents longer than the sequence.

    >>> packed(10, 3), packed(10, None, [4]), packed(10, 1, [4]), packed(10, None, [2, 5])
    ((4, 3, 3), (4, 4), (4,), (2, 5))
    """
    seq = whole(seq, "seq")
    if not tokens:
        each, longer = divmod(seq, whole(documents, "documents", most=seq)) if documents is not None else (0, 0)
        return (each + 1,) * longer + (each,) * ((documents or 0) - longer)
    if len(tokens) > 1:
        if documents not in (None, len(tokens)):
            raise InputError(f"documents must be as many as their lengths, {len(tokens)}; got {documents}")
        return checked(seq, tuple(tokens))
    fit = max(1, seq // whole(tokens[0], "document_tokens"))
    return checked(seq, (tokens[0],) * (fit if documents is None else whole(documents, "documents", most=seq)))


def checked(seq: int, documents: tuple[int, ...]) -> tuple[int, ...]:
    """The lengths, unchanged. Raises InputError where one is no count or their sum exceeds the sequence."""
    if sum(whole(one, "document_tokens") for one in documents) > seq:
        raise InputError(
            f"documents must fit into their sequence of {seq:,} tokens; got {sum(documents):,} in {len(documents)}"
        )
    return documents


def spans(seq: int, documents: tuple[int, ...]) -> Counter[int]:
    """How often a sequence has a span of each length: its documents, and the padding after them.

    >>> sorted(spans(10, (4, 4)).items()), sorted(spans(10, ()).items())
    ([(2, 1), (4, 2)], [(10, 1)])
    """
    counted = Counter(checked(seq, documents))
    if padding := seq - sum(documents):
        counted[padding] += 1
    return counted


def taught_tokens(seq: int, documents: tuple[int, ...]) -> int:
    """Tokens of a sequence that are not padding.

    >>> taught_tokens(10, (4, 4)), taught_tokens(10, ())
    (8, 10)
    """
    return sum(checked(seq, documents)) or seq


def lengths_bytes(seq: int, documents: tuple[int, ...], batch: int) -> int:
    """The cumulative lengths of a batch, from 0 on; 0 where nothing is packed.

    >>> lengths_bytes(10, (4, 4), batch=2)
    28
    """
    return LENGTH_BYTES * (batch * spans(seq, documents).total() + 1) if documents else 0
