"""The command `llamalab VERB`: finds the verb, imports its module only, turns errors into exit codes.

Exit codes: 0 done, 2 bad input, 3 something needed is missing or does not fit, 130 interrupted, 129 hung up,
143 terminated, 141 broken pipe.
Data goes to stdout, everything else to stderr.

Belongs here: one module a verb (`SUMMARY`, `EXAMPLES`, `configure`, and `answer`, which is printed and which Python's
call gets, or `run` where more happens), and what several verbs share: `arguments`, `output`, `runs`, `devices`. A
verb is added as a module and a row of VERBS.
Does not belong here: figures that the library cannot give; a verb parses, calls and prints.
"""

import atexit
import gc
import sys
from collections.abc import Callable, Sequence

from llamalab.cli import streams
from llamalab.cli.signals import ended_as_by_signal
from llamalab.errors import InputError, LlamaLabError, MissingError, UnavailableError, UnknownNameError
from llamalab.plain_text import sentence
from llamalab.startup.hints import TYPE_CHECKING
from llamalab.startup.large_pages import ask_for_large_pages

if TYPE_CHECKING:
    from llamalab.cli.parser import Parser
    from llamalab.startup.hints import Any

# Static, so that the overview and an unknown verb cost no import of all their modules.
VERBS = {
    "kv": "size of the KV cache, under MHA, GQA and MQA",
    "params": "parameters and weight bytes, by component",
    "flops": "FLOPs, bytes and intensity of prefill or decode, operation by operation",
    "fit": "whether a run fits into a memory, term by term, and the largest that does",
    "models": "the known models and their sizes",
    "diff-arch": "what differs between two models, and what each difference costs",
    "hardware": "data-sheet peaks, bandwidth and memory of known devices",
    "train": "train a small model on a text: loss, tokens/s and MFU, with the step predicted beside the measured",
    "generate": "continue a text with a checkpoint",
    "chat": "talk with a checkpoint",
    "tokenizer": "train a tokenizer, encode and decode with one, or show its settings",
    "inspect": "what a checkpoint is, tensor by tensor, without loading its weights",
    "convert": "write a checkpoint in another format",
    "attention": "attention backends measured against naive and against prediction, and where flash wins",
    "taps": "the points at which a model can be tapped, with their shapes",
    "tour": "one pass of a sentence, operation by operation: shape, cost, time, values, what attention looks at",
    "bench": "tokens per second of prompts and generation over depth and batch, as llama-bench measures them",
    "profile": "where the time and the memory of a pass go, operation by operation",
    "report": "measure this machine and write predicted against measured as HTML",
    "gallery": "errors of the predictions over all records of a folder, as one page",
    "doctor": "what is installed, what is missing and the command that mends it",
    "calibrate": "this machine's own constants, fitted in under a minute and checked on other shapes",
    "predict": "predicted time of prefill, decode and a whole run, with its bound and its interval",
    "roofline": "what limits each operation on a device, and what would move it",
    "compare-hardware": "devices and device counts ranked by latency and throughput, and what fits",
    "plan": "the ways to split a model over devices, ranked, with why each other one loses",
    "score": "how far predictions are from the measured runs of a CSV file, by stack, device and phase",
    "train-memory": "memory and FLOPs of a training step, by recomputation level",
    "tune": "memory per device, FLOPs and time of full training, LoRA and QLoRA, with ZeRO, parallelism and offload",
    "compare": "runs, predictions or other tools' results held against each other, operation by operation",
    "completion": "completion of verbs and options for bash, zsh or fish",
    "man": "the manual page",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `llamalab` with `argv` (default: the process's arguments) and return its exit code."""
    streams.prepare()
    ask_for_large_pages()  # before any verb imports torch
    _leave_at_once()
    with ended_as_by_signal():
        code = _ended(lambda: _run(sys.argv[1:] if argv is None else list(argv)))
        # Flushed in any case: a write error may appear only here.
        return _ended(_flush) or code


def _leave_at_once() -> None:
    """End the process without freeing memory, which saves 3 ms."""
    atexit.unregister(gc.freeze)  # registered once, however often main is called
    atexit.register(gc.freeze)


def _ended(run: Callable[[], int]) -> int:
    """The exit code of `run`, whatever it raises; only internal errors pass unchanged."""
    try:
        return run()
    except LlamaLabError as error:
        from llamalab.cli.output import option_of

        return _say(error.spelled(option_of), error.exit_code)
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except SystemExit as stop:  # --help has been printed, or a signal has come
        return int(stop.code or 0)
    except BrokenPipeError:  # the reader has closed the pipe
        streams.discard()
        return 141
    except Exception as error:
        # Imported here: a calculator without an error must not wait for it.
        from llamalab.cli.system import sentence_of

        if (said := sentence_of(error)) is None:
            raise
        return _say(said, UnavailableError.exit_code)


def _flush() -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        streams.discard()
        raise MissingError(f"standard output must take the answer; {error.strerror}; write it elsewhere") from None
    return 0


def _say(said: str, code: int) -> int:
    print(f"llamalab: {sentence(said)}", file=sys.stderr)
    return code


def _run(argv: list[str]) -> int:
    if not argv:
        print(_greeting())
        return 0
    verb = argv[0]
    if verb in ("-h", "--help"):
        print(_overview())
        return 0
    if verb == "help":
        return _run([argv[1], "--help"] if len(argv) > 1 else ["--help"])
    if verb == "--version":
        from llamalab.version import __version__

        print(f"llamalab {__version__}")
        return 0
    if verb.startswith("-"):
        raise InputError(f"options must follow a verb; got {verb!r}; see llamalab --help")
    if verb not in VERBS:
        from llamalab.cli.meanings import VERBS_MEANT  # imported here: only a mistake needs it

        meant = VERBS_MEANT.get(verb.lower())
        raise UnknownNameError("verb", verb, VERBS, nearest=[meant] if meant else None)
    return _run_verb(verb, argv[1:])


def _run_verb(verb: str, argv: list[str]) -> int:
    from llamalab.cli import ranks
    from llamalab.cli.delivery import run_module
    from llamalab.cli.remarks import SAID

    SAID.set(set())
    spoken = ranks.hush()
    module, parser = verb_parser(verb)
    args = parser.read(argv)
    try:
        if getattr(args, "out", None) is not None:
            from llamalab.cli.asked_files import check_out  # imported here: most answers are printed

            check_out(args)
        if getattr(args, "device", None) is not None:
            from llamalab.measure.device.kinds import check_driver

            check_driver(args.device)
        if getattr(module, "ON_RANKS", False):
            code = ranks.run_verb(module, args, [verb, *argv], spoken)
        else:
            code = 0 if spoken is not None else run_module(module, args)
        for old in parser.old_names_used:
            print(f"note: {old} is called {parser.renamed[old]} now", file=sys.stderr)
        return code
    except ModuleNotFoundError as absent:
        if (absent.name or "").partition(".")[0] == "llamalab":
            raise
        from llamalab.extras import missing

        raise missing(absent.name, f"llamalab {verb}") from absent


def verb_parser(verb: str) -> "tuple[Any, Parser]":
    """The module of a verb and the parser of its options."""
    from importlib import import_module

    from llamalab.cli.parser import Parser

    module = import_module(f"llamalab.cli.{verb.replace('-', '_')}")
    parser = Parser(f"llamalab {verb}", module.SUMMARY, module.EXAMPLES)
    module.configure(parser)
    return module, parser


def _greeting() -> str:
    """An overview for a call without a verb."""
    return """llamalab: what should this Llama cost on that machine, what did it cost,
and why the difference?

  llamalab report --model 7b                   measure this machine, as a page
  llamalab predict --model 7b --hardware h100  what a run would take on a device
  llamalab kv --model 7b --context 4096        the size of the KV cache

--model also takes a config.json, a folder or a checkpoint of your own.
All verbs: llamalab --help · one of them: llamalab help VERB"""


def _overview() -> str:
    from llamalab.cli.terminal import behind, width_of_output

    longest, width = max(map(len, VERBS)), width_of_output()
    rows = [f"  {verb:<{longest}}  {summary}" for verb, summary in VERBS.items()]
    verbs = "\n".join(piece for row in rows for piece in (behind(row, longest + 4, width) if width else [row]))
    return f"""usage: llamalab VERB [options]

What should this Llama cost on that machine, what did it cost,
and why the difference?

{verbs}

  llamalab help VERB    the options of a verb, with examples
  llamalab --version    the version

examples:
  llamalab kv --context 4096 --batch 16
  llamalab flops --phase decode --context 4096
  llamalab report --model 7b"""
