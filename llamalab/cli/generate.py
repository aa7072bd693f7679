"""`llamalab generate`: continue a text with a checkpoint, streaming.

The prompt is printed first, then the text as it is made, as llama2.c's run does. BOS and EOS end it.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from llamalab.cli.arguments import add_count
from llamalab.cli.output import note
from llamalab.errors import InputError
from llamalab.units import format_si

if TYPE_CHECKING:
    from llamalab.text import Tokenizer

SUMMARY = "continue a text with a checkpoint"
EXAMPLES = (
    "llamalab generate --checkpoint stories260K.bin --tokenizer tok512.bin --temperature 0",
    'llamalab generate --checkpoint stories260K.bin --tokenizer tok512.bin --prompt "Lily has a" --seed 7 --stats',
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    parser.add_argument("--checkpoint", required=True, metavar="FILE", help="a llama2.c checkpoint (v0, v1 or v2)")
    parser.add_argument("--tokenizer", required=True, metavar="FILE", help="its tokenizer.model or tokenizer.bin")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="what to continue (default: nothing, BOS alone)")
    add_count(parser, "--max-new-tokens", "tokens to make at most", default=256)
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
    parser.add_argument("--seed", type=int, default=0, help="of the draws; the same seed, the same text (default: 0)")
    parser.add_argument("--attention", default="sdpa", metavar="NAME", help="sdpa or naive (default: sdpa)")
    parser.add_argument(
        "--dtype", metavar="NAME", help="bf16, fp16 or fp32, of weights and cache (default: the checkpoint's)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("--stats", action="store_true", help="time to first token and tokens per second, to stderr")


def run(args: argparse.Namespace) -> int:
    """Print the prompt and its continuation."""
    from llamalab.text.sampling import Sampler

    # Everything that can be wrong with the options is said before a checkpoint is opened.
    sampler = Sampler(temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, seed=args.seed)
    from llamalab.checkpoints import load
    from llamalab.text import load_tokenizer
    from llamalab.text.generate import Generation

    tokenizer = load_tokenizer(args.tokenizer)
    prompt_ids = tokenizer.encode(args.prompt, bos=True)
    model = load(args.checkpoint, dtype=args.dtype, device=args.device, attention=args.attention)
    if tokenizer.vocab_size != model.arch.vocab_size:
        raise InputError(
            f"the tokenizer must have as many pieces as the checkpoint has embeddings; {args.tokenizer} has "
            f"{tokenizer.vocab_size:,}, {args.checkpoint} has {model.arch.vocab_size:,}; choose the checkpoint's own"
        )
    generation = Generation(
        model,
        prompt_ids,
        max_new_tokens=args.max_new_tokens,
        sampler=sampler,
        stop_ids=(tokenizer.bos_id, tokenizer.eos_id),
    )
    clock = _Clock()
    _stream(tokenizer, prompt_ids, clock.watch(generation))
    if generation.finish_reason == "context":
        note(f"the text ends where the model's context of {model.arch.max_positions:,} tokens is full")
    if args.stats:
        note(f"{clock.summary()}; tokens of prompt: {len(prompt_ids)}; finished by {generation.finish_reason}")
    return 0


class _Clock:
    """When the first and the last token came, and how many."""

    def __init__(self) -> None:
        self.tokens = 0
        self.to_first_s = self.to_last_s = 0.0

    def watch(self, token_ids: Iterable[int]) -> Iterator[int]:
        from time import perf_counter

        start = perf_counter()
        for token_id in token_ids:
            self.to_last_s = perf_counter() - start
            if not self.tokens:
                self.to_first_s = self.to_last_s
            self.tokens += 1
            yield token_id

    def summary(self) -> str:
        if self.tokens == 0:
            return "no new token: TTFT and tokens/s are not measured"
        ttft = f"TTFT {format_si(self.to_first_s, 's')}"
        if self.tokens == 1:
            return f"{ttft}; 1 new token: tokens/s of decode is not measured"
        decode_s = self.to_last_s - self.to_first_s
        return f"{ttft}; decode {(self.tokens - 1) / decode_s:.1f} tokens/s ({self.tokens} new tokens)"


def _stream(tokenizer: "Tokenizer", prompt_ids: list[int], new_ids: Iterable[int]) -> None:
    from llamalab.text import decode_stream

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # where the terminal is not UTF-8
    for text in decode_stream(tokenizer, chain(prompt_ids, new_ids)):
        sys.stdout.write("".join(filter(_printable, text)))
        sys.stdout.flush()
    sys.stdout.write("\n")


def _printable(character: str) -> bool:
    """Control characters that a model makes up must not steer the terminal; white space may."""
    return character in "\t\n\r" or not (character < " " or "\x7f" <= character <= "\x9f")
