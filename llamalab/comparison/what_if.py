"""Predicted effects of changes: another device, or other settings on this one.

The workload is a prompt as long as the measured one, and GENERATED tokens after it. On other devices it is predicted
with shipped constants (llamalab.analytic.shipped_constants). On this one each change is an edit of the cost table,
predicted with the basis of the record: the time it saves is predicted, not measured.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from llamalab.analytic.constants import choose
from llamalab.analytic.forecast import Forecast, Times, forecast
from llamalab.analytic.kept_weights import model_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.stack_constants import prepared
from llamalab.analytic.stacks import assumed_stack
from llamalab.analytic.workload import Workload, decode_contexts
from llamalab.arch import LlamaArch, attention_kind
from llamalab.comparison.basis import RecordBasis
from llamalab.comparison.comparison import Comparison
from llamalab.errors import DoesNotFitError, InputError, UnavailableError
from llamalab.hardware import HARDWARE, HardwareSpec
from llamalab.startup.hints import NamedTuple
from llamalab.units import KeptWeights

GENERATED = 128
RANKS = (1, 2, 4, 8)
BATCH = 8
GROUP = 4  # query heads per KV head in the GQA variant
LEAST_SAVING = 0.005  # share of the run below which a change is not listed


class Elsewhere(NamedTuple):
    """The run on the fewest devices of a kind that hold it, or the reason why it is not predicted."""

    spec: HardwareSpec
    ranks: int | None
    times: Times | None
    interval_s: tuple[float, float] | None
    basis: str
    reason: str | None = None


class Change(NamedTuple):
    """One change: seconds of the run per sequence with it, and its requirement."""

    what: str
    needs: str
    saved_s: float
    total_s: float
    basis: str | None = None  # where it differs from that of the other predictions of this machine

    @property
    def share(self) -> float:
        """Share of the unchanged run's time."""
        return self.saved_s / (self.saved_s + self.total_s)


def predicted_workload(comparison: Comparison) -> Workload:
    """The predicted workload: the longest measured prompt, one sequence, and the tokens asked for, or GENERATED."""
    prompts = [phase.run.new_tokens for phase in comparison.phases if phase.run.new_tokens > 1]
    generate = comparison.record.generate_tokens or GENERATED
    record = comparison.record
    return Workload(
        max(prompts, default=1),
        generate,
        dtype=record.dtype,
        weight_dtype=record.weight_dtype,
        kv_dtype=record.kv_dtype,
    )


def elsewhere(
    arch: LlamaArch, work: Workload, stack: str | None = None, *, names: Iterable[str] = HARDWARE
) -> list[Elsewhere]:
    """The run on every device of the table, or on those named, the fastest first, then those without a prediction.

    `stack` is the software that runs it (default: the usual one of each device).
    """
    rows = [_on(arch, work, spec, stack) for spec in map(HARDWARE.__getitem__, names)]
    return sorted(rows, key=lambda row: row.times.total_s if row.times else float("inf"))


def forecast_on(
    arch: LlamaArch, work: Workload, spec: HardwareSpec, stack: str | None = None
) -> tuple[Workload, Forecast] | None:
    """The workload on the fewest devices that hold it, and its forecast; None where it is not predicted."""
    for ranks in RANKS:
        try:
            return _forecast(arch, work._replace(tensor_parallel=ranks), spec, stack)
        except DoesNotFitError:
            continue
        except (UnavailableError, InputError):
            break
    return None


def _on(arch: LlamaArch, work: Workload, spec: HardwareSpec, stack: str | None) -> Elsewhere:
    reason, dtype = "", work.dtype
    if dtype == "bf16" and spec.peak_flops_per_s.get(dtype) is None:
        dtype = "fp16"  # the 16-bit type of older devices
    for ranks in RANKS:
        try:
            _, found = _forecast(arch, work._replace(tensor_parallel=ranks, dtype=dtype), spec, stack)
        except DoesNotFitError:
            reason = f"does not fit on {ranks}"
            continue
        except (UnavailableError, InputError) as error:
            return Elsewhere(spec, ranks=None, times=None, interval_s=None, basis="", reason=reason or str(error))
        low, high = found.interval
        basis = found.basis if dtype == work.dtype else f"{found.basis}, in {dtype}"
        return Elsewhere(spec, ranks, found.times, (low, high or low), basis)
    return Elsewhere(spec, ranks=None, times=None, interval_s=None, basis="", reason=reason)


def _forecast(arch: LlamaArch, work: Workload, spec: HardwareSpec, stack: str | None) -> tuple[Workload, Forecast]:
    name = stack or assumed_stack(spec)
    if name is None:
        return work, forecast(arch, work, spec, choose(spec, "shipped", work.dtype, work.weight_dtype))
    run, constants = prepared(spec, work, name)
    return run, forecast(arch, run, spec, constants)


def changes(comparison: Comparison) -> list[Change]:
    """Changes that are predicted to save time here, the most first; empty where the run itself is not predicted."""
    work, run = predicted_workload(comparison), as_measured(comparison)
    now_s = run_s(comparison.basis, comparison.arch, work, run)
    if now_s is None:
        return []
    found = []
    for what, needs, arch, changed, batch in _candidates(comparison.arch, work, run, comparison.record.kept):
        total_s = run_s(comparison.basis, arch, work._replace(batch=batch), changed)
        if total_s is not None and now_s - total_s / batch > LEAST_SAVING * now_s:
            found.append(Change(what, needs, now_s - total_s / batch, total_s / batch))
    return sorted(found, key=lambda change: -change.saved_s)


