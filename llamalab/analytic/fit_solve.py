"""The largest run that fits into a memory, and changes with which a larger one would fit."""

from collections.abc import Callable

from llamalab.analytic.fit import Needs, needs
from llamalab.analytic.fit_run import FitRun
from llamalab.checks import MOST_COUNT, MOST_MEMORY_BYTES, whole
from llamalab.errors import DoesNotFitError, InputError
from llamalab.formatting import format_bytes

NARROWER = ("bf16", "int8", "int4")  # weight types to try, widest first
RANKS_TRIED = (1, 2, 4, 8, 16, 32, 64)  # devices to try
Holds = Callable[[FitRun], Needs]


def check_run_fits(run: FitRun, memory_bytes: int, holds: Holds = needs) -> Needs:
    """Memory of the run. Raises DoesNotFitError with the missing bytes and the changes that would fit."""
    memory_bytes = whole(memory_bytes, "memory_bytes", most=MOST_MEMORY_BYTES)
    held = holds(run)
    short = held.safe_bytes - memory_bytes
    if short <= 0:
        return held
    raise DoesNotFitError(
        f"{run.batch:,} × {run.context:,} tokens must fit: they hold {format_bytes(held.total_bytes)} "
        f"({format_bytes(held.least_bytes)} at least) and {format_bytes(held.margin_bytes)} of margin, "
        f"the memory is {format_bytes(memory_bytes)}, {format_bytes(short)} ({short:,} bytes) too little; "
        f"try {'; '.join(changes_that_fit(run, memory_bytes, holds))}"
    )


def changes_that_fit(run: FitRun, memory_bytes: int, holds: Holds = needs) -> list[str]:
    """Single changes with which the run would fit, in words; the nearest one where none does."""
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
    if run.ranks == 1 and run.gpu_layers != (layers := _some_layers(run, memory_bytes, holds)) and layers:
        found.append(f"{layers} of {run.arch.n_layers} layers here (--gpu-layers)")
    if run.gpu_layers is None and (ranks := least_ranks(run, memory_bytes, holds)):
        found.append(f"{ranks} devices")
    return [words for words in found if words] or ["a smaller model or more memory: no single change is enough"]


def _some_layers(run: FitRun, memory_bytes: int, holds: Holds) -> int:
    try:
        return most_gpu_layers(run, memory_bytes, holds)
    except InputError:  # a file without sizes of layers
        return 0


def _shown(words: str, value: int) -> str:
    return words if value else ""


def _fits(run: FitRun, memory_bytes: int, holds: Holds) -> bool:
    return holds(run).safe_bytes <= whole(memory_bytes, "memory_bytes", most=MOST_MEMORY_BYTES)


def largest_batch(run: FitRun, memory_bytes: int, holds: Holds = needs) -> int:
    """Sequences of the run's context that fit; 0 where not one does."""
    return largest_count(lambda batch: _fits(run._replace(batch=batch), memory_bytes, holds))


def largest_context(run: FitRun, memory_bytes: int, holds: Holds = needs) -> int:
    """Tokens that each of the run's sequences can have; 0 where not one does. A prompt is cut to the context."""
    return largest_count(lambda context: _fits(run._replace(context=context), memory_bytes, holds))


def widest_weights(run: FitRun, memory_bytes: int, holds: Holds = needs) -> str | None:
    """The first of bf16, int8 and int4 with which the run fits."""
    return next((kind for kind in NARROWER if _fits(run._replace(weight_dtype=kind), memory_bytes, holds)), None)


def most_gpu_layers(run: FitRun, memory_bytes: int, holds: Holds = needs) -> int:
    """The most of a model's last layers that fit with their cache; 0 where none does."""
    counts = range(run.arch.n_layers, -1, -1)
    return next((n for n in counts if _fits(run._replace(gpu_layers=n), memory_bytes, holds)), 0)


def least_ranks(run: FitRun, memory_bytes: int, holds: Holds = needs) -> int | None:
    """The fewest devices, of those that can share the model, on which the run fits."""
    memory_bytes = whole(memory_bytes, "memory_bytes", most=MOST_MEMORY_BYTES)
    for ranks in RANKS_TRIED:
        try:
            if _fits(run._replace(ranks=ranks), memory_bytes, holds):
                return ranks
        except InputError:  # these ranks cannot share this model
            continue
    return None


def largest_count(fits: Callable[[int], bool], most: int = MOST_COUNT) -> int:
    """The largest count that fits, where a smaller one always does: doubled, then halved; 0 where 1 does not.

    >>> largest_count(lambda n: n <= 1000), largest_count(lambda n: False)
    (1000, 0)
    """
    if not fits(1):
        return 0
    low, high = 1, 2
    while high < most and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
