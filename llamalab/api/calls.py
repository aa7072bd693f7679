"""From the arguments of a call to a verb's answer, parsed and checked with the defaults of the command line."""

import re
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from llamalab.api.results import Result
from llamalab.arch import LlamaArch
from llamalab.cli import verb_parser
from llamalab.cli.parser import Parser
from llamalab.cli.remarks import HEARD
from llamalab.errors import InputError, LlamaLabError
from llamalab.startup.hints import Any

_parser = lru_cache(maxsize=None)(verb_parser)


def answered(verb: str, **given: Any) -> Result:
    """The result of a verb under these options; None stands for an option's default.

    Raises what the verb raises, with arguments where its sentences name options.
    """
    with called(verb) as notes:
        module, args = parsed(verb, given)
        return Result(verb, module.answer(args), notes=notes)


@contextmanager
def called(verb: str) -> Iterator[list[str]]:
    """Collect the remarks of a call for its result, and raise its errors with arguments in place of options."""
    notes: list[str] = []
    before = HEARD.set(notes)
    try:
        yield notes
    except LlamaLabError as error:
        raise in_words_of_python(error, verb) from None
    finally:
        HEARD.reset(before)


def parsed(verb: str, given: dict[str, Any]) -> tuple[Any, Namespace]:
    """The module of a verb and its options as its parser reads them."""
    module, parser = _parser(verb)
    models = {name: value for name, value in given.items() if isinstance(value, LlamaArch)}
    if wrong := [name for name in models if name != "model"]:
        raise InputError(f"{wrong[0]} must be no architecture; got one; give it as model")
    others = [(name, value) for name, value in given.items() if value is not None and name not in models]
    argv = [word for name, value in others for word in _words(parser, name, value)]
    args = parser.read(argv)
    vars(args).update(models)
    return module, args


def _words(parser: Parser, name: str, value: Any) -> list[str]:
    """An argument as it would be written in a command line; a positional one begins with an underscore.

    Raises InputError for True and False where a value is taken: they would count as 1, or as nothing given.
    """
    option = f"--{name.replace('_', '-')}"
    if type(value).__name__ in ("bool", "bool_"):
        if takes := parser.takes_value(option):
            raise InputError(f"{name} must not be True or False; got {value}")
        return [option] if value or takes is None else []
    text = value if isinstance(value, str) else _text(value)
    if name.startswith("_"):
        return [text]
    return [f"{option}={text}"]


def _text(value: Any) -> str:
    """The text of an argument: numbers and names are joined by commas; sets, bytes and the like are refused."""
    if hasattr(value, "__iter__") and not isinstance(value, bytes | bytearray | dict | set | frozenset):
        return ",".join(str(one) for one in value)
    return str(value)


def in_words_of_python(error: LlamaLabError, verb: str) -> LlamaLabError:
    """An error whose sentence names arguments, not options of a command line."""
    said = re.sub(r"; see llamalab [\w-]+ --help", f"; see help(llamalab.{verb.replace('-', '_')})", str(error))
    said = re.sub(r"(?<![\w-])--([a-z][a-z-]*)", lambda option: option[1].replace("-", "_"), said)
    error.args, error.message, error.hint = (said,), said, ""
    return error
