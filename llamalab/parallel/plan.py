"""The cut of each weight of a Llama, and the call that spreads a model over the ranks of a mesh.

As in Megatron and Meta's fairscale: wq, wk, wv, w1, w3 and the head by outputs, wo and w2 by inputs, the embedding
by its columns; norms are repeated. The embedding of a tied model is its head too, and is cut by its vocabulary.
With fewer KV heads than ranks, each rank has a copy of the one that its queries attend with.

H query heads, K KV heads, E head dim, D model dim.
"""

from typing import Any

from torch import Tensor, nn

from llamalab.analytic.parallel import rank_arch, shard
from llamalab.arch import LlamaArch
from llamalab.arch.fields import ATTENTION_VECTORS
from llamalab.errors import InputError
from llamalab.model import Transformer
from llamalab.model.own_share import Spread

_COLUMNS = ("attention.wq", "attention.wk", "attention.wv", "feed_forward.w1", "feed_forward.w3")
_ROWS = ("attention.wo", "feed_forward.w2")


def roles(arch: LlamaArch, layers: int | None = None) -> dict[str, str]:
    """The cut of each module's weight; modules without an entry are repeated on every rank.

    Raises InputError for vectors of attention, which no rank cuts yet.

    >>> from llamalab.presets import PRESETS
    >>> [roles(PRESETS["7b"].arch)[name] for name in ("tok_embeddings", "layers.0.attention.wo", "output")]
    ['gathered', 'rows', 'gathered']
    """
    if uncut := [flag for flag in ATTENTION_VECTORS if getattr(arch, flag)]:
        raise InputError(f"a model on several ranks must have no {uncut[0]}; this one has it; run it on one device")
    found = {"tok_embeddings": "vocabulary" if arch.tied_embeddings else "gathered"}
    for layer in range(arch.n_layers if layers is None else layers):
        found |= {f"layers.{layer}.{name}": "columns" for name in _COLUMNS}
        found |= {f"layers.{layer}.{name}": "rows" for name in _ROWS}
    return found | {"output": "gathered"}


def parallelize(model: Transformer, mesh: Any) -> Transformer:
    """The same model, each of its weights cut over the ranks of a one-dimensional DeviceMesh; in place.

    Every rank calls it with the same weights and keeps its part as a DTensor; nothing is sent. Passes take and give
    whole tensors on every rank; a KV cache is made for `model.rank_arch`, which has the heads of one rank. Taps see the
    rank's own heads and width inside attention and feed-forward, and whole tensors elsewhere (llamalab.parallel.views).
    `llamalab.compile` makes it fast for inference.

    Raises InputError for another kind of model, a mesh of several dimensions, and ranks that do not divide the
    model's heads and widths; all before anything is changed.
    """
    if not isinstance(model, Transformer):
        raise InputError(f"llamalab.parallelize must be given a llamalab.Transformer; got {type(model).__name__}")
    if model.spread is not None or model.link is not None:
        raise InputError("a model must be spread over ranks once; this one is; build or load another")
    if mesh.ndim != 1:
        raise InputError(f"the mesh must have one dimension, the ranks that share the model; got {mesh.ndim}")
    part = shard(model.arch, mesh.size())
    from torch.distributed.tensor.parallel import parallelize_module

    widen_kv_heads(model, part.ranks)
    found = roles(model.arch, len(model.layers))
    styles = {name: _style(role, model.get_submodule(name)) for name, role in found.items()}
    # The head of a tied model has no weight of its own; its style needs the embedding's to be cut first.
    parallelize_module(model, mesh, {name: style for name, style in styles.items() if style}, src_data_rank=None)
    if model.arch.tied_embeddings:
        _spread_tied_head(model.output, mesh)
    model.rank_arch, model.spread = rank_arch(model.arch, part.ranks), Spread(mesh, found)
    return model


def widen_kv_heads(model: Transformer, ranks: int) -> None:
    """Repeat the KV heads of a model, so that there is one for each rank; nothing where there are enough."""
    arch = model.arch
    copies = ranks // arch.n_kv_heads
    if copies <= 1:
        return
    done: dict[int, nn.Parameter] = {}
    for layer in model.layers:
        linears: tuple[Any, ...] = (layer.attention.wk, layer.attention.wv)  # type: ignore[union-attr]
        for linear in linears:
            linear.out_features = ranks * arch.head_dim
            for name, parameter in list(linear.named_parameters(recurse=False)):
                if id(parameter) not in done:
                    made = nn.Parameter(_repeated(parameter.detach(), arch, copies))
                    done[id(parameter)] = done[id(made)] = made
                setattr(linear, name, done[id(parameter)])


def _repeated(rows: Tensor, arch: LlamaArch, copies: int) -> Tensor:
    heads = rows.view(arch.n_kv_heads, arch.head_dim, *rows.shape[1:])
    return heads.repeat_interleave(copies, 0).reshape(-1, *rows.shape[1:])


def _style(role: str, module: nn.Module) -> Any:
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel

    if not isinstance(module, nn.Linear | nn.Embedding):
        return None
    if role == "columns":
        return ColwiseParallel()
    if role == "gathered":
        return ColwiseParallel(output_layouts=Replicate())
    return RowwiseParallel(input_layouts=Replicate()) if role == "vocabulary" else RowwiseParallel()


def _spread_tied_head(head: nn.Module, mesh: Any) -> None:
    """The head multiplies by the rank's rows of the embedding, and its outputs are concatenated."""
    from torch.distributed.tensor import DTensor, Replicate

    def spread(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (DTensor.from_local(inputs[0], mesh, [Replicate()], run_check=False),)

    def gathered(_: nn.Module, inputs: Any, out: Any) -> Tensor:
        whole: Tensor = out.redistribute(mesh, [Replicate()]).to_local()
        return whole

    head.register_forward_pre_hook(spread)
    head.register_forward_hook(gathered)
