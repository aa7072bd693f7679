"""The time of a whole run: a prompt, then token after token over a growing context.

    total = prefill + (G - 1) * mean of decode(P + 1 .. P + G - 1)

The prefill gives the first of G tokens; each later one is a decode step whose context counts the new
token. With shipped constants the host's part is in both: once per request, and per sequence and token.
Only attention depends on the context, and its time is all but linear in it, so the mean over the run
is Simpson's rule over the first, the middle and the last step, not a loop over tokens.

Nothing is predicted for a run that does not fit: weights, KV cache of the whole run and the largest
activations of a pass, per rank, must fit into the memory of the device.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from llamalab.analytic.ops import Op
from llamalab.analytic.rate_constants import Host
from llamalab.analytic.roofline import Rates, moved_bytes, rates_of_op, soft_maximum
from llamalab.analytic.run_memory import RunMemory, check_memory, weight_and_cache_bytes
from llamalab.analytic.workload import Workload, decode_contexts, last_part, pass_ops, prompt_parts
from llamalab.arch import LlamaArch
from llamalab.errors import UnavailableError
from llamalab.hardware import HardwareSpec
from llamalab.startup.hints import NamedTuple, Protocol

NO_HOST = Host()


class Basis(Protocol):
    """What a prediction rests on: constants of a device (rate_constants) or of a stack (stack_constants)."""

    @property
    def rates(self) -> Mapping[str, Rates]:
        """Constants by class of operation."""

    @property
    def basis(self) -> str:
        """In a few words."""

    @property
    def host(self) -> Host:
        """What the host adds."""

    def interval(self, time_s: float, bound_s: float) -> tuple[float, float | None]:
        """Low and high end of a predicted time."""


class Times(NamedTuple):
    """Seconds of a run; `decode_s_per_token` is the mean over the run, None where one token is generated."""

    prefill_s: float
    decode_s_per_token: float | None
    total_s: float
    tokens_per_s: float


class Forecast(NamedTuple):
    """Predicted and bounding times of a run, the basis, and the passes behind them.

    `interval` is the low and high end of total_s, never below the bound; high is None for a bound.
    `decode_ops` are those of the middle step, empty where one token is generated.
    """

    times: Times
    bound: Times
    basis: str
    interval: tuple[float, float | None]
    memory: RunMemory
    prefill_ops: tuple[Op, ...]
    decode_ops: tuple[Op, ...]
    constants: Basis


def forecast(arch: LlamaArch, work: Workload, spec: HardwareSpec, constants: Basis) -> Forecast:
    """Predict a run. Raises DoesNotFitError, by how much; UnavailableError for ranks without a link.

    >>> from llamalab.analytic.constants import choose
    >>> from llamalab.hardware import find_hardware
    >>> from llamalab.presets import PRESETS
    >>> spec, run = find_hardware("h200"), Workload(2048)
    >>> round(1e3 * forecast(PRESETS["7b"].arch, run, spec, choose(spec, "bound", "bf16")).times.prefill_s, 1)
    28.3
    """
    memory = check_memory(arch, work, spec)
    check_link(work.tensor_parallel, spec, constants)
    times = run_times(arch, work, constants.rates, constants.host)
    bound = bound_times(arch, work, constants.rates, spec.l2_bytes)
    interval = constants.interval(times.total_s, bound.total_s)
    prefill = pass_ops(arch, work, *last_part(work))
    steps = decode_contexts(work)
    middle = pass_ops(arch, work, 1, steps[1][1]) if steps else ()
    return Forecast(times, bound, constants.basis, interval, memory, prefill, middle, constants)


def run_times(arch: LlamaArch, work: Workload, rates: Mapping[str, Rates], host: Host = NO_HOST) -> Times:
    """Seconds of a run at given rates and the host's cost; no check of memory."""
    token_s, seconds = work.batch * host.sequence_s, PassSeconds(partial(_op_s, rates))
    passes_s = sum(times * held_pass_s(arch, work, new, seen, seconds) for times, new, seen in prompt_parts(work))
    prefill_s = passes_s + host.request_s + token_s
    steps = decode_contexts(work)
    step_s = token_s + host.step_s
    decode_s = sum(weight * (held_pass_s(arch, work, 1, context, seconds) + step_s) for weight, context in steps)
    total_s = prefill_s + (work.generate - 1) * decode_s
    tokens = work.batch * work.generate
    return Times(prefill_s, decode_s if steps else None, total_s, tokens / total_s)


