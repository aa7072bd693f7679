"""The basis of the numbers: versions, settings, the command, and the formulas with numbers substituted."""

from llamalab.analytic.roofline import moved_bytes
from llamalab.comparison.basis import rates_of
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.passes import Phase, Row
from llamalab.comparison.wording import blocks, short, tokens_per_s
from llamalab.formatting import format_bytes, format_si
from llamalab.records.environment import Environment
from llamalab.records.phase_profile import Telemetry
from llamalab.units import dtype_bits

_PLAIN = {
    "clock_hz": "clock",
    "memory_clock_hz": "memory clock",
    "power_w": "power",
    "temperature_c": "temperature",
    "throttle_reasons": "throttling",
    "load_average": "load",
}


def facts(comparison: Comparison) -> list[tuple[str, str]]:
    """Names and values of the environment, the duration of the run and its workload."""
    took = [("Took", f"{comparison.record.elapsed_s:.0f} s")]
    runs = [(f"{phase.run.phase.capitalize()} ran", ran(phase)) for phase in comparison.phases]
    return [*surroundings(comparison.record.environment), *took, *runs]


def surroundings(env: Environment) -> list[tuple[str, str]]:
    """Names and values of the environment; unknown ones are left out or have their reason."""
    revision = (
        f"{env.git_revision}{', with uncommitted changes' if env.git_dirty else ''}" if env.git_revision else None
    )
    pairs = [
        ("Command", env.command),
        ("Started", env.started_at),
        ("Device", f"{env.device_name} ({env.device}), {format_bytes(env.memory_bytes)}"),
        ("Threads", f"{env.threads} within an operation, {env.interop_threads} between"),
        ("Versions", f"llamalab {env.llamalab}, torch {env.torch}, Python {env.python}"),
        ("CUDA", env.cuda and f"{env.cuda}, driver {env.driver or 'unknown'}, cuDNN {env.cudnn or 'unknown'}"),
        ("System", env.os),
        ("Source", revision),
        ("Before", telemetry(env.before)),
        ("After", telemetry(env.after)),
    ]
    return [(name, value) for name, value in pairs if value]


def ran(phase: Phase) -> str:
    """The measured work of a phase, and its repetitions."""
    run = phase.run
    rounds = max((len(part.samples_s) for part in run.parts), default=0)
    tokens = "1 new token" if run.new_tokens == 1 else f"{run.new_tokens:,} new tokens"
    products = f"{run.product} products, " if run.product else ""
    words = (
        f"{tokens} in a context of {run.context_tokens:,}, batch {run.batch}, {run.dtype}, "
        f"attention {run.attention} ({run.kernel or 'in steps'}), {products}{blocks(phase)}, {rounds} rounds"
    )
    if run.observer_ratio is None:
        return words
    return f"{words}; timing op by op takes {run.observer_ratio:.2f}x the clean pass"


def telemetry(state: Telemetry | None) -> str | None:
    """Clocks, power, temperature and load; with the reason where one is missing."""
    if state is None:
        return None
    shown = [
        ("clock", state.clock_hz and format_si(state.clock_hz, "Hz")),
        ("memory clock", state.memory_clock_hz and format_si(state.memory_clock_hz, "Hz")),
        ("power", state.power_w is not None and f"{state.power_w:.0f} W"),
        ("temperature", state.temperature_c is not None and f"{state.temperature_c:.0f} °C"),
        ("load", state.load_average is not None and f"{state.load_average:.2f}"),
    ]
    words = [f"{name} {value}" for name, value in shown if value]
    if state.throttle_reasons is not None:
        words.append(f"throttled: {', '.join(state.throttle_reasons) or 'no'}")
    reasons: dict[str, list[str]] = {}
    for name, why in sorted(state.missing.items()):
        reasons.setdefault(why, []).append(_PLAIN.get(name, name))
    unknown = [f"{', '.join(names)}: {why}" for why, names in reasons.items()]
    return "; ".join([*([", ".join(words)] if words else []), *unknown]) or None


def formulas(comparison: Comparison) -> list[tuple[str, str]]:
    """Each formula with this run's numbers substituted."""
    arch, dtype, seq = comparison.arch, comparison.record.dtype, comparison.arch.max_positions
    embeddings = 1 if arch.tied_embeddings else 2
    pairs = [
        (
            "Parameters",
            f"{embeddings}·{arch.vocab_size}·{arch.dim} + {arch.n_layers}·(2·{arch.dim}² + 2·{arch.dim}·{arch.kv_dim} "
            f"+ 3·{arch.dim}·{arch.ffn_dim} + 2·{arch.dim}) + {arch.dim} = {comparison.parameters.expected:,}",
        ),
        (
            "KV cache",
            f"2 (K, V) · {arch.n_layers} layers · {arch.n_kv_heads} KV heads · {arch.head_dim} · {seq:,} tokens · "
            f"{dtype_bits(dtype) // 8} B = {comparison.kv_bytes_per_sequence:,} B per sequence",
        ),
    ]
    for phase in comparison.phases:
        pairs += _phase_formulas(comparison, phase)
    return pairs


def _phase_formulas(comparison: Comparison, phase: Phase) -> list[tuple[str, str]]:
    name, terms = phase.run.phase, []
    for part in phase.run.parts:
        times = f"{part.count} · " if part.count > 1 else ""
        terms.append(f"{times}{format_si(part.median_s, 's')} ({part.name})")
    speed = (
        f"{phase.tokens:,} tok / ({' + '.join(terms)}) = {phase.tokens:,} tok / {format_si(phase.measured_s, 's')} "
        f"= {tokens_per_s(phase.measured_tokens_per_s)}"
    )
    pairs = [(f"Speed of {name}", speed)]
    slowest = max(
        (row for row in phase.rows if row.prediction),
        key=lambda row: row.op.count * (row.predicted_s or 0.0),
        default=None,
    )
    if slowest is None:
        return pairs
    return [*pairs, (f"Prediction of {short(slowest.op.name)} in {name}", _prediction(comparison, slowest))]


def _prediction(comparison: Comparison, row: Row) -> str:
    """The formula of one predicted time with its numbers: the rates of the constants, or else of the roofs."""
    constants, record = comparison.basis.calibrated(row.op), comparison.record
    rates = constants or rates_of(record, row.op, record.dtype)
    assert not isinstance(rates, str)  # there is a prediction
    compute, memory = (f"{share:.2f} · " if constants else "" for share in rates[3:5])
    work = [f"{format_si(moved_bytes(row.op), 'B')} / {_of(memory, format_si(rates.bandwidth_bytes_per_s, 'B/s'))}"]
    if rates.peak_flops_per_s:
        peak = format_si(rates.peak_flops_per_s, "FLOP/s")
        work.insert(0, f"{format_si(row.op.flops_causal, 'FLOP')} / {_of(compute, peak)}")
    largest = f"soft maximum (q = {rates.q:.2f}) of " if constants and len(work) > 1 else "max"
    return f"{format_si(rates.t0_s, 's')} + {largest}({', '.join(work)}) = {format_si(row.predicted_s or 0.0, 's')}"


def _of(share: str, rate: str) -> str:
    return f"({share}{rate})" if share else rate
