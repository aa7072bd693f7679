"""`llamalab convert`: write a checkpoint in another format."""

import argparse

from llamalab.choices import ACTIVATION_DTYPES, QUANTISERS, WRITTEN_FORMATS
from llamalab.cli.arguments import add_count, count, one_of
from llamalab.errors import InputError
from llamalab.extras import check_extra
from llamalab.files.inputs import check_exists
from llamalab.plain_text import printable
from llamalab.text.vocabularies import VOCABULARIES

SUMMARY = "write a checkpoint in another format"
EXAMPLES = (
    "llamalab convert llama-2-7b merged-hf --to hf --dtype fp16 --lora adapter",
    "llamalab convert llama-2-13b-hf llama-2-13b --to meta --shards 2",
    "llamalab convert stories260K.bin stories.gguf --to gguf --dtype q8_0",
)
_DTYPES = ACTIVATION_DTYPES + QUANTISERS


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `llamalab convert`."""
    about = "a checkpoint: a file, or a folder of Meta's or Hugging Face's; or --model"
    parser.add_argument("source", nargs="?", metavar="IN", help=about)
    parser.add_argument(
        "target", nargs="?", metavar="OUT", help="a new file, or a new folder for hf and meta; or --out"
    )
    parser.add_argument("--model", metavar="PATH", help="as IN")
    parser.add_argument("--out", metavar="PATH", help="as OUT")
    parser.add_argument(
        "--to",
        required=True,
        type=one_of("--to", WRITTEN_FORMATS),
        metavar="|".join(WRITTEN_FORMATS),
        help="what to write",
    )
    parser.add_argument(
        "--dtype",
        type=one_of("--dtype", _DTYPES),
        metavar="|".join(_DTYPES),
        help="of the weights written (default: as they are; q8_0 to q4_k in gguf only)",
    )
    add_count(parser, "--shards", "files to split the weights into, as Meta does; meta only", default=1)
    parser.add_argument("--lora", metavar="FOLDER", help="an adapter in PEFT's layout to merge in")
    parser.add_argument(
        "--vocab-size",
        type=lambda text: VOCABULARIES.get(text) or count("--vocab-size")(text),
        metavar="N|NAME",
        help=f"tokens to grow or cut the vocabulary to; by name {', '.join(VOCABULARIES)}",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="FILE",
        help="tokenizer file or folder to write in place of the source's own (default: the adapter's, or the source's)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the checkpoint and print a description of it."""
    source, target = _ends(args)
    for path, what in ((source, "checkpoint"), (args.lora, "adapter"), (args.tokenizer, "tokenizer")):
        if path is not None:
            check_exists(path, what)
    if args.to == "onnx":
        check_extra("onnx", "ONNX")
    from llamalab.checkpoints.convert import Wishes, convert

    wishes = Wishes(args.dtype, args.shards, args.lora, args.vocab_size, args.tokenizer)
    print(printable(convert(source, target, args.to, wishes)))
    return 0


def _ends(args: argparse.Namespace) -> tuple[str, str]:
    """Source and target, positional or as options. Raises InputError where one is missing or given twice."""
    places = iter([one for one in (args.source, args.target) if one is not None])
    source = args.model if args.model is not None else next(places, None)
    target = args.out if args.out is not None else next(places, None)
    if source is None or target is None or next(places, None) is not None:
        raise InputError("a conversion must have one checkpoint and one target, as IN OUT or with --model and --out")
    return source, target
