"""The parser of every verb and the options that verbs share.

A mistake ends in one sentence and exit code 2, with the nearest option where one is near; argparse's
usage dump and its abbreviations are off.
"""

import argparse
import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NoReturn, TypeVar

from llamalab.arch import LlamaArch
from llamalab.errors import InputError, UnknownNameError
from llamalab.presets import resolve_model
from llamalab.units import DTYPES, PLAIN_DTYPES, parse_count, parse_memory

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

# argparse asks gettext for translations that Python does not ship, which takes 2 ms of the 20 that
# a calculator may cost. Names of its own are never translated.
setattr(argparse, "_", str)  # noqa: B010

FORMATS = ("table", "json", "csv", "md")
T = TypeVar("T")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help of a fixed width: the same everywhere, and without the import that asks the terminal."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=100)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are InputErrors of one sentence and whose help ends in examples."""

    def __init__(self, prog: str, summary: str, examples: Iterable[str]) -> None:
        super().__init__(
            prog=prog,
            description=f"{summary[:1].upper()}{summary[1:]}.",
            epilog="\n  ".join(("examples:", *examples)),
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise InputError with argparse's complaint as a sentence."""
        raise InputError(self._sentence(message))

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        """To stdout, as --help is the only message; argparse's own hides that it could not be written."""
        print(message, end="", file=file)

    def _sentence(self, message: str) -> str:
        see = f"see {self.prog} --help"
        if unknown := re.match(r"unrecognized arguments: (\S+)", message):
            return self._unknown(unknown[1])
        if option := re.fullmatch(r"argument (\S+): (.*)", message, re.DOTALL):
            if option[2].startswith("expected"):
                return f"{option[1]} must be followed by a value; got none; {see}"
            if other := re.fullmatch(r"not allowed with argument (\S+)", option[2]):
                return f"{option[1]} and {other[1]} must not be given together; got both; {see}"
            if wrong := re.fullmatch(r"invalid (int|float) value: (.*)", option[2]):
                kind = "a whole number" if wrong[1] == "int" else "a number"
                return f"{option[1]} must be {kind}; got {wrong[2]}; {see}"
            # What our own types say begins with the option's name and is a sentence already.
            return option[2] if option[2].startswith(option[1]) else f"{option[1]}: {option[2]}; {see}"
        if needed := re.fullmatch(r"one of the arguments (.*) is required", message):
            return f"one of {' or '.join(needed[1].split())} must be given; got neither; {see}"
        if needed := re.fullmatch(r"the following arguments are required: (.*)", message):
            return f"{needed[1]} must be given; {see}"
        return f"{message}; {see}"

    def _unknown(self, given: str) -> str:
        option = given.partition("=")[0]
        if not option.startswith("-"):
            return f"{self.prog} takes no argument {given!r}; see {self.prog} --help"
        from difflib import get_close_matches

        known = [name for action in self._actions for name in action.option_strings]
        nearest = get_close_matches(option, known, n=1, cutoff=0.5)
        advice = f"did you mean {nearest[0]}?" if nearest else f"see {self.prog} --help"
        return f"{self.prog} has no option {option}; {advice}"


def count(option: str) -> Callable[[str], int]:
    """An argparse type: a count of at least 1, as units.parse_count reads it."""
    return _sentenced(lambda text: parse_count(text, option))


def memory(option: str) -> Callable[[str], int]:
    """An argparse type: bytes, as units.parse_memory reads them."""
    return _sentenced(lambda text: parse_memory(text, option))


def one_of(option: str, known: Iterable[str]) -> Callable[[str], str]:
    """An argparse type: one of the known words; the nearest is named for any other."""
    words = tuple(known)

    def read(text: str) -> str:
        if text not in words:
            raise UnknownNameError(option, text, words)
        return text

    return _sentenced(read)


def add_choice(parser: argparse.ArgumentParser, option: str, known: Iterable[str], default: str, about: str) -> None:
    """An option that takes one of a few words."""
    words = tuple(known)
    parser.add_argument(
        option,
        type=one_of(option, words),
        default=default,
        metavar="|".join(words),
        help=f"{about} (default: %(default)s)",
    )


def add_count(
    parser: argparse.ArgumentParser, option: str, about: str, *, default: int | None = None, metavar: str = "N"
) -> None:
    """An option that takes a count: 4096, 4_096 or 4k."""
    shown = f"{about} (default: {default})" if default is not None else about
    parser.add_argument(option, type=count(option), default=default, metavar=metavar, help=shown)


def add_model(parser: argparse.ArgumentParser) -> None:
    """--model and --kv-heads; chosen_model reads them."""
    parser.add_argument(
        "--model", default="7b", help="a preset (see llamalab models) or a params.json or config.json (default: 7b)"
    )
    add_count(parser, "--kv-heads", "KV heads in place of the model's own; must divide its query heads")


def add_dtype(parser: argparse.ArgumentParser, about: str, *, known: Iterable[str] = PLAIN_DTYPES) -> None:
    """--dtype; types with scales, which only weights have, where `known` says so."""
    add_choice(parser, "--dtype", known, "bf16", about)


def add_part_dtypes(parser: argparse.ArgumentParser) -> None:
    """--weight-dtype and --kv-dtype, None where they are stored as --dtype says."""
    for option, known, part in (("--weight-dtype", DTYPES, "weights"), ("--kv-dtype", PLAIN_DTYPES, "KV cache")):
        parser.add_argument(
            option,
            type=one_of(option, known),
            metavar="|".join(known),
            help=f"storage of the {part} (default: as --dtype)",
        )


def add_format(parser: argparse.ArgumentParser) -> None:
    """--format."""
    add_choice(parser, "--format", FORMATS, "table", "how the answer is printed")


def split_paths(text: str) -> list[str]:
    """Names with commas between them, where the path of a JSON file that exists may have commas itself.

    >>> split_paths("7b, 13b,config.json")
    ['7b', '13b', 'config.json']
    """
    parts, names = text.split(","), []
    while parts:
        ends = [end for end in range(len(parts), 1, -1) if _is_json_file(",".join(parts[:end]))]
        end = ends[0] if ends else 1
        names.append(",".join(parts[:end]).strip())
        parts = parts[end:]
    return [name for name in names if name]


def _is_json_file(path: str) -> bool:
    return path.strip().lower().endswith(".json") and "\0" not in path and os.path.lexists(path.strip())


def chosen_model(args: argparse.Namespace) -> tuple[str, LlamaArch]:
    """The name and architecture that --model and --kv-heads choose."""
    name, arch = resolve_model(args.model)
    return name, arch if args.kv_heads is None else arch.replace(n_kv_heads=args.kv_heads)


def _sentenced(read: Callable[[str], T]) -> Callable[[str], T]:
    """Keep argparse from replacing the sentence of an InputError, which is a ValueError, by its own."""

    def parse(text: str) -> T:
        try:
            return read(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse
