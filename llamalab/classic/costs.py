"""Costs of a Transformer of 2017: parameters, keys and values, and rows of the op table.

Conventions are those of llamalab.analytic.ops: products are FLOPs, all else vector_flops; inputs and outputs move once.
Attention is the naive algorithm, as the model runs it: full over the source, causal in the decoder's own. The head
reads every token. Keys and values of the source are made in the first pass of the decoder and only read after it.
"""

from typing import NamedTuple

from llamalab.analytic.attention_cost import AttentionShape, AttentionStep, naive_steps
from llamalab.analytic.op import Op, placed
from llamalab.checks import whole
from llamalab.classic.shape import ClassicArch
from llamalab.errors import InputError
from llamalab.units import storage_bytes

LAYER_NORM_OPS = 7  # sum, less the mean, square, sum, scale by the root, weight, bias: operations per element
ATTENTIONS = ("attention", "cross_attention")


class ClassicBytes(NamedTuple):
    """Bytes of keys and values: the decoder's own, of target tokens, and those of source tokens."""

    own: int
    cross: int

    @property
    def total(self) -> int:
        """Both."""
        return self.own + self.cross


def classic_params(arch: ClassicArch) -> dict[str, int]:
    """Parameters by component, each counted once.

    >>> from llamalab.classic.shape import BASE
    >>> sum(classic_params(BASE).values())
    63045632
    """
    dim, cross = arch.dim, arch.has_cross_attention
    attention = 4 * dim * (dim + arch.attention_bias)
    attentions = {"encoder": arch.n_encoder_layers, "decoder": arch.n_decoder_layers * (1 + cross)}
    norms = 2 * arch.n_encoder_layers + (2 + cross) * arch.n_decoder_layers
    finals = arch.final_norms * (bool(arch.n_encoder_layers) + bool(arch.n_decoder_layers))
    tables = {arch.source_vocab * bool(arch.n_encoder_layers), arch.target_vocab * bool(arch.n_decoder_layers)}
    rows = max(tables) if arch.shared_embeddings else _tables(arch)
    return {
        "embeddings": rows * dim,
        "encoder attention": attentions["encoder"] * attention,
        "decoder attention": arch.n_decoder_layers * attention,
        "cross attention": arch.n_decoder_layers * cross * attention,
        "feed-forward": arch.n_layers * (2 * dim * arch.ffn_dim + arch.ffn_dim + dim),
        "norms": 2 * dim * (norms + finals),
    }


def _tables(arch: ClassicArch) -> int:
    return arch.source_vocab * bool(arch.n_encoder_layers) + arch.target_vocab * bool(arch.n_decoder_layers)


def classic_kv_bytes(
    arch: ClassicArch, *, source_tokens: int, target_tokens: int, batch: int = 1, dtype: str = "fp32"
) -> ClassicBytes:
    """Bytes of keys and values after so many target tokens: the decoder's grow with the text, the encoder's do not.

    >>> from llamalab.classic.shape import BASE
    >>> classic_kv_bytes(BASE, source_tokens=30, target_tokens=10, dtype="bf16")
    ClassicBytes(own=122880, cross=368640)
    """
    of_token = 2 * arch.n_decoder_layers * batch * arch.dim
    cross = of_token * source_tokens if arch.has_cross_attention else 0
    return ClassicBytes(storage_bytes(of_token * target_tokens, dtype), storage_bytes(cross, dtype))


def classic_ops(
    arch: ClassicArch,
    *,
    source_tokens: int = 0,
    target_tokens: int = 0,
    past_tokens: int = 0,
    batch: int = 1,
    dtype: str = "fp32",
) -> tuple[Op, ...]:
    """The rows of one pass: the encoder over the source, and the decoder over the target.

    Raises InputError for tokens of a stack that the model lacks, or no tokens of one that it has.

    Args:
        arch: the architecture.
        source_tokens: tokens of the source, which is encoded where there are no past tokens.
        target_tokens: tokens of the target in this pass.
        past_tokens: tokens of the target before them.
        batch: sequences.
        dtype: of weights and activations.

    >>> from llamalab.classic.shape import BASE
    >>> table = {op.name: op for op in classic_ops(BASE, source_tokens=8, target_tokens=8)}
    >>> table["decoder.layers.*.cross_attention.wk"].flops_full
    4194304
    """
    for name, tokens, layers in (
        ("source_tokens", source_tokens, arch.n_encoder_layers),
        ("target_tokens", target_tokens, arch.n_decoder_layers),
    ):
        if layers:
            whole(tokens, name)
        elif tokens:
            raise InputError(f"{name} must be 0 where the model has no such stack; got {tokens}")
    table = _Table(arch, batch, dtype)
    ops: tuple[Op, ...] = ()
    if arch.n_encoder_layers and not past_tokens:
        ops += table.stack(
            "encoder",
            source_tokens,
            AttentionShape(
                batch=batch,
                new_tokens=source_tokens,
                context_tokens=source_tokens,
                n_heads=arch.n_heads,
                n_kv_heads=arch.n_heads,
                head_dim=arch.head_dim,
                dtype=dtype,
                kv_dtype=dtype,
                causal=False,
            ),
        )
    if arch.n_decoder_layers:
        own = AttentionShape(
            batch=batch,
            new_tokens=target_tokens,
            context_tokens=past_tokens + target_tokens,
            n_heads=arch.n_heads,
            n_kv_heads=arch.n_heads,
            head_dim=arch.head_dim,
            dtype=dtype,
            kv_dtype=dtype,
        )
        ops += table.stack("decoder", target_tokens, own, source_tokens=source_tokens, past_tokens=past_tokens)
    return (*ops, *placed("head", "logits", table.head(batch * (target_tokens or source_tokens))))


