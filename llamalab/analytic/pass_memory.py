"""Live bytes of one forward pass at each moment of a block and of the head, without weights, KV cache and tokens.

A tensor is freed after its last use and nothing is kept for a backward pass, so that the depth of the model does not
count. As in llamalab.model: the block's input lives until the block is done, the angles of RoPE are complex fp32 pairs
that live through the pass, norms and RoPE work in fp32, logits are returned in fp32. Under tensor parallelism the
residual stream, the norms and the gathered logits are whole on every rank; other tensors are split.
"""

from collections.abc import Iterator

from llamalab.analytic.attention_cost import QUERY_CHUNK, AttentionShape, keys_in_view
from llamalab.analytic.parallel import shard
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.scratch import MatrixProduct, NoScratch, Scratch, mask_bytes
from llamalab.arch import LlamaArch
from llamalab.startup.hints import NamedTuple
from llamalab.units import storage_bytes

LAST_OF_BLOCK, HEAD = "feed-forward", "logits"  # steps


class Moment(NamedTuple):
    """The live bytes at a moment, and its step of the pass."""

    step: str
    bytes: int


def moments(arch: LlamaArch, shape: PassShape, scratch: Scratch | None = None) -> Iterator[Moment]:
    """Every moment that may be the largest of its step, in order."""
    pass_ = _Sizes(arch, shape, scratch or NoScratch())
    yield from pass_.projections()
    yield from pass_.head_norms()
    yield from pass_.rope()
    yield from pass_.attention()
    yield from pass_.output_projection()
    yield from pass_.feed_forward()
    yield from pass_.head()


