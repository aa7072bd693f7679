"""Answers on a terminal: at its width, in colour where it supports colour and NO_COLOR is not set."""

import os
import sys

from llamalab.cli.output import Answer, Table, cell_text, cells_of, counted, is_right, lines_of, widths_of
from llamalab.plain_text import printable

LEAST_WIDTH = 40
_GAP = 2  # between columns
_LEAST_TEXT = 30  # characters: the least width of a last column of text, which is wrapped
_LEAST_CELL = 16  # characters, below which text is not wrapped
_BOLD, _DIM, _PLAIN = "\033[1m", "\033[2m", "\033[0m"


def fitted_to_terminal(answer: Answer, *, verbose: bool = False) -> str:
    """An answer for standard output: on a terminal, or where COLUMNS is set, no wider than it unless `verbose`."""
    width = None if verbose else width_of_output()
    colour = shows_colour()
    if width is None and not colour:
        return printable(cell_text(answer))
    blocks = [_lead(answer.lead, width, colour)] if answer.lead else []
    left_out = 0
    for table in answer.tables:
        kept = table if width is None else narrowed(table, width)
        left_out += len(table.columns) - len(kept.columns)
        blocks.append(_table(kept, width, colour))
    if left_out:
        blocks.append(_coloured(f"{counted(left_out, 'column')} left out for width; -v shows all", _DIM, colour))
    return "\n\n".join(blocks)


def width_of_output() -> int | None:
    """Columns of the terminal that standard output is; COLUMNS if it is set; None where nothing limits them."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return max(LEAST_WIDTH, int(columns))
    try:
        return max(LEAST_WIDTH, os.get_terminal_size(sys.stdout.fileno()).columns) if sys.stdout.isatty() else None
    except (AttributeError, OSError, ValueError):
        return None


def shows_colour() -> bool:
    """Whether standard output is a terminal with colours and NO_COLOR (no-color.org) is not set."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return bool(sys.stdout.isatty())


def narrowed(table: Table, width: int) -> Table:
    """A table without the columns that make it wider than `width`: the least important first."""
    widths, right = widths_of(cells_of(table)), is_right(table)
    kept = list(range(len(widths)))

    def needed() -> int:
        *before, last = kept
        behind_them = widths[last] if right[last] else min(widths[last], _LEAST_TEXT)  # text is wrapped
        return sum(widths[one] + _GAP for one in before) + behind_them

    while needed() > width:
        can_go = [one for one in kept[1:] if table.columns[one].rank >= 0]
        if not can_go:
            break
        kept.remove(max(can_go, key=lambda one: (table.columns[one].rank, one)))
    return table._replace(columns=tuple(table.columns[one] for one in kept))


def wrapped(line: str, width: int) -> list[str]:
    """A line in pieces no wider than `width`, broken between words, the later ones set in as the first is.

    >>> wrapped("  a line of words", 10)
    ['  a line', '    of', '    words']
    """
    indent = line[: len(line) - len(line.lstrip())]
    pieces, now = [], indent
    for word in line.split():
        if now.strip() and len(now) + 1 + len(word) > width:
            pieces.append(now)
            now = f"{indent}  {word}"
        else:
            now = f"{now} {word}" if now.strip() else f"{now}{word}"
    return [*pieces, now]


def folded(line: str, width: int) -> list[str]:
    """A line of help in pieces no wider than `width`: words as `wrapped`, a|list|of|words after a `|`.

    A command that goes on ends in a backslash, so that it can be pasted.

    >>> folded("  --dtype bf16|fp16|fp32", 17)
    ['  --dtype bf16|', '    fp16|fp32']
    """
    if len(line) <= width:
        return [line]
    is_command = line.startswith("  llamalab ")
    end = " \\" if is_command else ""
    pieces = wrapped(line.replace("|", "|\0 "), width - len(end))
    shown = [piece.replace("|\0 ", "|").removesuffix("\0") for piece in pieces]
    return [*(piece + end for piece in shown[:-1]), shown[-1]]


def behind(line: str, start: int, width: int) -> list[str]:
    """A row with its last cell, which begins at `start`, wrapped below itself where it is too long.

    >>> behind("name  a text of several words", 6, 24)
    ['name  a text of several', '        words']
    """
    if len(line) <= width or width - start < _LEAST_CELL:
        return [line]
    first, *others = wrapped(line[start:], width - start)
    return [line[:start] + first, *(" " * start + piece for piece in others)]


def _lead(lead: tuple[str, ...], width: int | None, colour: bool) -> str:
    """The lead in bold, and the remarks."""
    shown = [printable(line) for line in lead]
    # A drawing in characters must not be broken.
    lines = [wrapped(line, width) if width and len(line) > width and "|" not in line else [line] for line in shown]
    first = [_coloured(piece, _BOLD, colour) for piece in lines[0]]
    return "\n".join([*first, *(piece for pieces in lines[1:] for piece in pieces)])


def _table(table: Table, width: int | None, colour: bool) -> str:
    title, *rows = map(printable, lines_of(table))
    if width is not None and not is_right(table)[-1]:
        *before, _ = widths_of(cells_of(table))
        rows = [piece for row in rows for piece in behind(row, sum(before) + _GAP * len(before), width)]
    caption = wrapped(printable(table.caption), width or len(table.caption)) if table.caption else []
    return "\n".join([*caption, _coloured(title, _BOLD, colour), *rows])


def _coloured(text: str, code: str, colour: bool) -> str:
    return f"{code}{text}{_PLAIN}" if colour and text else text
