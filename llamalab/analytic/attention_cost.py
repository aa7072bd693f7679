"""FLOPs and bytes of attention, for the naive and the flash algorithm.

Naive attention writes the T x S scores to memory, reads them for the softmax, writes the pattern
and reads it again: O(S**2) bytes. Flash attention keeps a tile of scores on chip and moves Q and
the output once, K and V once per tile of queries (Dao et al. 2022, arXiv 2205.14135, theorem 2).
Both do the same 4 * E matrix FLOPs per pair of query and key.

Dimensions: B batch, T new tokens, S visible keys (cached and new), H query heads, K KV heads, E head dim. Causal
counts are exact: query t of T sees S - T + t + 1 keys, and of a window W at most W.
"""

from llamalab.checks import whole
from llamalab.errors import InputError
from llamalab.startup.hints import NamedTuple
from llamalab.units import storage_bytes

QUERY_TILE = 128  # rows of Q that a flash kernel keeps on chip (FlashAttention-2, head dim 128)
QUERY_CHUNK = 128  # queries whose scores exist at a time in chunked attention
SOFTMAX_OPS = 3  # exponential, running sum, division: operations per score
ALIBI_OPS = 2  # slope times distance, sum: operations per score
SOFTCAP_OPS = 3  # division, tanh, product: operations per score that is capped
_ROOF_OF_STEP = {"scores": "gemm", "softmax": "copy", "values": "gemm", "flash": "attention"}


class AttentionShape(NamedTuple):
    """One attention call: B, T, S, H, K, E and the dtypes of activations and of the KV cache.

    With a window each query sees that many keys at most, its own included; S are the keys that are in view at all.
    Where it is not causal, as in an encoder or in attention to another text, every query sees all S keys.
    """

    batch: int
    new_tokens: int
    context_tokens: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    dtype: str = "bf16"
    kv_dtype: str = "bf16"
    window: int | None = None
    capped: bool = False
    causal: bool = True
    alibi: bool = False

    @property
    def pairs_full(self) -> int:
        """Query-key pairs of all heads, masked ones included: B * H * T * S."""
        return self.batch * self.n_heads * self.new_tokens * self.context_tokens

    @property
    def pairs_causal(self) -> int:
        """Query-key pairs that the causal mask and the window leave, exact; without one B * H * (T*S - T*(T-1)/2)."""
        if not self.causal:
            return self.pairs_full
        return self.batch * self.n_heads * causal_pairs(self.new_tokens, self.context_tokens, self.window)

    @property
    def score_ops(self) -> int:
        """Vector operations per score."""
        return SOFTMAX_OPS + SOFTCAP_OPS * self.capped + ALIBI_OPS * self.alibi

    @property
    def query_elements(self) -> int:
        """Elements of Q, and of the output: B * H * T * E."""
        return self.batch * self.n_heads * self.new_tokens * self.head_dim

    @property
    def key_elements(self) -> int:
        """Elements of K, and of V: B * K * S * E."""
        return self.batch * self.n_kv_heads * self.context_tokens * self.head_dim


class AttentionStep(NamedTuple):
    """One step of an attention algorithm, for the whole call."""

    name: str
    flops_full: int
    flops_causal: int
    vector_flops: int
    read_bytes: int
    written_bytes: int

    @property
    def roof(self) -> str:
        """The roof of its arithmetic, one of llamalab.analytic.op.ROOFS."""
        return _ROOF_OF_STEP[self.name]

    @property
    def operations(self) -> int:
        """Operations done: matrix products, masked ones included, and vector operations."""
        return self.flops_full + self.vector_flops

    @property
    def intensity(self) -> float:
        """Operations done per byte moved."""
        return self.operations / (self.read_bytes + self.written_bytes)


def check_shape(shape: AttentionShape) -> None:
    """Raise InputError for a size that is no count, or a context shorter than its new tokens."""
    for name, size in zip(shape._fields[:6], shape[:6], strict=True):
        whole(size, name)
    if shape.causal:
        causal_pairs(shape.new_tokens, shape.context_tokens)


def keys_in_view(new_tokens: int, context_tokens: int, window: int | None) -> int:
    """S: keys that some query of a pass may see: of those before the pass at most W - 1.

    >>> keys_in_view(1, 4096, 1024), keys_in_view(8, 4096, 1024), keys_in_view(4096, 4096, 1024)
    (1024, 1031, 4096)
    """
    past = context_tokens - new_tokens
    return new_tokens + (past if window is None else min(past, window - 1))


def causal_pairs(new_tokens: int, context_tokens: int, window: int | None = None) -> int:
    """Query-key pairs under the causal mask, and the window, when T queries end a context of S keys.

    >>> causal_pairs(4, 4), causal_pairs(1, 4096), causal_pairs(4, 4, 2)
    (10, 4096, 7)
    """
    new_tokens = whole(new_tokens, "new_tokens")
    if new_tokens > whole(context_tokens, "context_tokens"):
        raise InputError(
            f"context must count the new tokens too; got {new_tokens} new tokens in a context of {context_tokens}"
        )
    if window is None or whole(window, "window") >= context_tokens:
        return new_tokens * context_tokens - new_tokens * (new_tokens - 1) // 2
    past = context_tokens - new_tokens
    growing = min(max(window - past, 0), new_tokens)  # queries that see all that precedes them
    return growing * past + growing * (growing + 1) // 2 + (new_tokens - growing) * window


