"""Training and fine-tuning steps, counted before they run and compared with what they take.

    python -m experiments.training_memory [--only WORDS] [--out PATH.json]

Real steps on a CPU with transformers, PEFT, bitsandbytes and torch's optimisers: what lies there before a step and the
highest sum of what torch's allocator handed out in it, against `llamalab tune`'s sum. Shapes whose largest moment is
the loss, the feed-forward, the scores or the update. bar 3 %. oneDNN's scratch for a product in a half type, which is
this CPU's and no part of a device's sum, is probed and added where the largest moment is a product.

With --shared also steps of two ranks (experiments.common.sharded): the fullest rank's bytes against ZeRO 1 and 3,
tensor and pipeline parallelism of `llamalab tune`. Shares of more devices are held against published tables
(tests/analytic/test_published_*). Offload and paged states need a device beside the host, and are not run.

A master of mixed precision is updated alone, one after the other: 16 bytes a parameter.
"""

import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from typing import Any

import torch

from experiments.common import results as answers
from experiments.common.sharded import RANKS, shared_step
from experiments.common.tuned import take_step
from llamalab.analytic.fine_tuning import largest_of_step, tuning_memory
from llamalab.analytic.lora import TARGETS, Lora
from llamalab.analytic.scratch import MatrixProduct
from llamalab.analytic.tuned_weights import trained_parameters
from llamalab.analytic.tuning import Tuning
from llamalab.arch import LlamaArch
from llamalab.errors import MissingError
from llamalab.measure.profile.scratch import ProbedScratch

QUESTION = "Is the memory of a training step known before it runs? Counted by `llamalab tune`, taken by torch."

BAR = 0.03
SHAPES = {
    "loss": (LlamaArch(128, 4, 8, 2, 344, 1000), 2, 128),
    "scores": (LlamaArch(256, 4, 8, 4, 688, 2000), 1, 512),
    "feed-forward": (LlamaArch(128, 4, 8, 8, 900, 50), 2, 128),
    "few tokens": (LlamaArch(256, 3, 4, 2, 700, 90), 1, 8),
}
FEW, ALL = Lora(8, ("q", "v")), Lora(8, tuple(TARGETS))
FULL: tuple[dict[str, Any], ...] = (
    {},
    {"attention": "naive"},
    {"recompute": "full"},
    {"recompute": "selective"},
    {"accumulate": 3},
    {"recompute": "full", "attention": "naive"},
    {"recompute": "selective", "attention": "naive"},
    *({"optimizer": name} for name in ("adamw-8bit", "adafactor", "sgd", "sgd-momentum")),
    *({"optimizer": name, "fused_optimizer": True} for name in ("adamw", "sgd", "sgd-momentum")),
)
ADAPTED: tuple[dict[str, Any], ...] = (
    {},
    {"lora": ALL},
    {"recompute": "full"},
    {"lora": ALL, "recompute": "full"},
    {"accumulate": 2},
    {"optimizer": "adamw-8bit"},
)
PACKED: tuple[dict[str, Any], ...] = (
    {},
    {"attention": "masked"},
    {"attention": "naive"},
    *({"attention": way, "recompute": level} for level in ("full", "selective") for way in ("flash", "masked")),
)
SHARED: dict[str, dict[str, Any]] = {
    "zero-1": {"zero": 1, "data_parallel": RANKS},
    "zero-3": {"zero": 3, "data_parallel": RANKS},
    "tensor": {"tensor_parallel": RANKS, "fused_optimizer": False},
    "pipeline": {"pipeline_parallel": RANKS, "accumulate": 2 * RANKS},
}


def steps() -> Iterator[tuple[str, Tuning]]:
    """Every step, with the name of its shape."""
    for name, (arch, batch, seq) in SHAPES.items():
        plain = Tuning(arch, seq, batch, fused_optimizer=False, on_cpu=True)
        for precision in ("fp32", "pure", "mixed"):
            yield from ((name, plain._replace(precision=precision, **change)) for change in FULL)
        for precision in ("fp32", "pure"):
            base = plain._replace(method="lora", lora=FEW, precision=precision)
            more = ({"dora": True}, {"train_embeddings": True})
            yield from ((name, base._replace(**change)) for change in (*ADAPTED, *more))
            yield from _packed_steps(name, plain._replace(precision=precision), base)
            nested = base._replace(method="qlora")
            yield from ((name, nested._replace(**change)) for change in (*ADAPTED, {"double_quant": False}))


