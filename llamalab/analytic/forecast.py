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
from functools import lru_cache, partial

from llamalab.analytic.activations import peak_activation_bytes
from llamalab.analytic.kv_cache import layers_kv_bytes
from llamalab.analytic.ops import Op, forward_ops
from llamalab.analytic.packed_weights import head_bytes, unpacked_ops
from llamalab.analytic.parallel import Shard, shard
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.rate_constants import Host
from llamalab.analytic.roofline import Rates, moved_bytes, rates_of_op, soft_maximum
from llamalab.analytic.split_attention import split_ops
from llamalab.analytic.weight_storage import bytes_on_rank, stored_weight_bytes
from llamalab.arch import LlamaArch
from llamalab.checks import whole
from llamalab.errors import DoesNotFitError, UnavailableError
from llamalab.hardware import HardwareSpec
from llamalab.hints import Any, NamedTuple, Protocol
from llamalab.units import format_bytes

NO_HOST = Host()
CACHED_PASSES = 4096  # a sweep meets the same pass once per device


class _WorkloadFields(NamedTuple):
    prompt: int
    generate: int = 1
    batch: int = 1
    dtype: str = "bf16"
    weight_dtype: str | None = None
    kv_dtype: str | None = None
    attention: str = "flash"
    fused: bool = True
    tensor_parallel: int = 1
    chunk: int | None = None
    logits: str = "last"
    expert_parallel: bool = False
    head_dtype: str | None = None
    unpack_rows: int | None = None
    layer_parallel: int = 1
    stored_bytes: int | None = None
    split_heads: int | None = None
    threads: int | None = None


class Workload(_WorkloadFields):
    """What is run: B prompts of P tokens, G tokens generated after each, in which number formats.

    `layer_parallel` devices take a share of the layers each and work one after the other: they share the memory,
    not the time. `head_dtype` is that of the output head (default: that of the matrices). From `unpack_rows` rows
    on, packed weights are written out in the activations' dtype before they are multiplied; None: never.
    `stored_bytes` are those of a file's weights (default: by weight_dtype). Up to `split_heads` query heads over all
    sequences, decode attention is split over its keys; None: never. `threads` are those of a CPU (default: one a core).
    """

    __slots__ = ()

    def __new__(cls, prompt: int, *others: Any, **named: Any) -> "Workload":
        self = super().__new__(cls, prompt, *others, **named)
        return super()._replace(
            self,
            prompt=whole(self.prompt, "prompt"),
            generate=whole(self.generate, "generate"),
            batch=whole(self.batch, "batch"),
            tensor_parallel=whole(self.tensor_parallel, "tensor_parallel"),
            layer_parallel=whole(self.layer_parallel, "layer_parallel"),
            chunk=None if self.chunk is None else whole(self.chunk, "chunk"),
            threads=None if self.threads is None else whole(self.threads, "threads"),
        )

    def _replace(self, **changes: Any) -> "Workload":
        return Workload(**(self._asdict() | changes))

    def shape(self, new_tokens: int, context_tokens: int) -> PassShape:
        """That of one pass of the run."""
        return PassShape(
            new_tokens=new_tokens,
            context_tokens=context_tokens,
            batch=self.batch,
            dtype=self.dtype,
            kv_dtype=self.kv_dtype,
            weight_dtype=self.weight_dtype,
            attention=self.attention,
            logits=self.logits,
            tensor_parallel=self.tensor_parallel,
            fused=self.fused,
            expert_parallel=self.expert_parallel,
        )

    @property
    def devices(self) -> int:
        """How many share the model."""
        return self.tensor_parallel * self.layer_parallel


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


class RunMemory(NamedTuple):
    """Bytes that one rank needs at the end of a run."""

    weight_bytes: int
    kv_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return sum(self)


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


def prompt_parts(work: Workload) -> list[tuple[float, int, int]]:
    """How often, with how many new tokens and behind what context the prompt passes: once, or once per chunk.

    From the sixteenth chunk on, some stand for those between them, by their distance, as if time were linear there: it
    nearly is. They are the same for every prompt, one past its end included, so that one more token adds time.

    >>> prompt_parts(Workload(prompt=5, chunk=2))
    [(1.0, 2, 2), (1.0, 2, 4), (1.0, 1, 5)]
    >>> round(sum(weight for weight, *_ in prompt_parts(Workload(prompt=10**6, chunk=1))))
    1000000
    """
    chunk = min(work.chunk or work.prompt, work.prompt)
    chunks, rest = divmod(work.prompt, chunk)
    weights: dict[tuple[int, int], float] = {}
    first = 1
    while first <= chunks:
        step = _chunk_step(first)
        some = min(step, chunks - first + 1)
        _share(weights, chunk, chunk * first, chunk * step, some, some * (some - 1) / 2 / step)
        first += step
    if rest:
        step = _chunk_step(chunks)
        low = chunks // step * step
        way = (work.prompt - chunk * low) / (chunk * step)
        if step == 1:
            weights[rest, work.prompt] = 1.0
        else:
            _share(weights, rest, chunk * low, chunk * step, 1, way)
    return [(weight, *part) for part, weight in weights.items()]


def _chunk_step(place: int) -> int:
    """How far the next chunk that is timed lies from this one: a power of two, an eighth of the place at most."""
    return 1 << max(0, place.bit_length() - 4)


def _share(weights: dict[tuple[int, int], float], new: int, context: int, gap: int, passes: int, far: float) -> None:
    """Share passes between a context and the next one that is timed, `far` of them for that."""
    for part, weight in (((new, context), passes - far), ((new, context + gap), far)):
        if weight:
            weights[part] = weights.get(part, 0.0) + weight


