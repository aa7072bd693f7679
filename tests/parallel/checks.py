"""What every rank of a group does; each check gives numbers that a test looks at."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

import llamalab
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.checkpoints.checkpoint import weights_of
from llamalab.checkpoints.meta import write_meta
from llamalab.measure.ranks.clocks import clock_lead_s
from llamalab.measure.ranks.passes import SharedWork, time_ranks
from llamalab.model import RaggedKVCache, StaticKVCache, Transformer
from llamalab.model.quantised.weights import quantised_layers
from llamalab.parallel.counted import CountedCollectives, expected_collectives
from llamalab.parallel.groups import check_groups
from llamalab.parallel.shares import build_share, load_share
from llamalab.parallel.team import Place
from llamalab.parallel.views import WholeView
from llamalab.units import KeptWeights
from tests.parallel.on_ranks import CASES, KINDS


def arch_of(kv_heads: int, **more: Any) -> LlamaArch:
    return LlamaArch(64, 2, 8, kv_heads, 96, 512, max_positions=64, **more)


def seeded(model: Transformer) -> Transformer:
    """Weights that differ everywhere, biases and norms included."""
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 10
    return model


def logits_of(model: Transformer) -> Tensor:
    """A prefill, a chunk, a decode step, and a step of two sequences of different lengths."""
    tokens_BT, sizes = torch.arange(20).view(2, 10), {"max_tokens": 16, "dtype": "fp32"}
    with torch.inference_mode():
        cache = StaticKVCache(model.rank_arch, batch=2, **sizes)  # type: ignore[arg-type]
        made = [model(tokens_BT[:, part], cache=cache) for part in (slice(0, 5), slice(5, 9), slice(9, 10))]
        rows = [StaticKVCache(model.rank_arch, batch=1, **sizes) for _ in range(2)]  # type: ignore[arg-type]
        model(tokens_BT[:1, :3], cache=rows[0])
        model(tokens_BT[1:, :6], cache=rows[1])
        made.append(model(tokens_BT[:, 6:7], cache=RaggedKVCache(rows)))
    return torch.cat(made, 1)


def far(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def check_all(mesh: Any, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (kv_heads, more) in CASES.items():
        found[name] = _same_logits(arch_of(kv_heads, **more), mesh)
    found["collectives"] = {kind: _collectives(arch_of(2, **more), mesh) for kind, more in KINDS.items()}
    found["views"] = {str(kv_heads): _views(arch_of(kv_heads), mesh) for kv_heads in (8, 1)}
    found["quantised"] = {storage: _quantised(storage, mesh) for storage in ("int8", "q4_0", "int4")}
    found["loaded"] = _loaded(mesh, folder)
    found["timed"] = {str(storage): _timed(storage, mesh) for storage in (None, "int8", "int4")}
    found["clocks"] = [_clock_lead_s(mesh, ahead_s) for ahead_s in (0.0, 1000.0, -1000.0)]
    return found


def _same_logits(arch: LlamaArch, mesh: Any) -> dict[str, float]:
    alone = logits_of(seeded(llamalab.build(arch, dtype="fp32")))
    spread = llamalab.parallelize(seeded(llamalab.build(arch, dtype="fp32")), mesh)
    as_dtensors = far(logits_of(spread), alone)
    ready = llamalab.compile(spread, scope="none")
    built = build_share(arch, mesh, dtype="fp32")
    return {
        "dtensors": as_dtensors,
        "own shares": far(logits_of(ready), alone),
        "built": far(logits_of(built), logits_of(llamalab.build(arch, dtype="fp32"))),
        "size": float(alone.abs().max()),
    }


def _quantised(storage: str, mesh: Any) -> dict[str, float]:
    """Codes of a rank's part against those of one rank."""
    arch = LlamaArch(512, 2, 8, 2, 1024, 512, max_positions=64)
    check_groups(arch, mesh.size(), storage)
    whole, plain = (seeded(llamalab.build(arch, dtype="fp32")) for _ in range(2))
    spread = llamalab.parallelize(seeded(llamalab.build(arch, dtype="fp32")), mesh)
    llamalab.compile(whole, scope="none", weight_dtype=storage)
    llamalab.compile(spread, scope="none", weight_dtype=storage)
    exact = logits_of(whole)
    layers = len(quantised_layers(spread))
    return {"far": far(logits_of(spread), exact), "moved": far(logits_of(plain), exact), "layers": layers}


