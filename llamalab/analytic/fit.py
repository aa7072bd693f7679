"""Whether a run fits into a memory: everything that it holds on one device, term by term, and the largest that fits.

A run fills a cache of `context` tokens for each of `batch` sequences: the prompt in passes of at most `chunk` tokens a
sequence, then token by token. What is exact follows from sizes; what is estimated says so and has a margin.
"""

from collections.abc import Callable
from typing import NamedTuple

from llamalab.analytic.activations import WAYS, peak_activation_bytes
from llamalab.analytic.attention_cost import QUERY_CHUNK
from llamalab.analytic.kv_storage import KV_DTYPES, kv_storage
from llamalab.analytic.parallel import shard
from llamalab.analytic.runtimes import RUNTIMES, Runtime
from llamalab.analytic.scratch import Scratch
from llamalab.analytic.weight_storage import stored_weight_bytes
from llamalab.arch import LlamaArch
from llamalab.checks import MOST_COUNT, MOST_MEMORY_BYTES, whole
from llamalab.errors import DoesNotFitError, UnknownNameError
from llamalab.units import DTYPES, format_bytes

KERNELS_KEPT = 1024  # capacity of oneDNN's primitive cache
LIVE_TENSORS = 16  # at the largest moment of a pass, each rounded up by the allocator
NARROWER = ("bf16", "int8", "int4")  # weight types to try, widest first


class Run(NamedTuple):
    """What is asked for: B sequences that grow to `context` tokens, on `ranks` devices.

    `prompt` is the part of the context that comes at once (default: all of it); `attention` is flash, naive or chunked;
    `block_tokens` is what a paged cache rounds a sequence up to; `weight_bytes` those of a file, where one is given.
    """

    arch: LlamaArch
    context: int
    batch: int = 1
    prompt: int | None = None
    chunk: int | None = None
    dtype: str = "bf16"
    weight_dtype: str | None = None
    kv_dtype: str | None = None
    attention: str = "flash"
    logits: str = "last"
    ranks: int = 1
    block_tokens: int = 1
    graphs: int = 0
    weight_bytes: int | None = None


class Term(NamedTuple):
    """One part of what a run holds, and whether it is exact, estimated or measured."""

    term: str
    bytes: int
    basis: str
    note: str = ""


class Needs(NamedTuple):
    """Everything that a run holds on each device."""

    terms: tuple[Term, ...]
    margin_bytes: int

    @property
    def total_bytes(self) -> int:
        """The sum of the terms."""
        return sum(term.bytes for term in self.terms)

    @property
    def safe_bytes(self) -> int:
        """The memory in which the run is said to fit: the sum and its margin."""
        return self.total_bytes + self.margin_bytes

    def bytes_of(self, name: str) -> int:
        """Those of one term."""
        return sum(term.bytes for term in self.terms if term.term == name)


def needs(run: Run, runtime: Runtime = RUNTIMES["cuda"], *, scratch: Scratch | None = None, threads: int = 1) -> Needs:
    """What one device holds. Raises InputError for sizes that are none and ranks that cannot share the model.

    `scratch` is what kernels were measured to take (default: the runtime's bound for that many threads).

    >>> from llamalab.presets import PRESETS
    >>> held = needs(Run(PRESETS["7b"].arch, 4096))
    >>> held.bytes_of("weights"), held.bytes_of("KV cache")
    (13476831232, 2147483648)
    """
    _check(run)
    scratch = scratch or runtime.scratch(threads)
    prompt, decode = passes(run)[:-1], passes(run)[-1:]
    # A kernel that is compiled after the largest moment takes nothing from it.
    phases = [_passing(run, prompt, runtime, scratch, steps=0), _passing(run, decode, runtime, scratch, steps=None)]
    terms = (
        *_exact_terms(run),
        *max(phases, key=lambda terms: sum(term.bytes for term in terms)),
        Term("library workspace", runtime.workspace_bytes, "estimated"),
        Term("graphs", run.graphs * runtime.graph_bytes, "estimated"),
        Term("device context", runtime.context_bytes, "estimated", runtime.name),
    )
    terms = tuple(term for term in terms if term.bytes)
    return Needs(terms, int(runtime.margin * sum(term.bytes for term in terms)))


