"""Peak bytes of activations: the largest step of one forward pass.

Every step holds the residual stream, its own inputs, outputs and fp32 temporaries; a tensor dies
with its last use, and nothing is kept for a backward pass, so the depth of the model does not count.
Weights, KV cache and the tokens are not activations: they are there before the pass begins.

As llamalab.model computes: the block's input lives until the block is done, the turns of RoPE are
complex fp32 pairs that live through the pass, RoPE works in fp32, logits are returned in fp32.
Scratch inside a fused kernel (tens of KiB per thread) is not counted.
"""

from typing import NamedTuple

from llamalab.analytic.attention_cost import QUERY_CHUNK, AttentionShape, check_shape
from llamalab.arch import LlamaArch
from llamalab.checks import whole
from llamalab.errors import UnknownNameError
from llamalab.units import check_plain, storage_bytes

WAYS = ("flash", "naive", "chunked")  # of holding what attention makes
LOGITS = ("last", "all")


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
    batch, new_tokens = whole(batch, "batch"), whole(new_tokens, "new_tokens")
    check_plain(dtype)
    if logits not in LOGITS:
        raise UnknownNameError("logits", logits, LOGITS)
    rows, dim, kv_dim, ffn_dim = batch * new_tokens, arch.dim, arch.kv_dim, arch.ffn_dim
    context = new_tokens if context_tokens is None else whole(context_tokens, "context_tokens")
    shape = AttentionShape(batch, new_tokens, context, arch.n_heads, arch.n_kv_heads, arch.head_dim, dtype, dtype)
    head_rows = rows if logits == "all" else batch

    turns = storage_bytes(new_tokens * arch.head_dim, "fp32")

    def live(step: str, elements: int, fp32_elements: int = 0) -> Live:
        return Live(step, turns + storage_bytes(elements, dtype) + storage_bytes(fp32_elements, "fp32"))

    attention_inputs = rows * (3 * dim + 2 * kv_dim)  # block input, its norm, Q, K, V
    wide_logits = 0 if dtype == "fp32" else head_rows * arch.vocab_size
    return (
        live("projections", attention_inputs),
        live("rope", attention_inputs, 2 * rows * dim),
        Live("attention", live("", attention_inputs).bytes + attention_bytes(shape, attention)),
        live("feed-forward", rows * (3 * dim + 4 * ffn_dim)),  # block input, middle, norm; gate, up, silu, product
        live("logits", rows * dim + head_rows * arch.vocab_size, wide_logits),
    )


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

    >>> memory_of("sdpa", "flash"), memory_of("chunked", "flash")
    ('flash', 'chunked')
    """
    return backend if backend == "chunked" else algorithm


def attention_bytes(shape: AttentionShape, way: str) -> int:
    """What one attention call holds above Q, K and V.

    Naive: the scores and the pattern, or the pattern and the output where that is more.
    Flash: the output, and one fp32 running sum per query and head.
    Chunked: naive's for the last 128 queries beside the output of all others, or the output twice, while it is put
    together.

    >>> attention_bytes(AttentionShape(1, 1024, 1024, 32, 32, 128), "naive") // 2**20
    128
    """
    check_shape(shape)
    if way not in WAYS:
        raise UnknownNameError("attention", way, WAYS)
    output = storage_bytes(shape.query_elements, shape.dtype)
    if way == "chunked" and shape.new_tokens > QUERY_CHUNK:
        rest = (shape.new_tokens - 1) % QUERY_CHUNK + 1
        done = output - storage_bytes(shape._replace(new_tokens=rest).query_elements, shape.dtype)
        full = shape._replace(new_tokens=QUERY_CHUNK, context_tokens=shape.context_tokens - rest)
        before = done - storage_bytes(full.query_elements, shape.dtype)
        last = shape._replace(new_tokens=rest)
        return max(before + attention_bytes(full, "naive"), done + attention_bytes(last, "naive"), 2 * output)
    if way in ("naive", "chunked"):
        scores = storage_bytes(shape.pairs_full, shape.dtype)
        return scores + max(scores, output)
    running_sums = shape.batch * shape.n_heads * shape.new_tokens
    return output + storage_bytes(running_sums, "fp32")
