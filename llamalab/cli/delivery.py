"""Output of an answer: to standard output, as wide as the terminal, or to a file."""

from llamalab.cli.output import Answer, answer_text, keep, note
from llamalab.startup.hints import TYPE_CHECKING

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
