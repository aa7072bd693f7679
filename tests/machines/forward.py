"""One model on the machine that the environment makes of this one: a program, for a process of its own.

    python -m tests.machines.forward [--without-onednn]

The last line is a JSON object: element type -> what was found, or the error.
"""

import json
import sys
import warnings
from typing import Any

import torch

import llamalab
from llamalab.measure.bench.rows import BenchCase
from llamalab.measure.bench.run import measure_bench
from llamalab.presets import resolve_model
from tests.report.sample import sample_record

NAME, ARCH = resolve_model("stories260k")
PROMPT = 9
# Rounding of weights and activations, against logits of about a half.
TOLERANCE = {"fp32": 1e-5, "fp16": 2e-3, "bf16": 1e-2}


@torch.inference_mode()
def found(dtype: str) -> dict[str, Any]:
    """Build, make ready, run a prompt and a token behind it, bench: how far off the logits are, and what ran."""
    tokens_BT = torch.arange(1, PROMPT + 1)[None]
    expected = llamalab.build(NAME, dtype="fp32", attention="naive").eval()
    model = llamalab.build(NAME, dtype=dtype).eval()
    with torch.no_grad():
        for plain, narrow in zip(expected.parameters(), model.parameters(), strict=True):
            plain.copy_(narrow)
    llamalab.compile(model, scope="none")
    cache = llamalab.StaticKVCache(ARCH, batch=1, max_tokens=PROMPT, dtype=dtype)
    first = model(tokens_BT[:, :-1], cache=cache)
    last = model(tokens_BT[:, -1:], cache=cache)
    logits = torch.cat([first, last], dim=1)
    error = float((logits.float() - expected(tokens_BT)).abs().max())
    rows = list(
        measure_bench(
            NAME, ARCH, [BenchCase(8, 0), BenchCase(0, 2)], device="cpu", dtype=dtype, repetitions=1,
            reference=sample_record("tiny", dtype=dtype),
        )
    )  # fmt: skip
    return {
        "error": error, "within": error <= TOLERANCE[dtype],
        "benched": [row.test for row in rows if row.tokens_per_s],
        "product": type(model.layers[0].attention.wq).__name__,
    }  # fmt: skip


def told(dtype: str) -> dict[str, Any]:
    try:
        return found(dtype)
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    warnings.simplefilter("error")
    if "--without-onednn" in sys.argv:
        torch.backends.mkldnn.set_flags(False)
    print(json.dumps({dtype: told(dtype) for dtype in TOLERANCE}))
