"""Encodings of positions, in place of RoPE or as scaled RoPE, around our own Transformer.

Only what is asked about differs. Where positions are not turned, q and k are turned by 1. Sinusoids and learned rows
are added to the embedding; ALiBi adds a bias to the scores (Press et al. 2021, arXiv 2108.12409).
B batch, T tokens, S keys, D dim, H heads, P pairs.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from llamalab.arch import LlamaArch
from llamalab.arch.parts import RopeScaling
from llamalab.attention import Backend
from llamalab.classic.positions import sinusoids
from llamalab.errors import InputError
from llamalab.model import Transformer
from llamalab.model.rope import rotations
from llamalab.model.tap import Tap

TRAINED = ("none", "learned", "sinusoidal", "rope", "alibi")
STRETCHED = ("linear", "dynamic", "yarn", "llama3")  # RoPE as trained, turned otherwise when it reads more


class Placed(nn.Module):
    """A Transformer whose tokens know their place in the way of `kind`, one of TRAINED."""

    def __init__(self, model: Transformer, kind: str, trained_tokens: int) -> None:
        super().__init__()
        self.model, self.kind = model, kind
        self.rows = nn.Parameter(torch.randn(trained_tokens, model.arch.dim) * 0.02) if kind == "learned" else None
        if kind == "alibi":
            model.use_attention(Backend("alibi", "flash", attend_alibi))

    def forward(self, tokens_BT: Tensor, tap: Tap | None = None) -> Tensor:
        """logits_BTV. Raises InputError for more tokens than there are learned rows."""
        model, tokens = self.model, tokens_BT.shape[1]
        x_BTD = model.tok_embeddings(tokens_BT)
        if self.kind == "sinusoidal":
            x_BTD = x_BTD * model.arch.dim**0.5 + sinusoids(0, tokens, model.arch.dim)
        if self.rows is not None:
            if tokens > len(self.rows):
                raise InputError(f"learned positions must have a row for each token; got {tokens} for {len(self.rows)}")
            x_BTD = x_BTD + self.rows[:tokens]
        turn_TP = rotations(0, tokens, model.arch, x_BTD.device)
        turn_TP = turn_TP if self.kind == "rope" else torch.ones_like(turn_TP)
        for layer in model.layers:
            x_BTD = layer(x_BTD, turn_TP, tap=tap)
        logits_BTV: Tensor = model.output(model.norm(x_BTD)).float()
        return logits_BTV


def slopes(n_heads: int) -> list[float]:
    """Each head's slope: 2**(-8 h / H) for H a power of two; else those of the next lower, and every other of twice it.

    >>> slopes(8)[:3], slopes(6)
    ([0.5, 0.25, 0.125], [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125])
    """
    lower = 2 ** math.floor(math.log2(n_heads))
    first = [2 ** (-8 * head / lower) for head in range(1, lower + 1)]
    between = [2 ** (-4 * head / lower) for head in range(1, 2 * (n_heads - lower), 2)]
    return first + between


def alibi_bias(n_heads: int, queries: int, keys: int) -> Tensor:
    """bias_HTS: minus the distance times the head's slope; -inf for keys after the query."""
    query_T1 = torch.arange(keys - queries, keys)[:, None]
    distance_TS = query_T1 - torch.arange(keys)
    bias_HTS = -torch.tensor(slopes(n_heads))[:, None, None] * distance_TS
    return bias_HTS.masked_fill(distance_TS < 0, float("-inf"))


def attend_alibi(
    q_BHTE: Tensor, k_BKSE: Tensor, v_BKSE: Tensor, *, query_offset: int, window: int | None = None
) -> Tensor:
    """z_BHTE of attention with ALiBi; the bias is a tensor in memory. Raises InputError for a window."""
    if window is not None:
        raise InputError(f"ALiBi must see all keys; got a window of {window}")
    bias_HTS = alibi_bias(q_BHTE.shape[1], q_BHTE.shape[2], k_BKSE.shape[2]).to(q_BHTE)
    return scaled_dot_product_attention(q_BHTE, k_BKSE, v_BKSE, attn_mask=bias_HTS[None], enable_gqa=True)


def stretched(arch: LlamaArch, kind: str, *, trained_tokens: int, factor: float) -> LlamaArch:
    """The same model with RoPE stretched from the tokens that it was trained on, without further training."""
    scaling = RopeScaling(kind, factor=factor, original_positions=trained_tokens)
    if kind == "yarn":
        scaling = scaling._replace(attention_factor=0.1 * math.log(factor) + 1)  # section 3.4 of arXiv 2309.00071
    return arch.replace(rope_scaling=scaling)


class Spread(NamedTuple):
    """Scores of one head where every token is the same, and how far those of equal distance differ.

    `share` is the largest difference between two scores of one distance over that between any two scores; 0 where all
    are one.
    """

    scores_TS: Tensor
    share: float


@torch.no_grad()
def spread_by_distance(placed: Placed, tokens: int, token_id: int = 300) -> Spread:
    """Scores of the first layer's first head over a text of one token: content is equal, only places differ."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, tensor: Tensor) -> Tensor:
        if name.startswith("layers.0.attention.rot_"):
            seen[name[-1]] = tensor
        return tensor

    keep.wants = lambda name: False  # type: ignore[attr-defined]  # no scores: they are made here, in fp64
    placed(torch.full((1, tokens), token_id), tap=keep)
    q_TE, k_SE = seen["q"][0, 0].double(), seen["k"][0, 0].double()
    scores_TS = q_TE @ k_SE.T * q_TE.shape[1] ** -0.5
    if placed.kind == "alibi":
        scores_TS = scores_TS + alibi_bias(placed.model.arch.n_heads, tokens, tokens)[0]
    visible = [scores_TS.diagonal(-distance) for distance in range(tokens)]
    widest = max(float(one.max() - one.min()) for one in visible)
    all_scores = torch.cat(visible)
    whole = float(all_scores.max() - all_scores.min())
    size = float(all_scores.abs().max())
    return Spread(scores_TS.tril(), 0.0 if whole <= 1e-6 * size else widest / whole)
