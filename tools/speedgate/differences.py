"""The differences between two sets of counters as a table: counter, old, new."""

from collections.abc import Mapping, Sequence
from typing import Any

ABSENT = "–"
Counters = Mapping[str, Mapping[str, Any]]
Row = tuple[str, ...]


def flat(tree: Any, name: str = "") -> dict[str, str]:
    """Every leaf by the path to it; a list of names becomes one leaf for each.

    >>> flat({"7b": {"parameters": 6738415616}, "modules": ["re"]})
    {'7b: parameters': '6,738,415,616', 'modules: re': 'yes'}
    """
    if isinstance(tree, int):
        return {name: f"{tree:,}"}
    leaves = tree if isinstance(tree, Mapping) else dict.fromkeys(tree, "yes")
    found: dict[str, str] = {}
    for key, value in leaves.items():
        inner = f"{name}: {key}" if name else key
        found |= {inner: value} if isinstance(value, str) else flat(value, inner)
    return found


def differences(reviewed: Counters, now: Counters) -> list[Row]:
    """(counter, old, new) of every counter that differs, in the scopes that were reviewed."""
    rows: list[Row] = []
    for scope in (scope for scope in now if scope in reviewed):
        old, new = flat(reviewed[scope]), flat(now[scope])
        for name in [*old, *(name for name in new if name not in old)]:
            if old.get(name) != new.get(name):
                rows.append((name, old.get(name, ABSENT), new.get(name, ABSENT)))
    return rows


def unknown_scopes(reviewed: Counters, now: Counters) -> list[str]:
    """Scopes of this machine that have not been reviewed yet."""
    return [scope for scope in now if scope not in reviewed]


def text_table(head: Row, rows: Sequence[Row]) -> str:
    """Rows under their head, the first column to the left, the others to the right.

    >>> print(text_table(("op", "n"), [("mm", "7"), ("add_", "12")]))
    op     n
    mm     7
    add_  12
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if not place else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)
