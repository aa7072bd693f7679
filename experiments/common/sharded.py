"""One training step for real on two ranks of this machine, shared in torch's own ways, and what a rank holds.

    zero-1     ZeroRedundancyOptimizer: every rank has weights and gradients, and a part of the states
    zero-3     fully_shard (FSDP2): every block, and the rest, gathered for its use
    tensor     DTensor: q, k, v, gate, up and tables by outputs, o and down by inputs
    pipeline   two stages of torch.distributed.pipelining, one forward one backward

All that torch's allocator hands out on a rank is counted from before its model is built, so that buckets and buffers
that outlast a step are in the sum. Ranks of zero-1 and pipeline talk by gloo. What its thread is the last to let go of
is never seen freed by the profiler: each step begins when gloo has had its turn, and of several steps the least is
what one takes. The messages of zero-3 and tensor are allocated and not sent (torch's fake process group): gloo copies
each, as no device does.
"""

import gc
import tempfile
import time
from functools import partial
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.tensor import DTensor
from torch.multiprocessing import spawn
from torch.testing._internal.distributed.fake_pg import FakeStore

from experiments.common.tuned import Taken, hugging_face
from llamalab.analytic.tuning import Tuning
from llamalab.measure.device.profiler import profiling

PAUSE_S = 0.2  # before a step, for gloo's thread
RANKS, STEPS = 2, 5  # of which the first has the states of the optimiser made
_STEP = "a whole step"  # its name among the profiler's events
COPIED = ("zero-3", "tensor")  # ways whose messages gloo would copy
WAYS = ("zero-1", "zero-3", "tensor", "pipeline")


def shared_step(step: Tuning, way: str) -> Taken:
    """What the fullest rank holds in a step after its first."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_rank, (step, way, folder), nprocs=RANKS)
        held = [Taken(*torch.load(f"{folder}/{rank}.pt")) for rank in range(RANKS)]
        return max(held, key=lambda one: one.total_bytes)


def _rank(rank: int, step: Tuning, way: str, folder: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if way in COPIED:
        distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=RANKS)
    else:
        distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS)
    kind = torch.float32 if step.dtype == "fp32" else torch.bfloat16
    with profiling(memory=True) as profile:
        model = hugging_face(step.arch, "sdpa").to(kind).train()
        ways = {"zero-1": _zero_1, "zero-3": _zero_3, "tensor": _tensor, "pipeline": _pipeline}
        model, update, run = ways[way](model, step, rank)
        gc.collect()  # what was shared out lies in cycles
        for _ in range(STEPS):
            time.sleep(PAUSE_S)
            with torch.profiler.record_function(_STEP):
                run()
                update.step()
                update.zero_grad(set_to_none=True)
    peak = min(_step_peaks(profile.kineto_results.events())[1:])
    weights = [_local(weight) for weight in model.parameters()]
    own = getattr(update, "optim", update)  # the part of a ZeroRedundancyOptimizer that is this rank's
    states = [_local(v) for state in own.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    sizes = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in (*weights, *states)}
    resident = sum(sizes.values())
    torch.save((resident, peak - resident, sum(one.numel() for one in weights)), f"{folder}/{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


def _step_peaks(events: list[Any]) -> list[int]:
    """The highest sum of live bytes in each step, of all that was allocated since the first event."""
    steps = sorted((one.start_ns(), one.start_ns() + one.duration_ns()) for one in events if one.name() == _STEP)
    peaks, held = [0] * len(steps), 0
    for event in sorted((one for one in events if one.name() == "[memory]"), key=lambda one: one.start_ns()):
        held += event.nbytes()
        for turn, (start, end) in enumerate(steps):
            if start <= event.start_ns() <= end:
                peaks[turn] = max(peaks[turn], held)
    return peaks


def _local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _tokens(step: Tuning) -> torch.Tensor:
    return torch.arange(step.batch * step.seq).view(step.batch, step.seq) % step.arch.vocab_size


def _loss(model: Any, step: Tuning) -> None:
    tokens_BT = _tokens(step)
    model(input_ids=tokens_BT, labels=tokens_BT, use_cache=False).loss.backward()


def _adamw(model: nn.Module) -> Any:
    return torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)


def _zero_1(model: nn.Module, step: Tuning, rank: int) -> tuple[Any, Any, Any]:
    from torch.distributed.optim import ZeroRedundancyOptimizer
    from torch.nn.parallel import DistributedDataParallel

    # Ranks draw the same weights; sent at the start, they would lie in a copy whose end gloo's thread decides.
    shared = DistributedDataParallel(model, gradient_as_bucket_view=True, init_sync=False)
    update = ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=1e-3, fused=True)
    return model, update, partial(_loss, shared, step)


def _zero_3(model: Any, step: Tuning, rank: int) -> tuple[Any, Any, Any]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (RANKS,))
    for block in model.model.layers:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, _adamw(model), partial(_loss, model, step)


def _tensor(model: Any, step: Tuning, rank: int) -> tuple[Any, Any, Any]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        loss_parallel,
        parallelize_module,
    )

    plan: dict[str, Any] = {
        "model.embed_tokens": RowwiseParallel(input_layouts=Replicate()),
        "lm_head": ColwiseParallel(output_layouts=Shard(-1), use_local_output=False),
    }
    for layer in range(step.arch.n_layers):
        home = f"model.layers.{layer}."
        plan |= {f"{home}self_attn.{name}_proj": ColwiseParallel() for name in "qkv"}
        plan |= {f"{home}mlp.{name}_proj": ColwiseParallel() for name in ("gate", "up")}
        plan |= {f"{home}self_attn.o_proj": RowwiseParallel(), f"{home}mlp.down_proj": RowwiseParallel()}
    parallelize_module(model, init_device_mesh("cpu", (RANKS,)), plan)

    def run() -> None:
        with loss_parallel():
            _loss(model, step)

    return model, torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=False), run


class _Stage(nn.Module):
    """A share of the blocks, with the embedding before the first or the head after the last."""

    def __init__(self, model: Any, rank: int) -> None:
        super().__init__()
        blocks, body = len(model.model.layers) // RANKS, model.model
        self.layers = body.layers[rank * blocks : (rank + 1) * blocks]
        self.turns = body.rotary_emb
        self.embed = body.embed_tokens if rank == 0 else None
        self.head = nn.Sequential(body.norm, model.lm_head) if rank == RANKS - 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Of token ids or of the stage before."""
        x = x if self.embed is None else self.embed(x)
        turns = self.turns(x, torch.arange(x.shape[1])[None])
        for layer in self.layers:
            x = layer(x, position_embeddings=turns, attention_mask=None)
        return x if self.head is None else self.head(x)


def _pipeline(model: Any, step: Tuning, rank: int) -> tuple[Any, Any, Any]:
    from torch.distributed.pipelining import PipelineStage, Schedule1F1B

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten())

    own = _Stage(model, rank)
    schedule = Schedule1F1B(PipelineStage(own, rank, RANKS, torch.device("cpu")), step.accumulate, loss_fn=loss)
    tokens_BT = _tokens(step).repeat(step.accumulate, 1)

    def run() -> None:
        own_inputs, labels = (() if rank else (tokens_BT,)), ({"target": tokens_BT} if rank == RANKS - 1 else {})
        schedule.step(*own_inputs, return_outputs=False, **labels)  # else the logits of every pass stay

    return own, _adamw(own), run
