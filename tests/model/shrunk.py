"""Small models with the traits of real presets, and sizes that no two of which are equal."""

import torch

from llamalab.arch import LlamaArch
from llamalab.model import Transformer
from llamalab.presets import PRESETS

_SMALL = {"dim": 120, "n_layers": 2, "n_heads": 12, "ffn_dim": 182, "vocab_size": 97}

# H 12, E 10, D 120, F 182, V 97, L 2; K 12, 4, 1 and so G 1, 3, 12.
ARCHES: dict[str, LlamaArch] = {
    "MHA": PRESETS["7b"].arch.replace(**_SMALL, n_kv_heads=12),
    "GQA": PRESETS["34b"].arch.replace(**_SMALL, n_kv_heads=4),
    "MQA": PRESETS["llama1-7b"].arch.replace(**_SMALL, n_kv_heads=1),
}


def small_model(arch: LlamaArch, *, attention: str = "sdpa", dtype: str = "fp32") -> Transformer:
    """The same random weights for the same architecture; norms differ from 1, logits are of order 1."""
    model = Transformer(arch, attention=attention, dtype=dtype)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            values = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + values / 4 if parameter.dim() == 1 else values / parameter.shape[1] ** 0.5)
    return model


def some_tokens(batch: int, new_tokens: int, vocab_size: int = 97) -> torch.Tensor:
    """tokens_BT, always the same."""
    return torch.randint(vocab_size, (batch, new_tokens), generator=torch.Generator().manual_seed(batch + new_tokens))
