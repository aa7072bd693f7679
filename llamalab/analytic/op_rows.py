"""The rows of the op table: FLOPs and bytes of one norm, product, RoPE or attention on one rank.

llamalab.analytic.ops decides which of them a block has, and their order, part and step.
"""

from math import ceil

from llamalab.analytic.attention_cost import (
    SOFTCAP_OPS,
    AttentionShape,
    AttentionStep,
    flash_step,
    keys_in_view,
    naive_steps,
)
from llamalab.analytic.batches import Sequences
from llamalab.analytic.op import Op
from llamalab.analytic.parallel import all_gather_bytes, all_reduce_bytes, collective_mode, shard
from llamalab.analytic.params import head_norm_widths
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.arch.parts import NORMS
from llamalab.units import storage_bytes

LAYER = "layers.*."
COMPUTED_NARROW = ("fp8",)  # weight dtypes whose products take inputs of the same dtype


class OpRows:
    """Rows for one run on one rank: `rows` tokens of activations in `dtype`."""

    def __init__(self, arch: LlamaArch, sequences: tuple[Sequences, ...], shape: PassShape) -> None:
        self.arch, self.sequences = arch, sequences
        self.shard = shard(arch, shape.tensor_parallel, expert_parallel=shape.expert_parallel)
        self.dtype, self.weight_dtype, self.kv_dtype = shape.dtype, shape.weight_storage, shape.kv_storage
        self.input_dtype = self.weight_dtype if self.weight_dtype in COMPUTED_NARROW else self.dtype
        self.rows = sum(group.number * group.new_tokens for group in sequences)

    def _bytes(self, elements: int) -> int:
        return storage_bytes(elements, self.dtype)

    def _count(self, name: str) -> int:
        return self.arch.n_layers if name.startswith(LAYER) else 1

    def elementwise(
        self, name: str, vector_flops: int, read: int, written: int, *, weight: int = 0, mode: str = ""
    ) -> Op:
        return Op(
            name,
            "elementwise",
            self._count(name),
            vector_flops=vector_flops,
            weight_bytes=self._bytes(weight),
            read_bytes=self._bytes(read),
            written_bytes=self._bytes(written),
            mode=mode,
            roof="copy",
        )

    def gather(self) -> tuple[Op | None, ...]:
        elements = self.rows * self.arch.dim
        columns, whole = self._bytes(self.rows * self.shard.dim), self._bytes(elements)
        gathered = self._collective("tok_embeddings.all_gather", whole, all_gather_bytes(whole, self.shard.ranks))
        if self.arch.tied_embeddings:  # cut by its vocabulary, as the head must be: rows of other ranks are zeros
            columns = whole
            gathered = self.all_reduce("tok_embeddings.all_reduce")
        scaled = self.elementwise("tok_embeddings.scale", elements, elements, elements)
        return (
            Op("tok_embeddings", "gather", 1, weight_bytes=columns, written_bytes=columns, roof="copy"),
            gathered,
            scaled if self.arch.scaled_streams else None,
        )

    def norm(self, name: str, *, residual: bool = False) -> Op:
        kind, elements, operands = NORMS[self.arch.norm], self.rows * self.arch.dim, 2 if residual else 1
        # With the residual: one sum, whose terms are read and whose result is written once more.
        vector_flops, moved = (kind.ops - 1 + operands) * elements, operands * elements
        mode, weight = "" if residual else "norm", len(kind.vectors) * self.arch.dim
        return self.elementwise(name, vector_flops, moved, moved, weight=weight, mode=mode)

    def post_norm(self, name: str) -> Op | None:
        return self.norm(name) if self.arch.post_norms else None

    def head_norms(self) -> tuple[Op, ...]:
        """The norms of queries and keys."""
        if not self.arch.qk_norm:
            return ()
        widths = self.shard.query_dim, self.shard.kv_dim
        ops = NORMS[self.arch.norm].ops
        return tuple(
            self.elementwise(
                f"{LAYER}attention.{name}_norm",
                ops * self.rows * width,
                self.rows * width,
                self.rows * width,
                weight=weight,
                mode="norm",
            )
            for name, width, weight in zip("qk", widths, head_norm_widths(self.arch, *widths), strict=True)
        )

    def head(self, rows: int) -> tuple[Op | None, ...]:
        # A tied model multiplies by the embedding table: same matrix product, same bytes.
        product = self.gemm("output", self.shard.vocab_size, self.arch.dim, rows=rows, bias=self.arch.head_bias)
        whole = self._bytes(rows * self.arch.vocab_size)
        logits = rows * self.shard.vocab_size
        capped = self.elementwise("output.softcap", SOFTCAP_OPS * logits, logits, logits)
        gathered = self._collective("output.all_gather", whole, all_gather_bytes(whole, self.shard.ranks))
        return product, capped if self.arch.logits_softcap is not None else None, gathered

    def gemm(
        self, name: str, out: int, inner: int, *, rows: int | None = None, bias: bool = False, copies: float = 1
    ) -> Op:
        """A product of all rows; `copies` weights of this shape are read for it. A bias is kept in `dtype`."""
        rows = self.rows if rows is None else rows
        flops, weight = 2 * rows * out * inner, ceil(copies * storage_bytes(out * inner, self.weight_dtype))
        vector_flops = rows * out if bias else 0
        weight += ceil(copies * self._bytes(out)) if bias else 0
        read, written = storage_bytes(rows * inner, self.input_dtype), self._bytes(rows * out)
        mode = "row" if rows == 1 else ""  # a product of a matrix and a vector is another kernel
        return Op(
            name=name,
            kind="gemm",
            count=self._count(name),
            flops_full=flops,
            flops_causal=flops,
            vector_flops=vector_flops,
            weight_bytes=weight,
            read_bytes=read,
            written_bytes=written,
            mode=mode,
            roof="gemm",
        )

    def _collective(self, name: str, buffer_bytes: int, link_bytes: int) -> Op:
        mode = collective_mode(name, buffer_bytes, self.shard.ranks)
        return Op(
            name,
            "collective",
            self._count(name),
            read_bytes=buffer_bytes,
            written_bytes=buffer_bytes,
            link_bytes=link_bytes,
            mode=mode,
            roof="copy",
        )

    def quantize(self, name: str, width: int) -> Op | None:
        """The conversion of a product's input; None where it is in the right dtype."""
        if self.input_dtype == self.dtype:
            return None
        elements = self.rows * width
        read, written = self._bytes(elements), storage_bytes(elements, self.input_dtype)
        layers = self.arch.n_layers
        return Op(
            name, "elementwise", layers, vector_flops=elements, read_bytes=read, written_bytes=written, roof="copy"
        )

    def all_reduce(self, name: str) -> Op:
        buffer_bytes = self._bytes(self.rows * self.arch.dim)
        return self._collective(name, buffer_bytes, all_reduce_bytes(buffer_bytes, self.shard.ranks))

    def rope(self, name: str) -> Op:
        """RoPE of queries and keys, in the layers that have it."""
        elements = self.rows * (self.shard.query_dim + self.shard.kv_dim)
        # A pair (a, b) becomes (a cos - b sin, a sin + b cos): 6 operations for 2 elements.
        turned = elements * self.arch.rotary_dim // self.arch.head_dim
        return self.elementwise(name, 3 * turned, elements, elements, mode="rope")._replace(
            count=self.arch.rotated_layers
        )

    def kv_append(self, name: str) -> Op:
        elements = 2 * self.rows * self.shard.kv_dim
        read, written = self._bytes(elements), storage_bytes(elements, self.kv_dtype)
        return Op(
            name, "elementwise", self.arch.n_layers, read_bytes=read, written_bytes=written, mode="append", roof="copy"
        )

    def attention(self, algorithm: str) -> tuple[Op, ...]:
        """Rows for layers without a window, and separate ones for layers with a window where both exist."""
        windows = self.arch.windows
        return tuple(
            op._replace(name=op.name + "_window") if window is not None and len(windows) > 1 else op
            for window, layers in windows
            for op in self._attention(algorithm, window, layers)
        )

    def _attention(self, algorithm: str, window: int | None, layers: int) -> tuple[Op, ...]:
        s, mode = self.shard, "decode" if self.rows == sum(group.number for group in self.sequences) else "prefill"
        runs = [
            AttentionShape(
                batch=number,
                new_tokens=new,
                context_tokens=keys_in_view(new, context, window),
                n_heads=s.n_heads,
                n_kv_heads=s.n_kv_heads,
                head_dim=s.head_dim,
                dtype=self.dtype,
                kv_dtype=self.kv_dtype,
                window=window,
                capped=self.arch.attention_softcap is not None,
                alibi=self.arch.alibi,
            )
            for number, new, context in self.sequences
        ]
        per_group = [naive_steps(run) if algorithm == "naive" else (flash_step(run),) for run in runs]
        reread = 0 if algorithm == "naive" else sum(map(_reread_bytes, runs, per_group))
        sinks = self._bytes(s.n_heads) if self.arch.attention_sinks else 0  # read by the softmax, or all steps in one
        return tuple(
            Op(
                name=f"{LAYER}attention.{steps[0].name}",
                kind="attention",
                count=layers,
                flops_full=sum(step.flops_full for step in steps),
                flops_causal=sum(step.flops_causal for step in steps),
                vector_flops=sum(step.vector_flops for step in steps),
                weight_bytes=sinks if steps[0].name in ("softmax", "flash") else 0,
                read_bytes=sum(step.read_bytes for step in steps),
                written_bytes=sum(step.written_bytes for step in steps),
                reread_bytes=reread,
                mode=mode,
                roof=steps[0].roof,
            )
            for steps in zip(*per_group, strict=True)
        )

    def swiglu(self, name: str, rows: int, width: int) -> Op:
        elements = rows * width
        # silu is x / (1 + exp(-x)): 4 operations, and the product with `up` is one more.
        return self.elementwise(name, 5 * elements, 2 * elements, elements, mode="swiglu")

    def activation(self, name: str, width: int) -> Op:
        """The operation between w1 and w2: the gate's product with `up`, or without a gate the activation alone."""
        if self.arch.gated:
            return self.swiglu(name + "swiglu", self.rows, width)
        elements = self.rows * width
        return self.elementwise(name + "activation", 4 * elements, elements, elements)

    def residual(self, name: str) -> Op:
        elements = self.rows * self.arch.dim
        return self.elementwise(name, elements, 2 * elements, elements)


def _reread_bytes(run: AttentionShape, steps: tuple[AttentionStep, ...]) -> int:
    """What flash attention reads of K and V beyond once: a later tile of queries streams them again."""
    once = storage_bytes(run.query_elements, run.dtype) + storage_bytes(2 * run.key_elements, run.kv_dtype)
    return sum(step.read_bytes for step in steps) - once
