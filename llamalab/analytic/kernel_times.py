"""Times of single kernels that others measured on GPUs, and the nearest of them for a row of the op table.

kernel_times.tsv holds medians of kernels in 16 bits: of microsoft/vidur 7d47513 (MIT), fp16, one block of Llama 2 7B
and 70B shared by 1 to 8 devices, and of ai-dynamo/aiconfigurator 0.12 (Apache-2.0), bf16, kernels of vLLM 0.14, head
dim 128. Where both have a shape it is vidur's, which timed whole blocks. Sizes by kernel:

    gemm                 rows, outputs, inputs
    attention_prefill    sequences, tokens, query heads, KV heads; causal
    attention_decode     sequences, keys with the new one, query heads, KV heads
    norm, residual       rows, width
    rope                 rows, width of queries and keys
    swiglu               rows, width of the hidden layer
"""

import os
from bisect import bisect
from functools import lru_cache
from math import log

from llamalab.analytic.attention_cost import AttentionShape, flash_step
from llamalab.analytic.op import Op
from llamalab.analytic.parallel import shard
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.startup.hints import NamedTuple

FILE = os.path.join(os.path.dirname(__file__), "kernel_times.tsv")
_SOURCES = {"v": "microsoft/vidur 7d47513, fp16", "a": "ai-dynamo/aiconfigurator 0.12, vLLM 0.14, bf16"}
HEAD_DIM, ITEMSIZE = 128, 2
_TIE = 1e-9  # tolerance of sums of logarithms that are equal distances
# Kernels that vidur and AIConfigurator timed, by the end of the name of a row of the op table.
_BY_NAME = {name: name for name in ("norm", "rope", "swiglu", "residual")} | {"rope_append": "rope"}
_OF_HEADS = ("q_norm", "k_norm")  # their rows are heads, without published kernels


class PublishedKernel(NamedTuple):
    """A kernel of a device, its sizes in the order of this module, the published seconds, and their source."""

    device: str
    kernel: str
    sizes: tuple[int, ...]
    time_s: float
    source: str

    @property
    def shape(self) -> str:
        """Its sizes in words.

        >>> PublishedKernel("h100-80gb-sxm", "attention_decode", (4, 512, 32, 8), 1e-5, "").shape
        '4 × 512, 32/8 heads'
        """
        return shape_words(self.kernel, self.sizes)


def shape_words(kernel: str, sizes: tuple[int, ...]) -> str:
    """Sizes of a kernel in words."""
    if kernel.startswith("attention"):
        return "{} × {}, {}/{} heads".format(*sizes)
    return " × ".join(map(str, sizes))


@lru_cache(maxsize=8)
def _lines(device: str) -> dict[str, list[str]]:
    """Lines of a device by kernel, as they stand."""
    found: dict[str, list[str]] = {}
    with open(FILE, encoding="utf-8") as file:
        for line in file:
            if line.startswith(device + "\t"):
                found.setdefault(line.split("\t", 2)[1], []).append(line)
    return found


@lru_cache(maxsize=64)
def kernel_times(device: str, kernel: str) -> dict[tuple[int, ...], PublishedKernel]:
    """The published times of a kernel on a device, by sizes; empty where there are none.

    >>> len(kernel_times("h100-80gb-sxm", "gemm")) > 500, kernel_times("cpu", "gemm")
    (True, {})
    """
    return {sizes: _kernel(line, sizes) for sizes, line in _by_sizes(device, kernel).items()}


@lru_cache(maxsize=64)
def _by_sizes(device: str, kernel: str) -> dict[tuple[int, ...], str]:
    """Lines of a kernel by its sizes: a prediction needs one of hundreds."""
    lines = _lines(device).get(kernel, ())
    return {tuple(map(int, line.split("\t", 3)[2].split("x"))): line for line in lines}


def _kernel(line: str, sizes: tuple[int, ...]) -> PublishedKernel:
    device, kernel, _, ms, source = line.split()
    return PublishedKernel(device, kernel, sizes, float(ms) / 1e3, _SOURCES[source])


@lru_cache(maxsize=1)
def devices_with_kernel_times() -> tuple[str, ...]:
    """The devices with published kernels."""
    with open(FILE, encoding="utf-8") as file:
        return tuple(dict.fromkeys(line.partition("\t")[0] for line in file if not line.startswith("#")))


def kernel_of(op: Op, arch: LlamaArch, shape: PassShape) -> tuple[str, tuple[int, ...]] | None:
    """The kernel of a row of the op table, and its sizes; None where none of its kind is published.

    That is so for rows not in 16 bits, collectives, another head dim, a window, and steps of naive attention.
    """
    if "bf16" != shape.dtype != "fp16" or op.count == 0:
        return None
    if op.kind == "gemm":
        return _product(op) if shape.weight_storage == shape.dtype else None
    if op.kind == "attention":
        return _attention(op, arch, shape)
    leaf = op.name.rpartition(".")[2]
    kernel = next((_BY_NAME[end] for end in (leaf, leaf.rpartition("_")[2]) if end in _BY_NAME), None)
    if op.kind != "elementwise" or kernel is None or leaf in _OF_HEADS:
        return None
    part, rows = shard(arch, shape.tensor_parallel), shape.new_tokens * shape.batch
    widths = {"rope": part.query_dim + part.kv_dim, "swiglu": part.ffn_dim}
    return kernel, (rows, widths.get(kernel, arch.dim))


