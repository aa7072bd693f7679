"""Substitutes for parts of `typing`, whose import takes 2 of the 20 ms that a calculator may cost to import.

A type checker reads typing's own here. At run time annotations are not evaluated, and a named tuple is made by
collections, as typing's is.

>>> class Size(NamedTuple):
...     rows: int
...     columns: int = 1
>>> Size(3), Size._fields, Size(3)._replace(columns=2)
(Size(rows=3, columns=1), ('rows', 'columns'), Size(rows=3, columns=2))
"""

TYPE_CHECKING = False  # True for a type checker, which uses typing's definition

if TYPE_CHECKING:
    from typing import Any as Any
    from typing import BinaryIO as BinaryIO
    from typing import NamedTuple as NamedTuple
    from typing import NoReturn as NoReturn
    from typing import Protocol as Protocol
    from typing import TypeVar as TypeVar
else:
    from collections import namedtuple

    Any = BinaryIO = NoReturn = Protocol = object
    _LEFT_TO_COLLECTIONS = ("__module__", "__annotations__", "__dict__", "__weakref__")

    def TypeVar(name: str, **bounds: object) -> type:  # noqa: N802  # as typing's
        """A stand-in that may be an argument of any generic type."""
        return object

    class _Fields(type):
        """Turns the body of a class that has NamedTuple as its base into a named tuple."""

        def __new__(meta, name, bases, body):
            if not bases:
                return super().__new__(meta, name, bases, body)
            fields = body.get("__annotations__", {})
            defaults = [body.pop(field) for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body["__module__"])
            made.__annotations__ = fields
            for key, value in body.items():
                if key not in _LEFT_TO_COLLECTIONS:
                    setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Fields):
        """Base of a class whose annotations are the fields of a tuple."""
