"""A table by name whose rows are made on demand: a calculator needs one or two of hundreds."""

from collections.abc import Callable, Iterator, Mapping

from llamalab.startup.hints import Any, TypeVar

T = TypeVar("T")


class MadeRows(Mapping[str, T]):
    """Rows by name in the order of the table; each is made once, and the table is read at the first access.

    >>> squares = MadeRows(lambda: {"two": 2, "three": 3}, lambda number: number**2)
    >>> squares["three"], list(squares), "four" in squares, len(squares)
    (9, ['two', 'three'], False, 2)
    """

    def __init__(self, read: Callable[[], Mapping[str, Any]], make: Callable[[Any], T]) -> None:
        self._read, self._make = read, make
        self._known: Mapping[str, Any] | None = None
        self._made: dict[str, T] = {}

    def _cells(self) -> Mapping[str, Any]:
        if self._known is None:
            self._known = self._read()
        return self._known

    def __getitem__(self, name: str) -> T:
        if name not in self._made:
            self._made[name] = self._make(self._cells()[name])
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._cells()

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells())

    def __len__(self) -> int:
        return len(self._cells())

    def __or__(self, others: Mapping[str, T]) -> dict[str, T]:
        return {**self, **others}

    def __repr__(self) -> str:
        return repr(dict(self))
