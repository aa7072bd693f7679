"""`llamalab convert`: write a checkpoint in another format."""

import argparse

from llamalab.choices import ACTIVATION_DTYPES, QUANTISERS, WRITTEN_FORMATS
from llamalab.cli.arguments import add_count, count, one_of
from llamalab.files import check_exists
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
    parser.add_argument("source", metavar="IN", help="a checkpoint: a file, or a folder of Meta's or Hugging Face's")
    parser.add_argument("target", metavar="OUT", help="a new file, or a new folder for hf and meta")
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
    """Write the checkpoint and say what was written."""
    check_exists(args.source, "checkpoint")
    from llamalab.checkpoints.convert import Wishes, convert

    wishes = Wishes(args.dtype, args.shards, args.lora, args.vocab_size, args.tokenizer)
    print(printable(convert(args.source, args.target, args.to, wishes)))
    return 0
