"""`llamalab generate`: continue texts with a checkpoint, streaming.

The prompt is printed first, then the text as it is made, as llama2.c's run does. BOS and EOS end it. With --format or
--out texts are printed as a whole, with their costs.
Of several prompts the first unfinished one streams; the others run in the same batch and are printed after it.
"""

import argparse
from collections.abc import Sequence

from llamalab.choices import INFILL_ORDERS
from llamalab.cli.arguments import add_count, add_format, one_of
from llamalab.cli.delivery import give
from llamalab.cli.output import Answer, Table, note, show
from llamalab.cli.parser import Parser
from llamalab.cli.ranks import add_tensor_parallel
from llamalab.cli.text_options import (
    add_prompt_format,
    add_sampling,
    add_text_model,
    check_paths,
    check_sampling_options,
    open_model,
    open_tokenizer,
    print_text,
    sampler_of,
)
from llamalab.errors import InputError
from llamalab.files.inputs import read_bounded_text
from llamalab.startup.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamalab.cli.speed import Stopwatch
    from llamalab.text import Tokenizer
    from llamalab.text.generate import Generation

ON_RANKS = True
SUMMARY = "continue a text with a checkpoint"
EXAMPLES = (
    'llamalab generate --model stories260K.bin --tokenizer tok512.bin --text "Lily has a" --seed 7 --stats',
    "llamalab generate --model stories260K.bin --tokenizer tok512.bin --text-file prompts.txt --stop .",
    'llamalab generate --model CodeLlama-7b --infill "def add(a, b):\\n    " "\\n    return c"',
)


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    add_text_model(parser)
    add_tensor_parallel(parser)
    parser.add_argument(
        "--text", action="append", metavar="TEXT", help="what to continue; may be repeated (default: BOS alone)"
    )
    parser.add_argument("--text-file", metavar="FILE", help="more texts, one on each line that is not empty")
    parser.rename("--prompt", "--text")
    parser.rename("--prompts-file", "--text-file")
    parser.add_argument(
        "--infill", nargs=2, metavar=("PREFIX", "SUFFIX"), help="print what belongs between two texts (Code Llama)"
    )
    parser.add_argument(
        "--infill-order",
        type=one_of("--infill-order", INFILL_ORDERS),
        default=INFILL_ORDERS[0],
        metavar="|".join(INFILL_ORDERS),
        help=f"which of the two the model reads first (default: {INFILL_ORDERS[0]})",
    )
    add_prompt_format(parser)
    parser.add_argument("--no-echo", action="store_true", help="print the new text only")
    add_count(parser, "--generate", "tokens to make at most", default=256)
    parser.rename("--max-new-tokens", "--generate")
    add_sampling(parser)
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before this text; may be repeated"
    )
    parser.add_argument(
        "--logprobs",
        action="store_true",
        help="a table of every token's log-probability, the prompt's unless --no-echo",
    )
    parser.add_argument(
        "--stats", action="store_true", help="TTFT, tokens/s and their share of this machine's roofs, to stderr"
    )
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    """Print the prompts and their continuations."""
    check_paths(args)
    prompts = _prompts(args)
    # Options are checked before a checkpoint is opened.
    if "" in args.stop:
        raise InputError("--stop must have at least one character; got an empty text")
    check_sampling_options(args)
    tokenizer = open_tokenizer(args)
    prompts_ids, stop_ids = _prompts_ids(args, tokenizer, prompts)
    from llamalab.text.generate import Generation  # imported here: it imports torch

    model = open_model(args, tokenizer)
    generations = [
        Generation(
            model,
            prompt_ids,
            max_new_tokens=args.generate,
            sampler=sampler_of(args),
            stop_ids=stop_ids,
            kv_dtype=args.kv_dtype,
            vocab_size=tokenizer.vocab_size,
            score_prompt=args.logprobs and not args.no_echo,
        )
        for prompt_ids in prompts_ids
    ]
    watch = _stream(args, tokenizer, generations) if is_streamed(args) else _give(args, tokenizer, generations)
    if any(generation.finish_reason == "context" for generation in generations):
        note(f"the text ends where the model's context of {model.arch.max_positions:,} tokens is full")
    if args.stats:
        _print_stats(watch, generations, model.backend.algorithm)
    return 0


def is_streamed(args: argparse.Namespace) -> bool:
    """Whether text is printed as it is made; an answer in another form, or in a file, is written at the end."""
    return args.format == "table" and args.out is None


def _give(args: argparse.Namespace, tokenizer: "Tokenizer", generations: Sequence["Generation"]) -> "Stopwatch":
    from llamalab.cli.generate_output import collected, texts_answer

    texts, watch = collected(tokenizer, generations, args.stop, echo=not args.no_echo)
    tokens = _logprobs(tokenizer, generations) if args.logprobs else []
    give(texts_answer(args.model, texts, generations, watch, tokens), args)
    return watch


