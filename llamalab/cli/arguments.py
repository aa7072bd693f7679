"""The options that verbs share, with one name and one meaning on all of them.

--prompt      new tokens that a pass reads at once      --generate   tokens made one by one after them
--context     tokens in view, the new ones included     --batch      sequences side by side
--text        what is written, where a verb makes text  --model      a preset, a JSON file or a checkpoint
--hardware    a device of the table                     --device     what of this machine runs it
"""

import argparse
from collections.abc import Callable, Iterable

from llamalab.arch import LlamaArch
from llamalab.choices import ATTENTION_BACKENDS, FORMATS, NUMBERED_DEVICES, plain_dtype
from llamalab.cli.find_model import find_model, split_paths
from llamalab.errors import InputError, UnknownNameError
from llamalab.startup.hints import TYPE_CHECKING, TypeVar
from llamalab.units import DTYPES, PLAIN_DTYPES, QUANTISED, parse_count, parse_memory

if TYPE_CHECKING:
    from pathlib import Path

MODEL_NAMES = "a preset (see llamalab models), a params.json or config.json, or a checkpoint"
MODEL_HELP = f"{MODEL_NAMES} (default: 7b)"
T = TypeVar("T")


def count(option: str) -> Callable[[str], int]:
    """An argparse type: a count of at least 1, as units.parse_count reads it."""
    return _sentenced(lambda text: parse_count(text, option))


def counts(option: str) -> Callable[[str], list[int]]:
    """An argparse type: counts, as counts.parse_counts reads them."""

    def read(text: str) -> list[int]:
        from llamalab.cli.counts import parse_counts  # imported here: a verb with its defaults reads none

        return parse_counts(text, option)

    return _sentenced(read)


def file_path(text: str) -> "Path":
    """An argparse type: a path."""
    from pathlib import Path  # imported here: most calculations name no file

    return Path(text)


def bytes_of_option(option: str) -> Callable[[str], int]:
    """An argparse type: bytes, as units.parse_memory reads them."""
    return _sentenced(lambda text: parse_memory(text, option))


def one_of(option: str, known: Iterable[str]) -> Callable[[str], str]:
    """An argparse type: one of the known words; the nearest is named for any other. Dtypes by any of their names."""
    words = tuple(known)

    def read(text: str) -> str:
        word = plain_dtype(text) if text not in words and option.endswith("dtype") else text
        if word not in words:
            raise UnknownNameError(option, text, words)
        return word

    return _sentenced(read)


def some_of(option: str, known: Iterable[str]) -> Callable[[str], list[str]]:
    """An argparse type: words with commas between them, as one_of reads each."""
    read = one_of(option, known)
    return lambda text: [read(word.strip()) for word in text.split(",")]


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
    parser: argparse.ArgumentParser,
    option: str,
    about: str,
    *,
    default: int | None = None,
    metavar: str = "N",
    dest: str | None = None,
) -> None:
    """An option that takes a count: 4096, 4_096 or 4k."""
    shown = f"{about} (default: {default})" if default is not None else about
    name = dest or option.lstrip("-").replace("-", "_")
    parser.add_argument(option, type=count(option), default=default, metavar=metavar, help=shown, dest=name)


def add_counts(
    parser: argparse.ArgumentParser, option: str, about: str, *, default: int | None, short: str | None = None
) -> None:
    """An option that takes one count or several: 4096, 512,1024 or 512-4096*2."""
    shown = f"{about} (default: {default})" if default is not None else about
    names = (short, option) if short else (option,)
    given = None if default is None else [default]
    parser.add_argument(*names, type=counts(option), default=given, metavar="N", help=shown)


def add_model(parser: argparse.ArgumentParser) -> None:
    """--model and --kv-heads; chosen_model reads them."""
    parser.add_argument("--model", default="7b", help=MODEL_HELP)
    add_count(parser, "--kv-heads", "KV heads in place of the model's own; must divide its query heads")


def add_dtypes(parser: argparse.ArgumentParser, about: str, *, known: Iterable[str] = PLAIN_DTYPES) -> None:
    """--dtype, one or several; with `known` also quantised types, which only weights have."""
    words = tuple(known)
    parser.add_argument(
        "--dtype",
        type=some_of("--dtype", words),
        default=["bf16"],
        metavar="|".join(words),
        help=f"{about} (default: bf16)",
    )