def bound_times(arch: LlamaArch, work: Workload, rates: Mapping[str, Rates], cache_bytes: int | None) -> Times:
    """What physics allows: fused kernels at the peaks that `rates` are told of, without fixed times and host.

    Activations that fit into the last-level cache are not charged to the memory, nor is anything where weights and
    KV cache fit too: how fast a cache is no data sheet tells, so that arithmetic alone bounds them.
    """
    cache = cache_bytes or 0
    run = work._replace(fused=True, attention="flash", chunk=None, unpack_rows=None)
    resident = sum(weight_and_cache_bytes(arch, run)) <= cache
    passes = PassSeconds(lambda op: bound_seconds(op, rates_of_op(op, rates), cache, resident))

    def seconds(new_tokens: int, context_tokens: int) -> float:
        return passes(pass_ops(arch, run, new_tokens, context_tokens))

    prefill_s = seconds(work.prompt, work.prompt)
    steps = decode_contexts(work)
    decode_s = sum(weight * seconds(1, context) for weight, context in steps)
    total_s = prefill_s + (work.generate - 1) * decode_s
    return Times(prefill_s, decode_s if steps else None, total_s, work.batch * work.generate / total_s)


def bound_seconds(op: Op, rates: Rates, cache_bytes: int, resident: bool) -> float:
    """The least time of one occurrence; `resident`: whether weights and KV cache fit into the last-level cache."""
    moved = moved_bytes(op)
    if op.kind != "collective":
        activations = moved - op.weight_bytes
        if resident:
            moved = 0
        elif op.kind != "attention" and activations <= cache_bytes:  # keys come from memory: weights passed between
            moved = op.weight_bytes
    compute_s = op.flops_causal / rates.peak_flops_per_s if rates.peak_flops_per_s else 0.0
    return max(compute_s, moved / rates.bandwidth_bytes_per_s)


def held_pass_s(arch: LlamaArch, work: Workload, new_tokens: int, context_tokens: int, seconds: "PassSeconds") -> float:
    """Seconds of one pass, not less than one of its tokens takes alone, nor one of its sequences.

    A single row, and a few, run in kernels of their own, whose constants are fitted apart: without the floor two
    tokens could come out faster than one, in one sequence or in two.
    """
    batches, tokens = {work.batch, 1}, {new_tokens, 1}
    runs = [work if batch == work.batch else work._replace(batch=batch) for batch in batches]
    return max(seconds(pass_ops(arch, run, new, context_tokens)) for run in runs for new in tokens)


class PassSeconds:
    """Seconds of passes by what one occurrence of a row takes; rows that passes share, as steps do, are asked once."""

    def __init__(self, op_s: Callable[[Op], float]) -> None:
        self._op_s = op_s
        self._known: dict[int, tuple[Op, float]] = {}  # the row is held, so that its number stays its own

    def __call__(self, ops: Iterable[Op]) -> float:
        """Seconds of a pass. Raises UnavailableError where an operation has no constants."""
        total_s, known = 0.0, self._known
        for op in ops:
            found = known.get(id(op))
            if found is None:
                found = known[id(op)] = op, op.count * self._op_s(op)
            total_s += found[1]
        return total_s


def pass_s(ops: Iterable[Op], rates: Mapping[str, Rates]) -> float:
    """Seconds of one pass: what total_s(ops, predict_pass(ops, rates)) gives, without the table."""
    return PassSeconds(partial(_op_s, rates))(ops)


def _op_s(rates: Mapping[str, Rates], op: Op) -> float:
    peak, bandwidth, t0, compute, memory, q = rates_of_op(op, rates)
    compute_s = op.flops_causal / (peak * compute) if peak else 0.0
    return t0 + soft_maximum(compute_s, moved_bytes(op) / (bandwidth * memory), q)


def check_link(ranks: int, spec: HardwareSpec, constants: Basis) -> None:
    """Raises UnavailableError where several ranks of one model have no known link, or no constants for it."""
    if ranks == 1:
        return
    if not spec.interconnect_bytes_per_s and not (spec.measured and "collective" in constants.rates):
        raise UnavailableError(
            f"devices that share a model must have a known interconnect; {spec.name} has none",
            hint="use {tensor_parallel} 1",
        )
    if "collective" not in constants.rates:
        raise UnavailableError(
            f"devices that share a model must have constants for collectives; those {constants.basis} have none, one "
            "device has no link",
            hint="use {tensor_parallel} 1 or {basis} shipped",
        )
