"""Several values of an option: a row for every combination, for each verb that calculates one case at a time."""

from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from itertools import islice, product

from llamalab.cli.find_model import split_paths
from llamalab.cli.output import Answer, Column, Table, thousands
from llamalab.errors import LlamaLabError
from llamalab.startup.hints import Any

Axis = Sequence[dict[str, Any]]  # the values of an option, or of several that go together
NUMBER_FORMATS = (  # of numbers: shown where rows differ in them
    Column("dtype", "dtype"),
    Column("weight_dtype", "weights"),
    Column("kv_dtype", "cache"),
)
TITLES = {"context": "tokens", "tensor_parallel": "TP"} | {column.key: column.title for column in NUMBER_FORMATS}


def axis(args: Namespace, *names: str) -> list[Axis]:
    """One axis for each option of these names; of one that was not given, None."""
    return [[{name: value} for value in getattr(args, name) or [None]] for name in names]


def models(args: Namespace) -> Axis:
    """The models that --model names, with commas between them."""
    several = split_paths(args.model) if isinstance(args.model, str) else []
    return [{"model": name} for name in several] or [{"model": args.model}]


def combined(
    args: Namespace, one: Callable[[Namespace], Answer], axes: Iterable[Axis], columns: tuple[Column, ...]
) -> Answer:
    """`one(args)` where every option has one value, else a row for every combination: its figures, or why not.

    A row has what was set and the plain figures of the answer; `columns` are those that a table shows beside what was
    set. Raises what the first combination raises where none has an answer.
    """
    points = [{key: value for part in parts for key, value in part.items()} for parts in product(*axes)]
    if len(points) == 1:
        return one(Namespace(**vars(args) | points[0]))
    rows, errors = [], []
    for point in points:
        try:
            rows.append(point | _figures(one(Namespace(**vars(args) | point)).data))
        except LlamaLabError as error:
            errors.append(error)
            rows.append(point | {"reason": str(error)})
    if len(errors) == len(rows):
        raise errors[0]
    keys = dict.fromkeys(key for row in rows for key in row)
    rows = [dict.fromkeys(keys) | row for row in rows]
    varied = _varied(points)
    columns = tuple(column for column in columns if any(row.get(column.key) is not None for row in rows))
    shown = [Column(key, TITLES.get(key, key), _shown) for key in varied]
    why = [Column("reason", "why not", rank=-1)] if errors else []
    basis = {"basis": next(islice((row["basis"] for row in rows if row.get("basis")), 1), None)}
    return Answer({**basis, "rows": rows}, (_span(rows, columns[0], varied),), (Table((*shown, *columns, *why), rows),))


def with_formats(columns: Sequence[Column], rows: Sequence[dict[str, Any]], behind: str) -> tuple[Column, ...]:
    """Columns of a table, and behind one of them the number formats that its rows differ in."""
    place = 1 + [column.key for column in columns].index(behind)
    varied = _varied([{column.key: row.get(column.key) for column in NUMBER_FORMATS} for row in rows])
    formats = [column for column in NUMBER_FORMATS if column.key in varied]
    return (*columns[:place], *formats, *columns[place:])


def _varied(points: Sequence[dict[str, Any]]) -> list[str]:
    """The options of which there are several values, one for those that always have the same."""
    values = {key: tuple(str(point[key]) for point in points) for key in points[0]}
    first = {seen: key for key, seen in reversed(values.items())}
    return [key for key, seen in values.items() if len(set(seen)) > 1 and first[seen] == key]


def _span(rows: Sequence[dict[str, Any]], column: Column, varied: Sequence[str]) -> str:
    """The answer in one line: the range of the first column."""
    found = sorted(row[column.key] for row in rows if row[column.key] is not None)
    over = f"{len(rows)} combinations of {', '.join('--' + key.replace('_', '-') for key in varied)}"
    ends = dict.fromkeys(column.show(value) for value in (found[0], found[-1])) if found else {}
    return f"{column.title} {' to '.join(ends)} over {over}" if found else over


def _figures(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is None or isinstance(value, str | int | float)}


def _shown(value: Any) -> str:
    return thousands(value) if isinstance(value, int) else str(value)
