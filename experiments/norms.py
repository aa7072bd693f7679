"""RMSNorm against LayerNorm, and norms before against behind each part: time, error, gradients and loss.

    python -m experiments.norms [--full] [--corpus FOLDER]

LayerNorm against RMSNorm: bytes and parameters from the shapes; time of a call, the thread's own; error of bf16 against
fp64, with and without a mean that LayerNorm has to take away; held-out loss with three seeds. Norms before each part
(Llama) against behind each residual sum (2017): predicted (Xiong et al. 2020, arXiv 2002.04745) that behind, gradients
at the start do not shrink with depth, so that the first large steps break training unless the rate is warmed up;
measured as the gradient's norm of every block before the first step, and held-out loss with and without warm-up.
A run that ends less than 0.05 nats below the entropy of single tokens has learned nothing of their order.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any

import torch
from torch import Tensor, nn

from experiments.common import results as answers
from experiments.common import training_runs as runs_of
from experiments.common.variants import with_layer_norm, with_post_norm
from llamalab import LlamaArch
from llamalab.model.norm import RMSNorm
from llamalab.train.token_stream import TokenStream
from llamalab.train.trainer import Trainer, TrainingPlan

QUESTION = "What do RMSNorm in place of LayerNorm, and norms before in place of behind each part, buy?"

TOKENS, DIM = 512, 4096  # of a call: a prompt of 512 tokens of 7B
CALLS = 15
DEEP = LlamaArch(dim=64, n_layers=8, n_heads=4, n_kv_heads=4, ffn_dim=172, vocab_size=512)
DEEP_PLAN = TrainingPlan(steps=80, batch=8, seq=64)
_NO_ORDER = 0.05  # nats below the entropy of single tokens that a run has to reach
HIGH_RATE = 2e-2  # at which a warm-up shows
NORMS: dict[str, Callable[..., nn.Module]] = {"LayerNorm": nn.LayerNorm, "RMSNorm": RMSNorm}
PLACES: dict[str, runs_of.Change | None] = {"pre-norm": None, "post-norm": with_post_norm}


def predict(name: str, dtype: torch.dtype) -> dict[str, Any]:
    """Parameters and the least bytes of a call: input once, output once, and what it learns."""
    parameters = DIM * (2 if name == "LayerNorm" else 1)
    return {"parameters": parameters, "least_bytes": (2 * TOKENS * DIM + parameters) * dtype.itemsize}


def measure_norm(name: str, dtype: torch.dtype) -> dict[str, Any]:
    """Time of a call and error against the same in fp64, relative to the root mean square of the answer of 1."""
    torch.set_num_threads(1)
    norm = NORMS[name](DIM, 1e-5).to(dtype)
    x_TD = torch.randn(TOKENS, DIM, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        samples = [_timed(norm, x_TD.to(dtype)) for _ in range(CALLS)][CALLS // 3 :]
        errors = {f"error_at_mean_{shift:g}": _error(norm, (x_TD + shift).to(dtype)) for shift in (0.0, 8.0)}
    return {"time_s": median(samples), "samples_s": samples, **errors}


def _timed(norm: nn.Module, x_TD: Tensor) -> float:
    begun_s = thread_time()
    norm(x_TD)
    return thread_time() - begun_s


def _error(norm: nn.Module, x_TD: Tensor) -> float:
    exact_TD = type(norm)(DIM, 1e-5).double()(x_TD.double())
    return float((norm(x_TD).double() - exact_TD).square().mean().sqrt() / exact_TD.square().mean().sqrt())


def first_gradients(corpus: Path, real: Path, plan: TrainingPlan, *, change: runs_of.Change | None) -> list[float]:
    """The gradient's norm of every block before the first step."""
    changed: Any = runs_of.begun(DEEP, plan.seed, change)
    trainer = Trainer(changed, runs_of.stream_in(corpus, real), plan, runs_of.RECIPE)
    trainer.pass_gradients()
    return [
        float(torch.stack([one.grad.square().sum() for one in block.parameters() if one.grad is not None]).sum().sqrt())
        for block in changed.layers
    ]


def entropy_of_tokens(stream: TokenStream) -> float:
    """Nats a token of the held-out part under the frequencies of the text: what knowing no order comes to."""
    counts_V = torch.bincount(stream.train_N, minlength=runs_of.ARCH.vocab_size).double() + 1e-3
    return float(-(counts_V / counts_V.sum()).log()[stream.held_out_N].mean())


