"""Initial weights for training, scaled by the number of a layer's inputs.

llamalab.build fills every matrix with deviation 0.02, which suits a model dim of thousands; a small model learns slowly
from it, and one with gates, whose two factors are both too small, the most slowly. Here a matrix has deviation
1 / sqrt(inputs), and those that write into the residual stream 1 / sqrt(2 L) of that (Radford et al. 2019, GPT-2), so
that the stream has the same size after L blocks as after one. Embeddings have 1, as in torch: the stream begins with
the size of its increments; those of a tied model have 1 / sqrt(D), as the head.
"""

import torch
from torch import nn

from llamalab.model.transformer import TiedOutput

EMBEDDING_STD = 1.0
_INTO_STREAM = ("wo", "w2")


@torch.no_grad()
def begin(model: nn.Module, *, layers: int, seed: int) -> None:
    """Fill every matrix of a model, the same values for the same seed; norms and biases are unchanged.

    `layers` is the number of blocks that write into the residual stream.

    >>> import llamalab
    >>> model = llamalab.build("stories260k", dtype="fp32")
    >>> begin(model, layers=5, seed=0)
    >>> round(float(model.layers[0].attention.wq.weight.detach().std()) * 64**0.5, 1)
    1.0
    """
    generator = torch.Generator().manual_seed(seed)
    tied = any(isinstance(module, TiedOutput) for module in model.modules())
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            share = (2 * layers) ** -0.5 if name.rpartition(".")[2] in _INTO_STREAM else 1.0
            _fill(module.weight, share * module.in_features**-0.5, generator)
        elif isinstance(module, nn.Embedding):
            _fill(module.weight, EMBEDDING_STD if not tied else module.embedding_dim**-0.5, generator)


def _fill(weight: torch.Tensor, std: float, generator: torch.Generator) -> None:
    weight.copy_(torch.empty(weight.shape, dtype=torch.float32).normal_(0.0, std, generator=generator))