def naive_steps(shape: AttentionShape) -> tuple[AttentionStep, AttentionStep, AttentionStep]:
    """QK^T, softmax and PV with the score matrix in memory between them.

    >>> steps = naive_steps(AttentionShape(1, 4096, 4096, 1, 1, 128, "fp16", "fp16"))
    >>> round(total(steps).intensity)
    62
    """
    check_shape(shape)
    scores = storage_bytes(shape.pairs_full, shape.dtype)
    query = storage_bytes(shape.query_elements, shape.dtype)
    keys = storage_bytes(shape.key_elements, shape.kv_dtype)
    full, causal = 2 * shape.head_dim * shape.pairs_full, 2 * shape.head_dim * shape.pairs_causal
    return (
        AttentionStep(
            name="scores",
            flops_full=full,
            flops_causal=causal,
            vector_flops=0,
            read_bytes=query + keys,
            written_bytes=scores,
        ),
        AttentionStep(
            name="softmax",
            flops_full=0,
            flops_causal=0,
            vector_flops=shape.score_ops * shape.pairs_full,
            read_bytes=scores,
            written_bytes=scores,
        ),
        AttentionStep(
            name="values",
            flops_full=full,
            flops_causal=causal,
            vector_flops=0,
            read_bytes=scores + keys,
            written_bytes=query,
        ),
    )


def flash_step(shape: AttentionShape, *, query_tile: int = QUERY_TILE) -> AttentionStep:
    """The fused kernel: Q and output once, K and V once per tile of queries, no score matrix.

    A tile reads only the keys that its last query may see.

    >>> flash_step(AttentionShape(1, 1, 4096, 32, 8, 128)).read_bytes  # one query: K and V once
    16785408
    """
    check_shape(shape)
    query = storage_bytes(shape.query_elements, shape.dtype)
    query_tile = whole(query_tile, "query_tile")
    if shape.causal:
        keys_read = _keys_read(shape.new_tokens, shape.context_tokens, query_tile, shape.window)
    else:
        keys_read = -(-shape.new_tokens // query_tile) * shape.context_tokens
    kv_elements = 2 * shape.batch * shape.n_kv_heads * shape.head_dim * keys_read
    return AttentionStep(
        name="flash",
        flops_full=4 * shape.head_dim * shape.pairs_full,
        flops_causal=4 * shape.head_dim * shape.pairs_causal,
        vector_flops=shape.score_ops * shape.pairs_causal,
        read_bytes=query + storage_bytes(kv_elements, shape.kv_dtype),
        written_bytes=query,
    )


def tile_pairs(shape: AttentionShape, query_tile: int, key_tile: int) -> int:
    """Query-key pairs that a tiled kernel computes: whole tiles, from the first visible key's to the last one's.

    Between pairs_causal (tiles of one) and pairs_full: a kernel's work, and so its time, goes with this.

    >>> shape = AttentionShape(1, 512, 512, 1, 1, 128)
    >>> tile_pairs(shape, 1, 1) == shape.pairs_causal, tile_pairs(shape, 64, 512) == shape.pairs_full
    (True, True)
    """
    check_shape(shape)
    query_tile, key_tile = whole(query_tile, "query_tile"), whole(key_tile, "key_tile")
    if not shape.causal:
        return shape.pairs_full
    past, pairs = shape.context_tokens - shape.new_tokens, 0
    for start in range(0, shape.new_tokens, query_tile):
        stop = min(start + query_tile, shape.new_tokens)
        keys = min(-(-(past + stop) // key_tile) * key_tile, shape.context_tokens)
        unseen = 0 if shape.window is None else max(past + start - shape.window + 1, 0)
        pairs += (stop - start) * (keys - unseen // key_tile * key_tile)
    return shape.batch * shape.n_heads * pairs


def total(steps: tuple[AttentionStep, ...]) -> AttentionStep:
    """The sum over the steps of an algorithm."""
    sums: list[int] = [sum(getattr(step, field) for step in steps) for field in AttentionStep._fields[1:]]
    return AttentionStep("total", *sums)


def _keys_read(new_tokens: int, context_tokens: int, query_tile: int, window: int | None) -> int:
    """Keys streamed over all query tiles: of each, from the first that its first query sees to its last one's own."""
    past = context_tokens - new_tokens
    full_tiles, rest = divmod(new_tokens, query_tile)
    keys = full_tiles * past + query_tile * full_tiles * (full_tiles + 1) // 2 + (context_tokens if rest else 0)
    if window is None:
        return keys
    # Tile i skips past + i * query_tile - window + 1 keys, from the first tile where that is more than none.
    first, tiles = max(-(-(window - past) // query_tile), 0), full_tiles + (1 if rest else 0)
    skipping = max(tiles - first, 0)
    return (
        keys
        - skipping * (past - window + 1)
        - query_tile * (tiles * (tiles - 1) - first * (first - 1)) // 2 * (1 if skipping else 0)
    )
