"""The Llama 2 reference in plain PyTorch: one forward pass and its points.

Dimension letters, as suffixes of tensors (`k_BKSE`):

    B batch              H query heads          F feed-forward dim
    T new tokens         K KV heads             V vocabulary
    S keys in view       G = H / K              L layers
    D model dim          E head dim

Read in this order: transformer, attention, feed_forward, norm, rope, kv_cache, build; compiled makes it fast.

Belongs here: the forward pass and its optimisations. Does not belong here: costs, clocks, files, a branch on a model's
name: differences of models are fields of LlamaArch.
"""

from llamalab.model.build import build
from llamalab.model.dtypes import torch_dtype
from llamalab.model.kv_cache.dynamic import DynamicKVCache
from llamalab.model.kv_cache.ragged import RaggedKVCache
from llamalab.model.kv_cache.static import StaticKVCache
from llamalab.model.transformer import Transformer

__all__ = ["DynamicKVCache", "RaggedKVCache", "StaticKVCache", "Transformer", "build", "torch_dtype"]
