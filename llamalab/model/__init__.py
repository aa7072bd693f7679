"""The Llama 2 reference in plain PyTorch: what one forward pass computes, and where to look inside.

Dimension letters, as suffixes of tensors (`k_BKSE`):

    B batch              H query heads          F feed-forward dim
    T new tokens         K KV heads             V vocabulary
    S keys in view       G = H / K              L layers
    D model dim          E head dim

Read in this order: transformer, attention, feed_forward, norm, rope, kv_cache, build; compiled makes it fast.
"""

from llamalab.model.build import build
from llamalab.model.dtypes import torch_dtype
from llamalab.model.dynamic_kv_cache import DynamicKVCache
from llamalab.model.kv_cache import StaticKVCache
from llamalab.model.ragged_kv_cache import RaggedKVCache
from llamalab.model.transformer import Transformer

__all__ = ["DynamicKVCache", "RaggedKVCache", "StaticKVCache", "Transformer", "build", "torch_dtype"]
