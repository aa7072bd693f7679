"""The ranges of the settings of sampling, without torch, so that a wrong one is reported before anything is loaded."""

import math
from collections.abc import Callable

from llamalab.errors import InputError

_MAX_SEED = 2**63 - 1


def check_sampling(
    *,
    temperature: float,
    top_k: int | None,
    top_p: float,
    min_p: float,
    repetition_penalty: float,
    seed: int,
    spelled: Callable[[str], str] = str,
) -> None:
    """Raise InputError for a setting out of its range, under the name that `spelled` gives the argument.

    Args:
        temperature: the divisor of the logits; 0 takes the most likely token.
        top_k: so many of the most likely tokens are drawn from, None for all.
        top_p: as many of the most likely tokens as this sum of their probabilities needs are drawn from.
        min_p: tokens of less than this share of the most likely one's probability are left out.
        repetition_penalty: the factor by which logits of earlier tokens are made smaller; 1 for none.
        seed: of the random numbers.
        spelled: gives the name of an argument in the error, such as its option.

    >>> check_sampling(temperature=1.0, top_k=None, top_p=2.0, min_p=0.0, repetition_penalty=1.0, seed=0)
    Traceback (most recent call last):
    llamalab.errors.InputError: top_p must be above 0 and at most 1; got 2.0
    """
    for argument, value, holds, wanted in (
        ("temperature", temperature, 0 <= temperature < math.inf, "0 (greedy) or a positive number"),
        ("top_k", top_k, top_k is None or top_k >= 1, "at least 1 token"),
        ("top_p", top_p, 0 < top_p <= 1, "above 0 and at most 1"),
        ("min_p", min_p, 0 <= min_p <= 1, "from 0 to 1"),
        ("repetition_penalty", repetition_penalty, 0 < repetition_penalty < math.inf, "a positive number, 1 for none"),
        ("seed", seed, 0 <= seed <= _MAX_SEED, "a whole number from 0 to 2**63 - 1"),
    ):
        if not holds:
            raise InputError(f"{spelled(argument)} must be {wanted}; got {value}")
