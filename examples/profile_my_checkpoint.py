"""Where the time of a checkpoint's passes goes: its sizes are read from the header, its blocks measured here."""

import argparse

import llamalab


def main(argv: list[str] | None = None) -> None:
    """Print the operations that take longest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="stories260k", help="a checkpoint, a config.json or a preset")
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--top", type=int, default=5)
    args = parser.parse_args(argv)
    result = llamalab.profile(args.model, prompt=args.prompt, device="cpu")
    ops = result.to_frame()
    for phase, rows in ops.groupby("phase", sort=False):
        print(f"{phase}:")
        for _, row in rows.nlargest(args.top, "total_s").iterrows():
            print(f"  {row['name']:<36} {1e3 * row['total_s']:8.3f} ms  {row['share']:6.1%}")


if __name__ == "__main__":
    main()
