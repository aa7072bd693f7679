"""What a verb does with its answer: it goes to standard output, as wide as the terminal, or to a file."""

from llamalab.cli.output import Answer, answer_text, keep, note
from llamalab.startup.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import Namespace


def give(answer: Answer, args: "Namespace") -> None:
    """Print an answer, or write it to a file, as --format, --out and -v say."""
    if args.out is not None:
        from pathlib import Path

        path = Path(args.out)
        if keep(path, answer_text(answer, args.format) + "\n") == path:
            note(f"wrote {path}")
    elif args.format == "table":
        from llamalab.cli.terminal import fitted_to_terminal

        print(fitted_to_terminal(answer, verbose=args.verbose))
    else:
        print(answer_text(answer, args.format))


def run_module(module: Any, args: "Namespace") -> int:
    """Run a verb: its `run`, or, where its module has none, print its `answer`. Returns the exit code."""
    if hasattr(module, "run"):
        return int(module.run(args))
    give(module.answer(args), args)
    return 0
