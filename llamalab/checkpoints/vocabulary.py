"""A larger or smaller vocabulary: rows are appended to the embedding and the head, or cut off.

A new row is the mean of the old ones, so that a new token is at first as likely as an average one (Hewitt
2021, "Initializing new word embeddings"). Checkpoints with an extended vocabulary, as those of Chinese derivatives
with 55,296 tokens, load without this; it makes such models, and serves adapters with a larger embedding.
"""

import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.checkpoints.checkpoint import Weights, model_shapes, weights_of
from llamalab.model import Transformer

_PER_TOKEN = ("tok_embeddings.weight", "output.weight")


def resize_vocabulary(model: Transformer, vocab_size: int) -> Transformer:
    """A model with `vocab_size` tokens; unchanged weights are shared with the given one.

    >>> import llamalab
    >>> model = llamalab.build("stories260k")
    >>> resize_vocabulary(model, 600).tok_embeddings.weight.shape
    torch.Size([600, 64])
    """
    weights = resized(weights_of(model), vocab_size)
    made = Transformer(weights.arch, attention=model.backend.name, device="meta")
    made.load_state_dict({name: weights.fetch(name) for name in model_shapes(weights.arch)}, assign=True)
    return made


def resized(weights: Weights, vocab_size: int) -> Weights:
    """The same weights with `vocab_size` tokens. Raises InputError for a size that no vocabulary has."""
    arch = weights.arch.replace(vocab_size=vocab_size)

    def fetch(name: str, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Tensor:
        weight = weights.fetch(name, dtype=dtype, device=device)
        return _with_rows(weight, arch) if name in _PER_TOKEN else weight

    return weights._replace(arch=arch, fetch=fetch, fetch_part=None)


def _with_rows(weight_VD: Tensor, arch: LlamaArch) -> Tensor:
    weight_VD = weight_VD.detach()
    missing = arch.vocab_size - len(weight_VD)
    if missing <= 0:
        return weight_VD[: arch.vocab_size].clone()
    mean_D = weight_VD.mean(0, dtype=torch.float32).to(weight_VD.dtype)
    return torch.cat((weight_VD, mean_D.expand(missing, -1)))
