"""The arithmetic intensity of attention against the ridges of machines: where memory limits it, whatever the kernel.

    python -m experiments.attention_arithmetic

Intensity: causal matrix FLOPs per byte moved. A ridge is peak FLOP/s over bandwidth: below it memory is the
limit. Predicted by the IO formulas of llamalab.analytic.attention_cost, over length, head dim and group size;
measured by running the tiled algorithm, which counts every byte that it loads and stores.
"""

from collections.abc import Sequence
from typing import Any

import torch

from experiments.common import results as answers
from llamalab.analytic.attention_cost import AttentionShape, AttentionStep, flash_step, naive_steps, total
from llamalab.attention.tiled import tiled_attention
from llamalab.hardware import find_hardware

QUESTION = "When is attention limited by memory, whatever the kernel? Its intensity against the ridges of machines."

MACHINES = ("a100-80gb-sxm", "h100-80gb-sxm", "h200-141gb-sxm")
LENGTHS = (128, 512, 2048, 8192, 32768)
HEAD_DIMS, GROUPS, HEADS = (64, 80, 128), (1, 2, 4, 8, 16, 32), 32
EXECUTED = ((1, 640), (77, 640), (640, 640))  # (new, context) tokens that the algorithm is run at


def intensity(step: AttentionStep) -> float:
    """Causal matrix FLOPs per byte."""
    return step.flops_causal / (step.read_bytes + step.written_bytes)


def predict() -> list[dict[str, Any]]:
    """Intensities of both algorithms, prefill and decode."""
    rows = []
    for phase, head_dim, group, length in (
        *(("prefill", e, 1, n) for e in HEAD_DIMS for n in LENGTHS),
        *(("decode", 128, g, n) for g in GROUPS for n in (2048, 32768)),
    ):
        new = length if phase == "prefill" else 1
        shape = AttentionShape(
            batch=1, new_tokens=new, context_tokens=length, n_heads=HEADS, n_kv_heads=HEADS // group, head_dim=head_dim
        )
        rows.append(
            {
                "phase": phase,
                "tokens": length,
                "head_dim": head_dim,
                "group": group,
                "naive": intensity(total(naive_steps(shape))),
                "flash": intensity(flash_step(shape)),
                # Where the tiles of queries share K and V in a cache, memory gives each of them once.
                "flash_shared": intensity(flash_step(shape, query_tile=new)),
            }
        )
    return rows


def ridges() -> dict[str, float]:
    """Dense bf16 peak over bandwidth, from the data sheets."""
    specs = {name: find_hardware(name) for name in MACHINES}
    return {name: (spec.peak_flops_per_s["bf16"] or 0.0) / spec.bandwidth_bytes_per_s for name, spec in specs.items()}


def measure() -> list[dict[str, Any]]:
    """Bytes that the executed algorithm moved, beside the formula's."""
    rows = []
    for (new, context), group in ((sizes, group) for sizes in EXECUTED for group in (1, 4, 8)):
        shape = AttentionShape(
            batch=1, new_tokens=new, context_tokens=context, n_heads=8, n_kv_heads=8 // group, head_dim=64
        )
        q_BHTE = torch.randn(1, 8, new, 64, dtype=torch.bfloat16)
        k_BKSE = torch.randn(1, 8 // group, context, 64, dtype=torch.bfloat16)
        moved = tiled_attention(q_BHTE, k_BKSE, k_BKSE, query_offset=context - new).traffic
        step = flash_step(shape)
        rows.append(
            {
                "new_tokens": new,
                "tokens": context,
                "group": group,
                "bytes_moved": moved.read.total() + moved.written["z"],
                "bytes_predicted": step.read_bytes + step.written_bytes,
            }
        )
    return rows


def conclude(predicted: list[dict[str, Any]], measured: list[dict[str, Any]], limits: dict[str, float]) -> str:
    """What limits which phase, in words."""
    lowest = min(limits.values())
    wrong = [row for row in measured if row["bytes_moved"] != row["bytes_predicted"]]
    prefill = [row for row in predicted if row["phase"] == "prefill" and row["head_dim"] == 128]
    decode = [row for row in predicted if row["phase"] == "decode"]
    naive_most = max(row["naive"] for row in predicted)
    flash_most = max(row["flash"] for row in prefill)
    over = next((row["tokens"] for row in prefill if row["flash_shared"] > max(limits.values())), None)
    best = max(decode, key=lambda row: row["flash"])
    free = [row["group"] for row in decode if row["flash"] > lowest]
    return (
        f"Naive attention never exceeds {naive_most:.0f} FLOP/byte, below every ridge ({lowest:.0f} at the lowest): it "
        f"is limited by memory at any length. Flash prefill at head dim 128 reaches {flash_most:.0f} "
        f"where each tile of 128 queries reads K and V from memory, and passes all ridges from {over} tokens on where "
        f"the tiles share them in a cache. Decode does 1 FLOP per byte and query head that shares a KV head: MHA "
        f"{min(row['flash'] for row in decode):.2f}, MQA over {best['group']} heads {best['flash']:.1f} FLOP/byte; "
        f"{'groups ' + str(free) + ' pass a ridge' if free else 'no group size reaches a ridge'}, so decode attention "
        f"is limited by memory whatever the kernel. The executed algorithm moved "
        f"{'exactly the bytes' if not wrong else f'other bytes than those ({len(wrong)} rows)'} of the formula "
        f"in {len(measured)} cases."
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    args = answers.parser(__doc__).parse_args(argv)
    predicted, measured, limits = predict(), measure(), ridges()
    print(f"ridges in bf16: {', '.join(f'{name} {ridge:.0f} FLOP/byte' for name, ridge in limits.items())}")
    print(f"{'phase':8}{'tokens':>8}{'E':>5}{'group':>7}{'naive':>9}{'flash':>9}{'shared':>9}  FLOP/byte")
    for row in predicted:
        print(
            f"{row['phase']:8}{row['tokens']:8}{row['head_dim']:5}{row['group']:7}"
            f"{row['naive']:9.2f}{row['flash']:9.2f}{row['flash_shared']:9.2f}"
        )
    conclusion = conclude(predicted, measured, limits)
    rows = {"ridges": limits, "predicted": predicted, "measured": measured}
    answers.finish(QUESTION, "attention_arithmetic", args.out, conclusion, **rows)


if __name__ == "__main__":
    main()
