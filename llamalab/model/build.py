"""A model of a given shape with random weights, for measurements and tests in which values do not matter.

Weights are normal with standard deviation 0.02 (norms are 1), drawn once into a pool of 2**22 - 3 values, a
prime, and laid out end to end. Drawing every value of a 7B model takes a CPU half a minute, copying
them 2 s; since no row length divides a prime, neighbouring rows begin at different places of the pool.

A model larger than memory can be run at its full depth over k distinct blocks: block i computes with the
parameters of block i % k. Time and traffic are those of the whole model as long as no cache holds k blocks
(llamalab.measure.target.blocks.choose_tied); what it computes is not that of any trained model.
"""

import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.errors import DoesNotFitError, InputError
from llamalab.formatting import format_bytes
from llamalab.model.dtypes import torch_device
from llamalab.model.transformer import Transformer, TransformerBlock
from llamalab.presets import resolve_model

_POOL_SIZE = 2**22 - 3
_STD = 0.02


def build(
    model: str | LlamaArch,
    *,
    dtype: str = "bf16",
    device: str | torch.device = "cpu",
    attention: str = "sdpa",
    seed: int = 0,
    tie_blocks: int | None = None,
) -> Transformer:
    """A Transformer with random weights, the same ones for the same seed on every device.

    Torch's global random state is not changed.

    Args:
        model: a preset name, the path of a `params.json` or `config.json`, or an architecture.
        dtype: bf16, fp16 or fp32.
        device: of the weights; on "meta" there are shapes and no weights.
        attention: a name of llamalab.attention.
        seed: of the random weights.
        tie_blocks: layers share the parameters of the first so many blocks in turn; each keeps its own place in a
            KV cache (default: no layer shares any).

    Raises DoesNotFitError where the device cannot hold the weights, MissingError where it is absent, InputError
    for `tie_blocks` that is not 1 to the model's layers.

    >>> build("tiny", device="meta").tok_embeddings.weight.shape
    torch.Size([32000, 288])
    >>> tied = build("70b", device="meta", tie_blocks=2)
    >>> len(tied.layers), tied.layers[79].attention.wq.weight is tied.layers[1].attention.wq.weight
    (80, True)
    """
    arch = model if isinstance(model, LlamaArch) else resolve_model(model)[1]
    distinct = arch.n_layers if tie_blocks is None else tie_blocks
    if type(distinct) is not int or not 1 <= distinct <= arch.n_layers:
        raise InputError(f"tie_blocks must be a whole number from 1 to the model's {arch.n_layers}; got {tie_blocks!r}")
    # torch would initialise every weight only for it to be overwritten: on meta that costs nothing.
    few, place = arch.replace(n_layers=distinct), torch_device(device)
    built = Transformer(few, attention=attention, dtype=dtype, device="meta")
    if place.type != "meta":
        _allocate(built, place)
        _fill(built, seed)
    repeat_blocks(built, arch)
    return built


def repeat_blocks(model: Transformer, arch: LlamaArch) -> None:
    """Extend a model to the depth of `arch`, with blocks of the modules that it has.

    Call it after parameters are allocated: `to_empty` would give every block parameters of its own.
    """
    heads = {"n_heads": model.rank_arch.n_heads, "n_kv_heads": model.rank_arch.n_kv_heads, "head_dim": arch.head_dim}
    model.arch, model.rank_arch = arch, arch.replace(**heads)
    distinct = len(model.layers)
    for layer in range(distinct, arch.n_layers):
        block = TransformerBlock(arch, layer, model.backend, device=torch.device("meta"))
        for name, module in model.layers[layer % distinct].named_modules():
            if next(module.children(), None) is None:
                home, _, leaf = name.rpartition(".")
                setattr(block.get_submodule(home), leaf, module)
        model.layers.append(block)


def _allocate(model: Transformer, place: torch.device) -> None:
    nbytes = sum(parameter.nbytes for parameter in model.parameters())
    try:
        model.to_empty(device=place)
    except RuntimeError as error:
        raise DoesNotFitError(
            f"the weights, {format_bytes(nbytes)}, must fit on {place}; they do not; "
            "take a smaller model, a narrower dtype or fewer layers"
        ) from error


@torch.no_grad()
def _fill(model: Transformer, seed: int) -> None:
    draw = Draw(model.tok_embeddings.weight.dtype, model.tok_embeddings.weight.device, seed)
    for name, parameter in model.named_parameters():
        draw.fill(name, parameter)


class Draw:
    """The random weights of a seed: parameters filled one after another, in the order of the model."""

    def __init__(self, dtype: torch.dtype, device: torch.device, seed: int) -> None:
        pool = torch.empty(_POOL_SIZE).normal_(0.0, _STD, generator=torch.Generator().manual_seed(seed))
        self._pool, self._at = pool.to(device, dtype), 0

    def fill(self, name: str, parameter: Tensor) -> None:
        """Norms with 1, all else from the pool, beginning where the parameter before it stopped."""
        if parameter.dim() == 1 and not name.endswith(".bias"):
            parameter.fill_(1.0)
        else:
            self._at = _lay_out(parameter.view(-1), self._pool, self._at)


def _lay_out(flat: Tensor, pool: Tensor, at: int) -> int:
    """Fill `flat` from the pool, beginning at `at` and starting over at its end; returns the next place."""
    done = 0
    while done < len(flat):
        size = min(len(flat) - done, len(pool) - at)
        flat[done : done + size] = pool[at : at + size]
        done, at = done + size, (at + size) % len(pool)
    return at
