"""Text that a file or a model made up, on its way to a terminal, a table or a spreadsheet: it must steer none."""

from collections.abc import Iterable, Mapping, Sequence

from llamalab.startup.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

UNKNOWN = "–"  # in a table, for a value that is not known
MOST_CHARACTERS = 2_000  # of a sentence: a file can hold a name of megabytes
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # the wide ones are read alike


def printable(text: str) -> str:
    r"""A text without control characters; white space stays.

    >>> printable("red: \x1b[31m, one\ttwo")
    'red: [31m, one\ttwo'
    """
    return text if text.isprintable() else text.translate(_STEERING)


def in_one_line(text: str) -> str:
    r"""A text for a cell: what cannot be seen is a question mark, and white space of any kind a space.

    >>> in_one_line("one\ntwo \x1b[2J")
    'one two ?[2J'
    """
    return text if text.isprintable() else "".join(map(_visible, text))


def sentence(text: str, most: int = MOST_CHARACTERS) -> str:
    r"""A text as one line with single spaces; its middle is left out beyond `most` characters.

    >>> sentence("one\n  two"), sentence("a message of 32 characters, long", most=20)
    ('one two', 'a message  ... ters, long')
    """
    line, half = printable(" ".join(text.split())), most // 2
    return line if len(line) <= most else f"{line[:half]} ... {line[-half:]}"


def markdown_cell(text: str) -> str:
    r"""A text as a cell of a Markdown table, which ends at a bar or at the end of a line.

    >>> print(markdown_cell("a|b"))
    a\|b
    """
    return in_one_line(text).replace("\\", "\\\\").replace("|", "\\|")


def csv_text(keys: Sequence[str], rows: Iterable[Mapping[str, Any]], *, header: bool = True) -> str:
    """Rows as CSV under these keys; what is None or not there is empty."""
    import io

    text = io.StringIO()
    write_csv(text, keys, rows, header=header)
    return text.getvalue()


def write_csv(
    file: "SupportsWrite[str]", keys: Sequence[str], rows: Iterable[Mapping[str, Any]], *, header: bool = True
) -> None:
    """As csv_text, each row as soon as it is there."""
    import csv

    writer = csv.writer(file, lineterminator="\n")
    if header:
        writer.writerow(keys)
    for row in rows:
        values = map(row.get, keys)
        writer.writerow([csv_cell(value) if isinstance(value, str) else value for value in values])


def csv_cell(value: object) -> object:
    """A cell of a CSV file: a text that a spreadsheet would take for a formula begins with an apostrophe.

    Numbers stay numbers, negative ones too, and so do texts that spell one.

    >>> csv_cell("=1+2"), csv_cell(-3), csv_cell("-3.5e-6")
    ("'=1+2", -3, '-3.5e-6')
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    is_formula = text.lstrip(" ").startswith(_FORMULAS) and not _is_number(text)
    return ("'" if is_formula else "") + text.replace("\r\n", "\n").replace("\r", "\n")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and text.strip() == text


def _visible(character: str) -> str:
    return character if character.isprintable() else " " if character.isspace() else "?"


_STEERING = dict.fromkeys(code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n\r")
