"""The workload: a prompt, then token after token over a growing context, and the passes that represent them.

Only attention depends on the context, and its time is nearly linear in it, so that the mean over the steps of a run
is Simpson's rule over the first, the middle and the last step, not a loop over tokens.
"""

from collections.abc import Iterable
from functools import lru_cache

from llamalab.analytic.batches import last_chunk
from llamalab.analytic.op import Op
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.packed_weights import head_bytes, unpacked_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.split_attention import split_ops
from llamalab.arch import LlamaArch
from llamalab.checks import whole
from llamalab.startup.hints import Any, NamedTuple

CACHED_PASSES = 4096  # one pass recurs for every device of a sweep


_OPEN = ("chunk", "threads")  # counts that may be None
_COUNTS = ("prompt", "generate", "batch", "tensor_parallel", "layer_parallel", *_OPEN)


class _WorkloadFields(NamedTuple):
    prompt: int
    generate: int = 1
    batch: int = 1
    dtype: str = "bf16"
    weight_dtype: str | None = None
    kv_dtype: str | None = None
    attention: str = "flash"
    fused: bool = True
    tensor_parallel: int = 1
    chunk: int | None = None
    logits: str = "last"
    expert_parallel: bool = False
    head_dtype: str | None = None
    unpack_rows: int | None = None
    layer_parallel: int = 1
    stored_bytes: int | None = None
    split_heads: int | None = None
    threads: int | None = None


class Workload(_WorkloadFields):
    """B prompts of P tokens, G tokens generated after each, and number formats.

    `layer_parallel` devices have a share of the layers each and work one after the other: they share the memory, not
    the time. `head_dtype` is that of the output head (default: that of the matrices). From `unpack_rows` rows on,
    packed weights are widened to the activations' dtype before products; None: never. `stored_bytes` are those of a
    file's weights (default: by weight_dtype). Up to `split_heads` query heads over all sequences, decode attention is
    split over its keys; None: never. `threads` are those of a CPU (default: one a core).
    """

    __slots__ = ()

    def __new__(cls, prompt: int, *others: Any, **named: Any) -> "Workload":
        return super().__new__(cls, prompt, *others, **named)._counted(_COUNTS)

    def _replace(self, **changes: Any) -> "Workload":
        return super()._replace(**changes)._counted([name for name in _COUNTS if name in changes])

    def _counted(self, names: Iterable[str]) -> "Workload":
        """The same with these counts as whole numbers; chunk and threads may be None."""
        others: dict[str, Any] = {}
        for name in names:
            given = getattr(self, name)
            if given is None and name in _OPEN:
                continue
            if (count := whole(given, name)) is not given:
                others[name] = count
        return super()._replace(**others) if others else self

    @property
    def manner(self) -> "Workload":
        """Number formats, kernels and ranks, without lengths and batch."""
        return super()._replace(
            prompt=1, generate=1, batch=1, chunk=None, layer_parallel=1, stored_bytes=None, threads=None
        )

    def shape(self, new_tokens: int, context_tokens: int) -> PassShape:
        """That of one pass of the run."""
        return PassShape(
            new_tokens=new_tokens,
            context_tokens=context_tokens,
            batch=self.batch,
            dtype=self.dtype,
            kv_dtype=self.kv_dtype,
            weight_dtype=self.weight_dtype,
            attention=self.attention,
            logits=self.logits,
            tensor_parallel=self.tensor_parallel,
            fused=self.fused,
            expert_parallel=self.expert_parallel,
        )

    @property
    def devices(self) -> int:
        """How many share the model."""
        return self.tensor_parallel * self.layer_parallel


def prompt_parts(work: Workload) -> list[tuple[float, int, int]]:
    """Number, new tokens and context of the passes over the prompt: one, or one per chunk.

    From the sixteenth chunk on, some stand for those between them, by their distance, as if time were linear there: it
    nearly is. They are the same for every prompt, one past its end included, so that one more token adds time.

    >>> prompt_parts(Workload(prompt=5, chunk=2))
    [(1.0, 2, 2), (1.0, 2, 4), (1.0, 1, 5)]
    >>> round(sum(weight for weight, *_ in prompt_parts(Workload(prompt=10**6, chunk=1))))
    1000000
    """
    chunk = min(work.chunk or work.prompt, work.prompt)
    chunks, rest = divmod(work.prompt, chunk)
    weights: dict[tuple[int, int], float] = {}
    first = 1
    while first <= chunks:
        step = _chunk_step(first)
        some = min(step, chunks - first + 1)
        _share(weights, chunk, chunk * first, chunk * step, some, some * (some - 1) / 2 / step)
        first += step
    if rest:
        step = _chunk_step(chunks)
        low = chunks // step * step
        way = (work.prompt - chunk * low) / (chunk * step)
        if step == 1:
            weights[rest, work.prompt] = 1.0
        else:
            _share(weights, rest, chunk * low, chunk * step, 1, way)
    return [(weight, *part) for part, weight in weights.items()]


def _chunk_step(place: int) -> int:
    """How far the next chunk that is timed lies from this one: a power of two, an eighth of the place at most."""
    return 1 << max(0, place.bit_length() - 4)


def _share(weights: dict[tuple[int, int], float], new: int, context: int, gap: int, passes: int, far: float) -> None:
    """Share passes between a context and the next one that is timed, `far` of them for that."""
    for part, weight in (((new, context), passes - far), ((new, context + gap), far)):
        if weight:
            weights[part] = weights.get(part, 0.0) + weight


def last_part(work: Workload) -> tuple[int, int]:
    """New tokens and context of the prompt's last pass.

    >>> last_part(Workload(prompt=5, chunk=2))
    (1, 5)
    """
    return last_chunk(work.prompt, min(work.chunk or work.prompt, work.prompt)), work.prompt


def decode_contexts(work: Workload) -> list[tuple[float, int]]:
    """Simpson's weights and the contexts they go with; empty where the prefill gives the only token.

    >>> decode_contexts(Workload(prompt=100, generate=4))
    [(0.16666666666666666, 101), (0.6666666666666666, 102), (0.16666666666666666, 103)]
    """
    first, last = work.prompt + 1, work.prompt + work.generate - 1
    if last < first:
        return []
    middle, odd = divmod(first + last, 2)
    if odd:  # an even number of steps has two middles
        return [(1 / 6, first), (1 / 3, middle), (1 / 3, middle + 1), (1 / 6, last)]
    return [(1 / 6, first), (2 / 3, middle), (1 / 6, last)]


@lru_cache(maxsize=CACHED_PASSES)
def _ops(arch: LlamaArch, shape: PassShape, head_dtype: str | None, unpack_rows: int | None) -> tuple[Op, ...]:
    return unpacked_ops(
        forward_ops(arch, shape),
        rows=shape.new_tokens * shape.batch,
        dtype=shape.dtype,
        unpack_rows=unpack_rows,
        head_bytes=head_bytes(arch, head_dtype, shape.tensor_parallel),
    )


def pass_ops(arch: LlamaArch, work: Workload, new_tokens: int, context_tokens: int) -> tuple[Op, ...]:
    """The op table of one pass of a run, remembered."""
    ops = _ops(arch, work.shape(new_tokens, context_tokens), work.head_dtype, work.unpack_rows)
    heads = work.batch * arch.n_heads // work.tensor_parallel
    return split_ops(ops, heads=heads, split_heads=work.split_heads)
