"""What the heads of one layer look at, while flash attention stays on: the pattern of the last token alone."""

import argparse

import torch

import llamalab


def main(argv: list[str] | None = None) -> None:
    """Print the tokens that each head attends to most."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="stories260k", help="a checkpoint, or a preset with random weights")
    parser.add_argument("--layer", type=int, default=2)
    parser.add_argument("--top", type=int, default=3)
    args = parser.parse_args(argv)
    known = args.model.lower() in llamalab.PRESETS
    model = llamalab.build(args.model, dtype="fp32") if known else llamalab.load(args.model, dtype="fp32")
    tokens = torch.randint(model.arch.vocab_size, (1, 24), generator=torch.Generator().manual_seed(0))
    point = f"layers.{args.layer}.attention.pattern"
    with llamalab.capture(model, point, tokens=-1) as seen, torch.inference_mode():
        model(tokens)
    pattern_HS = seen[point][0, :, -1]
    for head, weights_S in enumerate(pattern_HS):
        top = torch.topk(weights_S, args.top)
        pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        shown = ", ".join(f"{place} ({weight:.2f})" for place, weight in pairs)
        print(f"head {head} looks at positions {shown}")


if __name__ == "__main__":
    main()
