"""What every public function accepts as a count: the same as the command line, said in one sentence.

Whole numbers of any kind that has `__index__` (numpy's too) pass, and are returned as int. A bool, a
float and a text do not: `batch="2"` would repeat what it should multiply.
"""

from operator import index

from llamalab.errors import InputError
from llamalab.startup.hints import Any

MOST_COUNT = 10**9  # a larger count is taken for a typing error
MOST_MEMORY_BYTES = 10**18


def whole(value: Any, what: str, *, least: int = 1, most: int = MOST_COUNT) -> int:
    """`value` as an int from `least` to `most`. Raises InputError, in which `what` names it.

    >>> whole(-1, "seq")
    Traceback (most recent call last):
    llamalab.errors.InputError: seq must be at least 1; got -1
    """
    if type(value) is not int:
        value = _index(value, what)
    if value < least:
        raise InputError(f"{what} must be at least {least}; got {_shown(value)}")
    if value > most:
        raise InputError(f"{what} must be at most {most:,}; got {_shown(value)}")
    return int(value)


def _index(value: Any, what: str) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return index(value)
    except TypeError:
        raise InputError(f"{what} must be a whole number; got {value!r}") from None


def _shown(value: int) -> str:
    """A number in digits, or its size: Python refuses to print thousands of digits."""
    return str(value) if abs(value) < 10**30 else f"a number of {value.bit_length():,} bits"
