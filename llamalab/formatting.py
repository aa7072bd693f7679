"""How amounts are shown: bytes in binary units, times, rates, ratios, number formats in words."""

from collections.abc import Callable

from llamalab.startup.hints import Any
from llamalab.units import MEMORY_UNITS


def formats(dtype: str, weight_dtype: str | None, kv_dtype: str | None = None) -> str:
    """In words, the number format of activations and, where it is another, of weights and of the KV cache.

    >>> formats("bf16", None), formats("bf16", "int4"), formats("bf16", "int4", "int8")
    ('bf16', 'bf16 with int4 weights', 'bf16 with int4 weights and int8 KV cache')
    """
    parts = (("weights", weight_dtype), ("KV cache", kv_dtype))
    others = [f"{stored} {part}" for part, stored in parts if stored not in (None, dtype)]
    return f"{dtype} with {' and '.join(others)}" if others else dtype


def format_bytes(count: int | float) -> str:
    """Show bytes in the largest binary unit that keeps a digit before the point.

    >>> format_bytes(34_359_738_368), format_bytes(524_288), format_bytes(12)
    ('32.00 GiB', '512.00 KiB', '12 B')
    """
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if abs(count) >= MEMORY_UNITS[unit]:
            return f"{count / MEMORY_UNITS[unit]:.2f} {unit}"
    return f"{count:.0f} B"


def format_si(value: float, unit: str, digits: int = 2) -> str:
    """Show a quantity with a decimal prefix.

    >>> format_si(15_361_638_400, "FLOP"), format_si(0.0035, "s")
    ('15.36 GFLOP', '3.50 ms')
    """
    for prefix, scale in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0)):
        if abs(value) >= scale:
            return f"{value / scale:.{digits}f} {prefix}{unit}"
    for prefix, scale in (("m", 1e-3), ("µ", 1e-6)):
        if abs(value) >= scale:
            return f"{value / scale:.{digits}f} {prefix}{unit}"
    return f"{value / 1e-9:.{digits}f} n{unit}" if value else f"0 {unit}"


def format_seconds(value: float, digits: int = 2) -> str:
    """Show a time in the unit that suits it.

    >>> format_seconds(0.0123), format_seconds(1390), format_seconds(100_000)
    ('12.30 ms', '23 min 10 s', '27 h 46 min')
    """
    if abs(value) < 120:
        return format_si(value, "s", digits)
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def format_ratio(value: float) -> str:
    """Show how many times something is another: with two digits behind the point, more where it is small.

    >>> format_ratio(1.2), format_ratio(0.0034), format_ratio(1234.5)
    ('1.20', '0.0034', '1,234')
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def signed(form: Callable[[Any], str]) -> Callable[[Any], str]:
    """The same way of showing a number, with a minus sign of its own before what is less than none.

    >>> signed(format_bytes)(-2048), signed(format_bytes)(2048)
    ('−2.00 KiB', '2.00 KiB')
    """
    return lambda value: f"−{form(-value)}" if value < 0 else form(value)


def format_rate(value: float) -> str:
    """Show a number of things per second: with separators, and with three digits where it is small.

    >>> format_rate(12_345.6), format_rate(42.123), format_rate(0.0351), format_rate(0.0)
    ('12,346', '42.1', '0.0351', '0')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
