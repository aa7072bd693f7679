"""A run of any tool, as far as it can be compared: phases, each with its time, its samples and its operations."""

from typing import Any, NamedTuple


class OpTime(NamedTuple):
    """One operation of a phase over the whole model: `total_s` is the time of all occurrences together.

    `samples_s` are scaled to the same; `flops` and `bytes` are of all occurrences. Unknown values are None.
    """

    name: str
    total_s: float
    samples_s: tuple[float, ...] = ()
    flops: int | None = None
    bytes: int | None = None
    kernel: str | None = None
    gap_s: float | None = None


class RunPhase(NamedTuple):
    """One timed phase: a prefill, or a decode step, by `kind` ("other" for neither).

    `total_s` is the time of one pass: a prefill of `new_tokens` in each of `batch` sequences after cached tokens,
    or one token of each, the mean over contexts that end at `context_tokens`. `basis` is measured, extrapolated or
    predicted; `predicted_s` is a prediction contained in the file for a measured time. For a trace `calls` are the
    calls of attention in that time, one per block of a pass, and `blocks` those that ran where not all did.
    """

    name: str
    kind: str
    total_s: float
    samples_s: tuple[float, ...] = ()
    batch: int = 1
    new_tokens: int | None = None
    context_tokens: int | None = None
    ops: tuple[OpTime, ...] = ()
    clock_hz: int | None = None
    basis: str = "measured"
    predicted_s: float | None = None
    calls: int | None = None
    blocks: int | None = None

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens of all sequences per second; None where their number, or that of the passes, is unknown."""
        if self.calls is not None:
            return None
        return self.batch * self.new_tokens / self.total_s if self.new_tokens and self.total_s > 0 else None


def of_one_pass(phase: RunPhase, blocks: int) -> RunPhase:
    """A phase of a trace as a single pass, which calls attention once in each of `blocks`.

    Unchanged where its calls are not those of whole passes, or are unknown.

    >>> two = RunPhase("decode", "decode", 0.4, (0.4, 0.4), 1, 1, 9, calls=64)
    >>> of_one_pass(two, 32).total_s, of_one_pass(two, 40).calls
    (0.2, 64)
    """
    passes, rest = divmod(phase.calls or 0, blocks)
    if rest or not passes:
        return phase
    samples = tuple(sample / passes for sample in phase.samples_s)
    ops = tuple(
        op._replace(total_s=op.total_s / passes, samples_s=tuple(sample / passes for sample in op.samples_s))
        for op in phase.ops
    )
    return phase._replace(total_s=phase.total_s / passes, samples_s=samples, ops=ops, calls=None)


class Run(NamedTuple):
    """The content of one file or prediction. `settings` are shown where they differ; `tool` is what wrote it."""

    name: str
    tool: str
    phases: tuple[RunPhase, ...]
    settings: dict[str, Any]
    model: str | None = None
    device: str | None = None
    dtype: str | None = None
