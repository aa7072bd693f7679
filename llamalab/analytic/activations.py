"""Peak bytes of activations: the largest step of one forward pass.

Every step holds the residual stream, its own inputs, outputs and fp32 temporaries; a tensor dies
with its last use, and nothing is kept for a backward pass, so the depth of the model does not count.
Weights, KV cache and the tokens are not activations: they are there before the pass begins.

As llamalab.model computes: the block's input lives until the block is done, the turns of RoPE are
complex fp32 pairs that live through the pass, RoPE works in fp32, logits are returned in fp32.
Scratch inside a fused kernel (tens of KiB per thread) is not counted.
"""

from collections.abc import Callable
from typing import NamedTuple

from llamalab.analytic.attention_cost import QUERY_CHUNK, AttentionShape, keys_in_view
from llamalab.arch import LlamaArch
from llamalab.units import storage_bytes

TAKING_MASKS = ("sdpa", "flash", "efficient", "cudnn")  # backends behind torch's scaled_dot_product_attention


class Live(NamedTuple):
    """A step of the forward pass and the bytes of activations alive while it runs."""

    step: str
    bytes: int


def live_steps(
    arch: LlamaArch,
    *,
    new_tokens: int,
    context_tokens: int | None = None,
    batch: int = 1,
    dtype: str = "bf16",
    attention: str = "flash",
    logits: str = "last",
) -> tuple[Live, ...]:
    """What is alive in each step of one block, and in the head."""
    rows, dim, query_dim = batch * new_tokens, arch.dim, arch.query_dim
    context = new_tokens if context_tokens is None else context_tokens
    head_rows = rows if logits == "all" else batch

    turns = storage_bytes(new_tokens * arch.rotary_dim, "fp32")

    def live(step: str, elements: int, fp32_elements: int = 0) -> Live:
        return Live(step, turns + storage_bytes(elements, dtype) + storage_bytes(fp32_elements, "fp32"))

    attention_inputs = rows * (2 * dim + query_dim + 2 * arch.kv_dim)  # block input, its norm, Q, K, V
    attending = max(
        storage_bytes(_joined(arch, new_tokens, context, window) * batch, dtype)
        + attention_bytes(_shape(arch, batch, new_tokens, context, window, dtype), attention)
        for window, _ in arch.windows
    )
    wide_logits = 0 if dtype == "fp32" else head_rows * arch.vocab_size
    return (
        live("projections", attention_inputs),
        *([_head_norms(live, arch, rows, attention_inputs, dtype)] if arch.qk_norm else []),
        live("rope", attention_inputs, 2 * rows * query_dim),
        Live("attention", live("", attention_inputs).bytes + attending),
        live("output projection", attention_inputs + rows * (query_dim + dim)),
        live("feed-forward", rows * 3 * dim + _ffn_elements(arch, rows)),  # block input, middle, norm
        live("logits", rows * dim + head_rows * arch.vocab_size, wide_logits),
    )


def _head_norms(live: Callable[..., Live], arch: LlamaArch, rows: int, inputs: int, dtype: str) -> Live:
    """The norm of the queries: the quotient and its product, or both in fp32 and the root of each head's mean."""
    elements = rows * arch.query_dim
    if dtype == "fp32":
        return live("head norms", inputs + 2 * elements)
    return live("head norms", inputs + elements, 2 * elements + rows * arch.n_heads)


def _shape(
    arch: LlamaArch, batch: int, new_tokens: int, context: int, window: int | None, dtype: str
) -> AttentionShape:
    keys = keys_in_view(new_tokens, context, window)
    return AttentionShape(batch, new_tokens, keys, arch.n_heads, arch.n_kv_heads, arch.head_dim, dtype, dtype, window)


def _joined(arch: LlamaArch, new_tokens: int, context: int, window: int | None) -> int:
    """Elements of keys and values put together from a full window and new ones, for one sequence."""
    past = context - new_tokens
    if window is None or context <= window or not past or new_tokens == 1:
        return 0  # what the cache holds is in order, or one query sees all of it
    return 2 * arch.kv_dim * keys_in_view(new_tokens, context, window)