class _Table:
    """Rows for one pass over B sequences."""

    def __init__(self, arch: ClassicArch, batch: int, dtype: str) -> None:
        self.arch, self.batch, self.dtype = arch, batch, dtype

    def stack(
        self, name: str, tokens: int, own: AttentionShape, *, source_tokens: int = 0, past_tokens: int = 0
    ) -> tuple[Op, ...]:
        arch, rows, home = self.arch, self.batch * tokens, f"{name}.layers.*."
        layers = arch.n_encoder_layers if name == "encoder" else arch.n_decoder_layers
        width = rows * arch.dim
        block = placed("attention", "", *self._attention(home + "attention", own, key_rows=rows))
        if name == "decoder" and arch.has_cross_attention:
            cross = own._replace(context_tokens=source_tokens, causal=False)
            made = 0 if past_tokens else self.batch * source_tokens
            block += placed("attention", "", *self._attention(home + "cross_attention", cross, key_rows=made))
        block += placed("feed_forward", "", *self._feed_forward(home + "feed_forward", rows))
        # One row of the table for each token, times sqrt(D), plus its position.
        embed = self._elementwise(f"{name}.embedding", 2 * width, width, width)
        final = (self._norm(f"{name}.norm", rows),) if arch.final_norms else ()
        return (
            *placed("embedding", "", embed),
            *(op._replace(count=layers) for op in block),
            *placed("head", "", *final),
        )

    def head(self, rows: int) -> Op:
        return self._gemm("output", rows, self.arch.head_vocab, self.arch.dim, bias=False)

    def _attention(self, home: str, shape: AttentionShape, *, key_rows: int) -> tuple[Op, ...]:
        """Projections, the three steps, the output, its sum and norm; `key_rows` tokens get keys and values."""
        dim, bias, rows = self.arch.dim, self.arch.attention_bias, self.batch * shape.new_tokens
        keys = tuple(self._gemm(f"{home}.{name}", key_rows, dim, dim, bias=bias) for name in ("wk", "wv"))
        return (
            self._gemm(f"{home}.wq", rows, dim, dim, bias=bias),
            *(keys if key_rows else ()),
            *(self._step(f"{home}.{step.name}", step) for step in naive_steps(shape)),
            self._gemm(f"{home}.wo", rows, dim, dim, bias=bias),
            *self._sum_and_norm(home, rows),
        )

    def _feed_forward(self, home: str, rows: int) -> tuple[Op, ...]:
        dim, width = self.arch.dim, self.arch.ffn_dim
        return (
            self._gemm(f"{home}.w1", rows, width, dim, bias=True),
            self._elementwise(f"{home}.relu", rows * width, rows * width, rows * width),
            self._gemm(f"{home}.w2", rows, dim, width, bias=True),
            *self._sum_and_norm(home, rows),
        )

    def _sum_and_norm(self, home: str, rows: int) -> tuple[Op, ...]:
        width = rows * self.arch.dim
        return self._elementwise(f"{home}_residual", width, 2 * width, width), self._norm(f"{home}_norm", rows)

    def _norm(self, name: str, rows: int) -> Op:
        width = rows * self.arch.dim
        return self._elementwise(name, LAYER_NORM_OPS * width, width, width, weight=2 * self.arch.dim)

    def _step(self, name: str, step: AttentionStep) -> Op:
        return Op(
            name=name,
            kind="attention",
            count=1,
            flops_full=step.flops_full,
            flops_causal=step.flops_causal,
            vector_flops=step.vector_flops,
            weight_bytes=0,
            read_bytes=step.read_bytes,
            written_bytes=step.written_bytes,
            roof=step.roof,
        )

    def _gemm(self, name: str, rows: int, out: int, inner: int, *, bias: bool) -> Op:
        flops = 2 * rows * out * inner
        return Op(
            name=name,
            kind="gemm",
            count=1,
            flops_full=flops,
            flops_causal=flops,
            vector_flops=rows * out * bias,
            weight_bytes=self._bytes(out * (inner + bias)),
            read_bytes=self._bytes(rows * inner),
            written_bytes=self._bytes(rows * out),
            roof="gemm",
        )

    def _elementwise(self, name: str, operations: int, read: int, written: int, *, weight: int = 0) -> Op:
        return Op(
            name,
            "elementwise",
            1,
            vector_flops=operations,
            weight_bytes=self._bytes(weight),
            read_bytes=self._bytes(read),
            written_bytes=self._bytes(written),
            roof="copy",
        )

    def _bytes(self, elements: int) -> int:
        return storage_bytes(elements, self.dtype)
