"""The parser of every verb: old names of options with a note, mistakes in one sentence, help that ends in examples.

A mistake ends in one sentence and exit code 2, with the option that was meant where that is known; argparse's usage
dump and its abbreviations are off.
"""

import argparse
import re
from collections.abc import Iterable
from itertools import pairwise

from llamalab.cli.whole_model import with_whole_models
from llamalab.errors import InputError
from llamalab.startup.hints import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

# argparse asks gettext for translations that Python does not ship, which takes 2 ms of the 20 that
# a calculator may cost. Names of its own are never translated.
setattr(argparse, "_", str)  # noqa: B010


_HELP_WIDTH = 100
_MOST_WORDS = 1000
_SHORT_NAME = len("--abc")  # shorter names of other tools are near to too much


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str, width: int = _HELP_WIDTH) -> None:
        super().__init__(prog, max_help_position=26, width=width)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are InputErrors of one sentence and whose help ends in examples."""

    def __init__(self, prog: str, summary: str, examples: Iterable[str]) -> None:
        self.renamed: dict[str, str] = {}
        self.old_names_used: list[str] = []
        self._given: list[str] = []  # names of options of the current line, as written
        self._known_words: dict[str, tuple[str, Any]] = {}  # arguments of earlier calls, and their parsed form
        self._plain: tuple[dict[str, argparse.Action], dict[str, Any]] | None = None
        super().__init__(
            prog=prog,
            description=f"{summary[:1].upper()}{summary[1:]}.",
            epilog="\n  ".join(("examples:", *examples)),
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )

    def format_help(self) -> str:
        """The help, as wide as the terminal, at most 100 columns, and 100 where there is none."""
        from llamalab.cli.terminal import folded, width_of_output

        shown = width_of_output()
        width = min(_HELP_WIDTH, shown or _HELP_WIDTH)
        self.formatter_class = lambda prog: _HelpFormatter(prog, width)
        text = super().format_help()
        if shown is None:
            return text
        return "".join(f"{piece}\n" for line in text.splitlines() for piece in folded(line, width))

    def rename(self, old: str, new: str) -> None:
        """Accept `old` as another name of `new`, with a note; it is not in the help."""
        self.renamed[old] = new

    @property
    def options(self) -> list[str]:
        """The names of all documented options."""
        return [
            name for action in self._actions if action.help is not argparse.SUPPRESS for name in action.option_strings
        ]

    def takes_value(self, option: str) -> bool | None:
        """Whether the option takes a value; None where there is no such option."""
        action = self._option_string_actions.get(self.renamed.get(option, option))
        return None if action is None else action.nargs != 0

    def read(self, argv: Iterable[str]) -> argparse.Namespace:
        """The options of a command line, old names taken for the new, a checkpoint named by one of its files whole."""
        return with_whole_models(self._read(list(argv)))

    def _read(self, given: list[str]) -> argparse.Namespace:
        if (plain := self._read_plain(given)) is not None:
            return plain
        words = [self._today(word) for word in given]
        self._given = [word.partition("=")[0] for word in words]
        self._refuse_empty(words)
        places = [action for action in self._actions if not action.option_strings]
        if len(places) > 1 and any(action.nargs in ("?", "*") for action in places):
            return self.parse_intermixed_args(words)  # options may stand between positional arguments
        return self.parse_args(words)

    def _read_plain(self, words: list[str]) -> argparse.Namespace | None:
        """The parsed options where every word is `--name=value` of an independent option; else None.

        Calls from Python have this form, thousands in a sweep; argparse takes 0.25 ms for each.
        """
        if not words or not all("=" in word for word in words):
            return None
        if self._plain is None:
            self._plain = self._plain_options()
        options, usual = self._plain
        asked = argparse.Namespace()
        values = vars(asked)
        values.update(usual)
        for word in words:
            if word in self._known_words:
                dest, known = self._known_words[word]
                values[dest] = [*known] if type(known) is list else known
                continue
            name, _, value = word.partition("=")
            action = options.get(name)
            if action is None or value in ("", "--"):
                return None
            try:
                known = values[action.dest] = action.type(value) if callable(action.type) else value
            except (argparse.ArgumentTypeError, TypeError, ValueError):  # argparse reports the error
                return None
            if len(self._known_words) < _MOST_WORDS:
                self._known_words[word] = action.dest, [*known] if type(known) is list else known
        return asked

    def _plain_options(self) -> tuple[dict[str, argparse.Action], dict[str, Any]]:
        """Independent options of one value, by name, and all defaults; none where an option is required."""
        groups = self._mutually_exclusive_groups
        if any(action.required for action in self._actions) or any(group.required for group in groups):
            return {}, {}
        tied = {id(action) for group in groups for action in group._group_actions}
        alone = [one for one in self._actions if type(one) is argparse._StoreAction and id(one) not in tied]
        single = [one for one in alone if one.nargs is None and one.choices is None]
        plain: dict[str, argparse.Action] = {name: one for one in single for name in one.option_strings}
        return plain, vars(self.parse_args([]))

    def _refuse_empty(self, words: list[str]) -> None:
        """Raise InputError for an empty name, number or path; only a text may be empty."""
        places, named, options = [one for one in self._actions if not one.option_strings], 0, True
        taken = False  # whether the option before the word takes it
        for word, following in pairwise((*words, None)):
            name, equals, value = str(word).partition("=")
            action = self._option_string_actions.get(name) if options and not taken else None
            if action is not None:
                taken = action.nargs != 0 and not equals
                empty = not value if equals else taken and following == ""
                if empty and action.nargs is None and action.metavar != "TEXT":
                    raise InputError(f"{name} must not be empty; got ''; name a value or leave the option out")
                continue
            if word == "" and not taken:
                if not places:
                    raise InputError(f"{self.prog} takes no argument ''; see {self.prog} --help")
                place = places[min(named, len(places) - 1)]
                what = str(place.metavar or place.dest)
                if "TEXT" not in what:
                    raise InputError(f"{what} must not be empty; got ''; give a name or a path")
            named, taken, options = named + (not taken), False, options and word != "--"

    def _today(self, word: str) -> str:
        name, equals, value = word.partition("=")
        if name not in self.renamed:
            return word
        self.old_names_used.append(name)
        return self.renamed[name] + equals + value

    def error(self, message: str) -> NoReturn:
        """Raise InputError with argparse's complaint as a sentence, which names options as they were written."""
        said = self._sentence(message)
        for old in self.old_names_used:
            said = re.sub(rf"{self.renamed[old]}(?![\w-])", old, said)
        raise InputError(said)

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        """To stdout, as --help is the only message; argparse's own hides that it could not be written."""
        print(message, end="", file=file)

    def _sentence(self, message: str) -> str:
        see = f"see {self.prog} --help"
        # Reported first: argparse reads -ngl of another tool as -n with the value gl.
        known = self._option_string_actions
        foreign = [
            name for name in self._given if re.fullmatch(r"-[a-z]{2,}|--[a-z][a-z-]*", name) and name not in known
        ]
        if foreign and not message.startswith("argument --"):
            return self._unknown(foreign[0])
        if unknown := re.match(r"unrecognized arguments: (\S+)", message):
            return self._unknown(unknown[1])
        if option := re.fullmatch(r"argument (\S+): (.*)", message, re.DOTALL):
            name = option[1].rpartition("/")[2] if option[1].startswith("-") else option[1]
            if option[2].startswith("expected"):
                return f"{name} must be followed by a value; got none; {see}"
            if other := re.fullmatch(r"not allowed with argument (\S+)", option[2]):
                return f"{name} and {other[1].rpartition('/')[2]} must not be given together; got both; {see}"
            if wrong := re.fullmatch(r"invalid (int|float) value: (.*)", option[2]):
                kind = "a whole number" if wrong[1] == "int" else "a number"
                return f"{name} must be {kind}; got {wrong[2]}; {see}"
            if not name.startswith("-"):  # an argument, which its sentence names
                return option[2]
            return self._as_written(option[1].split("/"), option[2]) or f"{name}: {option[2]}; {see}"
        if needed := re.fullmatch(r"one of the arguments (.*) is required", message):
            return f"one of {' or '.join(needed[1].split())} must be given; got neither; {see}"
        if needed := re.fullmatch(r"the following arguments are required: (.*)", message):
            return f"{needed[1].replace('-m/--model', '--model')} must be given; {see}"
        return f"{message}; {see}"

    def _as_written(self, names: list[str], said: str) -> str | None:
        """The message of one of our own types, with the option's name as it was written; None for any other."""
        begun = next((name for name in sorted(names, key=len, reverse=True) if said.startswith(name)), None)
        written = [name for name in self._given if name in names]
        return None if begun is None else (written or [begun])[-1] + said[len(begun) :]

    def _unknown(self, given: str) -> str:
        option = given.partition("=")[0]
        if not option.startswith("-"):
            meant = f"write --model {given} where it is a model, or see" if "--model" in self.options else "see"
            return f"{self.prog} takes no argument {given!r}; {meant} {self.prog} --help"
        return f"{self.prog} has no option {option}; {self._advice(option)}"

    def _advice(self, option: str) -> str:
        """The option of the same meaning, else the nearest in spelling, if one is near."""
        from difflib import get_close_matches

        from llamalab.cli.meanings import MEANT  # imported here: only a mistake needs it

        known = self.options

        def ours(name: str) -> list[str]:
            return [one for one in MEANT.get(name, ()) if one.partition(" ")[0] in known]

        meant = ours(option.lower())
        if not meant:
            others = [name for name in MEANT if len(name) > _SHORT_NAME and ours(name)]
            near = get_close_matches(option, [*known, *self.renamed, *others], n=1, cutoff=0.7)
            meant = [
                self.renamed.get(name, name) if name in (*known, *self.renamed) else ours(name)[0] for name in near
            ]
        return f"did you mean {meant[0]}?" if meant else f"see {self.prog} --help"
