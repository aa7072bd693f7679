"""One new query of each sequence, by two products over all sequences and heads at once.

Sequences of different lengths share the products; keys after the end of a shorter one are masked.

B batch, S keys in view, H query heads, K KV heads, G = H / K, E head dim, N = B * K.
"""

import torch
from torch import Tensor
from torch.nn import functional


def one_query(q_BH1E: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, hidden_BS: Tensor | None = None) -> Tensor:
    """z_BH1E; `hidden_BS` is true where a sequence must not see a key (default: all see all)."""
    if hidden_BS is not None and q_BH1E.is_cuda:
        seen_B11S, grouped = ~hidden_BS[:, None, None], q_BH1E.shape[1] != k_BKSE.shape[1]
        return functional.scaled_dot_product_attention(q_BH1E, k_BKSE, v_BKSE, attn_mask=seen_B11S, enable_gqa=grouped)
    batch, kv_heads, keys, head_dim = k_BKSE.shape
    q_NEG = q_BH1E.reshape(batch * kv_heads, -1, head_dim).transpose(1, 2)
    k_NSE, v_NSE = (x.reshape(batch * kv_heads, keys, head_dim) for x in (k_BKSE, v_BKSE))
    # The keys on the left of their product: on the right oneDNN would copy those of a longer cache.
    scores_NSG = torch.baddbmm(q_NEG.new_empty(1), k_NSE, q_NEG, beta=0, alpha=head_dim**-0.5)
    if hidden_BS is not None:
        scores_NSG.view(batch, kv_heads, keys, -1).masked_fill_(hidden_BS[:, None, :, None], float("-inf"))
    return torch.bmm(scores_NSG.transpose(1, 2).softmax(-1), v_NSE).view_as(q_BH1E)
