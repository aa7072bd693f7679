"""Fits the constants per class of kernel that explain measured kernel times best.

    python experiments/fit_constants.py [FOLDER]        default: ../shared/kernels

FOLDER holds gemm_bf16.csv, attention_prefill_bf16.csv, attention_decode_bf16.csv (AIConfigurator) and
vidur_mlp.csv (vidur), and may hold vidur_all_reduce_a100.csv and _h100.csv, which are vidur's
data/profiling/network/{a100,h100}_dgx/all_reduce.csv (commit 7d47513). Time of a kernel: t0 + soft
maximum of compute and memory time, as in llamalab.analytic.roofline. Nelder-Mead from a fixed start:
the same data give the same constants.

Errors that are minimised: GEMM, the logarithm of predicted over measured; attention, the difference
over the time of the whole layer that the kernel sits in (7B, at the data sheet), because 5 us of 13
matter little in a layer of 200; elementwise, the logarithm for the sum of a layer's elementwise
kernels, because single ones differ threefold and only their sum enters. Whole-model measurements are
not read here: they are what the constants are scored on (experiments/accuracy.py).
"""

import csv
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llamalab.analytic.attention_cost import AttentionShape, flash_step
from llamalab.analytic.parallel import all_reduce_bytes
from llamalab.hardware import HardwareSpec, find_hardware
from llamalab.measure.calibration.fit import minimum_within, predicted_s
from llamalab.presets import PRESETS

DEVICES = ("a100-80gb-sxm", "h100-80gb-sxm", "h200-141gb-sxm")
VIDUR = {"a100-80gb-sxm": "a100", "h100-80gb-sxm": "h100"}
SAME_DIE = {"h200-141gb-sxm": "h100-80gb-sxm"}
COMPUTE_BOUND_TOKENS = 512  # FLOPs per weight byte far above what an H100 does per byte (295)
LAYER_ELEMENTS = 202_375_168  # matrix elements of one 7B layer
PARAMETERS = ("t0_s", "compute_efficiency", "memory_efficiency", "q")
LOW = np.array([1e-6, 0.05, 0.05, 1.0])
HIGH = {
    "gemm": np.array([6e-6, 0.90, 0.93, 8.0]),
    "elementwise": np.array([6e-6, 1.0, 0.93, 8.0]),
    "attention_prefill": np.array([30e-6, 0.90, 0.93, 8.0]),
    "attention_decode": np.array([30e-6, 0.90, 0.93, 8.0]),
    "collective": np.array([60e-6, 1.0, 0.93, 8.0]),
}
SMALLEST_RING_BYTES = 512 * 1024  # below, a server uses its own kernels, not the library that was measured
START = np.array([4e-6, 0.70, 0.75, 2.0])


class Kernels(NamedTuple):
    """Measured kernels of a class: FLOPs, bytes, how many run one after another, seconds; weight in the fit.

    `layer_s` is the time of the layer that an attention kernel sits in.
    """

    flops: np.ndarray
    bytes: np.ndarray
    launches: np.ndarray
    time_s: np.ndarray
    weight: np.ndarray
    layer_s: np.ndarray | None


