"""The op table: every operation of a forward pass, with its FLOPs and the bytes it moves.

Prefill (T = S), chunked prefill and decode (T = 1) are one function of (new_tokens, context_tokens). All other costs
(FLOPs, bytes, intensity, predicted time, memory traffic, the report) are sums over rows of this table.

Conventions (1 multiply-add = 2 FLOPs):
- flops_* are matrix products only; norms, RoPE, softmax, SwiGLU and residuals are vector_flops.
- The context counts the new tokens. The embedding is a gather: it reads B*T rows, not the table.
- The head runs on the last position unless logits="all".
- Inputs are read, outputs written and weights streamed once; under tensor parallelism the table is that of one rank.
- Layers with a sliding window and layers without have attention rows of their own where a model has both.
- Experts: each token is computed by the experts it picked; the weights of those expected to be picked are read once.

Names are those of the model's modules and of the measured table; `layers.*.` stands for a layer. Every row is `placed`
in its part of the model and in the step whose memory it takes, which all users of rows read instead of names.
"""

from functools import lru_cache

from llamalab.analytic.batches import Sequences, ragged
from llamalab.analytic.experts import expert_rows, experts_touched
from llamalab.analytic.op import Op, placed
from llamalab.analytic.op_rows import LAYER, OpRows
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.arch.parts import Experts
from llamalab.choices import LOGITS
from llamalab.errors import UnknownNameError

ALGORITHMS = ("flash", "naive")
ATTENTION = "attention"  # the step of its rows


def forward_ops(arch: LlamaArch, shape: PassShape) -> tuple[Op, ...]:
    """The operations of one forward pass, in order.

    The embedding table and the norms are stored in the shape's dtype. int8 and int4 weights are widened as they are
    read; fp8 weights are multiplied with fp8 inputs, which an operation of its own makes first. A fused pass groups wq,
    wk, wv and w1, w3 into one product each, the residual sum with the next norm and RoPE with the append to the cache.

    Raises UnknownNameError for an unknown dtype, attention or logits, InputError for invalid counts.

    >>> from llamalab.presets import PRESETS
    >>> from llamalab.analytic.op import add_up
    >>> ops = forward_ops(PRESETS["7b"].arch, PassShape(new_tokens=2048))
    >>> add_up(ops).flops_causal
    27626028662784
    """
    if shape.attention not in ALGORITHMS:
        raise UnknownNameError("attention", shape.attention, ALGORITHMS)
    if shape.logits not in LOGITS:
        raise UnknownNameError("logits", shape.logits, LOGITS)
    sequences = ragged(shape.new_tokens, shape.context_tokens, shape.batch)
    if shape.new_tokens == 1 and type(shape.context_tokens) is int:
        return _step_ops(arch, shape)
    return _pass_ops(arch, sequences, shape)


def _step_ops(arch: LlamaArch, shape: PassShape) -> tuple[Op, ...]:
    """A step of one token: all rows but attention are equal at every length, and made once."""
    before, after = _around_attention(arch, shape._replace(context_tokens=1))
    return (*before, *attention_ops(arch, shape), *after)


@lru_cache(maxsize=256)
def _around_attention(arch: LlamaArch, shape: PassShape) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
    """The rows of a step before those of attention, and after them."""
    ops = _pass_ops(arch, ragged(1, shape.context_tokens, shape.batch), shape)
    places = [place for place, op in enumerate(ops) if op.step == ATTENTION]
    return ops[: places[0]], ops[places[-1] + 1 :]


def attention_ops(arch: LlamaArch, shape: PassShape) -> tuple[Op, ...]:
    """The rows of attention alone, as in the table of the whole pass."""
    table = _Table(arch, ragged(shape.new_tokens, shape.context_tokens, shape.batch), shape)
    return placed("attention", ATTENTION, *table.attention(shape.attention))


def mixture_ops(arch: LlamaArch, shape: PassShape) -> tuple[Op, ...]:
    """The rows of experts and of their router, as in the table of the whole pass; none without experts."""
    table = _Table(arch, ragged(shape.new_tokens, shape.context_tokens, shape.batch), shape)
    return placed("feed_forward", "feed-forward", *table.mixture())


