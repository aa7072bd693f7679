"""`llamalab tokenizer`: train a vocabulary, encode and decode text, and show a checkpoint's text settings."""

import argparse
import sys

from llamalab.cli.arguments import add_count, one_of
from llamalab.cli.output import note
from llamalab.errors import InputError
from llamalab.plain_text import printable
from llamalab.startup.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SUMMARY = "train a tokenizer, encode and decode with one, or show its settings"
EXAMPLES = (
    "llamalab tokenizer train IN.txt OUT.model --vocab-size 4096",
    'llamalab tokenizer encode tokenizer.model "[INST] what is the recipe of mayonnaise? [/INST]" --bos',
    "llamalab tokenizer show llama-2-7b-chat-hf",
)
ACTIONS = ("train", "encode", "decode", "show")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("action", type=one_of("action", ACTIONS), metavar="|".join(ACTIONS), help="what to do")
    parser.add_argument("file", nargs="?", metavar="FILE", help="the text to train on; the tokenizer, or its folder")
    parser.add_argument(
        "rest",
        nargs="*",
        metavar="OUT|TEXT|ID",
        help="train: the tokenizer.model to write; encode: texts (default: stdin); decode: ids (default: stdin)",
    )
    about = "the tokenizer, or the checkpoint that has one, in the place of FILE; all that follows is OUT, TEXT or ID"
    parser.add_argument("--model", metavar="PATH", help=about)
    add_count(parser, "--vocab-size", "train: pieces, the 3 fixed ids and 256 bytes among them", default=32_000)
    parser.add_argument("--bos", action="store_true", help="encode: begin with BOS")
    parser.add_argument("--pieces", action="store_true", help="encode: a line for each id, with its piece")


def run(args: argparse.Namespace) -> int:
    """Train, encode, decode or show, as the options say."""
    if args.model is not None:
        if args.action == "train":
            raise InputError("--model must name a tokenizer that is there; train makes one; give IN.txt and OUT.model")
        args.file, args.rest = args.model, [*([] if args.file is None else [args.file]), *args.rest]
    if args.file is None:
        raise InputError("one tokenizer must be named, as FILE or with --model; see llamalab tokenizer --help")
    return {"train": _train, "encode": _encode, "decode": _decode, "show": _show}[args.action](args)


def _train(args: argparse.Namespace) -> int:
    if len(args.rest) != 1:
        raise InputError(f"tokenizer train must be given IN.txt and one OUT.model; got {len(args.rest)} outputs")
    from llamalab.text.train import train_tokenizer

    train_tokenizer(args.file, args.rest[0], vocab_size=args.vocab_size)
    note(f"{args.rest[0]} has {args.vocab_size:,} pieces")
    return 0


def _encode(args: argparse.Namespace) -> int:
    from llamalab.text import load_tokenizer

    tokenizer = load_tokenizer(args.file)
    for text in args.rest or [sys.stdin.read()]:
        ids = tokenizer.encode(text, bos=args.bos)
        if args.pieces:
            import json

            for token_id in ids:
                print(token_id, json.dumps(tokenizer.label(token_id)), sep="\t")
        else:
            print(*ids)
    return 0


def _decode(args: argparse.Namespace) -> int:
    from llamalab.text import decode, load_tokenizer

    tokenizer = load_tokenizer(args.file)
    words = args.rest or sys.stdin.read().split()
    try:
        ids = [int(word) for word in words]
    except ValueError:
        raise InputError(f"ids to decode must be whole numbers; got {' '.join(words)[:40]!r}") from None
    print(printable(decode(tokenizer, ids)))
    return 0


def _show(args: argparse.Namespace) -> int:
    """The text settings of a checkpoint, one a line."""
    from llamalab.text import load_tokenizer

    tokenizer = load_tokenizer(args.file)
    settings = tokenizer.settings

    def named(ids: "Iterable[int | None]") -> str:
        return ", ".join(f"{index} {tokenizer.name(index)!r}" for index in ids if index is not None) or "none"

    added = [f"{piece.token_id} {piece.text!r}" for piece in settings.added]
    around = [name for name, is_put in (("BOS", settings.add_bos), ("EOS", settings.add_eos)) if is_put]
    rows = {
        "pieces": f"{tokenizer.vocab_size:,}",
        "BOS": named([settings.bos_id]),
        "EOS": named([settings.eos_id]),
        "unknown": named([settings.unknown_id]),
        "padding": named([settings.pad_id]),
        "end of a text": named(sorted(settings.stop_ids)),
        "stop strings": ", ".join(map(repr, settings.stop_strings)) or "none",
        "around a prompt": " and ".join(around) or "nothing",
        "cut out of a text": ", ".join(added[:8]) + (f" and {len(added) - 8} more" if len(added) > 8 else "") or "none",
        "infilling": named(settings.infill or ()),
        "chat template": "none" if settings.chat_template is None else f"{len(settings.chat_template):,} characters",
    }
    for name, value in rows.items():
        print(f"{name + ':':<18} {value}")
    return 0
