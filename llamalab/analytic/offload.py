"""Weights and cache of a run on one device: all of a rank's, or those of the last layers, with the rest on a host.

As in llama.cpp: the head is offloaded first, then the last N layers with their keys and values; the embedding stays on
the host. llama.cpp's own option counts the head as a layer (llama_model::load_tensors: the first on the device is
n_layer + 1 - n_gpu_layers), so that N here is its N + 1.
"""

from llamalab.analytic.fit_run import FitRun
from llamalab.analytic.kv_storage import KvStorage, kv_storage
from llamalab.analytic.parallel import shard
from llamalab.analytic.params import stored_as, weights
from llamalab.analytic.weight_storage import bytes_on_rank, stored_weight_bytes
from llamalab.arch import LlamaArch
from llamalab.checks import whole
from llamalab.errors import InputError
from llamalab.units import storage_bytes


def on_device(run: FitRun) -> tuple[int, KvStorage]:
    """Bytes of weights, and of the cache, on the device.

    >>> from llamalab.presets import PRESETS
    >>> [on_device(FitRun(PRESETS["7b"].arch, 4096, gpu_layers=n))[0] // 2**20 for n in (0, 16, 32)]
    [0, 6426, 12602]
    """
    if run.gpu_layers is None:
        return _weights(run, run.arch), _cache(run, run.arch)
    layers = _checked_layers(run)
    if not layers:
        return 0, KvStorage(0, 0, 0)
    rest = run.arch.n_layers - layers
    stored = _head_bytes(run) + _last_layers(run, rest)
    if not rest:
        return stored, _cache(run, run.arch)
    whole_cache, first = _cache(run, run.arch), _cache(run, run.arch.replace(n_layers=rest))
    return stored, KvStorage(*(a - b for a, b in zip(whole_cache, first, strict=True)))


def host_bytes(run: FitRun) -> int:
    """Bytes of weights and cache on the host: those not on the device, and a tied embedding in any case."""
    everywhere, here = (
        sum((stored, *cache)) for stored, cache in (on_device(run._replace(gpu_layers=None)), on_device(run))
    )
    twice = run.arch.tied_embeddings and run.gpu_layers
    return everywhere - here + (_embedding_bytes(run) if twice else 0)


def _checked_layers(run: FitRun) -> int:
    layers = whole(run.gpu_layers, "gpu_layers", least=0, most=run.arch.n_layers)
    if run.ranks > 1:
        raise InputError(f"gpu_layers must be those of one device; got {run.ranks} ranks; leave one of them out")
    if run.weight_bytes is not None and len(run.layer_bytes) != run.arch.n_layers:
        raise InputError("gpu_layers must be of a file that tells the bytes of each layer; its header does not")
    return layers


def _weights(run: FitRun, arch: LlamaArch) -> int:
    part = shard(arch, run.ranks)
    if run.weight_bytes is not None:
        return bytes_on_rank(arch, run.weight_bytes, part)
    return stored_weight_bytes(arch, run.dtype, run.weight_dtype or run.dtype, part)


def _last_layers(run: FitRun, rest: int) -> int:
    if run.weight_bytes is not None:
        return sum(run.layer_bytes[rest:])
    if not rest:
        return _weights(run, run.arch) - _outside_bytes(run)
    return _weights(run, run.arch) - _weights(run, run.arch.replace(n_layers=rest))


def _head_bytes(run: FitRun) -> int:
    """The last norm and the head; of a tied model its table, which the host keeps too."""
    return _outside_bytes(run) - (0 if run.arch.tied_embeddings else _embedding_bytes(run))


def _outside_bytes(run: FitRun) -> int:
    """All weights that no layer has."""
    if run.weight_bytes is not None:
        return run.weight_bytes - sum(run.layer_bytes)
    outside = (weight for weight in weights(run.arch) if not weight.name.startswith("layers."))
    return sum(
        storage_bytes(one.parameters, stored_as(one, run.dtype, run.weight_dtype or run.dtype)) for one in outside
    )


def _embedding_bytes(run: FitRun) -> int:
    if run.weight_bytes is not None:
        return run.embedding_bytes
    table = weights(run.arch)[0]
    return storage_bytes(table.parameters, stored_as(table, run.dtype, run.weight_dtype or run.dtype))


def _cache(run: FitRun, arch: LlamaArch) -> KvStorage:
    return kv_storage(
        arch,
        seq=run.context,
        batch=run.batch,
        dtype=run.kv_dtype or run.dtype,
        ranks=run.ranks,
        block_tokens=run.block_tokens,
    )
