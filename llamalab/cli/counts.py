"""Several counts in one option: a list, or a range with a factor or a step."""

import re

from llamalab.errors import InputError
from llamalab.units import parse_count

MOST_VALUES = 10_000  # in a range
_GROUPED = re.compile(r"\d{1,3}(,\d{3})*,0\d\d(,\d{3})*")  # thousands, not a list: counts of a list do not begin with 0


def parse_counts(text: str, what: str = "count") -> list[int]:
    """Counts: one, several, or a range with a factor or a step.

    >>> parse_counts("512-8192*2"), parse_counts("1,2,4"), parse_counts("1k-3k+1k"), parse_counts("4,096")
    ([512, 1024, 2048, 4096, 8192], [1, 2, 4], [1024, 2048, 3072], [4096])
    """
    if text.isdecimal():
        return [parse_count(text, what)]
    values: list[int] = []
    for part in [text] if _GROUPED.fullmatch(text.strip()) else text.split(","):
        first, dash, rest = part.partition("-")
        if not dash or not first.strip():
            values.append(parse_count(part, what))
            continue
        sign = "*" if "*" in rest else "+"
        last, found, by = rest.partition(sign)
        if not found:
            raise InputError(f"{what} must be a range like 512-8192*2 or 512-2048+512; got {part!r}")
        values += _range(parse_count(first, what), parse_count(last, what), sign, parse_count(by, what), part)
    return values


def _range(first: int, last: int, sign: str, by: int, text: str) -> list[int]:
    if last < first or (sign == "*" and by < 2):
        raise InputError(f"a range must rise, by a factor of at least 2 or a step of at least 1; got {text!r}")
    values = [first]
    while (following := values[-1] * by if sign == "*" else values[-1] + by) <= last:
        values.append(following)
        if len(values) > MOST_VALUES:
            raise InputError(f"a range must have at most {MOST_VALUES:,} values; got {text!r}")
    return values