def _stream(args: argparse.Namespace, tokenizer: "Tokenizer", generations: Sequence["Generation"]) -> "Stopwatch":
    watch = _print_texts(args, tokenizer, generations)
    if args.logprobs:
        from llamalab.cli.generate_output import TOKENS

        tokens = _logprobs(tokenizer, generations)
        show(Answer({"tokens": tokens}, (), (Table(TOKENS, tokens),)), "table")
    return watch


def _prompts_ids(
    args: argparse.Namespace, tokenizer: "Tokenizer", prompts: list[str]
) -> tuple[list[list[int]], frozenset[int]]:
    """The ids to continue, one list a prompt, and those that end a text."""
    if args.infill is not None:
        from llamalab.text.infill import infill_ids, infill_marks

        ids = infill_ids(tokenizer, *args.infill, order=args.infill_order)
        return [ids], tokenizer.settings.stop_ids | {infill_marks(tokenizer).eot_id}
    if args.prompt_format is not None:
        from llamalab.text.dialog import check_marks
        from llamalab.text.prompt_formats import prompt_format

        form, _ = prompt_format(tokenizer, args.prompt_format)
        for prompt in prompts:
            check_marks(prompt, form.marks)
        return [form.asked([], [], prompt, system="") for prompt in prompts], form.stop_ids
    return [tokenizer.prompt_ids(prompt) for prompt in prompts], tokenizer.settings.stop_ids


def _prompts(args: argparse.Namespace) -> list[str]:
    if args.infill is not None:
        if args.text or args.text_file is not None or args.prompt_format is not None:
            raise InputError("--infill must be given alone; got it with a text or a prompt format")
        args.no_echo = True  # the prompt is two texts around what is printed
        return [""]
    prompts: list[str] = args.text or []
    if args.text_file is not None:
        text = read_bounded_text(args.text_file, "file of --text-file")
        # Other ends of lines, as U+2028, are part of a text.
        lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
        prompts = prompts + [line for line in lines if line.strip()]
        if not prompts:
            raise InputError(f"--text-file must have a line that is not empty; {args.text_file} has none")
    return prompts or [""]


def _print_texts(args: argparse.Namespace, tokenizer: "Tokenizer", generations: Sequence["Generation"]) -> "Stopwatch":
    from llamalab.cli.speed import Stopwatch
    from llamalab.text.batch import stream_texts

    watch, waiting, front = Stopwatch(len(generations)), [""] * len(generations), 0
    _print_title(0, len(generations))
    for row, text in stream_texts(tokenizer, generations, stops=args.stop, echo=not args.no_echo):
        watch.see(row, len(generations[row].ids))
        if row == front:
            print_text(text)
        else:
            waiting[row] += text
        if generations[front].finish_reason is not None and front + 1 < len(generations) and row != front:
            front = _move_on(front, generations, waiting)
    for row in range(front + 1, len(generations)):
        _print_next(row, generations, waiting)
    print_text("\n")
    return watch


def _move_on(front: int, generations: Sequence["Generation"], waiting: list[str]) -> int:
    """Print finished rows and the text so far of the first unfinished one; gives its number."""
    while generations[front].finish_reason is not None and front + 1 < len(generations):
        front += 1
        _print_next(front, generations, waiting)
    return front


def _print_next(row: int, generations: Sequence["Generation"], waiting: list[str]) -> None:
    print_text("\n")
    _print_title(row, len(generations))
    print_text(waiting[row])
    waiting[row] = ""


def _print_title(row: int, rows: int) -> None:
    if rows > 1:
        print_text(f"--- {row + 1} of {rows} ---\n")


def _logprobs(tokenizer: "Tokenizer", generations: Sequence["Generation"]) -> list[dict[str, Any]]:
    """The log-probability of every token, the prompt's where it was scored."""
    rows: list[dict[str, Any]] = []
    for number, generation in enumerate(generations, start=1):
        scored = [*generation.prompt_ids[1:]] if generation.prompt_logprobs else []
        logprobs = [*generation.prompt_logprobs, *generation.logprobs]
        for token_id, logprob in zip([*scored, *generation.ids], logprobs, strict=True):
            rows.append({"prompt": number, "id": token_id, "piece": tokenizer.label(token_id), "logprob": logprob})
    return rows


def _print_stats(watch: "Stopwatch", generations: Sequence["Generation"], attention: str) -> None:
    from llamalab.cli.speed import speed_summary

    for sentence in speed_summary(watch, generations, attention):
        note(sentence)
    for number, generation in enumerate(generations, start=1):
        which = f"prompt {number}: " if len(generations) > 1 else ""
        note(f"{which}tokens of prompt: {len(generation.prompt_ids)}; finished by {generation.finish_reason}")