def _pass_ops(arch: LlamaArch, sequences: tuple[Sequences, ...], shape: PassShape) -> tuple[Op, ...]:
    table = _Table(arch, sequences, shape)
    head_rows = table.rows if shape.logits == "all" else sum(group.number for group in sequences)
    block = table.fused_block(shape.attention) if shape.fused else table.block(shape.attention)
    ops = (
        *placed("embedding", "", *table.gather()),
        *block,
        *placed("head", "", table.norm("norm")),
        *placed("head", "logits", *table.head(head_rows)),
    )
    return tuple(op for op in ops if op.kind != "collective" or shape.tensor_parallel > 1)


class _Table(OpRows):
    """The blocks of one run on one rank, as lists of rows."""

    def block(self, attention: str) -> tuple[Op, ...]:
        dim, s, bias, home = self.arch.dim, self.shard, self.arch.qkv_bias, LAYER + "attention."
        return (
            *placed(
                "attention",
                "projections",
                self.pre_norm(LAYER + "attention_norm"),
                self.quantize(home + "quantize", dim),
                self.gemm(home + "wq", s.query_dim, dim, bias=bias),
                self.gemm(home + "wk", s.kv_dim, dim, bias=bias),
                self.gemm(home + "wv", s.kv_dim, dim, bias=bias),
            ),
            *placed("attention", "head norms", *self.head_norms()),
            *placed("attention", "rope", *self.turned(home + "rope"), self.kv_append(home + "kv_append")),
            *placed("attention", ATTENTION, *self.attention(attention)),
            *self.output_projection(),
            *placed("attention", "", self.residual(LAYER + "attention_residual")),
            *placed("feed_forward", "feed-forward", self.pre_norm(LAYER + "ffn_norm")),
            *self.second_half(),
            *placed("feed_forward", "", self.residual(LAYER + "ffn_residual")),
        )

    def pre_norm(self, name: str) -> Op | None:
        """The norm before attention or feed-forward; none where both stand side by side and share the first."""
        if not self.arch.pre_norms or (self.arch.shared_norm and name.endswith("ffn_norm")):
            return None
        return self.norm(name)

    def summed_norm(self, name: str, residual: str) -> Op:
        """The residual sum with the norm after it in one, or the sum alone where no norm follows it."""
        norm = self.pre_norm(name)
        return self.residual(residual) if norm is None else self.norm(name, residual=True)

    def turned(self, name: str) -> tuple[Op, ...]:
        return (self.rope(name),) if self.arch.rotated_layers else ()

    def output_projection(self) -> tuple[Op, ...]:
        dim, width, home = self.arch.dim, self.shard.query_dim, LAYER + "attention."
        return (
            *placed(
                "attention",
                "output projection",
                self.quantize(home + "quantize_z", width),
                self.gemm(home + "wo", dim, width, bias=self.arch.o_bias),
            ),
            *placed("attention", "", self.all_reduce(home + "all_reduce")),
            *placed("attention", "", self.post_norm(LAYER + "attention_post_norm")),
        )

    def second_half(self, *, fused: bool = False) -> tuple[Op, ...]:
        """The rows of the feed-forward between its norm and its residual sum."""
        return (
            *placed("feed_forward", "feed-forward", *self.feed_forward(fused=fused), *self.mixture()),
            *placed("feed_forward", "", self.all_reduce(LAYER + "feed_forward.all_reduce")),
            *placed("feed_forward", "", self.post_norm(LAYER + "ffn_post_norm")),
        )

    def feed_forward(self, *, fused: bool = False) -> tuple[Op | None, ...]:
        """The plain feed-forward, with the number of its layers."""
        dim, s, bias, home = self.arch.dim, self.shard, self.arch.ffn_bias, LAYER + "feed_forward."
        widths = {"w13": 2 * s.ffn_dim} if fused else {"w1": s.ffn_dim, "w3": s.ffn_dim}
        widths = widths if self.arch.gated else {"w1": s.ffn_dim}
        ops = (
            self.quantize(home + "quantize", dim),
            *(self.gemm(home + name, width, dim, bias=bias) for name, width in widths.items()),
            self.activation(home, s.ffn_dim),
            self.quantize(home + "quantize_hidden", s.ffn_dim),
            self.gemm(home + "w2", dim, s.ffn_dim, bias=bias),
        )
        return self._occurring(ops, self.arch.dense_layers)

    def mixture(self) -> tuple[Op | None, ...]:
        """Router, picked experts, shared experts, and their sum; none without experts."""
        if self.arch.experts is None:
            return ()
        ops = (*self._routed(self.arch.experts), *self._shared(self.arch.experts))
        return self._occurring(ops, self.arch.n_layers - self.arch.dense_layers)

    def _routed(self, experts: Experts) -> tuple[Op | None, ...]:
        dim, width, home = self.arch.dim, self.shard.expert_ffn_dim, LAYER + "feed_forward."
        across, scores = experts.n_experts // self.shard.n_experts, self.rows * experts.n_experts
        pairs, touched = expert_rows(experts, self.rows, across), experts_touched(experts, self.rows, across)
        return (
            self.gemm(home + "router", experts.n_experts, dim, bias=experts.biases),
            # Softmax over the experts, and the choice: the largest, one after another.
            self.elementwise(
                home + "choose", (3 + experts.n_active) * scores, scores, 2 * self.rows * experts.n_active
            ),
            self.quantize(home + "quantize", dim),
            self.gemm(home + "experts.w1", width, dim, rows=pairs, bias=experts.biases, copies=touched),
            self.gemm(home + "experts.w3", width, dim, rows=pairs, bias=experts.biases, copies=touched),
            self.swiglu(home + "experts.swiglu", pairs, width),
            self.gemm(home + "experts.w2", dim, width, rows=pairs, bias=experts.biases, copies=touched),
            # Each output times its weight, added up over the experts of its token.
            self.elementwise(home + "experts.combine", 2 * pairs * dim, pairs * (dim + 1), self.rows * dim),
        )

    def _shared(self, experts: Experts) -> tuple[Op | None, ...]:
        dim, width, home = self.arch.dim, self.shard.shared_ffn_dim, LAYER + "feed_forward."
        if not width:
            return ()
        elements = self.rows * dim
        return (
            self.gemm(home + "shared.w1", width, dim),
            self.gemm(home + "shared.w3", width, dim),
            self.swiglu(home + "shared.swiglu", self.rows, width),
            self.gemm(home + "shared.w2", dim, width),
            self.gemm(home + "shared_gate", 1, dim) if experts.shared_gate else None,
            self.elementwise(home + "shared.add", (1 + experts.shared_gate) * elements, 2 * elements, elements),
        )

    @staticmethod
    def _occurring(ops: tuple[Op | None, ...], layers: int) -> tuple[Op | None, ...]:
        return tuple(op and op._replace(count=layers) for op in ops) if layers else ()

    def fused_block(self, attention: str) -> tuple[Op, ...]:
        dim, s, home = self.arch.dim, self.shard, LAYER + "attention."
        return (
            *placed(
                "attention",
                "projections",
                self.summed_norm(LAYER + "attention_norm", LAYER + "ffn_residual"),
                self.quantize(home + "quantize", dim),
                self.gemm(home + "wqkv", s.query_dim + 2 * s.kv_dim, dim, bias=self.arch.qkv_bias),
            ),
            *placed("attention", "head norms", *self.head_norms()),
            *placed("attention", "rope", *self.turned_and_kept(home)),
            *placed("attention", ATTENTION, *self.attention(attention)),
            *self.output_projection(),
            *placed("feed_forward", "feed-forward", self.summed_norm(LAYER + "ffn_norm", LAYER + "attention_residual")),
            *self.second_half(fused=True),
        )

    def turned_and_kept(self, home: str) -> tuple[Op | None, ...]:
        """RoPE with the append to the cache in one; the append alone in layers without RoPE."""
        plain = self.arch.n_layers - self.arch.rotated_layers
        return (
            self.rope_append(home + "rope_append") if self.arch.rotated_layers else None,
            self.kv_append(home + "kv_append")._replace(count=plain) if plain else None,
        )

    def rope_append(self, name: str) -> Op:
        # The rotated keys go from registers into the cache; only the values are read for it.
        rope, append = self.rope(name), self.kv_append(name)
        return rope._replace(
            read_bytes=rope.read_bytes + append.read_bytes // 2,
            written_bytes=self._bytes(self.rows * self.shard.query_dim) + append.written_bytes,
            mode="",
        )
