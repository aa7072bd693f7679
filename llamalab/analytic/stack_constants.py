"""Costs of a run in a stack on a device: the stack's shares of the data sheet as rates by class of operation."""

from collections.abc import Mapping
from functools import lru_cache

from llamalab.analytic.cpu_threads import reach
from llamalab.analytic.data_sheet import data_sheet, issue_peak, peak_of, product_dtype
from llamalab.analytic.rate_constants import Host
from llamalab.analytic.roofline import Rates
from llamalab.analytic.stacks import OWN, Stack, find_stack
from llamalab.analytic.workload import Workload
from llamalab.hardware import HardwareSpec
from llamalab.hardware.links import find_link
from llamalab.startup.hints import NamedTuple
from llamalab.units import dtype_bits

CLOCK_HZ = 1.83e9  # the clock to which fixed times refer; on a GPU of another clock they scale inversely
GEMM_Q, ROW_Q, ATTENTION_Q = 2.0, 4.0, 1.3  # overlap of compute and memory in a product, of one row, in attention
UNPACK_ROWS = 32  # fewest rows from which stacks that unpack first do so
MARGIN_OF_BORROWED = 1.5  # factor on the spread of a borrowed row without points of its own


class StackConstants(NamedTuple):
    """The basis of a prediction by stack; it has the interface of analytic.rate_constants.Constants."""

    rates: Mapping[str, Rates]
    basis: str
    spread: float | None
    host: Host
    stack: Stack
    phase_spread: Mapping[str, float]
    assumed: bool = False

    def interval(self, time_s: float, bound_s: float) -> tuple[float, float | None]:
        """Low and high end of a predicted time, never below its bound."""
        return self.interval_of_phase("run", time_s, bound_s)

    def interval_of_phase(self, phase: str, time_s: float, bound_s: float) -> tuple[float, float]:
        """As interval, for a phase: prefill, decode or run."""
        spread = self.phase_spread[phase]
        return max(bound_s, time_s / (1 + spread)), time_s * (1 + spread)


def workload_of(stack: Stack, work: Workload) -> Workload:
    """The run in a stack: its fusion, attention, chunks, cache and head."""
    weight = work.weight_dtype or work.dtype
    packed, ggml = is_packed(weight), weight.startswith("q")
    layers = stack.split == "layers"
    return work._replace(
        fused=stack.fused,
        attention=stack.attention,
        chunk=work.chunk or stack.chunk,
        kv_dtype=work.kv_dtype or (stack.kv_of_fp8 if weight == "fp8" else None),
        head_dtype=work.head_dtype or (work.dtype if (packed and not ggml) or weight == "fp8" else None),
        unpack_rows=UNPACK_ROWS if packed and stack.unpack == "first" else None,
        tensor_parallel=1 if layers else work.tensor_parallel,
        layer_parallel=work.devices if layers else work.layer_parallel,
        split_heads=stack.split_heads,
    )


def is_packed(weight_dtype: str) -> bool:
    """Whether weights are stored in fewer bits than they are multiplied in.

    >>> is_packed("int4"), is_packed("fp8"), is_packed("bf16")
    (True, False, False)
    """
    return weight_dtype != "fp8" and dtype_bits(weight_dtype) < 16


