"""Peak bytes of activations: the largest step of one forward pass.

llamalab.analytic.pass_memory has the moments of each step. Weights, KV cache and the tokens are not activations: they
exist before the pass. Scratch memory of kernels is added where it is known or bounded: llamalab.analytic.scratch.
"""

from llamalab.analytic.attention_cost import QUERY_CHUNK, AttentionShape, check_shape, keys_in_view
from llamalab.analytic.pass_memory import Moment, moments
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.scratch import Scratch, mask_bytes
from llamalab.arch import LlamaArch
from llamalab.checks import whole
from llamalab.choices import LOGITS
from llamalab.errors import UnknownNameError
from llamalab.startup.hints import NamedTuple
from llamalab.units import check_unscaled, storage_bytes

WAYS = ("flash", "masked", "naive", "chunked")  # ways in which attention holds memory

TAKING_MASKS = (
    "sdpa",
    "streamed",
    "flash",
    "efficient",
    "cudnn",
)  # backends behind torch's scaled_dot_product_attention


class Live(NamedTuple):
    """A step of the forward pass and the bytes of activations alive while it runs."""

    step: str
    bytes: int


def live_moments(arch: LlamaArch, shape: PassShape, scratch: Scratch | None = None) -> tuple[Moment, ...]:
    """Live bytes at every moment of one block and of the head that may be the largest, in order, on one rank.

    A cache of another storage is decoded before attention. `scratch` gives the scratch memory of kernels
    (default: nothing). Raises UnknownNameError and InputError as forward_ops, for a ragged batch too.
    """
    check_unscaled(shape.dtype)
    if shape.logits not in LOGITS:
        raise UnknownNameError("logits", shape.logits, LOGITS)
    batch, new_tokens = whole(shape.batch, "batch"), whole(shape.new_tokens, "new_tokens")
    shape = shape._replace(batch=batch, new_tokens=new_tokens, context_tokens=shape.context)
    check_shape(
        AttentionShape(
            batch=batch,
            new_tokens=new_tokens,
            context_tokens=shape.context,
            n_heads=arch.n_heads,
            n_kv_heads=arch.n_kv_heads,
            head_dim=arch.head_dim,
        )
    )
    if shape.attention not in WAYS:
        raise UnknownNameError("attention", shape.attention, WAYS)
    return tuple(moments(arch, shape, scratch))


def live_steps(arch: LlamaArch, shape: PassShape, scratch: Scratch | None = None) -> tuple[Live, ...]:
    """The most live bytes in each step of one block, and in the head, on one rank. Errors as for live_moments."""
    largest: dict[str, int] = {}
    for step, held in live_moments(arch, shape, scratch):
        largest[step] = max(held, largest.get(step, 0))
    return tuple(Live(step, held) for step, held in largest.items())


def peak_activation_bytes(arch: LlamaArch, shape: PassShape, scratch: Scratch | None = None) -> Live:
    """The step with the most live bytes, and their number.

    >>> from llamalab.presets import PRESETS
    >>> shape = PassShape(new_tokens=512)
    >>> peak_activation_bytes(PRESETS["7b"].arch, shape)  # 512 * ((3*4096 + 4*11008) * 2 + 128*4) bytes
    Live(step='feed-forward', bytes=57933824)
    """
    return max(live_steps(arch, shape, scratch), key=lambda step: step.bytes)


def memory_of(backend: str, algorithm: str) -> str:
    """The way of attention_bytes in which a backend of an algorithm holds memory.

    >>> memory_of("triton", "flash"), memory_of("chunked", "flash"), memory_of("sdpa", "flash")
    ('flash', 'chunked', 'masked')
    """
    if algorithm == "flash" and backend in TAKING_MASKS:
        return "masked"
    return "chunked" if backend in ("chunked", "mixed") else algorithm


def attention_bytes(shape: AttentionShape, way: str) -> int:
    """Peak bytes of one attention call above Q, K and V.

    Naive: the scores and the pattern, or the pattern and the output where that is more.
    Flash: the output, and one fp32 running sum per query and head.
    Masked: the same, and for a chunk or within a window the mask, as booleans and once more in the scores' dtype.
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
        full = _of_window(shape._replace(new_tokens=QUERY_CHUNK, context_tokens=shape.context_tokens - rest))
        before = done - storage_bytes(full.query_elements, shape.dtype)
        last = _of_window(shape._replace(new_tokens=rest))
        return max(before + attention_bytes(full, "naive"), done + attention_bytes(last, "naive"), 2 * output)
    if way in ("naive", "chunked"):
        shape = _of_window(shape) if way == "chunked" else shape
        scores = storage_bytes(shape.pairs_full, shape.dtype)
        return scores + max(scores, output)
    running_sums = storage_bytes(shape.batch * shape.n_heads * shape.new_tokens, "fp32")
    return output + running_sums + (mask_bytes(shape) if way == "masked" else 0)


def _of_window(shape: AttentionShape) -> AttentionShape:
    """The same call, restricted to the keys that some of its queries see."""
    return shape._replace(context_tokens=keys_in_view(shape.new_tokens, shape.context_tokens, shape.window))
