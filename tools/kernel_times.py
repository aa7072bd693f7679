"""Write llamalab/analytic/kernel_times.tsv: of the kernel times beside the checkout those that the product shows.

    python -m tools.kernel_times [FOLDER]

Of vidur every shape at eight token counts, the median of what it repeats; of AIConfigurator products at seven numbers
of rows and up to 10,240 inputs, and attention with the heads of Llama's models and their shards.
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from llamalab.analytic.kernel_times import FILE

FOLDER = Path(__file__).parents[2] / "shared" / "kernels"
VIDUR = {"a100": "a100-80gb-sxm", "h100": "h100-80gb-sxm", "a40": "a40-48gb"}
TOKENS = (1, 8, 64, 256, 1024, 2048, 4096, 8192)
ROWS = (1, 8, 64, 256, 1024, 2048, 8192)
MOST_INPUTS = 10240
HEADS = {  # query and KV heads
    "prefill": {(32, 32), (40, 40), (64, 64), (16, 16), (8, 8), (32, 8), (64, 8), (16, 4), (32, 4), (16, 2), (8, 1)},
    "decode": {(32, 8), (40, 8), (64, 8), (16, 8), (8, 8), (16, 4), (32, 4), (16, 2), (8, 2), (8, 1)},
}
HEAD_LINES = (
    "# Kernels in 16 bits that others measured, medians: device, kernel, sizes (see kernel_times.py), ms, source",
    "# v: microsoft/vidur 7d47513 (MIT), data/profiling/compute; a: ai-dynamo/aiconfigurator 0.12 (Apache-2.0)",
)

Row = tuple[str, str, tuple[int, ...], float, str]


def rows_of(folder: Path) -> Iterator[Row]:
    """Every row of the file in its order."""
    found: dict[tuple[str, str, tuple[int, ...], str], list[float]] = defaultdict(list)
    for device, kernel, sizes, ms, source in (*_vidur(folder), *_products(folder), *_attention(folder)):
        found[device, kernel, sizes, source].append(ms)
    for (device, kernel, sizes, source), times in sorted(found.items()):
        yield device, kernel, sizes, median(times), source


def text_of(folder: Path) -> str:
    """The whole file."""
    lines = (
        "\t".join((device, kernel, "x".join(map(str, sizes)), f"{ms:.5g}", source))
        for device, kernel, sizes, ms, source in rows_of(folder)
    )
    return "\n".join((*HEAD_LINES, *lines, ""))


def _read(folder: Path, name: str) -> Iterator[dict[str, str]]:
    with open(folder / name, encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _vidur(folder: Path) -> Iterator[Row]:
    for row in _read(folder, "vidur_mlp.csv"):
        tokens, ranks, dim = (int(row[name]) for name in ("num_tokens", "num_tensor_parallel_workers", "n_embd"))
        if tokens not in TOKENS:
            continue
        head_dim = dim // int(row["n_head"])
        turned = (int(row["n_head"]) + int(row["n_kv_head"])) * head_dim
        keys, ffn = int(row["n_kv_head"]) * head_dim, int(row["n_expanded_embd"])
        kernels = {
            "attn_pre_proj_ms": ("gemm", (tokens, (turned + keys) // ranks, dim)),
            "attn_post_proj_ms": ("gemm", (tokens, dim, dim // ranks)),
            "mlp_up_proj_ms": ("gemm", (tokens, 2 * ffn // ranks, dim)),
            "mlp_down_proj_ms": ("gemm", (tokens, dim, ffn // ranks)),
            "input_layernorm_ms": ("norm", (tokens, dim)),
            "post_attention_layernorm_ms": ("norm", (tokens, dim)),
            "add_ms": ("residual", (tokens, dim)),
            "attn_rope_ms": ("rope", (tokens, turned // ranks)),
            "mlp_act_ms": ("swiglu", (tokens, ffn // ranks)),
        }
        for column, (kernel, sizes) in kernels.items():
            if row[column]:
                yield VIDUR[row["device"]], kernel, sizes, float(row[column]), "v"


def _products(folder: Path) -> Iterator[Row]:
    for row in _read(folder, "gemm_bf16.csv"):
        sizes = tuple(int(row[name]) for name in ("m", "n", "k"))
        if sizes[0] in ROWS and sizes[2] <= MOST_INPUTS:
            yield row["device"], "gemm", sizes, float(row["ms"]), "a"


def _attention(folder: Path) -> Iterator[Row]:
    for phase, tokens in (("prefill", "seq"), ("decode", "context")):
        for row in _read(folder, f"attention_{phase}_bf16.csv"):
            heads = (int(row["n_heads"]), int(row["n_kv_heads"]))
            # `context` counts the cached tokens, without the new one.
            keys = int(row[tokens]) + (phase == "decode")
            if heads in HEADS[phase]:
                yield row["device"], f"attention_{phase}", (int(row["batch"]), keys, *heads), float(row["ms"]), "a"


if __name__ == "__main__":
    Path(FILE).write_text(text_of(Path(sys.argv[1]) if sys.argv[1:] else FOLDER), encoding="utf-8")
