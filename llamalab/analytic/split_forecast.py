"""The time of a run on a model split over devices: pipeline stages that fill and drain, ring transfers of attention.

Time to first token is that of the whole batch. Microbatches enter the stages one after another: the last has passed
m + P - 1 stages' times after the first began. Prompts go as single sequences or in as many parts as there are stages,
whichever is faster; a step of decode goes through all stages, and with as many microbatches as stages none is idle.
Ring transfers hide behind attention: the longer of the two counts. A split into tensor ranks alone is what
llamalab.analytic.forecast predicts.
"""

from collections.abc import Callable, Iterable

from llamalab.analytic.forecast import NO_HOST, Basis, Forecast, Times, check_link
from llamalab.analytic.op import Op
from llamalab.analytic.pass_times import least_times, op_s
from llamalab.analytic.rate_constants import Host
from llamalab.analytic.roofline import predict_op, rates_of_op
from llamalab.analytic.run_memory import RunMemory, check_room, memory_needed
from llamalab.analytic.splits import Split, check_split, microbatches, stage_ops
from llamalab.analytic.workload import Workload, decode_contexts
from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from llamalab.hardware import HardwareSpec
from llamalab.startup.hints import NamedTuple

OpSeconds = Callable[[Op], float]


class SplitTimes(NamedTuple):
    """Seconds of a run, the share in exposed collectives, and the share during which stages are idle."""

    times: Times
    communication_share: float
    bubble_share: float


class SplitForecast(NamedTuple):
    """The prediction of a run on several devices; `forecast.memory` is that of one of them."""

    split: Split
    forecast: Forecast
    communication_share: float
    bubble_share: float


def forecast_split(
    arch: LlamaArch, work: Workload, split: Split, spec: HardwareSpec, constants: Basis
) -> SplitForecast:
    """Predict a run on `split.devices` devices; `work.batch` is that of all replicas.

    Raises InputError for sizes that do not divide and for a prompt in chunks, DoesNotFitError, UnavailableError without
    a link.

    >>> from llamalab.analytic.constants import choose
    >>> from llamalab.hardware import find_hardware
    >>> from llamalab.presets import PRESETS
    >>> spec, arch = find_hardware("h100-80gb-sxm"), PRESETS["70b"].arch
    >>> constants = choose(spec, "shipped", "bf16")
    >>> round(forecast_split(arch, Workload(2048), Split(pipeline=4), spec, constants).bubble_share, 2)
    0.75
    """
    check_split(arch, split, work)
    if work.chunk is not None and work.chunk < work.prompt:
        raise InputError(
            f"a prompt that is split over stages or context ranks must go in one pass; got chunks of {work.chunk}",
            hint="leave {chunk} out",
        )
    memory = split_memory(arch, work, split)
    check_room(memory, spec, split.devices)
    check_link(split.sharing, spec, constants)
    timed = split_times(
        arch, work, split, lambda op: predict_op(op, rates_of_op(op, constants.rates)).time_s, constants.host
    )
    bound = _bound_times(arch, work, split, spec, constants)

    def tables() -> tuple[tuple[Op, ...], tuple[Op, ...]]:
        steps = decode_contexts(work)
        last = stage_ops(arch, work, split, work.prompt, work.prompt)
        return last, stage_ops(arch, work, split, 1, steps[1][1]) if steps else ()

    result = Forecast(
        times=timed.times,
        bound=bound,
        basis=constants.basis,
        interval=constants.interval(timed.times.total_s, bound.total_s),
        memory=memory,
        make_tables=tables,
        constants=constants,
    )
    return SplitForecast(split, result, timed.communication_share, timed.bubble_share)


def split_memory(arch: LlamaArch, work: Workload, split: Split) -> RunMemory:
    """Bytes on one device: its weights, its part of the KV cache, and the largest activations."""
    own = work._replace(
        tensor_parallel=split.tensor,
        layer_parallel=split.pipeline,
        batch=work.batch // split.replicas,
        chunk=work.prompt // split.context,
    )
    found = memory_needed(arch, own)
    return found._replace(kv_bytes=-(-found.kv_bytes // split.context))


def split_times(arch: LlamaArch, work: Workload, split: Split, op_s: OpSeconds, host: Host = NO_HOST) -> SplitTimes:
    """Seconds of a run of which one occurrence of an operation takes `op_s`; no check of memory or link."""
    parts, stages = microbatches(work, split), split.pipeline
    sequences_s = work.batch // split.replicas * host.sequence_s
    prompt_s, prompt_sent_s, prompt_idle_s = min(
        _prompt_s(arch, work, split, op_s, count) for count in {parts, work.batch // split.replicas}
    )
    prefill_s = prompt_s + host.request_s + sequences_s
    rounds = max(parts, stages) / stages
    steps = [
        (weight, *_pass_s(stage_ops(arch, work, split, 1, context), op_s)) for weight, context in decode_contexts(work)
    ]
    step_s = sum(weight * seconds for weight, seconds, _ in steps) * rounds
    step_sent_s = sum(weight * sent for weight, _, sent in steps) * rounds
    decode_s = step_s + host.step_s + sequences_s if steps else None
    later = work.generate - 1
    total_s = prefill_s + later * (decode_s or 0.0)
    communication_s = prompt_sent_s + later * step_sent_s
    idle_s = prompt_idle_s + later * step_s * (1 - parts / max(parts, stages))
    times = Times(prefill_s, decode_s, total_s, work.batch * work.generate / total_s)
    return SplitTimes(times, communication_s / total_s, idle_s / total_s)


def _prompt_s(arch: LlamaArch, work: Workload, split: Split, op_s: OpSeconds, parts: int) -> tuple[float, float, float]:
    """Seconds of all prompts in so many microbatches, seconds of exposed collectives, and idle seconds of a stage."""
    whole_s, sent_s = _pass_s(stage_ops(arch, work, split, work.prompt, work.prompt, parts), op_s)
    filling = (parts + split.pipeline - 1) / split.pipeline
    return whole_s * filling, sent_s * filling, whole_s * (split.pipeline - 1) / split.pipeline


def _pass_s(ops: Iterable[Op], op_s: OpSeconds) -> tuple[float, float]:
    """Seconds of a microbatch through all stages, and those in exposed collectives."""
    rows = [(op, op.count * op_s(op)) for op in ops]
    ring_s = sum(seconds for op, seconds in rows if op.name.endswith(".ring"))
    attention_s = sum(seconds for op, seconds in rows if op.kind == "attention")
    hidden_s = min(ring_s, attention_s)
    sent_s = sum(seconds for op, seconds in rows if op.kind == "collective") - hidden_s
    return sum(seconds for _, seconds in rows) - hidden_s, sent_s


def _bound_times(arch: LlamaArch, work: Workload, split: Split, spec: HardwareSpec, constants: Basis) -> Times:
    """The lower bound, as llamalab.analytic.forecast.bound_times."""
    run = work._replace(fused=True, attention="flash", unpack_rows=None)
    needed, cache = split_memory(arch, run, split), spec.l2_bytes or 0
    resident = needed.weight_bytes + needed.kv_bytes <= cache

    def least_s(op: Op) -> float:
        if op.name.endswith(".merge"):  # a kernel that continues the sum of the step before needs none
            return 0.0
        return op_s(op, rates_of_op(op, constants.rates), least_times(cache, resident))

    return split_times(arch, run, split, least_s).times
