"""A rank's share of a spread model as plain tensors, for fast inference.

llamalab.parallelize makes weights DTensors, whose dispatch takes a CPU longer than a small product does. Here each
module gets the part of its weight that the rank holds, and a hook that asks torch.distributed for what is missing:

    columns       wq, wk, wv, w1, w3           rows of the weight; outputs stay apart
    rows          wo, w2                       columns of the weight; outputs are added up by an all-reduce
    gathered      embedding by its columns, head by its rows: outputs are put side by side by an all-gather
    vocabulary    the embedding of a tied model by its rows: outputs are added up, rows of other ranks are 0

D model dim, V vocabulary, O out features, I in features.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional


class Sent(NamedTuple):
    """One collective: what it was, the bytes of its whole buffer, and when it began and ended on this rank's clock."""

    kind: str
    buffer_bytes: int
    began_s: float
    ended_s: float


class Link:
    """The ranks that share a model and the collectives that modules ask of them; `log` keeps these where it is a list.

    As forward hooks `all_reduce` and `all_gather` take a module's output and return what takes its place.
    """

    def __init__(self, group: Any) -> None:
        self.group, self.ranks, self.rank = group, dist.get_world_size(group), dist.get_rank(group)
        self.log: list[Sent] | None = None

    def all_reduce(self, module: nn.Module, inputs: Any, out: Tensor) -> Tensor:
        """The sum of all ranks' outputs."""
        began_s = self._moment(out)
        dist.all_reduce(out, group=self.group)
        self._note("all_reduce", out.nbytes, began_s, out)
        return out

    def all_gather(self, module: nn.Module, inputs: Any, out: Tensor) -> Tensor:
        """The outputs of all ranks side by side."""
        began_s = self._moment(out)
        own = out.contiguous()
        parts = [torch.empty_like(own) for _ in range(self.ranks)]
        dist.all_gather(parts, own, group=self.group)
        self._note("all_gather", own.nbytes * self.ranks, began_s, out)
        return torch.cat(parts, dim=-1)

    def over_parts(self, module: nn.Module) -> Callable[[Tensor], Tensor] | None:
        """For a module with columns of a weight: the largest value of each whole row, from that of the part."""
        return self._largest if self.all_reduce in module._forward_hooks.values() else None

    def _largest(self, values: Tensor) -> Tensor:
        dist.all_reduce(values, op=dist.ReduceOp.MAX, group=self.group)
        return values

    def _note(self, kind: str, buffer_bytes: int, began_s: float, out: Tensor) -> None:
        if self.log is not None:
            self.log.append(Sent(kind, buffer_bytes, began_s, self._moment(out)))

    def _moment(self, out: Tensor) -> float:
        """The current time; with a log, after the device has finished earlier work, which is no part of sending."""
        if self.log is not None and out.device.type != "cpu":
            torch.accelerator.synchronize(out.device)
        return time.perf_counter()


class Spread(NamedTuple):
    """The spread of a model: the ranks of a mesh, and the cut of each module's weight."""

    mesh: Any
    roles: dict[str, str]


class VocabularyRows(nn.Module):
    """The rows of an embedding that one rank holds; ids of other ranks give zeros."""

    def __init__(self, weight_VD: nn.Parameter, first: int) -> None:
        super().__init__()
        self.weight, self.first = weight_VD, first

    def forward(self, tokens_BT: Tensor) -> Tensor:
        own_BT = tokens_BT - self.first
        there_BT = (own_BT >= 0) & (own_BT < len(self.weight))
        rows_BTD = functional.embedding(own_BT.where(there_BT, 0), self.weight)
        return rows_BTD * there_BT.unsqueeze(-1)


def take_shares(model: Any) -> Link:
    """Replace every spread weight by the rank's own share; returns the link through which the model sends from now on.

    Modules are replaced: hooks on them are lost, as where weights are packed.
    """
    spread: Spread = model.spread
    link, made = Link(spread.mesh.get_group()), dict[int, nn.Module]()
    for name, role in spread.roles.items():
        home, _, leaf = name.rpartition(".")
        old = model.get_submodule(name)
        if id(old) not in made:
            made[id(old)] = _own(old, role, link, model)
        setattr(model.get_submodule(home), leaf, made[id(old)])
    model.spread, model.link = None, link
    return link


def _own(module: nn.Module, role: str, link: Link, model: Any) -> nn.Module:
    if not isinstance(module, nn.Linear | nn.Embedding):  # the head of a tied model: its embedding was replaced before
        tied: nn.Module = type(module)(model.tok_embeddings)
        tied.register_forward_hook(link.all_gather)
        return tied
    weight = _local(module.weight)
    if role == "vocabulary":
        own: nn.Module = VocabularyRows(weight, link.rank * len(weight))
    elif isinstance(module, nn.Embedding):
        own = nn.Embedding.from_pretrained(weight.data, freeze=True)  # type: ignore[no-untyped-call]
    else:
        own = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        own.weight = weight
        if module.bias is not None and (role != "rows" or link.rank == 0):  # added up over ranks: one of them adds it
            own.bias = _local(module.bias)
    if role in ("rows", "vocabulary"):
        own.register_forward_hook(link.all_reduce)
    elif role == "gathered":
        own.register_forward_hook(link.all_gather)
    return own


def _local(parameter: Any) -> nn.Parameter:
    with torch.inference_mode(False):  # inside of it a DTensor does not give its part
        local: Tensor = parameter.detach().to_local()
    return nn.Parameter(local, requires_grad=False)
