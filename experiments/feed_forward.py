"""SwiGLU at two thirds of the width against ReLU, GELU, SiLU and gated kin at equal parameters: loss and cost.

    python -m experiments.feed_forward [--full] [--corpus FOLDER]

Seven feed-forwards of exactly as many parameters: two matrices at F = 4 D, or three, one of them a gate, at
F = 2/3 x 4 D = 256 for D = 96. Predicted: parameters, matrix FLOPs, and the bytes of what the backward pass keeps, from
the shapes. Measured: held-out loss of models trained alike with three seeds, the thread's own time of a step, the bytes
that autograd keeps, and how many activations are zero. The published finding (Shazeer 2020, arXiv 2002.05202, table 1)
is that GEGLU and SwiGLU end lowest, by 0.03 to 0.05 nats of about 1.9 at 65,536 steps. Then the rule for F, 2/3 x 4 D
rounded up to `multiple_of` (and times a factor in Llama 2 70B and in Llama 3), against every known model.
"""

from collections.abc import Sequence
from functools import partial
from statistics import mean
from typing import Any, NamedTuple

import torch

from experiments.common import results as answers
from experiments.common import training_runs as runs_of
from experiments.common.variants import FeedForwardVariant, with_feed_forward
from llamalab.arch.meta_params import meta_ffn_dim
from llamalab.presets import PRESETS
from llamalab.train.initial import begin

QUESTION = "Does SwiGLU at two thirds of the width beat ReLU, GELU and SiLU at equal parameters, and at what cost?"

TOKENS = 1024  # of the call whose kept bytes are counted
SETTLED = (
    "Initial weights, an untied head and the rate were settled with SwiGLU in view; with weights of deviation 0.02, a "
    "tied head and a rate of 3e-3 the order was the opposite after 120 steps (ReLU 3.151, SwiGLU 3.857): it holds for "
    "these settings."
)
STEPS = 48  # of each of 21 runs, without --full
_MULTIPLES = tuple(2**power for power in range(12, 1, -1))
_FACTORS = (1.0, 1.3, 1.2, 1.5)  # ffn_dim_multiplier of Llama 2 70B and the models of Llama 3


class Kind(NamedTuple):
    """A feed-forward: its function, and whether a third matrix is multiplied by it."""

    activation: str
    gated: bool

    def ffn_dim(self, dim: int) -> int:
        """F at 8 D^2 parameters."""
        return 8 * dim // 3 if self.gated else 4 * dim


KINDS = {
    "ReLU": Kind("relu", False),
    "GELU": Kind("gelu", False),
    "SiLU": Kind("silu", False),
    "GLU": Kind("sigmoid", True),
    "ReGLU": Kind("relu", True),
    "GEGLU": Kind("gelu", True),
    "SwiGLU": Kind("silu", True),
}


def predict(dim: int) -> list[dict[str, Any]]:
    """Parameters, FLOPs of a token and bytes kept of one layer in fp32, from the shapes.

    Kept: the input once; the input of the function, but of ReLU its output; the gate's factors; the input of w2. A gate
    of ReLU or sigmoid keeps its output, which is a factor already; of GELU and SiLU both.
    """
    rows = []
    for name, kind in KINDS.items():
        wide, matrices = kind.ffn_dim(dim), 3 if kind.gated else 2
        by_output = kind.activation in ("relu", "sigmoid")  # their derivative is a function of it
        kept = (1 if by_output else 2) + (2 if kind.gated else 0)
        rows.append(
            {
                "kind": name,
                "ffn_dim": wide,
                "parameters": matrices * dim * wide,
                "flops_per_token": 2 * matrices * dim * wide,
                "kept_bytes": 4 * TOKENS * (dim + kept * wide),
            }
        )
    return rows