def actions(comparison: Comparison, rows: Sequence[Elsewhere]) -> list[Change]:
    """All that would shorten the run, the most first: changes, other kernels, more threads, and the fastest device."""
    now_s = run_s(comparison.basis, comparison.arch, predicted_workload(comparison), as_measured(comparison))
    if now_s is None:
        return []
    others = [_other_kernel(comparison, now_s), _more_threads(comparison, now_s), _best_device(rows, now_s)]
    found = [*changes(comparison), *(one for one in others if one and one.saved_s > LEAST_SAVING * now_s)]
    return sorted(found, key=lambda change: -change.saved_s)


def _other_kernel(comparison: Comparison, now_s: float) -> Change | None:
    """The backend that was measured to be faster than the model's at the prompt of the run."""
    prompt, ran = predicted_workload(comparison).prompt, comparison.record.passes[0].attention
    known = {
        row.point.backend: row.measured_s
        for row in comparison.attention
        if row.point.new_tokens == row.point.context_tokens == prompt and row.point.batch == 1 and row.measured_s
    }
    if ran not in known or len(known) < 2:
        return None
    best = min(known, key=lambda name: known[name])
    saved_s = comparison.arch.n_layers * (known[ran] - known[best])
    return Change(f"{best} in place of {ran} attention", "nothing else", saved_s, now_s - saved_s, "measured calls")


def _more_threads(comparison: Comparison, now_s: float) -> Change | None:
    """Twice the threads: twice the rate of arithmetic, the same bandwidth."""
    environment, basis = comparison.record.environment, comparison.basis
    if environment.device != "cpu":
        return None
    roofs = [
        replace(roof, per_second=2 * roof.per_second)
        if roof.kind in ("gemm", "attention") and roof.per_second
        else roof
        for roof in comparison.record.roofs
    ]
    constants = basis.constants
    if constants is not None:
        rates = {
            name: one._replace(peak_flops_per_s=2 * one.peak_flops_per_s) if one.peak_flops_per_s else one
            for name, one in constants.rates.items()
        }
        constants = constants._replace(rates=rates)
    faster = RecordBasis(replace(comparison.record, roofs=roofs), constants)
    total_s = run_s(faster, comparison.arch, predicted_workload(comparison), as_measured(comparison))
    if total_s is None:
        return None
    needs = "as many free cores; what memory limits stays as it is"
    return Change(f"{2 * environment.threads} threads", needs, now_s - total_s, total_s)


def _best_device(rows: Sequence[Elsewhere], now_s: float) -> Change | None:
    """The fastest of the devices that hold the model on one device."""
    best = next((row for row in rows if row.times and row.ranks == 1), None)
    if best is None or best.times is None:
        return None
    return Change(f"{best.spec.name}", "another device", now_s - best.times.total_s, best.times.total_s, best.basis)


def run_s(basis: RecordBasis, arch: LlamaArch, work: Workload, shape: PassShape) -> float | None:
    """Seconds of the run on the record's machine, in a shape's formats; None where an operation has no prediction.

    Where the shape has no weight dtype, weights are in the storage of the record.
    """
    kept = basis.record.kept if shape.weight_dtype is None else None
    passes = [(1.0, work.prompt, work.prompt)]
    passes += [(weight * (work.generate - 1), 1, context) for weight, context in decode_contexts(work)]
    total_s = 0.0
    for times, new, context in passes:
        ops = model_ops(arch, shape._replace(new_tokens=new, context_tokens=context, batch=work.batch), kept)
        pass_s = basis.pass_s(ops, work.dtype)
        if pass_s is None:
            return None
        total_s += times * pass_s
    return total_s


def as_measured(comparison: Comparison) -> PassShape:
    """The number formats of the last measured pass, as the shape of one token on one rank."""
    run = comparison.record.passes[-1]
    return PassShape(new_tokens=1, dtype=run.dtype, kv_dtype=run.kv_dtype, attention=run.algorithm)


def _candidates(
    arch: LlamaArch, work: Workload, run: PassShape, kept: KeptWeights | None
) -> list[tuple[str, str, LlamaArch, PassShape, int]]:
    found: list[tuple[str, str, LlamaArch, PassShape, int]] = [
        ("fp8 KV cache", "an attention kernel that reads it", arch, run._replace(kv_dtype="fp8"), 1),
        (f"batch of {BATCH}", "as many sequences; saving per sequence", arch, run, BATCH),
    ]
    if kept is None:  # the kernels of quantised weights have constants of their own
        found += [
            ("int4 weights", "a product that widens them as it reads", arch, run._replace(weight_dtype="int4"), 1),
            ("int8 weights", "a product that widens them as it reads", arch, run._replace(weight_dtype="int8"), 1),
            ("fused operations", "one product for Q, K, V, one for gate and up", arch, run._replace(fused=True), 1),
        ]
    if run.attention == "naive":
        found.append(
            (
                "flash in place of naive attention",
                "attention by a fused kernel",
                arch,
                run._replace(attention="flash"),
                1,
            )
        )
    if arch.n_kv_heads == arch.n_heads and arch.n_heads % GROUP == 0:
        heads = arch.n_heads // GROUP
        kind = attention_kind(arch.n_heads, heads)
        found.append((f"{kind}, {heads} KV heads", "a model trained with it", arch.replace(n_kv_heads=heads), run, 1))
    return found
