"""`llamalab chat`: a conversation in the terminal, in the checkpoint's own format or Llama 2 Chat's.

Each question costs only its new tokens: earlier ones are in the KV cache. Ctrl-C ends the answer and not the program;
the end of input, or /quit, ends the program.
"""

import argparse
from collections.abc import Callable
from contextlib import closing, suppress

from llamalab.cli.arguments import add_count
from llamalab.cli.output import note, option_of
from llamalab.cli.parser import Parser
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
from llamalab.errors import InputError, UnknownNameError
from llamalab.formatting import format_rate
from llamalab.startup.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from llamalab.text.chat import Chat

SUMMARY = "talk with a checkpoint"
EXAMPLES = (
    "llamalab chat --model llama-2-7b-chat --tokenizer tokenizer.model",
    'llamalab chat --model llama-2-7b-chat.gguf --system "Answer in one sentence." --temperature 0',
    "llamalab chat --model chinese-alpaca-2-7b --prompt-format chinese-alpaca-2",
)
HELP = """/help           this
/history        the conversation so far
/reset          begin a new conversation
/system TEXT    begin a new conversation with this system prompt; without TEXT, with none
/quit           end (so does Ctrl-D); Ctrl-C ends an answer
"""


def configure(parser: Parser) -> None:
    """Add the options of the verb."""
    add_text_model(parser)
    parser.add_argument("--system", default="", metavar="TEXT", help="the system prompt (default: none)")
    add_count(parser, "--generate", "tokens of an answer at most", default=512)
    parser.rename("--max-new-tokens", "--generate")
    add_prompt_format(parser)
    add_sampling(parser)
    parser.add_argument("--stats", action="store_true", help="TTFT, tokens/s and what the cache saved, to stderr")


def run(args: argparse.Namespace) -> int:
    """Talk until the end of input."""
    check_paths(args)
    check_sampling_options(args)
    from llamalab.text.dialog import check_marks
    from llamalab.text.prompt_formats import prompt_format

    tokenizer = open_tokenizer(args)
    form, remark = prompt_format(tokenizer, args.prompt_format)
    if remark:
        note(remark)
    check_marks(args.system, form.marks)
    model = open_model(args, tokenizer)
    from llamalab.text.chat import Chat

    chat = Chat(
        model,
        tokenizer,
        sampler=lambda: sampler_of(args),
        system=args.system,
        max_new_tokens=args.generate,
        kv_dtype=args.kv_dtype,
        form=form,
    )
    with suppress(ImportError):
        import readline  # noqa: F401  # gives input() line editing and the lines before
    print_text("Type a question, or /help.\n")
    while (line := _next_line()) is not None:
        if not line.strip():
            continue
        try:
            if line.startswith("/"):
                if not _command(chat, line):
                    return 0
            else:
                _answer(chat, line, stats=args.stats)
        except InputError as error:
            note(error.spelled(option_of))
    return 0


def _next_line() -> str | None:
    """A line without its end; empty after Ctrl-C, None at the end of input."""
    try:
        return input("> ")
    except EOFError:
        print_text("\n")
        return None
    except KeyboardInterrupt:
        print_text("\n")
        note("nothing to stop; /quit or Ctrl-D ends the program")
        return ""


def _answer(chat: "Chat", question: str, *, stats: bool) -> None:
    from llamalab.cli.speed import Stopwatch

    reused, watch = chat.cache.length, Stopwatch(1)
    try:
        # Closed explicitly: Ctrl-C between two tokens must end the answer just as Ctrl-C during one.
        with closing(chat.ask(question)) as answer:
            for text in answer:
                watch.see(0, len(chat.answer_ids))
                print_text(text)
    except KeyboardInterrupt:
        print_text(" [stopped]")
    print_text("\n")
    if chat.finish_reason == "context":
        note(f"the model's context of {chat.cache.max_tokens:,} tokens is full; /reset begins anew")
    if stats:
        rate = f"; {format_rate(watch.decoded / watch.decode_s)} tokens/s" if watch.decoded else ""
        note(
            f"TTFT {1e3 * watch.first_s:.1f} ms{rate}; {reused} of the conversation's {len(chat.ids)} tokens "
            f"were in the cache, {watch.tokens} are new"
        )


def _command(chat: "Chat", line: str) -> bool:
    """Execute a line with a slash; False for /quit."""
    word, _, rest = line.strip().partition(" ")
    commands: dict[str, Callable[[], None]] = {
        "/help": lambda: print_text(HELP),
        "/history": lambda: _print_history(chat),
        "/reset": lambda: _reset(chat, None),
        "/system": lambda: _reset(chat, rest.strip()),
        "/quit": lambda: None,
    }
    if word not in commands:
        raise UnknownNameError("a command", word, commands)
    commands[word]()
    return word != "/quit"


def _reset(chat: "Chat", system: str | None) -> None:
    chat.reset(system=system)
    note("a new conversation" + (f"; system prompt: {chat.system}" if chat.system else ""))


def _print_history(chat: "Chat") -> None:
    if chat.system:
        print_text(f"system: {chat.system}\n")
    for message in chat.messages:
        print_text(f"{message.role}: {message.content}\n")