def measure_layer(dim: int, kind: Kind) -> dict[str, Any]:
    """Bytes that autograd keeps of one call, weights aside, and the share of activations that are zero."""
    layer = FeedForwardVariant(dim, kind.ffn_dim(dim), kind.activation, gated=kind.gated)
    begin(layer, layers=runs_of.ARCH.n_layers, seed=0)
    weights = {parameter.data_ptr() for parameter in layer.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x_BTD = torch.randn(1, TOKENS, dim, generator=torch.Generator().manual_seed(0), requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out_BTD = layer(x_BTD)
    zeros = float((layer.inner(x_BTD) == 0).float().mean())
    del out_BTD
    return {
        "kept_bytes": sum(kept.values()),
        "zero_share": zeros,
        "parameters": sum(parameter.numel() for parameter in layer.parameters()),
    }


def presets() -> list[dict[str, Any]]:
    """Every known model: F over D, and the coarsest rounding under which the rule gives it, None where none does.

    Roundings coarser than D / 8 are left out, with a factor those coarser than D / 2: they would fit by chance.
    """
    rows = []
    for name, preset in PRESETS.items():
        dim, wide = preset.arch.dim, preset.arch.ffn_dim
        fits = [
            (multiple, factor)
            for factor in _FACTORS
            for multiple in _MULTIPLES
            if multiple <= dim // (8 if factor == 1.0 else 2) and meta_ffn_dim(dim, multiple, factor) == wide
        ]
        multiple, factor = fits[0] if fits else (None, None)
        rows.append(
            {"model": name, "dim": dim, "ffn_dim": wide, "ratio": wide / dim, "multiple_of": multiple, "factor": factor}
        )
    return rows


def shown_presets(table: list[dict[str, Any]]) -> None:
    """The rule against every known model.

    Three matrices of F D have the 8 D^2 parameters of two of 4 D each at F = 2/3 x 4 D; rounded up, rows divide over
    ranks and fill whole tiles of a kernel.
    """
    print(f"\n{'model':26}{'D':>7}{'8/3 D':>10}{'F':>8}{'F / D':>7}  rounded up to a multiple of")
    for row in table:
        how = (
            "another width"
            if row["multiple_of"] is None
            else f"{row['multiple_of']:,}" + (f" after a factor of {row['factor']:g}" if row["factor"] != 1.0 else "")
        )
        print(
            f"{row['model']:26}{row['dim']:7,}{8 * row['dim'] / 3:10,.1f}{row['ffn_dim']:8,}{row['ratio']:7.2f}  {how}"
        )


def conclude(runs: dict[str, list[runs_of.Run]], table: list[dict[str, Any]]) -> str:
    """Which gates help and whether it holds, what they cost, and how many models follow the rule."""
    by_loss = sorted(runs, key=lambda name: mean(run.held_out or 99.0 for run in runs[name]))
    ordered = ", ".join(f"{name} {runs_of.shown([run.held_out for run in runs[name]])}" for name in by_loss)
    gates = [
        runs_of.settled(gated, plain, runs)
        for gated, plain in (("ReGLU", "ReLU"), ("GEGLU", "GELU"), ("SwiGLU", "SiLU"), ("SwiGLU", "GEGLU"))
    ]
    times = {name: mean(run.step_s for run in own) for name, own in runs.items()}
    fits = [row for row in table if row["multiple_of"] is not None]
    plain = [row for row in fits if row["factor"] == 1.0]
    return (
        f"Held-out loss at equal parameters, mean of {len(runs_of.SEEDS)} seeds: {ordered}. {'; '.join(gates)}. "
        f"A step with SwiGLU takes {times['SwiGLU'] / times['ReLU'] - 1:+.0%} of ReLU's time. Of {len(table)} known "
        f"models {len(plain)} have F = 2/3 x 4 D rounded up, {len(fits) - len(plain)} 1.2 to 1.5 times that, "
        f"{len(table) - len(fits)} another width. {SETTLED}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    args = runs_of.parser(__doc__).parse_args(argv)
    plan, dim = runs_of.shortened(args, STEPS), runs_of.ARCH.dim
    predicted = predict(dim)
    layers = {name: measure_layer(dim, kind) for name, kind in KINDS.items()}
    variants = {
        name: {"change": partial(with_feed_forward, **kind._asdict(), ffn_dim=kind.ffn_dim(dim))}
        for name, kind in KINDS.items()
    }
    runs = runs_of.over_seeds(args, plan, variants)
    print(
        f"{'':8}{'F':>5}{'parameters':>12}{'kept, said':>12}{'seen':>10}{'zeros':>7}{'step ms':>9}{'held-out loss':>15}"
    )
    for row in predicted:
        own, layer = runs[row["kind"]], layers[row["kind"]]
        row |= {f"measured_{key}": value for key, value in layer.items()}
        print(
            f"{row['kind']:8}{row['ffn_dim']:5}{row['parameters']:12,}{row['kept_bytes']:12,}{layer['kept_bytes']:10,}"
            f"{layer['zero_share']:7.0%}{mean(run.step_s for run in own) * 1e3:9.1f}"
            f"{runs_of.shown([run.held_out for run in own]):>15}"
        )
    table = presets()
    shown_presets(table)
    answers.finish(
        QUESTION,
        "feed_forward",
        args.out,
        conclude(runs, table),
        text=runs_of.text_of(args),
        plan=plan._asdict(),
        predicted=predicted,
        measured=runs_of.rows_of(runs),
        presets=table,
    )


if __name__ == "__main__":
    main()
