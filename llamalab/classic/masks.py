"""The three masks of the Transformer of 2017: which key a query sees. True is seen.

Encoder: all source tokens but padding. Self attention of the decoder: earlier tokens but padding. Cross attention: that
of the encoder, for every target token. B batch, T new tokens, S keys.
"""

import torch
from torch import Tensor


def padding_mask(tokens_BS: Tensor, padding_id: int) -> Tensor:
    """seen_B11S: the keys that are no padding; for the encoder and for cross attention.

    >>> padding_mask(torch.tensor([[5, 6, 0]]), 0).squeeze().tolist()
    [True, True, False]
    """
    return (tokens_BS != padding_id)[:, None, None, :]


def causal_mask(new_tokens: int, past_tokens: int = 0, *, device: torch.device | None = None) -> Tensor:
    """seen_TS: query t sees the past and the new tokens up to itself.

    >>> causal_mask(2, 1).int().tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    keys = past_tokens + new_tokens
    return torch.ones(new_tokens, keys, dtype=torch.bool, device=device).tril(past_tokens)


def target_mask(tokens_BT: Tensor, padding_id: int) -> Tensor:
    """seen_B1TT of a whole target: causal, without padding.

    Padding stands behind the text, so that each query sees itself or something before it.
    """
    return causal_mask(tokens_BT.shape[1], device=tokens_BT.device) & padding_mask(tokens_BT, padding_id)