def stack_constants(
    stack: Stack,
    spec: HardwareSpec,
    dtype: str,
    weight_dtype: str | None = None,
    *,
    threads: int | None = None,
    ranks: int = 1,
) -> StackConstants:
    """Rates by class of operation, and the host's part, of a stack on so many devices, or threads of a CPU."""
    spec = between(spec, ranks)
    weight = weight_dtype or dtype
    dtype = computed_in(spec, dtype)
    bounds = data_sheet(spec, dtype, weight if weight == "fp8" else dtype, packed=is_packed(weight))
    fixed_s = stack.kernel_s * _slowness(spec)
    compute, memory = (
        (stack.packed_compute, stack.packed_memory) if is_packed(weight) else (stack.gemm_compute, stack.gemm_memory)
    )
    vector = issue_peak(spec)
    within = reach(spec, threads, stack.die_bytes_per_s)
    moving, attending = (_moved(stack, spec, share) for share in (stack.elementwise_memory, stack.attention_memory))

    def lossy(name: str, t0_s: float, flops_per_s: float | None, share: float, q: float = 1.0) -> Rates:
        used = None if flops_per_s is None else within.cores * flops_per_s
        return _lossy(bounds[name], t0_s, used, within.bandwidth * share, q)

    def attending_step(gain: float) -> Rates:
        compute = vector * stack.decode_vector_compute * gain if vector and stack.decode_vector_compute else None
        return lossy("attention_decode", fixed_s, compute, stack.decode_memory, ATTENTION_Q)

    rates = {
        "gather": lossy("gather", fixed_s / 2, None, moving),
        "elementwise": lossy("elementwise", fixed_s / 2, None, moving),
        "gemm": lossy("gemm", fixed_s, compute * _product_peak(stack, spec, dtype, weight), memory, GEMM_Q),
        "attention_prefill": lossy(
            "attention_prefill",
            fixed_s,
            stack.attention_compute * (peak_of(spec, "fp32" if stack.vector_products else dtype)),
            attending,
            ATTENTION_Q,
        ),
        "attention_decode": attending_step(1.0),
        "attention_decode_split": attending_step(stack.split_gain),
    }
    if one_row := _one_row(stack, spec, weight):
        rates["gemm_row"] = lossy("gemm", fixed_s, one_row[0], memory, one_row[1])
    for name in ("collective", "collective_one_shot"):
        if name in bounds:
            ring_s = 2 * (ranks - 1) * stack.hop_s if over_bus(spec) else stack.link_s * _slowness(spec)
            rates[name] = lossy(name, ring_s, None, stack.link_memory)
    seen = spec.name in stack.devices
    spread = stack.spread if seen else stack.unseen_spread
    if not stack.points:
        spread = {phase: MARGIN_OF_BORROWED * value for phase, value in spread.items()}
    host = Host(stack.request_s, stack.sequence_s, stack.step_s)
    return StackConstants(
        rates=rates, basis=_basis(stack, seen), spread=max(spread.values()), host=host, stack=stack, phase_spread=spread
    )


def between(spec: HardwareSpec, ranks: int) -> HardwareSpec:
    """The device with the link that so many of them share: a bridge joins two, more of them share the bus.

    >>> from llamalab.hardware import find_hardware
    >>> [between(find_hardware("a100-80gb-pcie"), ranks).interconnect for ranks in (2, 4)]
    ['NVLink bridge', 'PCIe 4.0 x16']
    """
    if ranks <= 2 or spec.bus is None:
        return spec
    link = find_link(spec.bus)
    return spec._replace(interconnect=link.title, interconnect_bytes_per_s=link.bytes_per_s)


def over_bus(spec: HardwareSpec) -> bool:
    """Whether devices communicate over PCIe, where every step of a ring passes through the host."""
    return (spec.interconnect or "").startswith("PCIe")


def _basis(stack: Stack, seen: bool) -> str:
    if not stack.points:
        return f"stack {stack.name} {stack.versions}, constants borrowed: no point was fitted"
    unseen = "" if seen else ", none on this device"
    return (
        f"stack {stack.name} {stack.versions}, fitted on {stack.points} published points to "
        f"{100 * (stack.error or 0):.1f} %{unseen}"
    )


def _moved(stack: Stack, spec: HardwareSpec, share: float) -> float:
    """The share of bandwidth that remains when the vector units have work for every byte."""
    vector = issue_peak(spec)
    if not stack.vector_ops or not vector:
        return share
    return 1 / (1 / share + stack.vector_ops * spec.bandwidth_bytes_per_s / vector)