def _packed_steps(name: str, full: Tuning, adapted: Tuning) -> Iterator[tuple[str, Tuning]]:
    """Documents side by side, of several lengths and with padding after them."""
    documents = (full.seq // 2, full.seq // 4, full.seq // 8)
    for step in (full, adapted):
        for change in PACKED:
            yield name, step._replace(documents=documents, **change)


def shared_steps() -> Iterator[tuple[str, str, Tuning]]:
    """Steps of full training on two ranks: the shape, torch's way of sharing, and the step."""
    for name, (arch, batch, seq) in SHAPES.items():
        for precision, (way, change) in product(("fp32", "pure"), SHARED.items()):
            if way != "pipeline" or arch.n_layers % RANKS == 0:
                yield name, way, Tuning(arch, seq, batch, precision=precision, on_cpu=True)._replace(**change)


def shared_row(name: str, way: str, step: Tuning) -> dict[str, Any]:
    """One step on two ranks, counted and taken: what lies there before it, and the peak with it."""
    held, took = tuning_memory(step), shared_step(step, way)
    resident = held.weight_bytes + held.optimizer_bytes
    return {
        "shape": name,
        "step": f"{way} {step.precision}",
        "moment": largest_of_step(step).moment,
        "predicted_bytes": held.total_bytes,
        "taken_bytes": took.total_bytes,
        "resident_bytes": took.resident_bytes,
        "resident_error": resident / took.resident_bytes - 1,
        "error": held.total_bytes / took.total_bytes - 1,
    }


def described(step: Tuning) -> str:
    """What sets a step apart, in words."""
    said = [step.method, step.precision, step.optimizer + (" fused" if step.fused_optimizer else "")]
    said += [] if step.lora is None else [",".join(step.lora.targets)]
    said += [] if step.attention == "flash" else [step.attention]
    said += ["packed"] if step.documents else []
    said += [] if step.recompute == "none" else [f"recompute {step.recompute}"]
    said += [] if step.accumulate == 1 else [f"{step.accumulate} passes"]
    for name in ("dora", "train_embeddings"):
        said += [name] if getattr(step, name) else []
    return " ".join([*said, "" if step.method != "qlora" or step.double_quant else "single"]).strip()


def row_of(case: tuple[str, Tuning]) -> dict[str, Any] | None:
    """One step, counted and taken, in a process of its own; None where it needs a package that is not there."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # PEFT's, in transformers
    torch.set_num_threads(1)
    try:
        return _row(*case)
    except MissingError:
        return None


def _row(shape: str, step: Tuning) -> dict[str, Any]:
    held, moment = tuning_memory(step), largest_of_step(step).moment
    scratch = 0
    if step.dtype != "fp32" and "quantised" in moment:
        product = MatrixProduct(step.batch * step.seq, step.arch.ffn_dim, step.arch.dim, dtype=step.dtype)
        scratch = ProbedScratch().product(product)
    took = take_step(step)
    said = held.total_bytes + scratch
    return {
        "shape": shape,
        "step": described(step),
        "moment": moment,
        "predicted_bytes": said,
        "scratch_bytes": scratch,
        "taken_bytes": took.total_bytes,
        "resident_bytes": took.resident_bytes,
        "error": said / took.total_bytes - 1,
        "trained": took.trained,
        "trained_as_said": took.trained == trained_parameters(step),
    }


def conclude(rows: list[dict[str, Any]], missing: int) -> str:
    """The errors, and what is past the bar."""
    errors = sorted(abs(row["error"]) for row in rows)
    past = [f"{row['shape']}: {row['step']} {row['error']:+.1%}" for row in rows if abs(row["error"]) > BAR]
    said = (
        f"Of {len(rows)} steps the sums are off by {errors[len(errors) // 2]:.2%} in the middle, "
        f"{errors[int(0.95 * len(errors))]:.2%} at 95 %, {errors[-1]:.2%} at most; {len(past)} are past {BAR:.0%}"
    )
    said += f" ({'; '.join(past)})" if past else ""
    return f"{said}. {missing} need bitsandbytes, which is not there." if missing else f"{said}."


def _chosen(words: str, only: str) -> bool:
    return all(word in words.split() for word in only.split())


def main() -> None:
    """Count, take, conclude."""
    parser = answers.parser(__doc__)
    parser.add_argument("--only", default="", metavar="WORDS", help="steps that are described with all of them")
    parser.add_argument("--shared", action="store_true", help="also steps on two ranks")
    parser.add_argument("--workers", type=int, default=1, help="steps at a time")
    args = parser.parse_args()
    cases = [(shape, step) for shape, step in steps() if _chosen(f"{shape} {described(step)}", args.only)]
    rows = []
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        for row in pool.map(row_of, cases):
            if row is not None:
                rows.append(row)
                place = f"{len(rows)}/{len(cases)}"
                print(f"  {place} {row['shape']}: {row['step']} {row['error']:+.2%}", file=sys.stderr)
    alone = len(rows)
    for case in shared_steps() if args.shared else ():
        rows.append(shared_row(*case))
        print(f"  {rows[-1]['shape']}: {rows[-1]['step']} {rows[-1]['error']:+.2%}", file=sys.stderr)
    missing = len(cases) - alone
    answers.finish(QUESTION, "training_memory", args.out, conclude(rows, missing), threads=1, measured=rows)


if __name__ == "__main__":
    main()
