"""The share of one rank: its part of every weight, loaded or drawn without the whole model in memory.

Weights come one by one; each is cut and the whole freed, so that a rank needs its share and one weight more. Of Meta's
shards a rank reads those that it holds, where one of the two numbers divides the other.
"""

import os
from typing import Any

import torch
from torch import Tensor

from llamalab.analytic.parallel import shard
from llamalab.arch import LlamaArch
from llamalab.checkpoints import open_weights
from llamalab.checkpoints.checkpoint import Weights, model_shapes
from llamalab.checkpoints.lora import merged
from llamalab.model import Transformer
from llamalab.model.build import Draw, repeat_blocks
from llamalab.model.dtypes import activation_dtype, torch_device
from llamalab.model.own_share import take_shares
from llamalab.parallel.plan import parallelize, roles


def share_of_weight(name: str, whole: Tensor, arch: LlamaArch, rank: int, ranks: int) -> Tensor:
    """The part of a weight or bias (under Meta's name) on one rank: a view.

    >>> arch = LlamaArch(8, 1, 4, 2, 16, 32)
    >>> share_of_weight("layers.0.attention.wo.weight", torch.empty(8, 8), arch, 0, 4).shape
    torch.Size([8, 2])
    """
    module, _, leaf = name.rpartition(".")
    role = roles(arch).get(module)
    if role is None or (role == "rows" and leaf == "bias"):
        return whole
    if module.endswith((".wk", ".wv")) and arch.n_kv_heads < ranks:
        first = rank * arch.n_kv_heads // ranks * arch.head_dim
        return whole[first : first + arch.head_dim]
    axis = 1 if role == "rows" or (role == "gathered" and module == "tok_embeddings") else 0
    return whole.chunk(ranks, axis)[rank]


def load_share(
    path: str | os.PathLike[str],
    mesh: Any,
    *,
    dtype: str | None = None,
    device: str = "cpu",
    attention: str = "sdpa",
    lora: str | os.PathLike[str] | None = None,
) -> Transformer:
    """The model of a checkpoint, spread over the ranks of a mesh; each reads its part.

    Arguments and errors as for llamalab.load; InputError too for ranks that do not divide the model.
    """
    kind, place = None if dtype is None else activation_dtype(dtype), torch_device(device)
    weights = open_weights(path)
    shard(weights.arch, mesh.size())
    if lora is not None:
        weights = merged(weights, lora)
    state = {}
    for name in model_shapes(weights.arch):
        state[name] = fetch_part(weights, name, mesh.get_local_rank(), mesh.size(), kind or weights.dtype, place)
    model = Transformer(weights.arch, attention=attention, device="meta")
    return _filled(parallelize(model, mesh), state, mesh)


def fetch_part(weights: Weights, name: str, rank: int, ranks: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A rank's part of a weight in memory of its own; a sharded format gives just these rows."""
    copied = ranks > weights.arch.n_kv_heads and (".wk." in name or ".wv." in name)  # heads that ranks share
    own = None if weights.fetch_part is None or copied else weights.fetch_part(name, rank, ranks)
    if own is not None:
        return own.to(device=device, dtype=dtype, memory_format=torch.contiguous_format)
    whole = weights.fetch(name)
    part = share_of_weight(name, whole, weights.arch, rank, ranks)
    return part.to(device=device, dtype=dtype, copy=True, memory_format=torch.contiguous_format)


@torch.no_grad()
def build_share(
    arch: LlamaArch,
    mesh: Any,
    *,
    dtype: str = "bf16",
    device: str | torch.device = "cpu",
    attention: str = "sdpa",
    seed: int = 0,
    tie_blocks: int | None = None,
) -> Transformer:
    """The model of llamalab.build, spread over the ranks of a mesh as plain tensors.

    Errors as for llamalab.build; InputError too for ranks that do not divide the model.

    Args:
        arch: the architecture of the whole model.
        mesh: torch's device mesh of the ranks.
        dtype: of weights and activations.
        device: where this rank's share is placed.
        attention: the attention backend, by name.
        seed: of the random weights, the same on every rank.
        tie_blocks: blocks that are built and used in turn, all by default.
    """
    kind, place = activation_dtype(dtype), torch_device(device)
    few = arch if tie_blocks is None else arch.replace(n_layers=tie_blocks)
    model, draw = Transformer(few, attention=attention, dtype=dtype, device="meta"), Draw(kind, place, seed)
    state = {}
    for name, parameter in model.named_parameters():
        whole = torch.empty(parameter.shape, dtype=kind, device=place)
        draw.fill(name, whole)
        state[name] = share_of_weight(name, whole, few, mesh.get_local_rank(), mesh.size()).clone(
            memory_format=torch.contiguous_format
        )
    _filled(parallelize(model, mesh), state, mesh)
    take_shares(model)
    repeat_blocks(model, arch)
    return model


def _filled(model: Transformer, state: dict[str, Tensor], mesh: Any) -> Transformer:
    """The model with meta weights replaced by the rank's parts."""
    from torch.distributed.tensor import DTensor

    cut = {}
    for name, parameter in model.named_parameters():
        own, whole = state[name], parameter.data
        cut[name] = (
            DTensor.from_local(own, mesh, whole.placements, run_check=False) if isinstance(whole, DTensor) else own
        )
    model.load_state_dict(cut, assign=True)
    return model
