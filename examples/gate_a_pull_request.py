"""Fail where a phase of the second bench is slower than in the first, by more than a bound and more than noise."""

import argparse
import sys

import llamalab


def main(argv: list[str] | None = None) -> int:
    """Print the comparison as Markdown; 1 where it is slower."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", help="what llamalab bench -o jsonl wrote of the base")
    parser.add_argument("after", help="and of the pull request")
    parser.add_argument("--bound", type=float, default=0.05, help="a slowdown that is let through")
    args = parser.parse_args(argv)
    result = llamalab.compare(args.before, args.after)
    print(result.to_markdown())
    slower = [
        phase["phase"]
        for phase in result.comparisons[0]["phases"]
        if phase["seen"] and phase["low_s"] > args.bound * phase["a_s"]
    ]
    if slower:
        print(f"slower by more than {args.bound:.0%}: {', '.join(slower)}", file=sys.stderr)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