def add_part_dtypes(
    parser: argparse.ArgumentParser, *, weights: Iterable[str] = DTYPES, cache: Iterable[str] = PLAIN_DTYPES
) -> None:
    """--weight-dtype and --kv-dtype, one or several; None for the dtype of --dtype."""
    for option, known, part in (("--weight-dtype", weights, "weights"), ("--kv-dtype", cache, "KV cache")):
        words = tuple(known)
        parser.add_argument(
            option,
            type=some_of(option, words),
            metavar="|".join(words),
            help=f"storage of the {part} (default: as --dtype)",
        )


def add_weight_storage(parser: argparse.ArgumentParser) -> None:
    """--weight-dtype of a model that is run: the quantised storages, None where matrices are in --dtype."""
    parser.add_argument(
        "--weight-dtype",
        type=one_of("--weight-dtype", QUANTISED),
        metavar="|".join(QUANTISED),
        help="storage of the matrices, which are quantised to it (default: as --dtype)",
    )


def add_backend(parser: argparse.ArgumentParser) -> None:
    """--attention of a model that is run: a backend by its name."""
    parser.add_argument(
        "--attention",
        type=one_of("--attention", ATTENTION_BACKENDS),
        metavar="NAME",
        help=f"{', '.join(ATTENTION_BACKENDS)} (default: the fastest of the device)",
    )


def add_kv_storage(parser: argparse.ArgumentParser, usual: str = "as --dtype") -> None:
    """--kv-dtype of a model that is run, None where the cache is in `usual`."""
    parser.add_argument(
        "--kv-dtype",
        type=one_of("--kv-dtype", PLAIN_DTYPES),
        metavar="|".join(PLAIN_DTYPES),
        help=f"storage of the KV cache (default: {usual})",
    )


def add_place(parser: argparse.ArgumentParser, kinds: Iterable[str], default: str) -> None:
    """--device where one of several of a kind can be named: cuda is cuda:0."""
    words = tuple(kinds)

    def read(text: str) -> str:
        kind, colon, number = text.partition(":")
        if kind not in words or (colon and not (kind in NUMBERED_DEVICES and number.isdecimal())):
            raise InputError(f"--device must be {', '.join(words)} or cuda:N; got {text!r}; try cpu")
        return text

    about = f"{', '.join(words)} or cuda:N (default: {default})"
    parser.add_argument("--device", type=_sentenced(read), default=default, metavar="NAME", help=about)


def add_shared(parser: argparse.ArgumentParser) -> None:
    """`--tensor-parallel N` of a calculation, one or several: devices that share the model."""
    parser.add_argument(
        "--tp",
        "--tensor-parallel",
        dest="tensor_parallel",
        type=counts("--tensor-parallel"),
        default=[1],
        metavar="N",
        help="devices that share the model (default: 1)",
    )


def add_format(parser: argparse.ArgumentParser) -> None:
    """--format, --out and -v: how the answer is shown, and where."""
    add_choice(parser, "--format", FORMATS, "table", "how the answer is printed")
    parser.add_argument("--out", metavar="FILE", help="write the answer to a file instead of printing it")
    add_verbose(parser)


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """-v: the table whole."""
    parser.add_argument("-v", "--verbose", action="store_true", help="every column, however wide, with the sources")


def chosen_model(args: argparse.Namespace) -> tuple[str, LlamaArch]:
    """The name and architecture that --model and --kv-heads choose."""
    name, arch = find_model(args.model)
    return name, arch if args.kv_heads is None else arch.replace(n_kv_heads=args.kv_heads)


def chosen_models(text: str | LlamaArch) -> list[tuple[str, LlamaArch]]:
    """The names and architectures of --model with commas; from Python an architecture may be passed itself."""
    return [find_model(name) for name in named_models(text)]


def named_models(text: str | LlamaArch) -> list[str] | list[LlamaArch]:
    """What --model with commas names, one by one."""
    return [text] if isinstance(text, LlamaArch) else split_paths(text) or [text]


def _sentenced(read: Callable[[str], T]) -> Callable[[str], T]:
    """Raise InputErrors as ArgumentTypeErrors: argparse replaces the message of any other ValueError by its own."""

    def parse(text: str) -> T:
        try:
            return read(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse
