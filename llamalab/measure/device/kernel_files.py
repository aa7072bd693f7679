"""Small files under /proc and /sys. A file that cannot be read counts as empty."""

from pathlib import Path


def text_of(path: Path) -> str:
    """The text of a file, stripped of white space; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def field_of(path: Path, name: str) -> str | None:
    """The text after the colon of the first `name : value` line; None without such a line."""
    for line in text_of(path).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def number_of(text: str) -> int | None:
    """A whole number of bytes; None for "max" and for other text.

    >>> number_of("4096"), number_of("max"), number_of("")
    (4096, None, None)
    """
    return int(text) if text.isascii() and text.isdecimal() else None


def kibibytes_of(text: str | None) -> int | None:
    """Bytes of a size that Linux gives in kB, which are units of 1024; None where there is none.

    >>> kibibytes_of("640 kB"), kibibytes_of(None)
    (655360, None)
    """
    kibibytes = number_of((text or "").partition(" ")[0])
    return None if kibibytes is None else kibibytes * 1024