def places(args: Any) -> tuple[dict[str, list[runs_of.Run]], dict[str, list[list[float]]]]:
    """Runs of both places with and without warm-up, and the gradients at their start."""
    plan = DEEP_PLAN._replace(steps=runs_of.FULL_STEPS) if args.full else DEEP_PLAN
    recipe = runs_of.RECIPE._replace(learning_rate=HIGH_RATE)
    variants = {
        f"{place}, {words}": {"arch": DEEP, "change": change, "recipe": recipe._replace(warmup_steps=steps)}
        for place, change in PLACES.items()
        for words, steps in (("warm-up", plan.steps // 4), ("none", 0))
    }
    runs = runs_of.over_seeds(args, plan, variants)
    starts = {
        place: [
            first_gradients(args.corpus, args.real, plan._replace(seed=seed), change=change) for seed in runs_of.SEEDS
        ]
        for place, change in PLACES.items()
    }
    return runs, starts


def conclude(
    calls: list[dict[str, Any]],
    runs: dict[str, list[runs_of.Run]],
    deep: dict[str, list[runs_of.Run]],
    starts: dict[str, list[list[float]]],
    entropy: float,
) -> str:
    """Norms side by side, places side by side, and what warm-up is for."""
    time = {(row["norm"], row["dtype"]): row["time_s"] for row in calls}
    error = {row["norm"]: row for row in calls if row["dtype"] == "bf16"}
    lost = {
        name: sum(run.held_out is None or run.held_out > entropy - _NO_ORDER for run in own)
        for name, own in deep.items()
    }
    by_norm = [f"{name} {runs_of.shown([run.held_out for run in own])}" for name, own in deep.items()]
    failed = [f"{name} with {count} of {len(deep[name])} seeds" for name, count in lost.items() if count]
    pairs = (
        ("pre-norm, warm-up", "post-norm, warm-up"),
        ("pre-norm, warm-up", "pre-norm, none"),
        ("post-norm, warm-up", "post-norm, none"),
    )
    slopes = {place: [own[-1] / own[0] for own in seeds] for place, seeds in starts.items()}
    return (
        f"In bf16 a call of RMSNorm takes {time['RMSNorm', 'bf16'] / time['LayerNorm', 'bf16']:.2f} of LayerNorm's time "  # noqa: E501
        f"(fp32 {time['RMSNorm', 'fp32'] / time['LayerNorm', 'fp32']:.2f}) for as many bytes; error in bf16 "
        f"{error['RMSNorm']['error_at_mean_0']:.2%} against {error['LayerNorm']['error_at_mean_0']:.2%}, at a mean of 8 "  # noqa: E501
        f"{error['RMSNorm']['error_at_mean_8']:.2%} against {error['LayerNorm']['error_at_mean_8']:.2%}. Loss: "
        f"{runs_of.settled('RMSNorm', 'LayerNorm', runs)}. At the start the last of {DEEP.n_layers} blocks has "
        f"{_range(slopes['pre-norm'])} times the first one's gradient with pre-norm, {_range(slopes['post-norm'])} with "  # noqa: E501
        f"post-norm. At a rate of {HIGH_RATE:g}, {'; '.join(by_norm)}; single tokens alone come to {entropy:.3f}. "
        f"No order was learned by {' and '.join(failed) or 'none'}; "
        f"{'; '.join(runs_of.settled(*pair, deep) for pair in pairs)}."
    )


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2g} to {max(values):.2g}"


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    args = runs_of.parser(__doc__).parse_args(argv)
    plan = runs_of.prepared(args)
    calls = [
        {"norm": name, "dtype": label, **predict(name, dtype), **measure_norm(name, dtype)}
        for label, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32))
        for name in NORMS
    ]
    print(f"{'':10}{'':6}{'parameters':>11}{'least bytes':>12}{'time us':>9}{'error':>9}{'at mean 8':>11}")
    for row in calls:
        print(
            f"{row['norm']:10}{row['dtype']:6}{row['parameters']:11,}{row['least_bytes']:12,}{row['time_s'] * 1e6:9.0f}"
            f"{row['error_at_mean_0']:9.4%}{row['error_at_mean_8']:11.4%}"
        )
    runs = runs_of.over_seeds(args, plan, {"RMSNorm": {}, "LayerNorm": {"change": partial(with_layer_norm)}})
    deep, starts = places(args)
    entropy = entropy_of_tokens(runs_of.stream_in(args.corpus, args.real))
    for name, own in (runs | deep).items():
        print(f"{name:22}{runs_of.shown([run.held_out for run in own]):>18}")
    answers.finish(
        QUESTION,
        "norms",
        args.out,
        conclude(calls, runs, deep, starts, entropy),
        text=runs_of.text_of(args),
        plan=plan._asdict(),
        deep_plan=DEEP_PLAN._asdict(),
        calls=calls,
        entropy_of_tokens=entropy,
        first_gradients=starts,
        measured=runs_of.rows_of(runs | deep),
    )


if __name__ == "__main__":
    main()