def _slowness(spec: HardwareSpec) -> float:
    if spec.kind in OWN or spec.max_clock_hz is None:
        return 1.0
    return CLOCK_HZ / spec.max_clock_hz


def _lossy(bound: Rates, t0_s: float, flops_per_s: float | None, memory: float, q: float = 1.0) -> Rates:
    """The bound's peaks with efficiencies that give the rates of a stack, so that both are in one object."""
    if flops_per_s is None or bound.peak_flops_per_s is None:
        return Rates(
            peak_flops_per_s=bound.peak_flops_per_s,
            bandwidth_bytes_per_s=bound.bandwidth_bytes_per_s,
            t0_s=t0_s,
            compute_efficiency=1.0,
            memory_efficiency=memory,
            q=q,
        )
    share = min(1.0, flops_per_s / bound.peak_flops_per_s)
    return Rates(
        peak_flops_per_s=bound.peak_flops_per_s,
        bandwidth_bytes_per_s=bound.bandwidth_bytes_per_s,
        t0_s=t0_s,
        compute_efficiency=share,
        memory_efficiency=memory,
        q=q,
    )


def computed_in(spec: HardwareSpec, dtype: str) -> str:
    """The dtype in which a device computes a dtype: a CPU without units for it uses bf16, else fp32."""
    if spec.kind != "cpu" or spec.peak_flops_per_s.get(dtype) is not None:
        return dtype
    return "bf16" if dtype == "fp16" and spec.peak_flops_per_s["bf16"] is not None else "fp32"


def _one_row(stack: Stack, spec: HardwareSpec, weight_dtype: str) -> tuple[float, float] | None:
    """FLOP/s of a product with one row apart from the memory, and their overlap; None where it is like any product."""
    vector = issue_peak(spec)
    if is_packed(weight_dtype):
        operations = stack.unpack_ops * (stack.k_quant_ops if "_k" in weight_dtype else 1.0)
        return (2 * vector / operations, GEMM_Q) if vector else None
    if stack.row_bytes_per_clock is None or spec.multiprocessors is None or spec.clocking is None:
        return None
    bytes_per_s = stack.row_bytes_per_clock * spec.multiprocessors * spec.clocking.clock_hz
    return 2 * bytes_per_s * 8 / dtype_bits(weight_dtype), ROW_Q


def _product_peak(stack: Stack, spec: HardwareSpec, dtype: str, weight: str) -> float:
    """The data sheet's peak in the dtypes of a stack's products and sums."""
    if stack.vector_products:
        return peak_of(spec, "fp32")
    if is_packed(weight) and stack.unpack == "integer" and spec.peak_flops_per_s["int8"]:
        return spec.peak_flops_per_s["int8"]
    if dtype == "fp16" and stack.accumulate == "fp16" and spec.fp16_in_fp16_flops_per_s:
        return spec.fp16_in_fp16_flops_per_s
    return peak_of(spec, product_dtype(spec, dtype, weight) if weight == "fp8" else dtype)


def prepared(
    spec: HardwareSpec, work: Workload, name: str, *, assumed: bool = False
) -> tuple[Workload, StackConstants]:
    """A run in a stack on a device, and the basis of its prediction. Raises UnavailableError."""
    constants = named_constants(
        name, spec, work.dtype, work.weight_dtype, threads=work.threads, ranks=work.tensor_parallel, assumed=assumed
    )
    return workload_of(constants.stack, work), constants


@lru_cache(maxsize=1024)  # of a sweep, each for thousands of predictions
def named_constants(
    name: str,
    spec: HardwareSpec,
    dtype: str,
    weight_dtype: str | None,
    *,
    threads: int | None,
    ranks: int,
    assumed: bool,
) -> StackConstants:
    """As stack_constants, of a stack by its name. Raises UnavailableError where it does not run on the device."""
    constants = stack_constants(find_stack(name, spec), spec, dtype, weight_dtype, threads=threads, ranks=ranks)
    return constants._replace(assumed=assumed)