def read(folder: Path, name: str) -> list[dict[str, str]]:
    """The rows of one CSV file."""
    with open(folder / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def kernels(rows: Iterable[tuple[float, ...]], *, layer: bool = False) -> Kernels | None:
    """Rows of (flops, bytes, launches, seconds[, layer seconds]) as columns; None where there are none."""
    table = np.array(list(rows), dtype=float)
    if not len(table):
        return None
    flops, moved, launches, time_s = table.T[:4]
    return Kernels(
        flops=flops,
        bytes=moved,
        launches=launches,
        time_s=time_s,
        weight=np.ones(len(table)),
        layer_s=table.T[4] if layer else None,
    )


def together(sources: Iterable[Kernels | None]) -> Kernels:
    """Kernels of several sources, each source with the same weight however many kernels it has."""
    known = [data for data in sources if data is not None]
    shared = [data._replace(weight=data.weight / len(data.time_s)) for data in known]
    flops, moved, launches, time_s, weight, _ = zip(*shared, strict=True)
    joined = [np.concatenate(column) for column in (flops, moved, launches, time_s, weight)]
    return Kernels(
        flops=joined[0], bytes=joined[1], launches=joined[2], time_s=joined[3], weight=joined[4], layer_s=None
    )


def gemm(folder: Path, device: str) -> Kernels:
    """Products (m, k) x (k, n): AIConfigurator's grid and vidur's projections."""
    grid = [
        (int(r["m"]), int(r["n"]), int(r["k"]), float(r["ms"]))
        for r in read(folder, "gemm_bf16.csv")
        if r["device"] == device
    ]
    llama = [shape for r in vidur(folder, device) for shape in _projections(r)]
    if device in SAME_DIE:  # what computing limits runs there as it does on the same die with other memory
        sibling = vidur(folder, SAME_DIE[device])
        llama = [shape for r in sibling if r["num_tokens"] >= COMPUTE_BOUND_TOKENS for shape in _projections(r)]
    return together(
        kernels((2 * m * n * k, 2 * (m * k + k * n + m * n), 1, ms / 1e3) for m, n, k, ms in shapes)
        for shapes in (grid, llama)
    )


def _projections(r: dict[str, Any]) -> list[tuple[int, int, int, float]]:
    """m, n, k and milliseconds of the products that vidur timed for one row."""
    tp, dim, ffn = r["num_tensor_parallel_workers"], r["n_embd"], r["n_expanded_embd"]
    qkv = (r["n_head"] + 2 * r["n_kv_head"]) * (dim // r["n_head"])
    shapes = (
        ("attn_pre_proj_ms", qkv // tp, dim),
        ("attn_post_proj_ms", dim, dim // tp),
        ("mlp_up_proj_ms", 2 * ffn // tp, dim),
        ("mlp_down_proj_ms", dim, ffn // tp),
    )
    return [(r["num_tokens"], n, k, r[name]) for name, n, k in shapes if r[name]]


def elementwise(folder: Path, device: str) -> Kernels | None:
    """The norms, RoPE, SwiGLU and two residual sums of one layer, added up."""
    rows = []
    for r in vidur(folder, device):
        tokens, dim, tp = r["num_tokens"], r["n_embd"], r["num_tensor_parallel_workers"]
        head_dim, ffn = dim // r["n_head"], r["n_expanded_embd"] // tp
        parts = (
            ("input_layernorm_ms", 1, 2 * (2 * tokens * dim + dim)),
            ("post_attention_layernorm_ms", 1, 2 * (2 * tokens * dim + dim)),
            ("attn_rope_ms", 1, 4 * tokens * (r["n_head"] + r["n_kv_head"]) * head_dim // tp),
            ("mlp_act_ms", 1, 6 * tokens * ffn),
            ("add_ms", 2, 6 * tokens * dim),
        )
        if all(r[name] for name, _, _ in parts):
            moved, time_ms = (
                sum(times * figure for figure, times in column)
                for column in ([(b, t) for _, t, b in parts], [(r[name], t) for name, t, _ in parts])
            )
            rows.append((0, moved, sum(times for _, times, _ in parts), time_ms / 1e3))
    return kernels(rows)


def attention(folder: Path, device: str, phase: str) -> Kernels | None:
    """Fused causal attention kernels, head size 128, with every byte counted once, as a prediction does."""
    spec = find_hardware(device)
    rows = []
    for r in read(folder, f"attention_{phase}_bf16.csv"):
        if r["device"] != device:
            continue
        batch, heads, kv_heads = int(r["batch"]), int(r["n_heads"]), int(r["n_kv_heads"])
        # `context` of the decode file counts the cached tokens, without the new one.
        new, context = (int(r["seq"]), int(r["seq"])) if phase == "prefill" else (1, int(r["context"]) + 1)
        shape = AttentionShape(
            batch=batch, new_tokens=new, context_tokens=context, n_heads=heads, n_kv_heads=kv_heads, head_dim=128
        )
        moved = 2 * 2 * (shape.query_elements + shape.key_elements)  # Q, K, V and the output, each once, 16 bit
        rows.append((flash_step(shape).flops_causal, moved, 1, float(r["ms"]) / 1e3, layer_s(spec, batch * new)))
    return kernels(rows, layer=True)


def collective(folder: Path, device: str) -> Kernels | None:
    """All-reduces of a library within one machine, as the bytes that one rank sends."""
    name = f"vidur_all_reduce_{VIDUR.get(device)}.csv"
    if not (folder / name).exists():
        return None
    rows = []
    for r in read(folder, name):
        ranks, size = int(r["num_workers"]), int(r["size"])
        if r["devices_per_node"] == r["num_workers"] and size >= SMALLEST_RING_BYTES:
            median_s = float(r["time_stats.all_reduce.median"]) / 1e3
            rows.append((0, all_reduce_bytes(size, ranks), 1, median_s))
    return kernels(rows)


def layer_s(spec: HardwareSpec, tokens: int) -> float:
    """Seconds of the matrix products of one 7B layer at the data sheet."""
    peak = spec.peak_flops_per_s["bf16"] or math.inf
    return max(2 * LAYER_ELEMENTS * tokens / peak, 2 * LAYER_ELEMENTS / spec.bandwidth_bytes_per_s)


def vidur(folder: Path, device: str) -> list[dict[str, Any]]:
    """Rows of a device in vidur's table; counts as int, times in ms as float, absent ones as None."""
    wanted = VIDUR.get(device)
    return [
        {key: _figure(key, text) for key, text in row.items()}
        for row in read(folder, "vidur_mlp.csv")
        if row["device"] == wanted
    ]


def _figure(key: str, text: str) -> Any:
    if key.endswith("_ms"):
        return float(text) if text else None
    return int(text) if text.isdigit() else text


def model(data: Kernels, spec: HardwareSpec, kind: str, constants: np.ndarray) -> np.ndarray:
    """Predicted seconds."""
    bandwidth = (spec.interconnect_bytes_per_s or math.inf) / 2 if kind == "collective" else spec.bandwidth_bytes_per_s
    compute_s = data.flops / (spec.peak_flops_per_s["bf16"] or math.inf)
    # Several kernels one after another: t0 each.
    return predicted_s(compute_s, data.bytes / bandwidth, constants) + (data.launches - 1) * constants[0]


def fit(data: Kernels, spec: HardwareSpec, kind: str) -> tuple[np.ndarray, float]:
    """The constants within their limits, and the mean absolute relative error of single kernels."""

    def loss(inside: np.ndarray) -> float:
        predicted = model(data, spec, kind, inside)
        if data.layer_s is None:
            error = np.abs(np.log(predicted / data.time_s))
        else:
            error = np.abs(predicted - data.time_s) / (data.time_s + data.layer_s)
        return float(np.average(error, weights=data.weight))

    best = minimum_within(loss, START, low=LOW, high=HIGH[kind])
    if not data.flops.any():
        best[[1, 3]] = 1.0  # nothing was computed: these two have no effect
    return best, float(np.mean(np.abs(model(data, spec, kind, best) / data.time_s - 1)))


def fit_device(folder: Path, device: str) -> dict[str, tuple[np.ndarray, int, float]]:
    """Constants, number of kernels and error by class, for what the folder has of a device."""
    classes = {
        "gemm": gemm(folder, device),
        "elementwise": elementwise(folder, device),
        "attention_prefill": attention(folder, device, "prefill"),
        "attention_decode": attention(folder, device, "decode"),
        "collective": collective(folder, device),
    }
    spec = find_hardware(device)
    found = {}
    for kind, data in classes.items():
        if data is not None:
            constants, error = fit(data, spec, kind)
            found[kind] = (constants, len(data.time_s), error)
    return found


def main(argv: list[str]) -> int:
    """Print the constants as llamalab/analytic/shipped_constants.py holds them."""
    folder = Path(argv[0] if argv else "../shared/kernels")
    assert PRESETS["7b"].arch.dim == 4096  # LAYER_ELEMENTS is that of this preset
    for device in DEVICES:
        print(f'    "{device}": {{')
        for kind, (values, count, error) in fit_device(folder, device).items():
            t0, compute, memory, q = values
            print(f'        "{kind}": ClassFit({t0:.3g}, {compute:.3f}, {memory:.3f}, {q:.2f}, {count}, {error:.3f}),')
        print("    },")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
