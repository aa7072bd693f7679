"""Dataclasses and named tuples from JSON, checked against their annotations.

Unknown and missing fields, wrong types and non-finite numbers raise a FormatError that names the place.
"""

import dataclasses
import functools
import math
import types
import typing
from typing import Any, Literal

from llamalab.errors import FormatError

_LARGEST = 1e30  # larger than any rate, time or power; keeps sums and products finite


def from_plain(kind: Any, data: Any, where: str) -> Any:
    """Fill a dataclass, named tuple, list, dict or scalar from JSON data, checking names and types."""
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")):
        if not isinstance(data, dict):
            raise FormatError(f"{where} must be an object; got {type(data).__name__}")
        hints = _hints(kind)
        odd = sorted(data.keys() - hints.keys()) or sorted(_required(kind) - data.keys())
        if odd:
            raise FormatError(f"{where} must have the fields of {kind.__name__}; odd or missing: {', '.join(odd)}")
        return kind(**{name: from_plain(hints[name], value, f"{where}.{name}") for name, value in data.items()})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if data is None else from_plain(next(a for a in arguments if a is not type(None)), data, where)
    if origin is tuple and isinstance(data, list):  # of any length and one kind
        return tuple(from_plain(arguments[0], one, f"{where}[{i}]") for i, one in enumerate(data))
    if origin is list and isinstance(data, list):
        return [from_plain(arguments[0], one, f"{where}[{i}]") for i, one in enumerate(data)]
    if origin is dict and isinstance(data, dict):
        return {key: from_plain(arguments[1], value, f"{where}.{key}") for key, value in data.items()}
    if (origin is Literal and data in arguments) or kind in (Any, object):  # object: Any of llamalab.startup.hints
        return data
    if kind is float and type(data) in (int, float) and abs(data) <= _LARGEST and math.isfinite(data):
        return float(data)
    if isinstance(kind, type) and kind is not float and type(data) is kind:
        return data
    raise FormatError(f"{where} must be {getattr(kind, '__name__', kind)}; got {data!r}")


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


@functools.cache
def _required(kind: Any) -> set[str]:
    if hasattr(kind, "_fields"):
        return set(kind._fields) - set(kind._field_defaults)
    missing = dataclasses.MISSING
    return {one.name for one in dataclasses.fields(kind) if one.default is missing and one.default_factory is missing}
