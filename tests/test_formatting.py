"""Amounts as they are shown: bytes in binary units, quantities with decimal prefixes."""

import pytest

from llamalab.formatting import format_bytes, format_si


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (34_359_738_368, "32.00 GiB"),
        (-2048, "-2.00 KiB"),
        (2**50, "1024.00 TiB"),
    ],
)
def test_bytes_are_shown_in_binary_units(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (1, "1.00 s"),
        (999, "999.00 s"),
        (1e3, "1.00 ks"),
        (2.5e15, "2.50 Ps"),
        (0.5, "500.00 ms"),
        (3e-6, "3.00 µs"),
        (4e-9, "4.00 ns"),
    ],
)
def test_quantities_are_shown_with_decimal_prefixes(value: float, text: str) -> None:
    assert format_si(value, "s") == text
