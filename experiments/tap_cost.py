"""The cost of taps, unused and used, against the same model without a single one.

Each variant runs in rounds with the untapped twin (experiments.common.tap_twin) and nothing else, in alternating
order, on one thread: either follows itself as often as the other, where among several variants the
neighbours would decide (0.3 % at one token). The figure is the median over rounds of the ratio to the twin.

Scores and pattern are no tensors of a pass with fused attention: what it costs to make them has no limit,
but is reported, in time and bytes, beside what the cost table and the machine's roofs predict.

    python -m experiments.tap_cost [--device cpu|cuda] [--rounds N] [--seq 1,256] [--variants ...] [--out PATH.json]

On CUDA the model is 4 blocks of 7B's size in bf16, so that there is device work behind the host's.
"""

import json
import math
import sys
from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import torch

from experiments.common import results as answers
from experiments.common.race import quartiles
from experiments.common.tap_twin import twin_of
from llamalab.analytic.attention_cost import AttentionShape, naive_steps
from llamalab.arch import LlamaArch
from llamalab.instrument.points import POINTS
from llamalab.instrument.reduce import Reduce
from llamalab.instrument.taps import Capture
from llamalab.measure.device.machine import clock_for, measure_peak, resolve_device
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.roofs.moves import cache_roof
from llamalab.measure.roofs.probes import gemm_roof
from llamalab.measure.timing.timer import Call, Plan, time_variants
from llamalab.model import Transformer, build
from llamalab.presets import PRESETS
from llamalab.units import storage_bytes

QUESTION = "What do taps cost, unused and used, against the same model without a single one?"

ARCH = LlamaArch(dim=512, n_layers=8, n_heads=8, n_kv_heads=8, ffn_dim=1376, vocab_size=4096)
MODELS = {"cpu": (ARCH, "fp32"), "cuda": (PRESETS["7b"].arch.replace(n_layers=4), "bf16")}
LIMITS = {  # highest ratio to the twin, at one token and at 256
    "unused": {1: 1.005, 256: 1.005},
    "captured": {1: 1.03, 256: 1.15},
    "copied": {1: 1.03, 256: 1.15},
    "reduced": {1: 1.03, 256: 1.03},
}
RECOMPUTED = "recomputed"
ALL = tuple(point.name for point in POINTS if not point.name.endswith((".scores", ".pattern")))
FOUR = ("*.attn_out", "*.resid_mid", "*.ffn_out", "*.resid_post")


class Twins(NamedTuple):
    """The model with taps in its code, its twin without, and the tokens of both."""

    model: Transformer
    twin: Transformer
    tokens_BT: torch.Tensor
    machine: Machine

    @classmethod
    def of(cls, seq: int, device: str) -> "Twins":
        """A pass of `seq` tokens on that device."""
        place = resolve_device(device)
        arch, dtype = MODELS[place.type]
        model = build(arch, dtype=dtype, device=place).eval()
        return cls(
            model, twin_of(model), torch.arange(seq, device=place)[None], Machine(place, clock_for(place), dtype)
        )

    def run(self, tap: Any) -> object:
        """A pass with that tap, or with none."""
        return self.model(self.tokens_BT, tap=tap)

    def run_twin(self) -> object:
        """The same pass of the twin."""
        return self.twin(self.tokens_BT)

    def beside_twin(self, work: Call, plan: Plan) -> tuple[list[float], list[float]]:
        """Seconds of the work and of the twin, in the same rounds."""
        with torch.inference_mode():
            samples = time_variants({"twin": self.run_twin, "work": work}, self.machine.clock, plan)
        return samples["work"], samples["twin"]


def measure(seq: int, plan: Plan, chosen: Sequence[str] = tuple(LIMITS), device: str = "cpu") -> dict[str, Any]:
    """The ratios of the chosen variants to the twin, and the twin's seconds."""
    twins = Twins.of(seq, device)
    depth = twins.model.arch.n_layers
    works: dict[str, Call] = {
        "twin again": twins.run_twin,
        "unused": partial(twins.run, None),
        "captured": partial(twins.run, Capture(*ALL, n_layers=depth)),
        "copied": partial(twins.run, Capture(*ALL, copy=True, n_layers=depth)),
        "reduced": partial(twins.run, Reduce(*FOUR, kind="rms", model=twins.model)),
    }
    ratios, all_twin_s = {}, []
    for name in ("twin again", *chosen):
        work_s, twin_s = twins.beside_twin(works[name], plan)
        ratios[name] = quartiles(work_s, twin_s)
        all_twin_s += twin_s
    return {"seq": seq, "rounds": plan.most, "twin_s": median(all_twin_s), "ratios": ratios}