def _check(run: Run) -> None:
    for name in ("context", "batch", "ranks", "block_tokens"):
        whole(getattr(run, name), name)
    for name in ("prompt", "chunk"):
        if getattr(run, name) is not None:
            whole(getattr(run, name), name)
    whole(run.graphs, "graphs", least=0)
    for what, given, known in (
        ("weight dtype", run.weight_dtype or run.dtype, DTYPES),
        ("KV dtype", run.kv_dtype or run.dtype, KV_DTYPES),
        ("attention", run.attention, WAYS),
    ):
        if given not in known:
            raise UnknownNameError(what, given, known)


def _exact_terms(run: Run) -> tuple[Term, ...]:
    stored = run.weight_bytes
    if stored is None:
        stored = stored_weight_bytes(run.arch, run.dtype, run.weight_dtype or run.dtype, shard(run.arch, run.ranks))
    held = kv_storage(
        run.arch, seq=run.context, batch=run.batch, dtype=run.kv_dtype or run.dtype, ranks=run.ranks,
        block_tokens=run.block_tokens,
    )  # fmt: skip
    return (
        Term("weights", stored, "exact", run.weight_dtype or run.dtype),
        Term("KV cache", held.payload_bytes, "exact", run.kv_dtype or run.dtype),
        Term("KV scales", held.scale_bytes, "exact"),
        Term("KV blocks", held.rounding_bytes, "exact", f"sequences rounded up to {run.block_tokens} tokens"),
    )


def passes(run: Run) -> list[tuple[int, int]]:
    """New tokens and context of the passes that can be the largest: the last two of the prompt, and the last token.

    >>> from llamalab.presets import PRESETS
    >>> passes(Run(PRESETS["7b"].arch, 1000, prompt=700, chunk=256))
    [(256, 512), (188, 700), (1, 1000)]
    """
    prompt = min(run.prompt or run.context, run.context)
    chunk = min(run.chunk or prompt, prompt)
    rest = (prompt - 1) % chunk + 1
    before = [(chunk, prompt - rest)] if prompt > rest else []
    return [*before, (rest, prompt), (1, run.context)]


def _passing(
    run: Run, chosen: list[tuple[int, int]], runtime: Runtime, scratch: Scratch, *, steps: int | None
) -> tuple[Term, ...]:
    """What the largest of some passes holds, with what was compiled up to then."""
    bare, step = _largest_pass(run, chosen, None)
    full, _ = _largest_pass(run, chosen, scratch)
    waste = LIVE_TENSORS * runtime.rounding_bytes + int(runtime.fragmentation * full)
    kernels = compiled_kernels(run, steps=steps) if runtime.kernel_bytes else 0
    return (
        Term("activations", bare, "exact", step),
        Term("kernel scratch", full - bare, getattr(scratch, "basis", "estimated")),
        Term("compiled kernels", kernels * runtime.kernel_bytes, "estimated", "one for each shape"),
        Term("allocator", waste, "estimated", "rounding and fragmentation"),
    )


def _largest_pass(run: Run, chosen: list[tuple[int, int]], scratch: Scratch | None) -> tuple[int, str]:
    largest = [
        (
            peak_activation_bytes(
                run.arch, new_tokens=new, context_tokens=seen, batch=run.batch, dtype=run.dtype,
                kv_dtype=None if run.kv_dtype == "int4" else run.kv_dtype, attention=run.attention,
                logits=run.logits, tensor_parallel=run.ranks, scratch=scratch,
            ),
            "decode" if new == 1 else "prefill" if new == seen else "chunk",
        )
        for new, seen in chosen
    ]  # fmt: skip
    live, phase = max(largest, key=lambda one: one[0].bytes)
    return live.bytes, f"{live.step} of {phase}"


