"""What a program of cases says of each, for the test that started it in a process of its own."""

import json
import warnings
from collections.abc import Callable, Iterable, Mapping


def verdict(case: Callable[[], None]) -> str:
    """ "ok" or what was wrong."""
    try:
        case()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def print_verdicts(cases: Mapping[str, Callable[[], None]], names: Iterable[str] = ()) -> None:
    """One line, a JSON object: case -> verdict, of these names or of all. A warning is wrong too."""
    warnings.simplefilter("error")
    print(json.dumps({name: verdict(cases[name]) for name in list(names) or cases}))
