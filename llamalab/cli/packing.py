"""`--packing` and `--document-tokens`: documents packed into a training sequence."""

import argparse

from llamalab.analytic.packing import packed, taught_tokens
from llamalab.cli.arguments import add_count, counts
from llamalab.cli.parser import Parser


def add_packing(parser: Parser) -> None:
    """The two options; documents_of reads them."""
    add_count(parser, "--packing", "documents in each sequence, each attending to itself (default: one fills it)")
    about = "tokens of a document, mean or one by one with commas; as many as fit, the rest is padding"
    parser.add_argument("--document-tokens", type=counts("--document-tokens"), metavar="N", help=about)


def documents_of(args: argparse.Namespace) -> tuple[int, ...]:
    """The lengths of a sequence's documents; none where nothing is packed. Raises InputError where they do not fit."""
    return packed(args.context, args.packing, args.document_tokens or ())


def said_of(seq: int, documents: tuple[int, ...]) -> str:
    """Documents and padding of a sequence in words; empty where nothing is packed.

    >>> said_of(4096, (1000,) * 4)
    '4 documents in each sequence, 97.7 % of the tokens are no padding'
    """
    if not documents:
        return ""
    number = f"{len(documents):,} document{'s' if len(documents) > 1 else ''}"
    return f"{number} in each sequence, {taught_tokens(seq, documents) / seq:.1%} of the tokens are no padding".replace(
        "%", " %"
    )
