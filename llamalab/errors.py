"""What can go wrong, as types, and the exit code each one ends a command with.

LlamaLabError                 anything llamalab refuses; the CLI prints its one sentence
├── InputError                a value or file that cannot be right              exit 2
│   ├── UnknownNameError      a name that is in no table; names the nearest
│   ├── FormatError           a file whose content is not what it must be
│   └── CacheOverflowError    a token past the end of a KV cache
└── UnavailableError          a sound request this machine cannot serve         exit 3
    ├── MissingError          a package, device or file that is not there
    └── DoesNotFitError       more memory needed than there is

Every message is one sentence: what must hold, what came, what to do. Where that is to give an argument, it is a hint
that names the argument in braces, and each front end puts its own spelling there: `tensor_parallel` from Python,
`--tensor-parallel` on a command line.
"""

from collections.abc import Callable, Iterable

_MOST_NAMES, _FEW_NAMES = 30, 8  # names that one sentence can hold, and those it shows of a longer table
_LEAST_PART = 3  # characters of a name that are looked for inside longer ones


class LlamaLabError(Exception):
    """Base of every error that llamalab raises on purpose.

    >>> error = LlamaLabError("the weights must fit; they do not", hint="take a narrower {dtype}")
    >>> str(error)
    'the weights must fit; they do not; take a narrower dtype'
    >>> error.spelled(lambda argument: f"--{argument}")
    'the weights must fit; they do not; take a narrower --dtype'
    """

    exit_code = 2

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        self.message, self.hint = message, hint
        super().__init__(self.spelled(str))

    def spelled(self, argument: Callable[[str], str]) -> str:
        """The whole sentence, the arguments of the hint as `argument` spells them."""
        return f"{self.message}; {self.hint.format_map(_Spelled(argument))}" if self.hint else self.message


class _Spelled(dict[str, str]):
    """The arguments of a hint in one spelling, each made when it is asked for."""

    def __init__(self, argument: Callable[[str], str]) -> None:
        super().__init__()
        self._argument = argument

    def __missing__(self, name: str) -> str:
        return self._argument(name)


class InputError(LlamaLabError, ValueError):
    """A value, option or file content that cannot be right."""


class UnknownNameError(InputError):
    """A name that is in no table; `nearest` are those that may be meant, where that is known better than by letters.

    >>> raise UnknownNameError("model", "13B", ["7b", "13b", "70b"])
    Traceback (most recent call last):
    llamalab.errors.UnknownNameError: model must be one of 7b, 13b, 70b; got '13B'; did you mean 13b?
    """

    def __init__(
        self, what: str, given: object, known: Iterable[str], *, hint: str = "", nearest: list[str] | None = None
    ) -> None:
        names = list(known)
        shown = names if len(names) <= _MOST_NAMES else [*names[:_FEW_NAMES], f"{len(names) - _FEW_NAMES} others"]
        message = f"{what} must be one of {', '.join(shown)}{hint}; got {given!r}"
        nearest = nearest or _nearest(given, names)
        super().__init__(f"{message}; did you mean {' or '.join(nearest)}?" if nearest else message)


class FormatError(InputError):
    """A file that is truncated, foreign or contradicts itself."""


class CacheOverflowError(InputError):
    """A token that would be written past the end of a KV cache."""


class UnavailableError(LlamaLabError):
    """A sound request that this machine, as it is, cannot serve."""

    exit_code = 3


class MissingError(UnavailableError):
    """A package, device or file that is needed and not there."""


class DoesNotFitError(UnavailableError):
    """More memory is needed than there is."""


def _nearest(given: object, names: list[str]) -> list[str]:
    if not isinstance(given, str):
        return []
    # difflib costs start-up time that only a mistaken user should pay.
    from difflib import get_close_matches

    lowered, word = {name.lower(): name for name in names}, given.lower()
    within = [name for name in lowered if word in name] if len(word) >= _LEAST_PART else []
    return [lowered[name] for name in within[:2] or get_close_matches(word, lowered, n=2, cutoff=0.5)]
