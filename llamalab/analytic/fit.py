"""The memory of a run on one device, term by term.

A run fills a cache of `context` tokens for each of `batch` sequences: the prompt in passes of at most `chunk` tokens a
sequence, then token by token. Exact terms follow from sizes; estimated ones are marked and have a margin.
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
LIVE_TENSORS = 16  # live tensors at the largest moment of a pass, each rounded up by the allocator

CompiledBytes = Callable[[FitRun, int, int], int]  # kernels compiled until that moment of the pass


class MemoryTerm(NamedTuple):
    """One term of a run's memory, and whether it is exact, estimated or measured."""

    term: str
    bytes: int
    basis: str
    note: str = ""


class Needs(NamedTuple):
    """All memory of a run on each device.

    `least_bytes` is the minimum: a library without memory for a kernel's code or workspace falls back to a slower
    kernel.
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
        """The memory in which the run is stated to fit: the sum and its margin."""
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
    """Memory of one device. Raises InputError for invalid sizes and for ranks that cannot share the model.

    `scratch` is measured scratch memory of kernels, `kept` that of compiled code (default: the runtime's bound
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
    """Bytes at each moment of a pass, including kernels compiled so far; later kernels are not part of it."""
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
    if run.kv_dtype == "int4":  # storage without a cache of the built-in model: bytes of decoding it are not counted
        shape = shape._replace(kv_dtype=None)
    return live_moments(run.arch, shape, scratch)