class _Sizes:
    """Sizes in bytes of a pass's tensors: x a row of the residual stream, q, k, f those of heads and feed-forward."""

    def __init__(self, arch: LlamaArch, shape: PassShape, scratch: Scratch) -> None:
        self.arch, self.shape, self.scratch = arch, shape, scratch
        self.part, self.context = shard(arch, shape.tensor_parallel), shape.context
        self.rows, self.narrow = shape.batch * shape.new_tokens, shape.dtype != "fp32"
        self.turns = storage_bytes(shape.new_tokens * arch.rotary_dim, "fp32")
        self.x, self.q = self._of(arch.dim), self._of(self.part.query_dim)
        self.k, self.f = self._of(self.part.kv_dim), self._of(self.part.ffn_dim)

    def _of(self, width: int) -> int:
        return storage_bytes(self.rows * width, self.shape.dtype)

    def _moment(self, step: str, held: int) -> Moment:
        return Moment(step, self.turns + held)

    def _linear(self, out: int, inner: int, rows: int | None = None) -> int:
        return self.scratch.product(
            MatrixProduct(self.rows if rows is None else rows, inner, out, dtype=self.shape.dtype)
        )

    def _norm(self) -> int:
        """Two tensors in fp32; of half types the roots of the rows beside them, mean and result."""
        return 2 * storage_bytes(self.rows * (self.arch.dim + self.narrow), "fp32")

    def projections(self) -> Iterator[Moment]:
        dim, part, held = self.arch.dim, self.part, 2 * self.x
        yield self._moment("projections", self.x + self._norm())
        for size, out in ((self.q, part.query_dim), (self.k, part.kv_dim), (self.k, part.kv_dim)):
            held += size
            yield self._moment("projections", held + self._linear(out, dim))

    def _heads(self) -> int:
        """Block input, its norm, queries, keys and values."""
        return 2 * self.x + self.q + 2 * self.k

    def head_norms(self) -> Iterator[Moment]:
        """The norm of the queries: the quotient and its product; of half types the input and both in fp32."""
        if self.arch.qk_norm:
            wide = storage_bytes(self.rows * self.part.query_dim, "fp32")
            yield self._moment("head norms", self._heads() + 2 * wide + (self.q if self.narrow else 0))

    def rope(self) -> Iterator[Moment]:
        # In fp32 the product alone is new; a half type is widened before it and narrowed after it.
        turned = storage_bytes(self.rows * self.part.query_dim, "fp32")
        yield self._moment("rope", self._heads() + (2 * turned + self.q if self.narrow else turned))

    def _decoded(self) -> tuple[int, int]:
        """Keys and values of another storage, decoded for attention, and the peak of decoding."""
        shape, elements = self.shape, self.shape.batch * self.context * self.part.kv_dim
        if shape.kv_storage == shape.dtype:
            return 0, 0
        one = storage_bytes(elements, shape.dtype)
        if shape.kv_storage != "int8":
            return 2 * one, 2 * one
        return 2 * one, one + 2 * storage_bytes(elements, "fp32")

    def attention(self) -> Iterator[Moment]:
        decoded, decoding = self._decoded()
        yield self._moment("attention", self._heads() + decoding)
        for window, _ in self.arch.windows:
            joined = self._joined(window)
            for held in held_by_attention(attended(self.arch, self.shape, window), self.shape.attention, self.scratch):
                yield self._moment("attention", self._heads() + decoded + joined + held)

    def _joined(self, window: int | None) -> int:
        """Keys and values concatenated from a full window and the new ones."""
        new, context = self.shape.new_tokens, self.context
        if window is None or context <= window or new in (1, context):
            return 0  # what the cache holds is in order, or one query sees all of it
        keys = self.shape.batch * keys_in_view(new, context, window)
        return storage_bytes(2 * self.part.kv_dim * keys, self.shape.dtype)

    def output_projection(self) -> Iterator[Moment]:
        merged = (
            0
            if self.shape.attention in ("flash", "masked") or 1 in (self.shape.new_tokens, self.part.n_heads)
            else self.q
        )
        joined = max(
            self._joined(window) for window, _ in self.arch.windows
        )  # live until the end of the block's attention
        held = self._heads() + self._decoded()[0] + joined + self.q + merged + self.x
        yield self._moment("output projection", held + self._linear(self.arch.dim, self.part.query_dim))

    def feed_forward(self) -> Iterator[Moment]:
        dim, part, held = self.arch.dim, self.part, 3 * self.x  # block input, middle, norm
        yield self._moment(LAST_OF_BLOCK, held + self._norm())
        if self.arch.experts is not None:
            yield self._moment(LAST_OF_BLOCK, held + self._experts())
        if not self.arch.dense_layers:
            return
        yield self._moment(LAST_OF_BLOCK, held + self.f + self._linear(part.ffn_dim, dim))
        yield self._moment(LAST_OF_BLOCK, held + 2 * self.f + self._linear(part.ffn_dim, dim))
        yield self._moment(LAST_OF_BLOCK, held + 4 * self.f)  # gate, up, silu, product
        yield self._moment(LAST_OF_BLOCK, held + 3 * self.f + self.x + self._linear(dim, part.ffn_dim))

    def _experts(self) -> int:
        """Gate, up, silu and product of all picked pairs beside inputs and outputs; or of the shared experts."""
        experts, part = self.arch.experts, self.part
        assert experts is not None
        routed = experts.n_active * (4 * part.expert_ffn_dim + 2 * self.arch.dim) + experts.n_experts
        return self._of(max(routed, 4 * part.shared_ffn_dim))

    def head(self) -> Iterator[Moment]:
        shape, part = self.shape, self.part
        rows = self.rows if shape.logits == "all" else shape.batch
        last = storage_bytes(rows * self.arch.dim, shape.dtype) if shape.logits == "last" else 0
        own = storage_bytes(rows * part.vocab_size, shape.dtype)
        gathered = storage_bytes(rows * self.arch.vocab_size, shape.dtype)
        wide = storage_bytes(rows * self.arch.vocab_size, "fp32") if self.narrow else 0
        yield self._moment(HEAD, self.x + last + own + self._linear(part.vocab_size, self.arch.dim, rows))
        yield self._moment(HEAD, self.x + gathered + (own if shape.tensor_parallel > 1 else wide))
        yield self._moment(HEAD, self.x + gathered + wide)


def attended(arch: LlamaArch, shape: PassShape, window: int | None) -> AttentionShape:
    """The attention call of one rank's heads, within a window."""
    part, keys = shard(arch, shape.tensor_parallel), keys_in_view(shape.new_tokens, shape.context, window)
    heads = (part.n_heads, part.n_kv_heads, part.head_dim)
    return AttentionShape(
        shape.batch, shape.new_tokens, keys, *heads, dtype=shape.dtype, kv_dtype=shape.dtype, window=window
    )


