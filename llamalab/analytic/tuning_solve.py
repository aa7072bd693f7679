"""The largest training step that fits into a device's memory, and changes with which a larger one would fit."""

from collections.abc import Callable, Iterator

from llamalab.analytic.fine_tuning import Held, tuning_memory
from llamalab.analytic.fit_solve import largest_count
from llamalab.analytic.training import RECOMPUTE
from llamalab.analytic.training_solve import step_too_large
from llamalab.analytic.tuned_weights import trained_parameters
from llamalab.analytic.tuning import Tuning
from llamalab.checks import MOST_MEMORY_BYTES, whole
from llamalab.errors import InputError

LARGEST = 2**20  # of batch and devices
SMALLER_STATES = ("adamw", "adamw-8bit", "adafactor")  # optimisers with smaller states that may replace AdamW


def check_tuning_fits(step: Tuning, memory_bytes: int, where: str) -> Held:
    """Memory of a device. Raises DoesNotFitError with the missing bytes and the changes that would fit."""
    held = tuning_memory(step)
    if held.safe_bytes > whole(memory_bytes, "memory_bytes", most=MOST_MEMORY_BYTES):
        changes = step_changes_that_fit(step, memory_bytes)
        raise step_too_large(held.total_bytes, held.margin.total_bytes, memory_bytes, where, changes)
    return held


def step_changes_that_fit(step: Tuning, memory_bytes: int) -> list[str]:
    """Single changes with which the step would fit, in words."""
    found = [words for words, changed in _changes(step) if changed != step and tuning_fits(changed, memory_bytes)]
    for words, solve in (("batch", largest_tuning_batch), ("context", largest_tuning_context)):
        if not (words == "context" and step.documents) and (value := solve(step, memory_bytes)):
            found.append(f"{words} {value:,}")
    sharded = step if step.zero else step._replace(zero=3)
    if devices := least_devices(sharded, memory_bytes):
        found.append(f"ZeRO {sharded.zero} over {devices:,} devices")
    return found


def _changes(step: Tuning) -> Iterator[tuple[str, Tuning]]:
    yield from ((f"{level} recomputation", step._replace(recompute=level)) for level in RECOMPUTE[1:])
    yield from ((name, step._replace(optimizer=name)) for name in SMALLER_STATES[1:] if step.optimizer == "adamw")
    yield from ((f"offload of {what}", step._replace(offload=what)) for what in ("optimizer", "weights"))


def tuning_fits(step: Tuning, memory_bytes: int) -> bool:
    """Whether a device's memory has room for the step and its margin."""
    return tuning_memory(step).safe_bytes <= whole(memory_bytes, "memory_bytes", most=MOST_MEMORY_BYTES)


def largest_tuning_batch(step: Tuning, memory_bytes: int) -> int:
    """Sequences a device and pass that fit; 0 where not one does."""
    return largest_count(lambda batch: tuning_fits(step._replace(batch=batch), memory_bytes), LARGEST)


def largest_tuning_context(step: Tuning, memory_bytes: int) -> int:
    """Tokens of a sequence that fit; 0 where not one does. Raises InputError for packed documents, which are given."""
    if step.documents:
        raise InputError("a context must be looked for without packed documents, whose lengths are given")
    return largest_count(lambda seq: tuning_fits(step._replace(seq=seq), memory_bytes))


def largest_rank(step: Tuning, memory_bytes: int) -> int:
    """The largest rank of adapters that fits; 0 where none does. Raises InputError where no adapter is trained."""
    if step.lora is None:
        raise InputError("a rank must be looked for with the method lora or qlora; got full")
    lora = step.lora

    def fits(rank: int) -> bool:
        try:
            return tuning_fits(step._replace(lora=lora._replace(rank=rank)), memory_bytes)
        except InputError:  # a rank below the size of the matrix
            return False

    trained_parameters(step._replace(lora=lora._replace(rank=1)))  # targets that the model lacks raise here
    return largest_count(fits)


def least_devices(step: Tuning, memory_bytes: int) -> int:
    """The fewest devices that ZeRO shares the step out to, a power of two; 0 where no number is enough.

    Raises InputError at stage 0, which shares nothing.
    """
    if not step.zero:
        raise InputError("devices must be looked for with a ZeRO stage from 1 to 3; got 0")
    counts = [2**power for power in range(LARGEST.bit_length())]
    return next((n for n in counts if tuning_fits(step._replace(data_parallel=n), memory_bytes)), 0)


def least_recompute(step: Tuning, memory_bytes: int) -> str | None:
    """The first of none, selective and full recomputation with which the step fits."""
    return _first(RECOMPUTE, lambda level: tuning_fits(step._replace(recompute=level), memory_bytes))


def widest_optimizer(step: Tuning, memory_bytes: int) -> str | None:
    """The first of AdamW, its 8-bit form and Adafactor with which the step fits."""
    return _first(SMALLER_STATES, lambda name: tuning_fits(step._replace(optimizer=name), memory_bytes))


def _first(words: tuple[str, ...], fits: Callable[[str], bool]) -> str | None:
    return next((word for word in words if fits(word)), None)


def solved_step(solve: str, step: Tuning, memory_bytes: int) -> Tuning:
    """The step with its solved setting; unchanged where nothing fits, so that its error states the missing bytes.

    Raises InputError for a setting that the step does not have.

    >>> from llamalab.presets import PRESETS
    >>> step = Tuning(PRESETS["7b"].arch, 4096, zero=3)
    >>> solved_step("devices", step, 80 * 10**9).data_parallel
    2
    """
    if solve == "batch":
        return step._replace(batch=largest_tuning_batch(step, memory_bytes) or step.batch)
    if solve == "context":
        return step._replace(seq=largest_tuning_context(step, memory_bytes) or step.seq)
    if solve == "rank":
        rank = largest_rank(step, memory_bytes)
        return step._replace(lora=step.lora._replace(rank=rank)) if rank and step.lora else step
    if solve == "devices":
        return step._replace(data_parallel=least_devices(step, memory_bytes) or step.data_parallel)
    if solve == "recompute":
        return step._replace(recompute=least_recompute(step, memory_bytes) or step.recompute)
    return step._replace(optimizer=widest_optimizer(step, memory_bytes) or step.optimizer)


STEP_QUESTIONS = ("batch", "context", "rank", "devices", "recompute", "optimizer")
