"""Memory of a whole run on each device: weights, the KV cache of all its tokens, the largest activations of a pass."""

from functools import lru_cache

from llamalab.analytic.kv_cache import layers_kv_bytes
from llamalab.analytic.parallel import Shard, shard
from llamalab.analytic.prompt_memory import peak_of_prompt
from llamalab.analytic.weight_storage import bytes_on_rank, stored_weight_bytes
from llamalab.analytic.workload import CACHED_PASSES, Workload
from llamalab.arch import LlamaArch
from llamalab.errors import DoesNotFitError
from llamalab.formatting import format_bytes
from llamalab.hardware import HardwareSpec
from llamalab.startup.hints import NamedTuple


class RunMemory(NamedTuple):
    """Bytes that one rank needs at the end of a run."""

    weight_bytes: int
    kv_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return sum(self)


def memory_needed(arch: LlamaArch, work: Workload) -> RunMemory:
    """Weights, KV cache of prompt and generated tokens, and the largest activations, of one rank."""
    new = min(work.chunk or work.prompt, work.prompt)
    # The kernels of a server read a cache of another storage as it is.
    peak = peak_of_prompt(arch, work.shape(new, work.prompt)._replace(kv_dtype=None))
    return RunMemory(*weight_and_cache_bytes(arch, work), peak)


@lru_cache(maxsize=64)  # a prediction asks twice: for the memory, and for the bound
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


def check_memory(arch: LlamaArch, work: Workload, spec: HardwareSpec) -> RunMemory:
    """Memory of the run on each device. Raises DoesNotFitError with the missing bytes."""
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
