"""Attention shares of a checkpoint's heads over a sentence, and the attention weights of a few heads.

A weight is the attention of one token to an earlier one, or to itself, in thousandths.
"""

from dataclasses import dataclass, field

from llamalab.errors import InputError

SHARES = ("previous", "first", "after_same", "itself", "same")  # fields of HeadShares that are shares of attention
HEAD_KINDS = (*SHARES, "distance_tokens")  # the kinds by which heads are chosen
WHOLE = 1000  # sum of a row's weights in thousandths, up to rounding


def sentence_without_weights() -> InputError:
    """The error for a sentence given without a checkpoint."""
    return InputError(
        "a text and a tokenizer must come with the weights of a checkpoint, whose attention they show; these are "
        "random",
        hint="leave {text} and {tokenizer} out",
    )


@dataclass(frozen=True, kw_only=True)
class HeadShares:
    """The attention of one head, as means over the tokens of the sentence.

    Shares of each token's attention: to the `first` token, to the `previous` one, to `itself`, to earlier tokens of
    the `same` id, and to the tokens `after_same`, which follow those; null where no token has such a target.
    `distance_tokens` is the mean distance to the attended token.
    """

    layer: int
    head: int
    first: float | None
    previous: float | None
    itself: float | None
    same: float | None
    after_same: float | None
    distance_tokens: float

    @property
    def most(self) -> tuple[str, float]:
        """The kind of token that gets the largest share, and the share."""
        return max(((kind, getattr(self, kind) or 0.0) for kind in SHARES), key=lambda pair: pair[1])


@dataclass(frozen=True, kw_only=True)
class HeadWeights:
    """All weights of one head: `rows_permille[t][s]` is the attention of token t to token s, s up to t.

    It has the largest share of `kind` (of KINDS) among all heads.
    """

    layer: int
    head: int
    kind: str
    rows_permille: list[list[int]]


@dataclass(frozen=True, kw_only=True)
class Patterns:
    """A sentence, its tokens as text, the shares of heads and the weights of some; or the reason for none.

    `layers` of the model ran, each with `n_heads`; `heads` are all of them, or those with the largest shares.
    """

    text: str
    tokens: list[str] = field(default_factory=list)
    layers: int = 0
    n_heads: int = 0
    heads: list[HeadShares] = field(default_factory=list)
    shown: list[HeadWeights] = field(default_factory=list)
    reason: str | None = None

    @property
    def fault(self) -> str | None:
        """The first inconsistency that types do not exclude."""
        if self.reason is None and not (self.tokens and self.heads):
            return "has neither tokens and heads nor a reason"
        known = {(one.layer, one.head): one for one in self.heads}
        for layer, head in known:
            if not (0 <= layer < self.layers and 0 <= head < self.n_heads):
                return f"has a head {head} of layer {layer}"
        given = (getattr(one, kind) for one in self.heads for kind in SHARES)
        if any(share is not None and not 0 <= share <= 1.01 for share in given):
            return "has a share that is none"
        for one in self.shown:
            shares = known.get((one.layer, one.head))
            if one.kind not in HEAD_KINDS or getattr(shares, one.kind, None) is None:
                return f"has no {one.kind} of head {one.head} of layer {one.layer}, whose weights it has"
            if [len(row) for row in one.rows_permille] != list(range(1, len(self.tokens) + 1)):
                return "has weights that are not one for each token and those before it"
            if any(min(row) < 0 or abs(sum(row) - WHOLE) > 10 + len(row) for row in one.rows_permille):
                return f"has weights that do not add up to {WHOLE}"
        return None
