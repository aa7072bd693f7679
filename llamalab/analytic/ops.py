"""THE op table: every operation of a forward pass, with its FLOPs and the bytes it moves.

Prefill, chunked prefill and decode are one function of (new_tokens, context_tokens): prefill is
T = S, decode is T = 1. Everything else that speaks of cost (FLOPs, bytes, intensity, predicted
time, memory traffic, the report) adds up rows of this table.

Conventions (1 multiply-add = 2 FLOPs):
- flops_* are matrix products only; norms, RoPE, softmax, SwiGLU and residuals are vector_flops.
- The context counts the new tokens. The embedding is a gather: it reads B*T rows, not the table.
- The head runs on the last position unless logits="all".
- Each operation reads its inputs and writes its outputs once; weights are streamed once.
- Under tensor parallelism the table is that of one rank.

Names are those of the model's modules and of the measured table; `layers.*.` stands for a layer.
"""

from collections.abc import Sequence
from typing import NamedTuple

from llamalab.analytic.attention_cost import AttentionShape, flash_step, naive_steps
from llamalab.analytic.batches import Sequences, ragged
from llamalab.analytic.parallel import all_gather_bytes, all_reduce_bytes, is_one_shot, shard
from llamalab.arch import LlamaArch
from llamalab.errors import UnknownNameError
from llamalab.units import storage_bytes

ALGORITHMS = ("flash", "naive")
LOGITS = ("last", "all")
LAYER = "layers.*."
COMPUTED_NARROW = ("fp8",)  # weight dtypes whose products take inputs of the same dtype


class Op(NamedTuple):
    """One operation. All figures are for one occurrence; the model has `count` of them.

    kind is gather, gemm, elementwise, attention or collective: what its time depends on. mode tells
    variants of a kind apart that a machine may run at other rates: attention in prefill and in decode,
    a product with one row, the elementwise operations of the plain model, a collective in one shot.
    link_bytes is what one rank sends to the others; reread_bytes is the part of read_bytes that the
    same operation has read before: a cache may hold it.
    """

    name: str
    kind: str
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls on an op
    flops_full: int = 0
    flops_causal: int = 0
    vector_flops: int = 0
    weight_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    link_bytes: int = 0
    reread_bytes: int = 0
    mode: str = ""

    @property
    def bytes(self) -> int:
        """Weights, activations and KV cache moved by one occurrence."""
        return self.weight_bytes + self.read_bytes + self.written_bytes

    @property
    def intensity(self) -> float:
        """Causal matrix FLOPs per byte moved."""
        return self.flops_causal / self.bytes

    @property
    def rate_class(self) -> str:
        """The class whose constants it is timed with: its kind, for attention with its mode."""
        return f"{self.kind}_{self.mode}" if self.mode else self.kind


class Totals(NamedTuple):
    """An op table added up over all occurrences."""

    flops_full: int
    flops_causal: int
    vector_flops: int
    weight_bytes: int
    read_bytes: int
    written_bytes: int
    link_bytes: int = 0

    @property
    def bytes(self) -> int:
        """Everything moved."""
        return self.weight_bytes + self.read_bytes + self.written_bytes

    @property
    def intensity(self) -> float:
        """Causal matrix FLOPs per byte moved."""
        return self.flops_causal / self.bytes


def forward_ops(
    arch: LlamaArch,
    *,
    new_tokens: int,
    context_tokens: int | Sequence[int] | None = None,
    batch: int = 1,
    dtype: str = "bf16",
    kv_dtype: str | None = None,
    weight_dtype: str | None = None,
    attention: str = "flash",
    logits: str = "last",
    fused: bool = False,
    tensor_parallel: int = 1,
) -> tuple[Op, ...]:
    """The operations of one forward pass over B sequences, in order.

    `context_tokens` is the keys in view, the new ones included (default: new_tokens, a prefill
    from scratch); a list of them is a ragged batch, one sequence each. `kv_dtype` is the cache's
    storage and `weight_dtype` that of the matrices (default: dtype); the embedding table and the
    norms are stored in `dtype`. int8 and int4 weights are widened as they are read; fp8 weights are
    multiplied with fp8 inputs, which an operation of its own makes first. `fused` groups wq, wk, wv
    and w1, w3 into one product each, the residual sum with the next norm and RoPE with the append to
    the cache, as inference servers do.

    >>> from llamalab.presets import PRESETS
    >>> ops = forward_ops(PRESETS["7b"].arch, new_tokens=2048)
    >>> add_up(ops).flops_causal
    27626028662784
    """
    if attention not in ALGORITHMS:
        raise UnknownNameError("attention", attention, ALGORITHMS)
    if logits not in LOGITS:
        raise UnknownNameError("logits", logits, LOGITS)
    sequences = ragged(new_tokens, context_tokens, batch)
    table = _Table(arch, sequences, dtype, weight_dtype or dtype, kv_dtype or dtype, tensor_parallel)
    head_rows = table.rows if logits == "all" else sum(group.number for group in sequences)
    block = table.fused_block(attention) if fused else table.block(attention)
    ops = (*table.gather(), *block, table.norm("norm"), *table.head(head_rows))
    return tuple(op for op in ops if op is not None and (op.kind != "collective" or tensor_parallel > 1))