def _collectives(arch: LlamaArch, mesh: Any) -> dict[str, Any]:
    """Both ways to run a model, a prefill and a decode step: what ran and what the op table says."""
    spread = llamalab.parallelize(llamalab.build(arch, dtype="fp32"), mesh)
    own = build_share(arch, mesh, dtype="bf16", tie_blocks=1)
    return {
        "dtensors": [_counted(spread, arch, mesh, "fp32", new_tokens) for new_tokens in (7, 1)],
        "own shares": [_counted(own, arch, mesh, "bf16", new_tokens) for new_tokens in (7, 1)],
    }


def _counted(model: Transformer, arch: LlamaArch, mesh: Any, dtype: str, new_tokens: int) -> list[Any]:
    with torch.inference_mode(), CountedCollectives() as counted:
        model(torch.zeros(3, new_tokens, dtype=torch.int64), logits="last")
    table = expected_collectives(
        forward_ops(arch, PassShape(new_tokens=new_tokens, batch=3, dtype=dtype, tensor_parallel=mesh.size()))
    )
    return [sorted((*one, calls) for one, calls in found.items()) for found in (counted.calls, table)]


def _timed(storage: str | None, mesh: Any) -> list[dict[str, Any]]:
    """What the passes of a report leave behind, of weights in such a storage and a cache in another dtype."""
    team: Any = SimpleNamespace(
        mesh=mesh, place=Place(mesh.get_local_rank(), mesh.size(), 0), device=torch.device("cpu")
    )
    kept = None if storage is None else KeptWeights(storage, None, 4)
    work = SharedWork(LlamaArch(512, 2, 8, 2, 1024, 512), "fp32", 2, 8, 20, "bf16", "naive", kept)
    return [vars(one) | {"by_rank": len(one.by_rank)} for one in time_ranks(team, work, budget_s=0.0)]


def _clock_lead_s(mesh: Any, ahead_s: float) -> float:
    """What the last rank takes the lead of its clock to be, where it is so much ahead."""
    last = mesh.get_local_rank() == mesh.size() - 1
    lead_s = clock_lead_s(mesh.get_group(), now=lambda: time.perf_counter() + (ahead_s if last else 0.0))
    told: list[Any] = [None] * mesh.size()
    torch.distributed.all_gather_object(told, lead_s, group=mesh.get_group())
    return float(told[-1])


def _views(arch: LlamaArch, mesh: Any) -> dict[str, Any]:
    """What a tap sees of a whole model and, through a WholeView, of one that ranks share; and an edit of one head."""
    seen: list[dict[str, Tensor]] = []

    def look(name: str, tensor: Tensor) -> Tensor:
        seen[-1][name] = tensor.clone()
        return tensor * 2 if name == "layers.0.attention.z" else tensor

    tokens_BT, logits = torch.arange(14).view(2, 7), []
    alone, spread = (seeded(llamalab.build(arch, dtype="fp32")) for _ in range(2))
    llamalab.parallelize(spread, mesh)
    for model, tap in ((alone, look), (spread, WholeView(look, spread))):
        seen.append({})
        with torch.inference_mode():
            logits.append(model(tokens_BT, tap=tap))
    shapes = [{name: list(tensor.shape) for name, tensor in one.items()} for one in seen]
    return {
        "points": len(seen[0]), "same shapes": shapes[0] == shapes[1], "logits": far(*logits),
        "far": max(far(seen[0][name].nan_to_num(neginf=0), one.nan_to_num(neginf=0)) for name, one in seen[1].items()),
    }  # fmt: skip


def _loaded(mesh: Any, folder: Path) -> dict[str, float]:
    """A model from Meta's shards of several numbers, and from other formats, against one that is loaded whole."""
    from llamalab.checkpoints import write_llama2c
    from llamalab.checkpoints.convert import convert

    model = seeded(llamalab.build(arch_of(4), dtype="fp32"))
    writers: dict[str, Callable[[Path], Any]] = {
        f"Meta, {shards} shards": lambda path, shards=shards: _written(path, model, shards) for shards in (1, 2, 4)
    }
    paths = {name: folder / name.replace(" ", "-") for name in writers}
    if mesh.get_local_rank() == 0:
        for name, write in writers.items():
            write(paths[name])
        write_llama2c(folder / "model.bin", model)
        convert(folder / "Meta,-1-shards", folder / "hf", to="hf")
        convert(folder / "Meta,-1-shards", folder / "model.gguf", to="gguf")
    torch.distributed.barrier()
    paths |= {"llama2.c": folder / "model.bin", "Hugging Face": folder / "hf", "GGUF": folder / "model.gguf"}
    whole = logits_of(model)
    return {name: far(logits_of(load_share(path, mesh, dtype="fp32")), whole) for name, path in paths.items()}


def _written(path: Path, model: Transformer, shards: int) -> None:
    path.mkdir()
    write_meta(path, weights_of(model), dtype=None, shards=shards)
