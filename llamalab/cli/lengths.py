"""The lengths of a run: --prompt and --generate, or --context, their sum, in place of either."""

import argparse
from itertools import product

from llamalab.cli.arguments import add_counts
from llamalab.errors import InputError


def add_lengths(parser: argparse.ArgumentParser, *, prompt: int, generate: int) -> None:
    """--prompt, --generate and --context of a whole run; run_lengths reads them."""
    add_counts(parser, "--prompt", f"prompt tokens (default: {prompt})", default=None)
    add_counts(parser, "--generate", f"tokens generated after the prompt (default: {generate})", default=None)
    about = "tokens in view at the end of the run, prompt and generated ones together, in place of one of the two"
    add_counts(parser, "--context", about, default=None)
    parser.set_defaults(usual_prompt=prompt, usual_generate=generate)


def run_lengths(args: argparse.Namespace) -> list[tuple[int, int]]:
    """Prompt and generated tokens of every run that the three options span.

    Raises InputError where all three are given, and for a context that leaves no token to the other part.
    """
    if args.context is None:
        return list(product(args.prompt or [args.usual_prompt], args.generate or [args.usual_generate]))
    if args.prompt and args.generate:
        raise InputError("--context is --prompt and --generate together; got all three; leave one of them out")
    if args.prompt:
        pairs = product(args.context, args.prompt)
        return [(prompt, _rest(context, prompt, "--prompt")) for context, prompt in pairs]
    pairs = product(args.context, args.generate or [args.usual_generate])
    return [(_rest(context, made, "--generate"), made) for context, made in pairs]


def held_lengths(args: argparse.Namespace, usual: int) -> list[int]:
    """Tokens of each sequence at its end: --context, or --prompt and --generate together, or `usual`.

    Raises InputError for both.
    """
    parts = [sum(both) for both in product(args.prompt or [0], args.generate or [0])]
    if args.context is not None and parts != [0]:
        raise InputError("--context is --prompt and --generate together; got it beside them; give one of the two")
    return args.context or (parts if parts != [0] else [usual])


def _rest(context: int, part: int, option: str) -> int:
    if context <= part:
        raise InputError(f"--context must be more than {option}, {part} tokens; got {context}")
    return context - part