def add_up(ops: tuple[Op, ...]) -> Totals:
    """Sum a table over its rows and their counts."""
    return Totals(*(sum(op.count * getattr(op, field) for op in ops) for field in Totals._fields))


class _Table:
    """Rows for one run on one rank: `rows` tokens of activations in `dtype`."""

    def __init__(
        self, arch: LlamaArch, sequences: tuple[Sequences, ...], dtype: str, weight: str, kv: str, ranks: int
    ) -> None:
        self.arch, self.sequences, self.shard = arch, sequences, shard(arch, ranks)
        self.dtype, self.weight_dtype, self.kv_dtype = dtype, weight, kv
        self.input_dtype = weight if weight in COMPUTED_NARROW else dtype
        self.rows = sum(group.number * group.new_tokens for group in sequences)

    def block(self, attention: str) -> tuple[Op | None, ...]:
        dim, s = self.arch.dim, self.shard
        return (
            self.norm(LAYER + "attention_norm"),
            self.quantize(LAYER + "attention.quantize", dim),
            self.gemm(LAYER + "attention.wq", s.query_dim, dim),
            self.gemm(LAYER + "attention.wk", s.kv_dim, dim),
            self.gemm(LAYER + "attention.wv", s.kv_dim, dim),
            self.rope(LAYER + "attention.rope"),
            self.kv_append(LAYER + "attention.kv_append"),
            *self.attention(attention),
            self.quantize(LAYER + "attention.quantize_z", s.query_dim),
            self.gemm(LAYER + "attention.wo", dim, s.query_dim),
            self.all_reduce(LAYER + "attention.all_reduce"),
            self.residual(LAYER + "attention_residual"),
            self.norm(LAYER + "ffn_norm"),
            self.quantize(LAYER + "feed_forward.quantize", dim),
            self.gemm(LAYER + "feed_forward.w1", s.ffn_dim, dim),
            self.gemm(LAYER + "feed_forward.w3", s.ffn_dim, dim),
            self.swiglu(LAYER + "feed_forward.swiglu"),
            self.quantize(LAYER + "feed_forward.quantize_hidden", s.ffn_dim),
            self.gemm(LAYER + "feed_forward.w2", dim, s.ffn_dim),
            self.all_reduce(LAYER + "feed_forward.all_reduce"),
            self.residual(LAYER + "ffn_residual"),
        )

    def fused_block(self, attention: str) -> tuple[Op | None, ...]:
        dim, s = self.arch.dim, self.shard
        rope, append = self.rope(LAYER + "attention.rope_append"), self.kv_append("")
        # The rotated keys go from registers into the cache; only the values are read for it.
        return (
            self.norm(LAYER + "attention_norm", residual=True),
            self.quantize(LAYER + "attention.quantize", dim),
            self.gemm(LAYER + "attention.wqkv", s.query_dim + 2 * s.kv_dim, dim),
            rope._replace(
                read_bytes=rope.read_bytes + append.read_bytes // 2,
                written_bytes=self._bytes(self.rows * s.query_dim) + append.written_bytes,
                mode="",
            ),
            *self.attention(attention),
            self.quantize(LAYER + "attention.quantize_z", s.query_dim),
            self.gemm(LAYER + "attention.wo", dim, s.query_dim),
            self.all_reduce(LAYER + "attention.all_reduce"),
            self.norm(LAYER + "ffn_norm", residual=True),
            self.quantize(LAYER + "feed_forward.quantize", dim),
            self.gemm(LAYER + "feed_forward.w13", 2 * s.ffn_dim, dim),
            self.swiglu(LAYER + "feed_forward.swiglu"),
            self.quantize(LAYER + "feed_forward.quantize_hidden", s.ffn_dim),
            self.gemm(LAYER + "feed_forward.w2", dim, s.ffn_dim),
            self.all_reduce(LAYER + "feed_forward.all_reduce"),
        )

    def _bytes(self, elements: int) -> int:
        return storage_bytes(elements, self.dtype)

    def _count(self, name: str) -> int:
        return self.arch.n_layers if name.startswith(LAYER) else 1

    def _elementwise(
        self, name: str, vector_flops: int, read: int, written: int, *, weight: int = 0, mode: str = ""
    ) -> Op:
        moved = self._bytes(weight), self._bytes(read), self._bytes(written)
        return Op(name, "elementwise", self._count(name), 0, 0, vector_flops, *moved, mode=mode)

    def gather(self) -> tuple[Op, Op]:
        columns, whole = self._bytes(self.rows * self.shard.dim), self._bytes(self.rows * self.arch.dim)
        gathered = self._collective("tok_embeddings.all_gather", whole, all_gather_bytes(whole, self.shard.ranks))
        return Op("tok_embeddings", "gather", 1, weight_bytes=columns, written_bytes=columns), gathered

    def norm(self, name: str, *, residual: bool = False) -> Op:
        elements, operands = self.rows * self.arch.dim, 2 if residual else 1
        # square, sum, scale by the root, scale by the weight; with the residual: one sum, in and out once more
        vector_flops, moved = (3 + operands) * elements, operands * elements
        mode = "" if residual else "norm"
        return self._elementwise(name, vector_flops, moved, moved, weight=self.arch.dim, mode=mode)

    def head(self, rows: int) -> tuple[Op, Op]:
        # A tied model multiplies by the embedding table: same matrix product, same bytes.
        product = self.gemm("output", self.shard.vocab_size, self.arch.dim, rows=rows)
        whole = self._bytes(rows * self.arch.vocab_size)
        return product, self._collective("output.all_gather", whole, all_gather_bytes(whole, self.shard.ranks))

    def gemm(self, name: str, out: int, inner: int, *, rows: int | None = None) -> Op:
        rows = self.rows if rows is None else rows
        flops, weight = 2 * rows * out * inner, storage_bytes(out * inner, self.weight_dtype)
        read, written = storage_bytes(rows * inner, self.input_dtype), self._bytes(rows * out)
        mode = "row" if rows == 1 else ""  # a product of a matrix and a vector is another kernel
        return Op(name, "gemm", self._count(name), flops, flops, 0, weight, read, written, mode=mode)

    def _collective(self, name: str, buffer_bytes: int, link_bytes: int) -> Op:
        mode = "one_shot" if is_one_shot(buffer_bytes, self.shard.ranks) else ""
        moved = {"read_bytes": buffer_bytes, "written_bytes": buffer_bytes, "link_bytes": link_bytes}
        return Op(name, "collective", self._count(name), **moved, mode=mode)

    def quantize(self, name: str, width: int) -> Op | None:
        """The conversion of a product's input; None where it is in the right dtype."""
        if self.input_dtype == self.dtype:
            return None
        elements = self.rows * width
        read, written = self._bytes(elements), storage_bytes(elements, self.input_dtype)
        return Op(name, "elementwise", self.arch.n_layers, 0, 0, elements, 0, read, written)

    def all_reduce(self, name: str) -> Op:
        buffer_bytes = self._bytes(self.rows * self.arch.dim)
        return self._collective(name, buffer_bytes, all_reduce_bytes(buffer_bytes, self.shard.ranks))

    def rope(self, name: str) -> Op:
        elements = self.rows * (self.shard.query_dim + self.shard.kv_dim)
        # A pair (a, b) becomes (a cos - b sin, a sin + b cos): 6 operations for 2 elements.
        return self._elementwise(name, 3 * elements, elements, elements, mode="rope")

    def kv_append(self, name: str) -> Op:
        elements = 2 * self.rows * self.shard.kv_dim
        read, written = self._bytes(elements), storage_bytes(elements, self.kv_dtype)
        return Op(name, "elementwise", self.arch.n_layers, read_bytes=read, written_bytes=written, mode="append")

    def attention(self, algorithm: str) -> tuple[Op, ...]:
        s, mode = self.shard, "decode" if self.rows == sum(group.number for group in self.sequences) else "prefill"
        runs = [
            AttentionShape(*group, s.n_heads, s.n_kv_heads, s.head_dim, self.dtype, self.kv_dtype)
            for group in self.sequences
        ]
        per_group = [naive_steps(run) if algorithm == "naive" else (flash_step(run),) for run in runs]
        reread = 0 if algorithm == "naive" else sum(map(_reread_bytes, runs))
        return tuple(
            Op(
                f"{LAYER}attention.{steps[0].name}",
                "attention",
                self.arch.n_layers,
                sum(step.flops_full for step in steps),
                sum(step.flops_causal for step in steps),
                sum(step.vector_flops for step in steps),
                0,
                sum(step.read_bytes for step in steps),
                sum(step.written_bytes for step in steps),
                reread_bytes=reread,
                mode=mode,
            )
            for steps in zip(*per_group, strict=True)
        )

    def swiglu(self, name: str) -> Op:
        elements = self.rows * self.shard.ffn_dim
        # silu is x / (1 + exp(-x)): 4 operations, and the product with `up` is one more.
        return self._elementwise(name, 5 * elements, 2 * elements, elements, mode="swiglu")

    def residual(self, name: str) -> Op:
        elements = self.rows * self.arch.dim
        return self._elementwise(name, elements, 2 * elements, elements)


def _reread_bytes(run: AttentionShape) -> int:
    """What flash attention reads of K and V beyond once: a later tile of queries streams them again."""
    once = storage_bytes(run.query_elements, run.dtype) + storage_bytes(2 * run.key_elements, run.kv_dtype)
    return flash_step(run).read_bytes - once