def last_part(work: Workload) -> tuple[int, int]:
    """New tokens and context of the prompt's last pass.

    >>> last_part(Workload(prompt=5, chunk=2))
    (1, 5)
    """
    chunk = min(work.chunk or work.prompt, work.prompt)
    return work.prompt % chunk or chunk, work.prompt


def held_pass_s(arch: LlamaArch, work: Workload, new_tokens: int, context_tokens: int, seconds: "PassSeconds") -> float:
    """Seconds of one pass, not less than one of its tokens takes alone, nor one of its sequences.

    A single row, and a few, run in kernels of their own, whose constants are fitted apart: without the floor two
    tokens could come out faster than one, in one sequence or in two.
    """
    batches, tokens = {work.batch, 1}, {new_tokens, 1}
    runs = [work if batch == work.batch else work._replace(batch=batch) for batch in batches]
    return max(seconds(pass_ops(arch, run, new, context_tokens)) for run in runs for new in tokens)


def decode_contexts(work: Workload) -> list[tuple[float, int]]:
    """Simpson's weights and the contexts they go with; empty where the prefill gives the only token.

    >>> decode_contexts(Workload(prompt=100, generate=4))
    [(0.16666666666666666, 101), (0.6666666666666666, 102), (0.16666666666666666, 103)]
    """
    first, last = work.prompt + 1, work.prompt + work.generate - 1
    if last < first:
        return []
    middle, odd = divmod(first + last, 2)
    if odd:  # an even number of steps has two middles
        return [(1 / 6, first), (1 / 3, middle), (1 / 3, middle + 1), (1 / 6, last)]
    return [(1 / 6, first), (2 / 3, middle), (1 / 6, last)]


@lru_cache(maxsize=CACHED_PASSES)
def _ops(arch: LlamaArch, shape: PassShape, head_dtype: str | None, unpack_rows: int | None) -> tuple[Op, ...]:
    return unpacked_ops(
        forward_ops(arch, shape),
        rows=shape.new_tokens * shape.batch,
        dtype=shape.dtype,
        unpack_rows=unpack_rows,
        head_bytes=head_bytes(arch, head_dtype, shape.tensor_parallel),
    )


def pass_ops(arch: LlamaArch, work: Workload, new_tokens: int, context_tokens: int) -> tuple[Op, ...]:
    """The op table of one pass of a run, remembered."""
    ops = _ops(arch, work.shape(new_tokens, context_tokens), work.head_dtype, work.unpack_rows)
    heads = work.batch * arch.n_heads // work.tensor_parallel
    return split_ops(ops, heads=heads, split_heads=work.split_heads)


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


def memory_needed(arch: LlamaArch, work: Workload) -> RunMemory:
    """Weights, KV cache of prompt and generated tokens, and the largest activations, of one rank."""
    new = min(work.chunk or work.prompt, work.prompt)
    # The kernels of a server read a cache of another storage as it is.
    peak = _activations(arch, work.shape(new, work.prompt)._replace(kv_dtype=None))
    return RunMemory(*weight_and_cache_bytes(arch, work), peak)


def weight_and_cache_bytes(arch: LlamaArch, work: Workload) -> tuple[int, int]:
    """Weights, and the KV cache of prompt and generated tokens, of one rank."""
    part = _shard(arch, work.tensor_parallel, work.expert_parallel)
    weight, tokens = work.weight_dtype or work.dtype, work.prompt + work.generate
    if work.stored_bytes is None:
        stored = _stored_bytes(arch, work.dtype, weight, part, work.head_dtype)
    else:
        stored = bytes_on_rank(arch, work.stored_bytes, part)
    cached = layers_kv_bytes(arch.windows, part.kv_dim, seq=tokens, dtype=work.kv_dtype or work.dtype)
    return -(-stored // work.layer_parallel), -(-work.batch * cached // work.layer_parallel)


_stored_bytes = lru_cache(maxsize=CACHED_PASSES)(stored_weight_bytes)


@lru_cache(maxsize=CACHED_PASSES)
def _shard(arch: LlamaArch, ranks: int, expert_parallel: bool) -> Shard:
    return shard(arch, ranks, expert_parallel=expert_parallel)


@lru_cache(maxsize=CACHED_PASSES)
def _activations(arch: LlamaArch, shape: PassShape) -> int:
    return peak_activation_bytes(arch, shape).bytes


def check_memory(arch: LlamaArch, work: Workload, spec: HardwareSpec) -> RunMemory:
    """What the run needs of each device. Raises DoesNotFitError, saying by how much."""
    return check_room(memory_needed(arch, work), spec, work.devices)


def check_room(needed: RunMemory, spec: HardwareSpec, devices: int) -> RunMemory:
    """The same memory, of one of so many devices. Raises DoesNotFitError where the device has less."""
    room = spec.usable_memory_bytes
    if room is None:  # a CPU that takes any memory
        return needed
    short = needed.total_bytes - room
    if short > 0:
        ranks = f" on each of {devices} devices" if devices > 1 else ""
        raise DoesNotFitError(
            f"the run must fit into {spec.name}: it needs {format_bytes(needed.total_bytes)}{ranks} (weights "
            f"{format_bytes(needed.weight_bytes)}, KV cache {format_bytes(needed.kv_bytes)}, activations "
            f"{format_bytes(needed.activation_bytes)}) of {format_bytes(room)}, "
            f"{format_bytes(short)} too much",
            hint="try a smaller {batch}, more {tensor_parallel} or a smaller {dtype}",
        )
    return needed


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
