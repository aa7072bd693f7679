"""Decode with MHA, GQA and MQA over batch, until memory ends.

    python -m experiments.gqa_groups [--device cpu] [--memory 256MiB] [--context 1024] [--attention naive]

Predicted: KV bytes, the largest batch whose cache fits, and tokens/s as batch over the bytes that a step
streams (weights once, K and V of each sequence once), scaled to the first measured step. Measured: decode
steps of a model with random weights, the same but for its KV heads, at batches that double until the cache
is larger than the memory given to it. The published finding (Ainslie et al. 2023, arXiv 2305.13245; Llama 2,
arXiv 2307.09288, appendix A.2.1) is that GQA keeps growing in batch where MHA runs out of memory.
"""

import sys
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch

from experiments.common import results as answers
from llamalab import LlamaArch, build
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.params import weight_bytes
from llamalab.arch import attention_kind
from llamalab.arch.fields import valid_kv_heads
from llamalab.formatting import format_bytes
from llamalab.measure.device.machine import clock_for, resolve_device
from llamalab.measure.timing.timer import Plan, time_one
from llamalab.model import StaticKVCache
from llamalab.units import parse_memory

QUESTION = "What does sharing KV heads buy in decode? MHA, GQA and MQA over batch, until memory ends."

BASE = LlamaArch(dim=1024, n_layers=4, n_heads=16, n_kv_heads=16, ffn_dim=2752, vocab_size=4096)
PLAN = Plan(1.0, 5, 30)


def predict(context: int, memory_bytes: int, dtype: str) -> list[dict[str, Any]]:
    """Per number of KV heads: bytes per sequence and the largest batch that fits."""
    rows = []
    for heads in valid_kv_heads(BASE.n_heads):
        arch = BASE.replace(n_kv_heads=heads)
        one = kv_bytes(arch, seq=context, dtype=dtype)
        rows.append(
            {
                "kind": attention_kind(BASE.n_heads, heads),
                "n_kv_heads": heads,
                "dtype": dtype,
                "kv_bytes_per_sequence": one,
                "weight_bytes": weight_bytes(arch, dtype),
                "largest_batch": memory_bytes // one,
            }
        )
    return rows


def measure(rows: list[dict[str, Any]], context: int, place: torch.device, attention: str) -> list[dict[str, Any]]:
    """Seconds of a decode step at every power-of-two batch that fits."""
    measured = []
    for row in rows:
        arch = BASE.replace(n_kv_heads=row["n_kv_heads"])
        model = build(arch, dtype=row["dtype"], device=place, attention=attention).eval()
        batch = 1
        while batch <= row["largest_batch"]:
            print(f"  {row['kind']}, batch {batch}", file=sys.stderr)
            cache = StaticKVCache(arch, batch=batch, max_tokens=context, dtype=row["dtype"], device=place)
            measured.append(
                row | {"batch": batch, "kv_bytes": cache.nbytes} | _step(model, cache, batch, context, place)
            )
            batch *= 2
    return measured


def _step(model: Any, cache: StaticKVCache, batch: int, context: int, place: torch.device) -> dict[str, Any]:
    tokens_BT = torch.zeros(batch, 1, dtype=torch.long, device=place)
    cache.advance(context - 1)

    def step() -> None:
        cache.rewind(context - 1)
        model(tokens_BT, cache=cache, logits="last")

    with torch.inference_mode():
        samples = time_one(step, clock_for(place), PLAN)
    return {"samples_s": samples, "step_s": median(samples), "tokens_per_s": batch / median(samples)}


def add_forecast(measured: list[dict[str, Any]]) -> None:
    """tokens/s by bytes streamed, at the bandwidth of the first row."""
    first = measured[0]
    rate = (first["weight_bytes"] + first["kv_bytes"]) / first["step_s"]
    for row in measured:
        row["predicted_tokens_per_s"] = row["batch"] * rate / (row["weight_bytes"] + row["kv_bytes"])


def conclude(measured: list[dict[str, Any]], memory_bytes: int) -> str:
    """Where each kind ends, and who is fastest there."""
    last = {row["kind"]: row for row in measured}
    ends = ", ".join(f"{kind} {row['tokens_per_s']:.0f} tokens/s at batch {row['batch']}" for kind, row in last.items())
    mha, best = last["MHA"], max(last.values(), key=lambda row: row["tokens_per_s"])
    same = {row["kind"]: row for row in measured if row["batch"] == mha["batch"]}
    return (
        f"In {format_bytes(memory_bytes)} of cache: {ends}. MHA runs out first; "
        f"{best['kind']} ends {best['tokens_per_s'] / mha['tokens_per_s']:.1f} times as fast as MHA. At MHA's largest "
        f"batch of {mha['batch']}, MQA is {same['MQA']['tokens_per_s'] / mha['tokens_per_s']:.2f} times as fast: "
        f"the rest of the gain is batch, which memory allows."
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Predict, measure, conclude; the last line is all of it as JSON."""
    parser = answers.parser(__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--memory", type=parse_memory, default=parse_memory("256MiB"))
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--attention", default="naive", help="PyTorch's CPU kernel reads K and V once per query head")
    parser.add_argument("--dtype", default="fp32")
    args = parser.parse_args(argv)
    predicted = predict(args.context, args.memory, args.dtype)
    measured = measure(predicted, args.context, resolve_device(args.device), args.attention)
    add_forecast(measured)
    print(f"{'':7}{'batch':>6}{'KV cache':>12}{'step ms':>10}{'tokens/s':>10}{'by bytes':>10}")
    for row in measured:
        print(
            f"{row['kind']:7}{row['batch']:6}{format_bytes(row['kv_bytes']):>12}{row['step_s'] * 1e3:10.2f}"
            f"{row['tokens_per_s']:10.1f}{row['predicted_tokens_per_s']:10.1f}"
        )
    conclusion = conclude(measured, args.memory)
    rows = {"context": args.context, "memory_bytes": args.memory, "predicted": predicted, "measured": measured}
    answers.finish(QUESTION, "gqa_groups", args.out, conclusion, device=args.device, **rows)


if __name__ == "__main__":
    main()
