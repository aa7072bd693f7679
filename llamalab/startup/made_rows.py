"""A table by name whose rows are made on demand: a calculator needs one or two of hundreds."""

from collections.abc import Callable, Iterator, Mapping

from llamalab.startup.hints import Any, TypeVar

T = TypeVar("T")


class MadeRows(Mapping[str, T]):
    """Rows by name in the order of the tables; each is made once, and a table is read when the ones before lack a name.

    >>> squares = MadeRows(lambda number: number**2, lambda: {"two": 2}, lambda: {"three": 3})
    >>> squares["three"], list(squares), "four" in squares, len(squares)
    (9, ['two', 'three'], False, 2)
    """

    def __init__(self, make: Callable[[Any], T], *tables: Callable[[], Mapping[str, Any]]) -> None:
        self._make, self._unread = make, list(tables)
        self._known: dict[str, Any] = {}
        self._made: dict[str, T] = {}

    def _all(self) -> dict[str, Any]:
        while self._unread:
            self._known.update(self._unread.pop(0)())
        return self._known

    def __getitem__(self, name: str) -> T:
        if name not in self._made:
            if name not in self:
                raise KeyError(name)
            self._made[name] = self._make(self._known[name])
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        while name not in self._known and self._unread:
            self._known.update(self._unread.pop(0)())
        return name in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __or__(self, others: Mapping[str, T]) -> dict[str, T]:
        return {**self, **others}

    def __repr__(self) -> str:
        return repr(dict(self))
