"""Bytes in a byte-level vocabulary: one printable character for each, as GPT-2 has it.

Bytes that Latin-1 prints stand for themselves; the other 68 take the characters from U+0100 on, in order
(openai/gpt-2, encoder.py, bytes_to_unicode). A space so is written U+0120.
"""

from functools import cache


@cache
def characters() -> dict[int, str]:
    """The character of every byte.

    >>> characters()[0x20], characters()[0x41], len(set(characters().values()))
    ('Ġ', 'A', 256)
    """
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    return {byte: chr(byte) for byte in printed} | {byte: chr(0x100 + index) for index, byte in enumerate(others)}


@cache
def _bytes() -> dict[str, int]:
    return {character: byte for byte, character in characters().items()}


def written(piece: bytes) -> str:
    """A piece's bytes as their characters."""
    return "".join(map(characters().__getitem__, piece))


def spelled(text: str) -> bytes:
    """The bytes that a piece's characters stand for; its own UTF-8 where one of them stands for none."""
    if all(map(_bytes().__contains__, text)):
        return bytes(map(_bytes().__getitem__, text))
    return text.encode()