def _product(op: Op) -> tuple[str, tuple[int, ...]]:
    """Rows, outputs and inputs of a product, derived from its FLOPs and bytes."""
    outputs = op.flops_full * ITEMSIZE // (2 * op.read_bytes)
    inputs = op.flops_full * ITEMSIZE // (2 * op.written_bytes)
    return "gemm", (op.read_bytes // ITEMSIZE // inputs, outputs, inputs)


def _attention(op: Op, arch: LlamaArch, shape: PassShape) -> tuple[str, tuple[int, ...]] | None:
    part = shard(arch, shape.tensor_parallel)
    chunked = op.mode == "prefill" and shape.context != shape.new_tokens
    unlike = chunked or arch.head_dim != HEAD_DIM or arch.window is not None or shape.kv_storage != shape.dtype
    if unlike or op.is_naive_step:
        return None
    return f"attention_{op.mode}", (shape.batch, shape.context, part.n_heads, part.n_kv_heads)


@lru_cache(maxsize=4096)
def nearest(device: str, kernel: str, sizes: tuple[int, ...]) -> PublishedKernel | None:
    """The published kernel whose sizes differ least, by the product of ratios; None where none is published.

    >>> nearest("h100-80gb-sxm", "gemm", (2048, 4096, 4097)).sizes
    (2048, 4096, 4096)
    """
    known = _by_sizes(device, kernel)
    if sizes in known:
        return _kernel(known[sizes], sizes)
    if not known:
        return None
    axis, lines = _series(device, kernel)
    asked = [log(size) for size in sizes]
    along, others = asked.pop(axis), asked
    found: list[tuple[float, int]] = []
    for rest, logs, places in lines:
        apart = sum([abs(a - b) for a, b in zip(rest, others, strict=True)])
        at = bisect(logs, along)
        found += [(apart + abs(logs[one] - along), places[one]) for one in (at - 1, at) if 0 <= one < len(logs)]
    least = min(found)[0] + _TIE
    shapes = tuple(known)
    place = min((place for way, place in found if way <= least), key=lambda place: (far(shapes[place], sizes), place))
    return _kernel(known[shapes[place]], shapes[place])


@lru_cache(maxsize=64)
def _series(device: str, kernel: str) -> tuple[int, list[tuple[list[float], list[float], list[int]]]]:
    """The size that takes most values, and what is published in lines along it: only the two beside can be nearest.

    Of each line the logarithms of its other sizes, of its own in order, and where they stand in what is published:
    distances between logarithms are those of `far`, added up.
    """
    shapes = list(_by_sizes(device, kernel))
    axis = max(range(len(shapes[0])), key=lambda place: len({sizes[place] for sizes in shapes}))
    by_rest: dict[tuple[int, ...], list[tuple[float, int]]] = {}
    for place, sizes in enumerate(shapes):
        by_rest.setdefault(sizes[:axis] + sizes[axis + 1 :], []).append((log(sizes[axis]), place))
    lines = [([log(size) for size in rest], sorted(line)) for rest, line in by_rest.items()]
    return axis, [(rest, [way for way, _ in line], [place for _, place in line]) for rest, line in lines]


def far(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """The distance of two shapes: the ratios of their sizes, multiplied.

    >>> far((1, 4096), (2, 1024))
    8.0
    """
    ratio = 1.0
    for a, b in zip(one, other, strict=True):
        ratio *= a / b if a > b else b / a
    return ratio


def kernel_op(one: PublishedKernel) -> Op:
    """The op-table row of a published kernel; repeated reads count once, as in the fits."""
    if one.kernel == "gemm":
        rows, outputs, inputs = one.sizes
        flops = 2 * rows * outputs * inputs
        return Op(
            one.kernel,
            "gemm",
            1,
            flops_full=flops,
            flops_causal=flops,
            weight_bytes=outputs * inputs * ITEMSIZE,
            read_bytes=rows * inputs * ITEMSIZE,
            written_bytes=rows * outputs * ITEMSIZE,
            mode="row" if rows == 1 else "",
            roof="gemm",
        )
    if one.kernel.startswith("attention"):
        batch, tokens, heads, kv_heads = one.sizes
        mode = one.kernel.removeprefix("attention_")
        run = AttentionShape(
            batch=batch,
            new_tokens=tokens if mode == "prefill" else 1,
            context_tokens=tokens,
            n_heads=heads,
            n_kv_heads=kv_heads,
            head_dim=HEAD_DIM,
        )
        step = flash_step(run)
        return Op(
            one.kernel,
            "attention",
            1,
            step.flops_full,
            step.flops_causal,
            read_bytes=ITEMSIZE * (run.query_elements + 2 * run.key_elements),
            written_bytes=ITEMSIZE * run.query_elements,
            mode=mode,
            roof="attention",
        )
    rows, width = one.sizes
    elements = rows * width
    reads = 2 * elements if one.kernel in ("swiglu", "residual") else elements
    weight = ITEMSIZE * width if one.kernel == "norm" else 0
    mode = "" if one.kernel == "residual" else one.kernel
    return Op(
        name=one.kernel,
        kind="elementwise",
        count=1,
        flops_full=0,
        flops_causal=0,
        vector_flops=0,
        weight_bytes=weight,
        read_bytes=ITEMSIZE * reads,
        written_bytes=ITEMSIZE * elements,
        mode=mode,
        roof="copy",
    )
