"""Every verb's options as data: for completion, the manual page and the tests of the vocabulary."""

import argparse

from llamalab.cli import VERBS, verb_parser
from llamalab.startup.hints import NamedTuple


class Option(NamedTuple):
    """One option or positional argument of a verb; `words` are its choices, where it has some."""

    names: tuple[str, ...]
    dest: str
    metavar: str
    about: str
    words: tuple[str, ...]

    @property
    def takes_value(self) -> bool:
        """Whether a value follows it."""
        return bool(self.metavar)


def options_of(verb: str) -> list[Option]:
    """The options of a verb as its help shows them, --help first."""
    _, parser = verb_parser(verb)
    return [_option(action) for action in parser._actions if action.help is not argparse.SUPPRESS]


def every_option() -> dict[str, list[Option]]:
    """The options of all verbs."""
    return {verb: options_of(verb) for verb in VERBS}


def _option(action: argparse.Action) -> Option:
    metavar = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
    words = tuple(metavar.split("|")) if "|" in metavar else ()
    if words and not all(word.replace("-", "").replace("_", "").isalnum() for word in words):
        words = ()
    about = (action.help or "").replace("%(default)s", str(action.default))
    return Option(tuple(action.option_strings), action.dest, metavar, about, words)