def held_by_attention(shape: AttentionShape, way: str, scratch: Scratch) -> Iterator[int]:
    """Live bytes of one call of attention above Q, K and V, at the moments that may be its largest.

    Q is laid out as by a projection, heads adjacent in a row; K and V are views of a cache.
    """
    output = storage_bytes(shape.query_elements, shape.dtype)
    if way in ("flash", "masked"):
        sums = storage_bytes(shape.batch * shape.n_heads * shape.new_tokens, "fp32")
        # A probed kernel's figure includes its mask.
        yield output + sums + max(scratch.fused_attention(shape), mask_bytes(shape) if way == "masked" else 0)
    elif way == "naive" or 1 < shape.new_tokens <= QUERY_CHUNK:
        yield from _naive(shape, scratch)
    elif shape.new_tokens == 1:
        yield from _one_query(shape, scratch)
    else:
        yield from _chunks(shape, scratch)
        yield 2 * output


def _naive(shape: AttentionShape, scratch: Scratch) -> Iterator[int]:
    batch, new, keys, heads, kv_heads, head_dim = shape[:6]
    output, scores = (storage_bytes(size, shape.dtype) for size in (shape.query_elements, shape.pairs_full))
    # Heads that share keys become rows of one product, which needs a copy unless there is one row or one head.
    joined = new > 1 and (heads > kv_heads or (batch > 1 and kv_heads > 1))
    rows = new * heads // kv_heads
    first = MatrixProduct(rows, head_dim, keys, batch * kv_heads, shape.dtype)
    second = MatrixProduct(rows, keys, head_dim, batch * kv_heads, shape.dtype, transposed=False)
    yield (output if joined else 0) + scores + scratch.product(first)
    yield 2 * scores
    yield scores + output + scratch.product(second)


def _one_query(shape: AttentionShape, scratch: Scratch) -> Iterator[int]:
    """Keys are the left operand of the first product: where heads share them, the softmax takes a transposed copy."""
    batch, _, keys, heads, kv_heads, head_dim = shape[:6]
    group, often = heads // kv_heads, batch * kv_heads
    scores = storage_bytes(shape.pairs_full, shape.dtype)
    yield scores + scratch.product(MatrixProduct(keys, head_dim, group, often, shape.dtype))
    yield (3 if group > 1 else 2) * scores
    output = storage_bytes(shape.query_elements, shape.dtype)
    yield (
        2 * scores
        + output
        + scratch.product(MatrixProduct(group, keys, head_dim, often, shape.dtype, transposed=False))
    )


def _chunks(shape: AttentionShape, scratch: Scratch) -> Iterator[int]:
    """Those of naive attention for the last whole chunk and for the remainder, with the output of earlier ones."""
    rest = (shape.new_tokens - 1) % QUERY_CHUNK + 1
    last = _in_view(shape, rest, shape.context_tokens)
    whole = _in_view(shape, QUERY_CHUNK, shape.context_tokens - rest)
    for part, before in ((whole, shape.new_tokens - rest - QUERY_CHUNK), (last, shape.new_tokens - rest)):
        done = storage_bytes(shape._replace(new_tokens=before).query_elements, shape.dtype)
        yield from (done + held for held in _naive(part, scratch))


def in_chunks(shape: AttentionShape) -> Iterator[AttentionShape]:
    """The calls of naive attention by which chunked attention computes one call, in order."""
    for start in range(0, shape.new_tokens, QUERY_CHUNK):
        rest = shape.new_tokens - start
        yield _in_view(shape, min(QUERY_CHUNK, rest), shape.context_tokens - max(0, rest - QUERY_CHUNK))


def _in_view(shape: AttentionShape, new_tokens: int, context_tokens: int) -> AttentionShape:
    """A chunk of queries with the keys that some of them see."""
    keys = keys_in_view(new_tokens, context_tokens, shape.window)
    return shape._replace(new_tokens=new_tokens, context_tokens=keys)
