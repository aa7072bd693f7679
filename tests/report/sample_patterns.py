"""What heads might look at in a sentence, drawn from seeded noise, for pages that need no checkpoint."""

import random
from collections.abc import Sequence

from llamalab.records.patterns import HEAD_KINDS, WHOLE, HeadShares, HeadWeights, Patterns

TOKENS = ("<s>", " A", " cat", " saw", " a", " dog", ";", " the", " cat", " ran", "\n", " unbelievably", " <b>", ".")


def sample_patterns(layers: int = 2, n_heads: int = 4, tokens: Sequence[str] = TOKENS, seed: int = 3) -> Patterns:
    """All heads of a small model; those shown have most of one kind each."""
    noise = random.Random(seed)
    heads = [_shares(noise, layer, head) for layer in range(layers) for head in range(n_heads)]
    shown = [
        HeadWeights(
            layer=one.layer, head=one.head, kind=kind, rows_permille=[_row(noise, t) for t in range(len(tokens))]
        )
        for kind, one in zip(HEAD_KINDS, heads, strict=False)
    ]
    return Patterns(
        text="A cat saw a dog", tokens=list(tokens), layers=layers, n_heads=n_heads, heads=heads, shown=shown
    )


def _shares(noise: random.Random, layer: int, head: int) -> HeadShares:
    first, previous, itself = (round(noise.uniform(0, 0.33), 3) for _ in range(3))
    return HeadShares(layer=layer, head=head, first=first, previous=previous, itself=itself, same=0.01, after_same=0.2,
                      distance_tokens=2.5)  # fmt: skip


def _row(noise: random.Random, token: int) -> list[int]:
    drawn = [noise.random() ** 6 for _ in range(token + 1)]
    return [round(WHOLE * one / sum(drawn)) for one in drawn]
