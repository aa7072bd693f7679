"""The options of verbs that make text: the model, its execution, and the choice of tokens."""

import argparse
import sys
from pathlib import Path

from llamalab.choices import ACTIVATION_DTYPES, ATTENTION_BACKENDS, PROMPT_FORMATS, TEXT_DEVICES
from llamalab.cli.arguments import add_count, add_kv_storage, add_place, add_weight_storage, one_of
from llamalab.cli.output import option_of
from llamalab.cli.parser import Parser
from llamalab.errors import InputError
from llamalab.files.inputs import check_exists
from llamalab.plain_text import printable
from llamalab.startup.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamalab.model import Transformer
    from llamalab.text import Tokenizer
    from llamalab.text.sampling import Sampler

MOST_PADDING = 256  # embeddings are padded to a multiple of this at most; a larger difference is another vocabulary


# The names of llamalab.text.prompt_formats, which would import Jinja2's users.
ATTENTION_HELP = f"{', '.join(ATTENTION_BACKENDS)} (default: sdpa, as PyTorch picks)"


def add_text_model(parser: Parser) -> None:
    """--model, --tokenizer and how they are run."""
    parser.add_argument("--model", required=True, metavar="PATH", help="a checkpoint of any format that is read")
    parser.rename("--checkpoint", "--model")
    parser.add_argument("--lora", metavar="FOLDER", help="an adapter in PEFT's layout to merge into the weights")
    parser.add_argument(
        "--tokenizer",
        metavar="FILE",
        help="tokenizer.json, .model, .bin, GGUF or a folder (default: the adapter's, the checkpoint's, one beside it)",
    )
    attention = one_of("--attention", ATTENTION_BACKENDS)
    parser.add_argument("--attention", type=attention, default="sdpa", metavar="NAME", help=ATTENTION_HELP)
    parser.add_argument(
        "--dtype",
        type=one_of("--dtype", ACTIVATION_DTYPES),
        metavar="|".join(ACTIVATION_DTYPES),
        help="of weights (default: the checkpoint's)",
    )
    add_weight_storage(parser)
    add_kv_storage(parser, "as the weights")
    add_place(parser, TEXT_DEVICES, "cpu")


def add_prompt_format(parser: argparse.ArgumentParser) -> None:
    """--prompt-format: how a question is put to the model."""
    parser.add_argument(
        "--prompt-format",
        type=one_of("--prompt-format", PROMPT_FORMATS),
        metavar="NAME",
        help=f"put questions as {', '.join(PROMPT_FORMATS[:-1])} or {PROMPT_FORMATS[-1]} wants them",
    )


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """How tokens are chosen."""
    parser.add_argument(
        "--temperature", type=float, default=0.6, metavar="T", help="0 takes the likeliest token (default: 0.6)"
    )
    add_count(parser, "--top-k", "draw from the k likeliest tokens only", metavar="K")
    parser.add_argument(
        "--top-p",
        type=float,
        default=0.9,
        metavar="P",
        help="draw from the likeliest tokens that together weigh P (default: 0.9; 1 for all)",
    )
    parser.add_argument(
        "--min-p", type=float, default=0.0, metavar="P", help="and that weigh at least P times the likeliest"
    )
    parser.add_argument(
        "--repetition-penalty",
        type=float,
        default=1.0,
        metavar="R",
        help="above 1: make tokens that were seen less likely (default: 1)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws; the same seed, the same text (default: 0)")


def sampler_of(args: argparse.Namespace) -> "Sampler":
    """A sampler as the options say, with a generator of its own."""
    from llamalab.text.sampling import Sampler

    return Sampler(**_sampling(args))


def check_sampling_options(args: argparse.Namespace) -> None:
    """Raise InputError for a setting of sampling that is out of its range; torch is not needed for it."""
    from llamalab.text.ranges import check_sampling

    check_sampling(**_sampling(args), spelled=option_of)


def _sampling(args: argparse.Namespace) -> dict[str, Any]:
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")
    return {name: getattr(args, name) for name in names}


def check_paths(args: argparse.Namespace) -> None:
    """Raise MissingError for a path that is not there, before torch is imported for it."""
    check_exists(args.model, "checkpoint")
    for path, what in ((args.lora, "adapter"), (args.tokenizer, "tokenizer")):
        if path is not None:
            check_exists(path, what)


def open_tokenizer(args: argparse.Namespace) -> "Tokenizer":
    """The tokenizer that is named, else the adapter's, else the checkpoint's own."""
    from llamalab.text import load_tokenizer, tokenizer_of
    from llamalab.text.load import has_tokenizer

    if args.tokenizer is not None:
        return load_tokenizer(args.tokenizer)
    if args.lora is not None and has_tokenizer(Path(args.lora)):
        return load_tokenizer(args.lora)
    return tokenizer_of(args.model)


def open_model(args: argparse.Namespace, tokenizer: "Tokenizer") -> "Transformer":
    """The checkpoint. Raises InputError where the tokenizer is of another vocabulary, padding and added pieces aside.

    A checkpoint's own tokenizer may be smaller by any number of pieces; one that was named by at most MOST_PADDING.
    """
    from llamalab.parallel.models import load_model

    options = {"dtype": args.dtype, "attention": args.attention, "lora": args.lora, "weight_dtype": args.weight_dtype}
    model = load_model(getattr(args, "team", None), args.model, device=args.device, **options)
    padding = model.arch.vocab_size - tokenizer.vocab_size
    is_own = args.tokenizer is None and Path(args.model).is_dir()
    added = sum(piece.token_id >= model.arch.vocab_size for piece in tokenizer.settings.added)
    if not -added <= padding or (padding > MOST_PADDING and not is_own):
        raise InputError(
            f"the checkpoint must have an embedding for each piece of the tokenizer, and at most {MOST_PADDING} more; "
            f"{args.tokenizer or 'the tokenizer beside it'} has {tokenizer.vocab_size:,}, {args.model} has "
            f"{model.arch.vocab_size:,}; choose the checkpoint's own with --tokenizer"
        )
    return model


def print_text(text: str) -> None:
    """To stdout at once. Control characters that a model makes up must not steer the terminal; white space may."""
    sys.stdout.write(printable(text))
    sys.stdout.flush()
