"""`llamalab man`: the manual page of the command and all its verbs, in roff."""

import argparse

from llamalab.cli.parser import Parser
from llamalab.version import __version__

SUMMARY = "the manual page"
EXAMPLES = ("llamalab man | man -l -", "llamalab man > ~/.local/share/man/man1/llamalab.1")


def configure(parser: Parser) -> None:
    """`llamalab man` has no options."""


def run(args: argparse.Namespace) -> int:
    """Print the page."""
    print(manual_page())
    return 0


def manual_page() -> str:
    """The manual page as roff."""
    from llamalab.cli import VERBS

    head = [
        f'.TH LLAMALAB 1 "" "llamalab {__version__}" "User Commands"',
        ".ad l",  # names of options and files leave lines that cannot be spread
        ".nh",
        ".SH NAME",
        "llamalab \\- what a Llama should cost on a machine, what it did cost, and why the two differ",
        ".SH SYNOPSIS",
        ".B llamalab",
        ".I VERB",
        "[options]",
        ".SH DESCRIPTION",
        "Calculates parameters, KV cache, FLOPs, bytes and times of Llama models, measures them on this machine and "
        "shows the two accounts side by side. Data go to standard output, notes and progress to standard error.",
        ".SH VERBS",
    ]
    verbs = [line for verb, summary in VERBS.items() for line in _verb(verb, summary)]
    tail = [
        ".SH EXIT STATUS",
        "0 done; 2 bad input; 3 something needed is missing or does not fit; 130 interrupted.",
        ".SH ENVIRONMENT",
        ".TP",
        ".B NO_COLOR",
        "no colour, if set.",
        ".TP",
        ".B COLUMNS",
        "the width that tables must fit into.",
    ]
    return "\n".join([*head, *verbs, *tail])


def _verb(verb: str, summary: str) -> list[str]:
    from llamalab.cli import verb_parser
    from llamalab.cli.options_of import options_of

    lines = [f".SS llamalab {_roff(verb)}", f"{_roff(summary[:1].upper() + summary[1:])}."]
    for option in options_of(verb):
        if "--help" in option.names:
            continue
        names = ", ".join(option.names)
        value = f" \\fI{_roff(option.metavar)}\\fR" if option.takes_value else ""
        lines += [".TP", f"\\fB{_roff(names)}\\fR{value}", _roff(option.about)]
    module, _ = verb_parser(verb)
    return [*lines, ".PP", "Examples:", ".nf", *(f"    {_roff(example)}" for example in module.EXAMPLES), ".fi"]


def _roff(text: str) -> str:
    """A text without characters that roff interprets."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain
