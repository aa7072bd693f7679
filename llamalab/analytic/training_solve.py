"""The largest step of AdamW that fits into a device's memory, and what to change where one does not."""

from collections.abc import Callable, Iterable, Iterator

from llamalab.analytic.fit_solve import RANKS_TRIED, largest_count
from llamalab.analytic.parallel import shard
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.training import RECOMPUTE, TrainingMemory, training_memory
from llamalab.arch import LlamaArch
from llamalab.checks import MOST_MEMORY_BYTES, whole
from llamalab.errors import DoesNotFitError, InputError
from llamalab.formatting import format_bytes
from llamalab.startup.hints import Any, NamedTuple

TRAINING_QUESTIONS = ("batch", "context", "weights", "ranks", "recompute", "device")
WIDEST_FIRST = ("fp32", "bf16")  # types of a step to try


class TrainingStep(NamedTuple):
    """A step whose memory is asked for, as training_memory takes it."""

    arch: LlamaArch
    shape: PassShape
    recompute: str = "none"
    implementation: str = "llamalab"
    documents: tuple[int, ...] = ()

    @property
    def memory(self) -> TrainingMemory:
        """What one rank holds."""
        return training_memory(
            self.arch,
            self.shape,
            recompute=self.recompute,
            implementation=self.implementation,
            documents=self.documents,
        )

    def of(self, **shape: Any) -> "TrainingStep":
        """The step with another batch, length, dtype or number of ranks."""
        return self._replace(shape=self.shape._replace(**shape))


def solved_training(solve: str, step: TrainingStep, memory_bytes: int) -> TrainingStep:
    """The step with the answer in it; as it was asked where nothing fits, so that the refusal says by how much.

    Raises InputError for a context of packed documents, whose lengths are given.

    >>> from llamalab.presets import PRESETS
    >>> step = TrainingStep(PRESETS["7b"].arch, PassShape(new_tokens=4096))
    >>> solved_training("ranks", step, 80 * 10**9).shape.tensor_parallel
    2
    """
    if solve == "context" and step.documents:
        raise InputError("a context must be looked for without packed documents, whose lengths are given")
    answers = {
        "batch": lambda: _largest(lambda count: step.of(batch=count), memory_bytes),
        "context": lambda: _largest(lambda count: step.of(new_tokens=count), memory_bytes),
        "weights": lambda: _first((step.of(dtype=kind) for kind in WIDEST_FIRST), memory_bytes),
        "ranks": lambda: _first(_shared(step), memory_bytes),
        "recompute": lambda: _first((step._replace(recompute=level) for level in RECOMPUTE), memory_bytes),
    }
    return answers[solve]() or step


def _fits(step: TrainingStep, memory_bytes: int) -> bool:
    return step.memory.safe_bytes <= whole(memory_bytes, "memory_bytes", most=MOST_MEMORY_BYTES)


def _largest(of: Callable[[int], TrainingStep], memory_bytes: int) -> TrainingStep | None:
    count = largest_count(lambda count: _fits(of(count), memory_bytes))
    return of(count) if count else None


def _first(steps: Iterable[TrainingStep], memory_bytes: int) -> TrainingStep | None:
    return next((step for step in steps if _fits(step, memory_bytes)), None)


def _shared(step: TrainingStep) -> Iterator[TrainingStep]:
    """The step on every number of devices that can share the model."""
    for ranks in RANKS_TRIED:
        try:
            shard(step.arch, ranks)
        except InputError:  # these ranks cannot share this model
            continue
        yield step.of(tensor_parallel=ranks)


def check_training_fits(step: TrainingStep, memory_bytes: int, where: str) -> None:
    """Raises DoesNotFitError with the missing bytes and with what would fit."""
    if not _fits(step, memory_bytes):
        held, changes = step.memory, training_changes_that_fit(step, memory_bytes)
        raise step_too_large(held.total_bytes, held.margin.total_bytes, memory_bytes, where, changes)


def step_too_large(
    held_bytes: int, margin_bytes: int, memory_bytes: int, where: str, changes: list[str]
) -> DoesNotFitError:
    """The refusal of a step, with the missing bytes and single changes with which it would fit."""
    short = held_bytes + margin_bytes - memory_bytes
    found = changes or ["a smaller model, QLoRA (llamalab tune) or more memory: no single change is enough"]
    return DoesNotFitError(
        f"the step must fit into {where}: it holds {format_bytes(held_bytes)} and needs "
        f"{format_bytes(margin_bytes)} of margin in {format_bytes(memory_bytes)}, {format_bytes(short)} "
        f"({short:,} bytes) too much; try {'; '.join(found)}"
    )


def training_changes_that_fit(step: TrainingStep, memory_bytes: int) -> list[str]:
    """Single changes with which a step that does not fit would, in words."""
    levels = (step._replace(recompute=level) for level in RECOMPUTE[1:])
    found = [f"{one.recompute} recomputation" for one in levels if _fits(one, memory_bytes)]
    for solve in ("batch", "context", "ranks"):
        changed = step if solve == "context" and step.documents else solved_training(solve, step, memory_bytes)
        if changed != step:
            found.append(_changed_words(solve, changed.shape))
    return found


def _changed_words(solve: str, shape: PassShape) -> str:
    return {
        "batch": f"batch {shape.batch:,}",
        "context": f"context {shape.new_tokens:,}",
        "ranks": f"{shape.tensor_parallel} devices",
    }[solve]