def compiled_kernels(run: Run, *, steps: int | None = None) -> int:
    """Kernels that a library compiles for the shapes of a run in a half type and keeps, at most its cache's 1,024.

    Products of weights for each number of rows, and the head's; of attention one or two for each pass. `steps` is how
    far it has decoded (default: to the end).
    """
    if run.dtype == "fp32":
        return 0
    prompt = min(run.prompt or run.context, run.context)
    chunk = min(run.chunk or prompt, prompt)
    whole_chunks, rest = divmod(prompt, chunk)
    parts = [chunk] * whole_chunks + ([rest] if rest else [])
    steps = run.context - prompt if steps is None else steps
    sizes = {*parts, *([1] if steps else [])}
    dim, part = run.arch.dim, shard(run.arch, run.ranks)
    weights = (
        len({(dim, part.query_dim), (dim, part.kv_dim), (dim, part.ffn_dim), (part.ffn_dim, dim)}) * len(sizes) + 1
    )
    if run.attention == "flash":
        attention = sum(part >= QUERY_CHUNK for part in parts)  # shorter ones are not packed, and compile nothing
    else:
        attention = 2 * (
            steps + sum(-(-part // (QUERY_CHUNK if run.attention == "chunked" else part)) for part in parts)
        )
    return min(KERNELS_KEPT, weights + attention)


Holds = Callable[[Run], Needs]


def check_fits(run: Run, memory_bytes: int, holds: Holds = needs) -> Needs:
    """What the run holds. Raises DoesNotFitError with the missing bytes and with what would fit."""
    memory_bytes = whole(memory_bytes, "memory_bytes", most=MOST_MEMORY_BYTES)
    held = holds(run)
    short = held.safe_bytes - memory_bytes
    if short <= 0:
        return held
    raise DoesNotFitError(
        f"{run.batch:,} × {run.context:,} tokens must fit: they hold {format_bytes(held.total_bytes)} and "
        f"{format_bytes(held.margin_bytes)} of margin, the memory is {format_bytes(memory_bytes)}, "
        f"{format_bytes(short)} ({short:,} bytes) too little; try {'; '.join(changes(run, memory_bytes, holds))}"
    )


def changes(run: Run, memory_bytes: int, holds: Holds = needs) -> list[str]:
    """Single changes with which the run would fit, in words; what comes nearest where there is none."""
    found = [
        *(_shown(f"batch {value:,}", value) for value in [largest_batch(run, memory_bytes, holds)]),
        *(_shown(f"context {value:,}", value) for value in [largest_context(run, memory_bytes, holds)]),
    ]
    for words, changed in (
        *((f"KV cache in {kind}", run._replace(kv_dtype=kind)) for kind in ("int8", "int4")),
        *((f"weights in {kind}", run._replace(weight_dtype=kind)) for kind in NARROWER if run.weight_bytes is None),
        *((f"chunks of {size}", run._replace(chunk=size)) for size in (2048, 512)),
    ):
        if changed != run and _fits(changed, memory_bytes, holds):
            found.append(words)
    if ranks := least_ranks(run, memory_bytes, holds):
        found.append(f"{ranks} devices")
    return [words for words in found if words] or ["a smaller model or more memory: no single change is enough"]


def _shown(words: str, value: int) -> str:
    return words if value else ""


def _fits(run: Run, memory_bytes: int, holds: Holds) -> bool:
    return holds(run).safe_bytes <= memory_bytes


def largest_batch(run: Run, memory_bytes: int, holds: Holds = needs) -> int:
    """Sequences of the run's context that fit; 0 where not one does."""
    return _largest(lambda batch: _fits(run._replace(batch=batch), memory_bytes, holds))


def largest_context(run: Run, memory_bytes: int, holds: Holds = needs) -> int:
    """Tokens that each of the run's sequences can have; 0 where not one does. A prompt is cut to the context."""
    return _largest(lambda context: _fits(run._replace(context=context), memory_bytes, holds))


def widest_weights(run: Run, memory_bytes: int, holds: Holds = needs) -> str | None:
    """The first of bf16, int8 and int4 with which the run fits."""
    return next((kind for kind in NARROWER if _fits(run._replace(weight_dtype=kind), memory_bytes, holds)), None)


def least_ranks(run: Run, memory_bytes: int, holds: Holds = needs) -> int | None:
    """The fewest devices, of those that can share the model, on which the run fits."""
    from llamalab.errors import InputError

    for ranks in (1, 2, 4, 8, 16, 32, 64):
        try:
            if _fits(run._replace(ranks=ranks), memory_bytes, holds):
                return ranks
        except InputError:  # these ranks cannot share this model
            continue
    return None


def _largest(fits: Callable[[int], bool]) -> int:
    """The largest count that fits, where a smaller one always does: doubled, then halved."""
    if not fits(1):
        return 0
    low, high = 1, 2
    while high < MOST_COUNT and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