def _ffn_elements(arch: LlamaArch, rows: int) -> int:
    """Gate, up, silu and product of a feed-forward; of experts those of all picked pairs, beside inputs and outputs."""
    plain = 4 * rows * arch.ffn_dim if arch.dense_layers else 0
    if arch.experts is None:
        return plain
    pairs = rows * arch.experts.n_active
    routed = pairs * (4 * arch.experts.ffn_dim + 2 * arch.dim) + rows * arch.experts.n_experts
    return max(plain, routed, 4 * rows * arch.experts.shared_ffn_dim)


def peak_activation_bytes(
    arch: LlamaArch,
    *,
    new_tokens: int,
    context_tokens: int | None = None,
    batch: int = 1,
    dtype: str = "bf16",
    attention: str = "flash",
    logits: str = "last",
) -> Live:
    """The step that holds most, and how much.

    >>> from llamalab.presets import PRESETS
    >>> peak_activation_bytes(PRESETS["7b"].arch, new_tokens=512)  # 512 * ((3*4096 + 4*11008) * 2 + 128*4) bytes
    Live(step='feed-forward', bytes=57933824)
    """
    steps = live_steps(
        arch,
        new_tokens=new_tokens,
        context_tokens=context_tokens,
        batch=batch,
        dtype=dtype,
        attention=attention,
        logits=logits,
    )
    return max(steps, key=lambda step: step.bytes)


def memory_of(backend: str, algorithm: str) -> str:
    """By which way of attention_bytes a backend of that algorithm holds memory.

    >>> memory_of("triton", "flash"), memory_of("chunked", "flash"), memory_of("sdpa", "flash")
    ('flash', 'chunked', 'masked')
    """
    if algorithm == "flash" and backend in TAKING_MASKS:
        return "masked"
    return backend if backend == "chunked" else algorithm


def attention_bytes(shape: AttentionShape, way: str) -> int:
    """What one attention call holds above Q, K and V.

    Naive: the scores and the pattern, or the pattern and the output where that is more.
    Flash: the output, and one fp32 running sum per query and head.
    Masked: the same, and for a chunk or within a window the mask, as booleans and once more in the scores' dtype.
    Chunked: naive's for the last 128 queries beside the output of all others, or the output twice, while it is put
    together.

    >>> attention_bytes(AttentionShape(1, 1024, 1024, 32, 32, 128), "naive") // 2**20
    128
    """
    output = storage_bytes(shape.query_elements, shape.dtype)
    if way == "chunked" and shape.new_tokens > QUERY_CHUNK:
        rest = (shape.new_tokens - 1) % QUERY_CHUNK + 1
        done = output - storage_bytes(shape._replace(new_tokens=rest).query_elements, shape.dtype)
        full = _of_window(shape._replace(new_tokens=QUERY_CHUNK, context_tokens=shape.context_tokens - rest))
        before = done - storage_bytes(full.query_elements, shape.dtype)
        last = _of_window(shape._replace(new_tokens=rest))
        return max(before + attention_bytes(full, "naive"), done + attention_bytes(last, "naive"), 2 * output)
    if way in ("naive", "chunked"):
        shape = _of_window(shape) if way == "chunked" else shape
        scores = storage_bytes(shape.pairs_full, shape.dtype)
        return scores + max(scores, output)
    running_sums = shape.batch * shape.n_heads * shape.new_tokens
    new, keys = shape.new_tokens, shape.context_tokens
    hiding = way == "masked" and new > 1 and (new < keys or (shape.window or keys) < keys)
    mask = new * keys if hiding else 0
    return output + storage_bytes(running_sums, "fp32") + mask + storage_bytes(mask, shape.dtype)


def _of_window(shape: AttentionShape) -> AttentionShape:
    """The same call with the keys alone that some of its queries see."""
    return shape._replace(context_tokens=keys_in_view(shape.new_tokens, shape.context_tokens, shape.window))
