"""Speculative decoding by formula: tokens of a round, and the speed-up.

    tokens of a round = 1 + a + a**2 + ... + a**k = (1 - a**(k+1)) / (1 - a)
    speed-up          = tokens of a round * step / (k * draft step + pass of k + 1 tokens)

a is the acceptance: the probability that the large model keeps a proposed token, k the number of proposals of a round
(Leviathan, Kalman, Matias 2023, arXiv 2211.17192, section 3). One token more than was accepted comes from every round.
"""

from collections.abc import Sequence

from llamalab.checks import whole
from llamalab.errors import InputError


def tokens_of_round(acceptance: float, proposals: int) -> float:
    """The mean number of tokens that one round gives.

    >>> tokens_of_round(0.0, 4), tokens_of_round(1.0, 4), tokens_of_round(0.5, 2)
    (1.0, 5.0, 1.75)
    """
    if not 0 <= acceptance <= 1:
        raise InputError(f"acceptance must be a probability; got {acceptance}")
    return float(sum(acceptance**place for place in range(whole(proposals, "proposals", least=0) + 1)))


def acceptance_of(accepted: float, proposals: int) -> float:
    """The acceptance at which a round of so many proposals keeps `accepted` on average.

    >>> round(acceptance_of(tokens_of_round(0.7, 4) - 1, 4), 6)
    0.7
    """
    if not 0 <= accepted <= proposals:
        raise InputError(f"accepted must lie between 0 and the {proposals} proposals; got {accepted}")
    low, high = 0.0, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if tokens_of_round(middle, proposals) - 1 < accepted else (low, middle)
    return (low + high) / 2


def replayed(same: Sequence[Sequence[bool]], proposals: int) -> float:
    """Mean kept proposals of rounds over these places; runs of agreement give other means than their share.

    >>> replayed([[True, True, False, True, False, True]], 2), replayed([[True, False] * 8], 4)
    (1.5, 1.0)
    """
    kept = list[int]()
    for places in same:
        start = 0
        while start + proposals < len(places):  # one further token comes from every round
            ahead = [*places[start : start + proposals], False]
            kept.append(ahead.index(False))
            start += kept[-1] + 1
    return sum(kept) / len(kept)


def speed_up(acceptance: float, proposals: int, *, step_s: float, draft_s: float, verify_s: float) -> float:
    """The speed-up over step-by-step decoding.

    Args:
        acceptance: probability that a proposal is kept.
        proposals: tokens that the draft proposes in a round.
        step_s: seconds of a step of the large model.
        draft_s: seconds of a step of the draft.
        verify_s: seconds of the large model's pass over the proposals and the token before them.

    >>> speed_up(1.0, 4, step_s=1.0, draft_s=0.0, verify_s=1.0)
    5.0
    """
    return tokens_of_round(acceptance, proposals) * step_s / (proposals * draft_s + verify_s)
