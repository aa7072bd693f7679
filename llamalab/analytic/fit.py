"""Everything that a run holds on one device, term by term.

A run fills a cache of `context` tokens for each of `batch` sequences: the prompt in passes of at most `chunk` tokens a
sequence, then token by token. What is exact follows from sizes; what is estimated says so and has a margin.
"""

from collections.abc import Callable, Iterable, Iterator

from llamalab.analytic.activations import live_moments
from llamalab.analytic.fit_run import FitRun, check_run, pass_shape, passes
from llamalab.analytic.kernel_shapes import compiled_kernels
from llamalab.analytic.offload import on_device
from llamalab.analytic.pass_memory import Moment
from llamalab.analytic.runtimes import RUNTIMES, Runtime
from llamalab.analytic.scratch import Scratch
from llamalab.checks import whole
from llamalab.startup.hints import NamedTuple

_ACTIVATIONS = "activations"
LIVE_TENSORS = 16  # at the largest moment of a pass, each rounded up by the allocator

CompiledBytes = Callable[[FitRun, int, int], int]  # of kernels compiled until that moment of the pass of that context


class MemoryTerm(NamedTuple):
    """One part of what a run holds, and whether it is exact, estimated or measured."""

    term: str
    bytes: int
    basis: str
    note: str = ""


class Needs(NamedTuple):
    """Everything that a run holds on each device.

    `least_bytes` is what the run cannot do without: a library that gets no memory for a kernel, its code or its
    workspace leaves the work to a slower one.
    """

    terms: tuple[MemoryTerm, ...]
    margin_bytes: int
    least_bytes: int

    @property
    def total_bytes(self) -> int:
        """The sum of the terms."""
        return _sum(self.terms)

    @property
    def safe_bytes(self) -> int:
        """The memory in which the run is said to fit: the sum and its margin."""
        return self.total_bytes + self.margin_bytes

    def bytes_of(self, name: str) -> int:
        """Those of one term."""
        return _sum(term for term in self.terms if term.term == name)


def needs(
    run: FitRun,
    runtime: Runtime = RUNTIMES["cuda"],
    *,
    scratch: Scratch | None = None,
    kept: CompiledBytes | None = None,
    threads: int = 1,
) -> Needs:
    """What one device holds. Raises InputError for sizes that are none and ranks that cannot share the model.

    `scratch` is what kernels were measured to take, `kept` what their compiled code was (default: the runtime's bound
    for that many threads, and its size of a kernel for each).

    >>> from llamalab.presets import PRESETS
    >>> held = needs(FitRun(PRESETS["7b"].arch, 4096))
    >>> held.bytes_of("weights"), held.bytes_of("KV cache")
    (13476831232, 2147483648)
    """
    check_run(run)
    scratch = scratch or runtime.scratch(whole(threads, "threads"))
    moments = [one for new, context in passes(run) for one in _passing(run, new, context, runtime, scratch, kept)]
    always = (
        *_exact_terms(run),
        MemoryTerm("graphs", run.graphs * runtime.graph_bytes, "estimated"),
        MemoryTerm("device context", runtime.context_bytes, "estimated", runtime.name),
    )
    terms = (*always, *max(moments, key=_sum), MemoryTerm("library workspace", runtime.workspace_bytes, "estimated"))
    least = _sum(always) + max(_sum(one for one in terms if one.term == _ACTIVATIONS) for terms in moments)
    terms = tuple(term for term in terms if term.bytes)
    return Needs(terms, int(runtime.margin * _sum(terms)), least)


def _sum(terms: Iterable[MemoryTerm]) -> int:
    return sum(term.bytes for term in terms)


def _exact_terms(run: FitRun) -> tuple[MemoryTerm, ...]:
    stored, held = on_device(run)
    return (
        MemoryTerm("weights", stored, "exact", run.weight_dtype or run.dtype),
        MemoryTerm("KV cache", held.payload_bytes, "exact", run.kv_dtype or run.dtype),
        MemoryTerm("KV scales", held.scale_bytes, "exact"),
        MemoryTerm("KV blocks", held.rounding_bytes, "exact", f"sequences rounded up to {run.block_tokens} tokens"),
    )


def _passing(
    run: FitRun, new: int, context: int, runtime: Runtime, scratch: Scratch, kept: CompiledBytes | None
) -> Iterator[tuple[MemoryTerm, ...]]:
    """What each moment of a pass holds, with what was compiled up to then: later kernels take nothing from it."""
    phase = "decode" if new == 1 else "prefill" if new == context else "chunk"
    bound = 0 if kept else runtime.kernel_bytes * compiled_kernels(run, until=context)
    both = zip(_live(run, new, context, None), _live(run, new, context, scratch), strict=True)
    for moment, ((step, bare), (_, full)) in enumerate(both):
        waste = LIVE_TENSORS * runtime.rounding_bytes + int(runtime.fragmentation * full)
        kernels = kept(run, context, moment) if kept else bound
        yield (
            MemoryTerm(_ACTIVATIONS, bare, "exact", f"{step} of {phase}"),
            MemoryTerm("kernel scratch", full - bare, getattr(scratch, "basis", "estimated")),
            MemoryTerm("compiled kernels", kernels, "measured" if kept else "estimated", "one for each shape"),
            MemoryTerm("allocator", waste, "estimated", "rounding and fragmentation"),
        )


def _live(run: FitRun, new: int, context: int, scratch: Scratch | None) -> tuple[Moment, ...]:
    shape = pass_shape(run, new, context)
    if run.kv_dtype == "int4":  # no cache of the built-in model: what decoding it holds is not counted
        shape = shape._replace(kv_dtype=None)
    return live_moments(run.arch, shape, scratch)
