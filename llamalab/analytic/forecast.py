"""The time of a whole run: a prompt, then token after token over a growing context.

    total = prefill + (G - 1) * mean of decode(P + 1 .. P + G - 1)

The prefill gives the first of G tokens; each later one is a decode step whose context counts the new token. With
shipped constants the host's part is in both: once per request, and per sequence and token. Only attention depends on
the context, and its time is nearly linear in it, so that the mean over the run is Simpson's rule over the first, the
middle and the last step, not a loop over tokens.

Nothing is predicted for a run that does not fit: weights, KV cache of the whole run and the largest
activations of a pass, per rank, must fit into the memory of the device.
"""

from collections.abc import Callable, Mapping

from llamalab.analytic.op import Op
from llamalab.analytic.pass_lines import pass_lines
from llamalab.analytic.pass_times import PREDICTED, least_times, pass_times
from llamalab.analytic.rate_constants import Host
from llamalab.analytic.roofline import Rates
from llamalab.analytic.run_memory import RunMemory, check_memory, weight_and_cache_bytes
from llamalab.analytic.workload import Workload, decode_contexts, last_part, pass_ops, prompt_parts
from llamalab.arch import LlamaArch
from llamalab.errors import UnavailableError
from llamalab.hardware import HardwareSpec
from llamalab.startup.hints import NamedTuple, Protocol

NO_HOST = Host()


class Basis(Protocol):
    """The basis of a prediction: constants of a device (rate_constants) or of a stack (stack_constants)."""

    @property
    def rates(self) -> Mapping[str, Rates]:
        """Constants by class of operation."""

    @property
    def basis(self) -> str:
        """The basis in a few words."""

    @property
    def host(self) -> Host:
        """The host's overhead."""

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

    `interval` is the low and high end of total_s, never below the bound; high is None for a bound. `make_tables` makes
    the op tables of both passes on demand.
    """

    times: Times
    bound: Times
    basis: str
    interval: tuple[float, float | None]
    memory: RunMemory
    make_tables: Callable[[], tuple[tuple[Op, ...], tuple[Op, ...]]]
    constants: Basis

    @property
    def prefill_ops(self) -> tuple[Op, ...]:
        """The table of the prompt's last pass."""
        return self.make_tables()[0]

    @property
    def decode_ops(self) -> tuple[Op, ...]:
        """The table of the middle step; empty where one token is generated."""
        return self.make_tables()[1]


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

    def tables() -> tuple[tuple[Op, ...], tuple[Op, ...]]:
        steps = decode_contexts(work)
        return pass_ops(arch, work, *last_part(work)), pass_ops(arch, work, 1, steps[1][1]) if steps else ()

    return Forecast(
        times=times,
        bound=bound,
        basis=constants.basis,
        interval=interval,
        memory=memory,
        make_tables=tables,
        constants=constants,
    )


def run_times(arch: LlamaArch, work: Workload, rates: Mapping[str, Rates], host: Host = NO_HOST) -> Times:
    """Seconds of a run at given rates and the host's cost; no check of memory."""
    times, batch = pass_times(pass_lines(arch, work), rates, PREDICTED), work.batch
    token_s = batch * host.sequence_s
    passes_s = sum([often * times.held_s(batch, new, seen) for often, new, seen in prompt_parts(work)])
    prefill_s = passes_s + host.request_s + token_s
    steps = decode_contexts(work)
    step_s = token_s + host.step_s
    decode_s = sum([weight * (times.held_s(batch, 1, context) + step_s) for weight, context in steps])
    return _times(work, prefill_s, decode_s)


def bound_times(arch: LlamaArch, work: Workload, rates: Mapping[str, Rates], cache_bytes: int | None) -> Times:
    """The lower bound: fused kernels at the peaks of `rates`, without fixed times and host.

    Activations that fit into the last-level cache are not charged to the memory, nor is anything where weights and
    KV cache fit too: no data sheet states the bandwidth of a cache, so that arithmetic alone bounds them.
    """
    cache, batch = cache_bytes or 0, work.batch
    resident = sum(weight_and_cache_bytes(arch, work)) <= cache
    lines = pass_lines(arch, work._replace(fused=True, attention="flash", unpack_rows=None))
    times = pass_times(lines, rates, least_times(cache, resident))
    prefill_s = times.pass_s(batch, work.prompt, work.prompt)
    decode_s = sum([weight * times.pass_s(batch, 1, context) for weight, context in decode_contexts(work)])
    return _times(work, prefill_s, decode_s)


def _times(work: Workload, prefill_s: float, decode_s: float) -> Times:
    total_s = prefill_s + (work.generate - 1) * decode_s
    return Times(prefill_s, decode_s if work.generate > 1 else None, total_s, work.batch * work.generate / total_s)


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
