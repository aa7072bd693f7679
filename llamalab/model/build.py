"""A model of a known shape with random weights: for measuring and for tests, where values do not matter.

Weights are normal with standard deviation 0.02 (norms are 1), drawn once into a pool of 2**22 - 3 values, a
prime, and laid out end to end. Drawing every value of a 7B model takes a CPU half a minute, copying
them 2 s; since no row length divides a prime, neighbouring rows see the pool at other places.
"""

import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.errors import DoesNotFitError
from llamalab.model.dtypes import torch_device
from llamalab.model.transformer import Transformer
from llamalab.presets import resolve_model
from llamalab.units import format_bytes

_POOL_SIZE = 2**22 - 3
_STD = 0.02


def build(
    model: str | LlamaArch,
    *,
    dtype: str = "bf16",
    device: str | torch.device = "cpu",
    attention: str = "sdpa",
    seed: int = 0,
) -> Transformer:
    """A Transformer with random weights, the same ones for the same seed on every device.

    `model` is a preset name, the path of a `params.json` or `config.json`, or an architecture. Torch's global
    random state is left alone. On device "meta" there are shapes and no weights. Raises DoesNotFitError
    where the device cannot hold the weights, MissingError where it is absent.

    >>> build("tiny", device="meta").tok_embeddings.weight.shape
    torch.Size([32000, 288])
    """
    arch = model if isinstance(model, LlamaArch) else resolve_model(model)[1]
    # torch would initialise every weight only for it to be overwritten: on meta that costs nothing.
    built, place = Transformer(arch, attention=attention, dtype=dtype, device="meta"), torch_device(device)
    if place.type != "meta":
        _allocate(built, place)
        _fill(built, seed)
    return built


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
    pool = torch.empty(_POOL_SIZE).normal_(0.0, _STD, generator=torch.Generator().manual_seed(seed))
    pool = pool.to(model.tok_embeddings.weight)
    at = 0
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.fill_(1.0)
        else:
            at = _lay_out(parameter.view(-1), pool, at)


def _lay_out(flat: Tensor, pool: Tensor, at: int) -> int:
    """Fill `flat` from the pool, beginning at `at` and starting over at its end; where it stopped."""
    done = 0
    while done < len(flat):
        size = min(len(flat) - done, len(pool) - at)
        flat[done : done + size] = pool[at : at + size]
        done, at = done + size, (at + size) % len(pool)
    return at
