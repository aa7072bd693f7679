"""What 8 and 4 bits cost in logits and perplexity on a real checkpoint.

    python -m experiments.quantised_error --model stories260K.bin --tokenizer tok512.bin --text story.txt [--dtype bf16]

The checkpoint in `--dtype` and in every storage reads the same text at once; errors are against the first. Perplexity
is the exponential of the mean negative log-probability of each token after those before it. Predicted: the bytes of the
weights, exactly; that 8 bits err less than 4, and smaller groups less than larger ones.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.common import results as answers
from llamalab.analytic.kept_weights import model_weight_bytes
from llamalab.checkpoints import load
from llamalab.errors import InputError
from llamalab.files.inputs import read_bounded_text
from llamalab.model.quantised.weights import kept_of
from llamalab.text import load_tokenizer
from llamalab.units import QUANTISED

QUESTION = "What do 8 and 4 bits cost in logits and perplexity on a real checkpoint?"


class Row(NamedTuple):
    """One storage: its kernel, bytes as held and as predicted, perplexity, and errors against the first."""

    storage: str
    product: str | None
    weight_bytes: int
    predicted_weight_bytes: int
    perplexity: float
    logits_rms_error: float
    logits_largest_error: float
    divergence_nats: float


@torch.inference_mode()
def rows_of(path: Path, ids: Sequence[int], dtype: str) -> list[Row]:
    """A row for the checkpoint in `dtype`, and one for each storage."""
    tokens_BT = torch.tensor([ids])
    found: list[Row] = []
    first_TV: Tensor | None = None
    for storage in (None, *QUANTISED):
        model = load(path, dtype=dtype, weight_dtype=storage)
        kept, logits_TV = kept_of(model), model(tokens_BT)[0]
        first_TV = logits_TV if first_TV is None else first_TV
        error_TV, log_TV, first_log_TV = logits_TV - first_TV, logits_TV.log_softmax(-1), first_TV.log_softmax(-1)
        told_T = log_TV[:-1].gather(1, tokens_BT[0, 1:, None])
        found.append(
            Row(
                storage=storage or dtype,
                product=None if kept is None else kept.product,
                weight_bytes=sum(weight.nbytes for weight in model.parameters()),
                predicted_weight_bytes=model_weight_bytes(model.arch, dtype, kept),
                perplexity=float(told_T.mean().neg().exp()),
                logits_rms_error=float(error_TV.pow(2).mean().sqrt()),
                logits_largest_error=float(error_TV.abs().max()),
                divergence_nats=float((first_log_TV.exp() * (first_log_TV - log_TV)).sum(-1).mean()),
            )
        )
    return found


def conclude(rows: Sequence[Row]) -> str:
    """What was found, in words."""
    first, *others = rows
    parts = [
        f"{one.storage}: perplexity {one.perplexity:.3f} ({100 * (one.perplexity / first.perplexity - 1):+.2f} %), "
        f"logits off by {one.logits_rms_error:.3f} on average and {one.logits_largest_error:.2f} at most, "
        f"{one.divergence_nats:.1e} nats a token, {one.weight_bytes:,} bytes"
        for one in others
    ]
    exact = all(one.weight_bytes == one.predicted_weight_bytes for one in rows)
    verdict = "as predicted" if exact else "not as predicted"
    return f"{first.storage}: perplexity {first.perplexity:.3f}. {'. '.join(parts)}. Bytes are {verdict}."


def main(argv: Sequence[str] | None = None) -> None:
    """Read, compute, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, metavar="PATH")
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="FILE")
    parser.add_argument("--text", type=Path, required=True, metavar="FILE")
    parser.add_argument("--dtype", default="bf16")
    args = parser.parse_args(argv)
    ids = load_tokenizer(args.tokenizer).prompt_ids(read_bounded_text(args.text, "text of --text"))
    if len(ids) < 2:
        raise InputError(f"--text must have at least two tokens; {args.text} has {len(ids)}")
    rows = rows_of(args.model, ids, args.dtype)
    answers.finish(
        QUESTION,
        "quantised_error",
        args.out,
        conclude(rows),
        dtype=args.dtype,
        tokens=len(ids),
        rows=[one._asdict() for one in rows],
    )


if __name__ == "__main__":
    main()
