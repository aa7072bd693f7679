"""Which devices, and how many, make the wanted number of tokens per second for each sequence."""

import argparse

import llamalab


def main(argv: list[str] | None = None) -> None:
    """Print the devices that are fast enough, fewest first, and those that do not hold the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="70b")
    parser.add_argument("--tokens-per-s", type=float, default=20.0, help="wanted by every sequence")
    parser.add_argument("--batch", type=int, default=8)
    args = parser.parse_args(argv)
    runs = llamalab.predict(
        args.model, "all", prompt=2048, generate=256, batch=args.batch, tensor_parallel=[1, 2, 4, 8]
    ).to_frame()
    runs["each"] = 1 / runs.decode_s_per_token
    fast = runs[runs.each >= args.tokens_per_s].sort_values(["tensor_parallel", "total_s"])
    for _, run in fast.head(8).iterrows():
        print(f"{run.tensor_parallel} × {run.hardware:<16} {run.each:6.1f} tokens/s each, {run.total_s:6.2f} s a run")
    if fast.empty:
        print(f"none makes {args.tokens_per_s} tokens/s for each of {args.batch} sequences")
    small = runs[(runs.tensor_parallel == 8) & (runs.fits == False)]  # noqa: E712
    print(f"too small even as eight: {', '.join(small.hardware) or 'none'}")


if __name__ == "__main__":
    main()
