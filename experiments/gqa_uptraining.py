"""A trained MHA model with its KV heads pooled into fewer: the loss added, and the training that removes it.

    python -m experiments.gqa_uptraining [--full] [--corpus FOLDER]

As in the paper on GQA (Ainslie et al. 2023, arXiv 2305.13245): a model is trained with a KV head for each query head;
then the heads of each group are replaced by their mean, or by their first, and it is trained on for 5 % and for 20 % of
its steps. Predicted: bytes of KV cache a token, exact; and, from the paper (figures 4 and 5), that the mean loses less
than the first, more heads less than fewer, and that 5 % of training brings most of it back. Measured: perplexity of the
held-out part before and after, with three seeds, beside the MHA model trained on for as many steps.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from math import exp
from pathlib import Path
from statistics import mean
from typing import Any

from torch import Tensor

from experiments.common import results as answers
from experiments.common import training_runs as runs_of
from llamalab import build
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.arch import attention_kind
from llamalab.arch.fields import valid_kv_heads
from llamalab.model import Transformer
from llamalab.train.trainer import Trainer, TrainingPlan, held_out_loss

QUESTION = "What does a trained MHA model lose when its KV heads are pooled into fewer, and how soon is it back?"

BASE_STEPS = 160
SHARES = (0.05, 0.2)  # of the base's steps
POOLINGS = ("mean", "first")


def pooled(model: Transformer, kv_heads: int, pooling: str = "mean") -> Transformer:
    """The model with so many KV heads, each the mean, or the first, of those it stands for."""
    arch = model.arch.replace(n_kv_heads=kv_heads)
    fewer = build(arch, dtype="fp32")
    state = {
        name: _pool(weight, arch.head_dim, kv_heads, pooling) if name.endswith(("wk.weight", "wv.weight")) else weight
        for name, weight in model.state_dict().items()
    }
    fewer.load_state_dict(state)
    return fewer


def _pool(weight: Tensor, head_dim: int, kv_heads: int, pooling: str) -> Tensor:
    """weight_KED of the groups' heads to one of each group; a projection is linear, so that its outputs are pooled."""
    grouped = weight.view(kv_heads, -1, head_dim, weight.shape[-1])
    one = grouped.mean(1) if pooling == "mean" else grouped[:, 0]
    return one.reshape(kv_heads * head_dim, -1)