def recompute(seqs: Sequence[int], plan: Plan, device: str = "cpu") -> list[dict[str, Any]]:
    """What the pattern costs on top of fused attention: whole, and for one row of one head of every layer."""
    found = []
    roofs: tuple[float, float] | None = None
    for seq in seqs:
        twins = Twins.of(seq, device)
        arch, dtype = twins.model.arch, twins.machine.dtype
        roofs = roofs or _roofs(twins.machine, arch)
        whole = AttentionShape(
            batch=1,
            new_tokens=seq,
            context_tokens=seq,
            n_heads=arch.n_heads,
            n_kv_heads=arch.n_kv_heads,
            head_dim=arch.head_dim,
            dtype=dtype,
            kv_dtype=dtype,
        )
        asked = {
            "last row of one head": ({"tokens": -1, "heads": 0}, whole._replace(new_tokens=1, n_heads=1, n_kv_heads=1)),
            "whole pattern": ({}, whole),
        }
        for name, (part, shape) in asked.items():
            row = _recompute_one(twins, part, plan)
            found.append({"asked": name, "seq": seq, **row, "predicted": predict(shape, arch.n_layers, *roofs)})
    return found


def _recompute_one(twins: Twins, part: dict[str, Any], plan: Plan) -> dict[str, Any]:
    def fresh() -> Capture:
        return Capture("*.pattern", n_layers=twins.model.arch.n_layers, **part)

    work_s, twin_s = twins.beside_twin(partial(twins.run, fresh()), plan)
    with torch.inference_mode():
        # Each pass with a tap of its own: the tensors of the pass before are no part of the peak.
        peaks = [
            measure_peak(work, twins.machine.device).peak_bytes for work in (twins.run_twin, lambda: twins.run(fresh()))
        ]
    return {
        "rounds": plan.most,
        "ratio": quartiles(work_s, twin_s),
        "added_s": median(over - under for over, under in zip(work_s, twin_s, strict=True)),
        "added_peak_bytes": None if None in peaks else peaks[1] - peaks[0],  # type: ignore[operator]
    }


def predict(shape: AttentionShape, n_layers: int, flop_roof: float, byte_roof: float) -> dict[str, float]:
    """Scores and softmax of all layers by the cost table; `least_s` at the roofs, where calls cost nothing."""
    steps = naive_steps(shape)[:2]
    moved = [step.read_bytes + step.written_bytes for step in steps]
    least_s = sum(max(step.operations / flop_roof, size / byte_roof) for step, size in zip(steps, moved, strict=True))
    return {
        "flops": n_layers * sum(step.operations for step in steps),
        "moved_bytes": n_layers * sum(moved),
        "kept_bytes": n_layers * storage_bytes(shape.pairs_full, shape.dtype),
        "least_s": n_layers * least_s,
    }


def _roofs(machine: Machine, arch: LlamaArch) -> tuple[float, float]:
    """FLOP/s of a large product, and byte/s of the last-level cache."""
    flops = gemm_roof(machine, [(arch.dim, arch.dim), (arch.ffn_dim, arch.dim)], 256).per_second
    return flops or math.inf, cache_roof(machine).per_second or math.inf


def conclude(found: list[dict[str, Any]]) -> list[str]:
    """One sentence per limit that was missed."""
    return [
        f"{name} at {one['seq']} tokens: {one['ratios'][name]['median']} is above {limits[one['seq']]}"
        for one in found
        for name, limits in LIMITS.items()
        if one["seq"] in limits and name in one["ratios"] and one["ratios"][name]["median"] > limits[one["seq"]]
    ]


def ratios_in_words(found: list[dict[str, Any]]) -> str:
    """All ratios, and what was missed, in words."""
    parts = [
        f"At {one['seq']} tokens, over {one['rounds']} rounds: "
        + ", ".join(f"{name} {ratio['median']:.3f}" for name, ratio in one["ratios"].items())
        for one in found
    ]
    return (
        ". ".join(["Time over that of a twin without taps", *parts, "; ".join(conclude(found)) or "No limit is missed"])
        + "."
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--rounds", type=int, default=0, help="rounds (default: 300 at one token, 40 at more)")
    parser.add_argument("--seq", default="1,256")
    parser.add_argument("--variants", default=",".join([*LIMITS, RECOMPUTED]), help="fewer of them take less time")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    seqs, variants, found = [int(seq) for seq in args.seq.split(",")], args.variants.split(","), []
    for seq in seqs:
        rounds = args.rounds or (300 if seq == 1 else 40)
        chosen = [name for name in variants if name != RECOMPUTED]
        found.append(measure(seq, Plan(0.0, rounds, rounds, 3), chosen, args.device))
        print(json.dumps(found[-1]), file=sys.stderr)
    remade = recompute(seqs, Plan(0.0, 20, 20, 3), args.device) if RECOMPUTED in variants else []
    arch, dtype = MODELS[resolve_device(args.device).type]
    answers.finish(
        QUESTION,
        "tap_cost",
        args.out,
        ratios_in_words(found),
        device=args.device,
        arch=arch.as_dict(),
        dtype=dtype,
        threads=1,
        limits=LIMITS,
        measured=found,
        recomputed=remade,
        missed=conclude(found),
    )


if __name__ == "__main__":
    main()