def uptrain(corpus: Path, real: Path, plan: TrainingPlan) -> list[dict[str, Any]]:
    """Train the base of one seed, pool it every way, and train each on."""
    stream = runs_of.stream_in(corpus, real)
    base: Any = runs_of.begun(runs_of.ARCH, plan.seed)
    recipe = runs_of.RECIPE._replace(warmup_steps=plan.steps // 10)
    whole = runs_of.followed(Trainer(base, stream, plan, recipe))
    rows = []
    for heads, pooling in [(runs_of.ARCH.n_kv_heads, "mean"), *_ways()]:
        before = held_out_loss(pooled(base, heads, pooling), stream, seq=plan.seq, batch=plan.batch, windows=64)
        row = {
            "n_kv_heads": heads,
            "kind": attention_kind(base.arch.n_heads, heads),
            "pooling": pooling,
            "seed": plan.seed,
            "base_loss": whole.held_out,
            "loss_before": before,
        }
        for share in SHARES:
            # At the rate where the base ended, on windows that it has not been trained on.
            more = plan._replace(steps=max(2, round(share * plan.steps)), seed=plan.seed + 1000)
            gentle = recipe._replace(learning_rate=recipe.learning_rate * 0.3, warmup_steps=1)
            run = runs_of.followed(Trainer(pooled(base, heads, pooling), stream, more, gentle))
            row[f"loss_after_{share:g}"] = run.held_out
        rows.append(row)
    return rows


def _ways() -> list[tuple[int, str]]:
    fewer = [heads for heads in valid_kv_heads(runs_of.ARCH.n_heads) if heads < runs_of.ARCH.n_heads]
    return [(heads, pooling) for heads in fewer for pooling in POOLINGS]


def bytes_of(heads: int) -> int:
    """KV cache of one token in bf16."""
    return kv_bytes(runs_of.ARCH.replace(n_kv_heads=heads), seq=1, dtype="bf16")


def conclude(rows: list[dict[str, Any]]) -> str:
    """Perplexities and bytes by kind, and what holds with every seed."""
    moments = ("loss_before", *(f"loss_after_{share:g}" for share in SHARES))
    heads = list(dict.fromkeys(row["n_kv_heads"] for row in rows))
    by_kind = [
        f"{_own(rows, one)[0]['kind']} "
        + " -> ".join(f"{exp(mean(row[key] for row in _own(rows, one))):.2f}" for key in moments)
        + f" at {bytes_of(one) / bytes_of(runs_of.ARCH.n_heads):.0%} of the cache"
        for one in heads
    ]
    losses = {key: [[row[key] for row in _own(rows, one)] for one in heads] for key in moments}
    ordered = all(runs_of.lower_in_all(more, fewer) for own in losses.values() for more, fewer in pairwise(own))
    helped = all(map(runs_of.lower_in_all, losses[moments[-1]][1:], losses[moments[0]][1:]))
    return (
        f"Perplexity pooled by the mean, then after {' and '.join(f'{share:.0%}' for share in SHARES)} of the base's "
        f"steps (mean of {len(runs_of.SEEDS)} seeds): {'; '.join(by_kind)}. More heads are better at each moment "
        f"{_seeds(ordered)}; training on helps every pooled model {_seeds(helped)}. The mean of the heads against the "
        f"first of them: at once {_against(rows, moments[0])}; after {SHARES[-1]:.0%} {_against(rows, moments[-1])}. "
        "The paper, with models trained far longer, found the mean better."
    )


def _own(rows: list[dict[str, Any]], heads: int, pooling: str = "mean") -> list[dict[str, Any]]:
    return [row for row in rows if row["n_kv_heads"] == heads and row["pooling"] == pooling]


def _seeds(holds: bool) -> str:
    return "with every seed" if holds else "in the mean, not with every seed"


def _against(rows: list[dict[str, Any]], key: str) -> str:
    """Where the mean is better than the first with every seed, where worse, and where the seeds do not agree."""
    said: dict[str, list[str]] = {}
    for heads in dict.fromkeys(row["n_kv_heads"] for row in rows if row["pooling"] == "first"):
        by_mean, by_first = ([row[key] for row in _own(rows, heads, pooling)] for pooling in POOLINGS)
        better, worse = runs_of.lower_in_all(by_mean, by_first), runs_of.lower_in_all(by_first, by_mean)
        how = "better with every seed" if better else "worse with every seed" if worse else "not told apart"
        said.setdefault(how, []).append(_own(rows, heads)[0]["kind"])
    return ", ".join(f"{how} for {' and '.join(kinds)}" for how, kinds in said.items())


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    args = runs_of.parser(__doc__).parse_args(argv)
    plan = runs_of.prepared(args)
    plan = plan if args.full else plan._replace(steps=BASE_STEPS)
    predicted = [
        {
            "n_kv_heads": heads,
            "kind": attention_kind(runs_of.ARCH.n_heads, heads),
            "kv_bytes_per_token": bytes_of(heads),
        }
        for heads in valid_kv_heads(runs_of.ARCH.n_heads)
    ]
    works = [partial(uptrain, args.corpus, args.real, plan._replace(seed=seed)) for seed in runs_of.SEEDS]
    found = runs_of.side_by_side(works, [f"seed {seed}" for seed in runs_of.SEEDS])
    rows = [row for own in found for row in own]
    print(f"{'':8}{'pooled by':10}{'seed':>5}{'before':>9}" + "".join(f"{f'+{share:.0%}':>9}" for share in SHARES))
    for row in rows:
        after = "".join(f"{exp(row[f'loss_after_{share:g}']):9.2f}" for share in SHARES)
        print(f"{row['kind']:8}{row['pooling']:10}{row['seed']:5}{exp(row['loss_before']):9.2f}{after}")
    answers.finish(
        QUESTION,
        "gqa_uptraining",
        args.out,
        conclude(rows),
        text=runs_of.text_of(args),
        plan=plan._asdict(),
        predicted=predicted,
        measured=rows,
    )


if __name__ == "__main__":
    main()
