"""The step: one new token of each sequence through all layers, twelve launches a layer.

It is a second forward pass: tests/kernels/test_step.py compares it with the first one for every family of the tests,
which together have every field that the model runs.

B batch, D model dim, F feed-forward dim, H query heads, K KV heads, S room of the cache, E head dim, V vocabulary.
"""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor

from llamalab.arch import ON_DISK
from llamalab.attention import triton_flash
from llamalab.attention.limits import shape_of
from llamalab.attention.triton_flash.plan import power_of_2, takes_decode
from llamalab.errors import MissingError, UnavailableError
from llamalab.model.attention import Attention
from llamalab.model.feed_forward import FeedForward
from llamalab.model.kv_cache.static import StaticKVCache
from llamalab.model.norm import RMSNorm
from llamalab.model.rope import rotations
from llamalab.model.transformer import Transformer, TransformerBlock

_GATE_TILE = 1024
SERVED = (  # fields beyond those of a Llama 2 that the kernels implement; a model with another one runs plain steps
    "head_dim",
    "rope_scaling",
    "rotary_fraction",
    "qkv_bias",
    "o_bias",
    "ffn_bias",
    "qk_norm",
    "window",
    "full_layers",
    *ON_DISK,
)


def fused_refusal(model: Transformer, cache: StaticKVCache) -> str | None:
    """Why the step cannot be computed by these kernels; None where it can."""
    arch, kind = model.rank_arch, model.norm.weight.dtype
    if unserved := [name for name in model.arch.beyond_llama_2 if name not in SERVED]:
        return f"a fused step has no kernel for {', '.join(unserved)}; this model has it"
    if model.spread is not None:
        return "a fused step runs a whole model; this one is shared by ranks"
    if model.taps.taps or any(_watched(module) for module in model.modules()):
        return "a fused step calls no tap, no hook and nothing that was compiled; this model has some"
    if cache.keys[0].dtype != kind:
        return f"a fused step needs a KV cache in the model's own {kind}; got {cache.keys[0].dtype}"
    if not takes_decode(arch.n_heads // arch.n_kv_heads, 1, kind.itemsize <= 2):
        return f"a fused step takes few query heads to a KV head; got {arch.n_heads} to {arch.n_kv_heads}"
    q_BH1E = torch.empty(cache.batch, arch.n_heads, 1, arch.head_dim, dtype=kind, device="meta")
    try:
        triton_flash.check(shape_of(q_BH1E, cache.keys[0]), model.norm.weight.device)
    except (MissingError, UnavailableError) as error:
        return str(error)
    return None


def _watched(module: torch.nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._compiled_call_impl)


class FusedStep:
    """A model and its static cache as one callable: token ids in, logits out, the cache one token longer.

    The new token's position is read from `position_1`, int64, which the caller sets: the arguments of a launch are the
    same in every step. Room is not checked, and the cache's own length is not moved. Two steps of one FusedStep
    must not run at once. Raises UnavailableError for what `fused_refusal` names; taps and hooks that come later are
    not seen.
    """

    def __init__(self, model: Transformer, cache: StaticKVCache) -> None:
        refusal = fused_refusal(model, cache)
        if refusal is not None:
            raise UnavailableError(refusal)
        place = model.norm.weight.device
        self.position_1 = torch.zeros(1, dtype=torch.int64, device=place)
        self._model, self._cache = model, cache
        self._arrived_G = torch.zeros(cache.batch * model.rank_arch.n_kv_heads, dtype=torch.int32, device=place)

    def __call__(self, tokens_B1: Tensor) -> Tensor:
        """logits_B1V in fp32 of the tokens at `position_1`, whose keys and values are then in the cache."""
        model = self._model
        x_B1D = model.tok_embeddings(tokens_B1)
        turn_P2 = torch.view_as_real(rotations(self.position_1, 1, model.arch, x_B1D.device)).contiguous()
        more_B1D: Tensor | None = None
        for layer, block in enumerate(cast(Iterable[TransformerBlock], model.layers)):
            h_B1D = _added_and_normed(x_B1D, more_B1D, block.attention_norm)
            more_B1D = self._attended(block.attention, h_B1D, turn_P2, layer)
            h_B1D = _added_and_normed(x_B1D, more_B1D, block.ffn_norm)
            more_B1D = _fed_forward(block.feed_forward, h_B1D)
        logits_B1V: Tensor = model.output(_added_and_normed(x_B1D, more_B1D, model.norm)).float()
        return logits_B1V

    def _attended(self, attention: Attention, h_B1D: Tensor, turn_P2: Tensor, layer: int) -> Tensor:
        q_B1X, k_B1X, v_B1X = (weigh(h_B1D).contiguous() for weigh in (attention.wq, attention.wk, attention.wv))
        self._turn_and_append(attention, q_B1X, k_B1X, v_B1X, turn_P2, layer)
        q_BH1E = q_B1X.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        # A window needs no mask: its layer's cache has room for that many tokens and no more.
        z_BH1E = triton_flash.decode_attention(
            q_BH1E, keys, values, query_offset=self.position_1, arrived_G=self._arrived_G
        ).z_BHTE
        out_B1D: Tensor = attention.wo(z_BH1E.view(q_B1X.shape))
        return out_B1D

    def _turn_and_append(
        self, attention: Attention, q_B1X: Tensor, k_B1X: Tensor, v_B1X: Tensor, turn_P2: Tensor, layer: int
    ) -> None:
        from llamalab.model.fused.turn_kernel import turn_append_kernel

        keys, values, head_dim = self._cache.keys[layer], self._cache.values[layer], attention.head_dim
        heads, kv_heads = q_B1X.shape[-1] // head_dim, k_B1X.shape[-1] // head_dim
        q_norm, k_norm = attention.q_norm, attention.k_norm
        normed = q_norm is not None and k_norm is not None
        turn_append_kernel[(heads + kv_heads, len(q_B1X))](
            q_B1X,
            k_B1X,
            v_B1X,
            turn_P2,
            keys,
            values,
            self.position_1,
            q_norm.weight if q_norm is not None else q_B1X,
            k_norm.weight if k_norm is not None else k_B1X,
            *keys.stride()[:3],
            *values.stride()[:3],
            keys.shape[2],
            q_norm.eps if q_norm is not None else 0.0,
            HEADS=heads,
            KV_HEADS=kv_heads,
            HEAD_DIM=head_dim,
            TURNED=turn_P2.shape[-2],
            PADDED_PAIRS=power_of_2(head_dim // 2),
            NORMED=normed,
            num_warps=1,
        )


def _added_and_normed(x_B1D: Tensor, more_B1D: Tensor | None, norm: RMSNorm) -> Tensor:
    """h_B1D of x + more, which x becomes."""
    from llamalab.model.fused.norm_kernel import add_norm_kernel

    dim, h_B1D = x_B1D.shape[-1], torch.empty_like(x_B1D)
    given: dict[str, Any] = {"ADDED": more_B1D is not None, "DIM": dim, "PADDED_DIM": power_of_2(dim)}
    add_norm_kernel[(x_B1D.numel() // dim,)](
        x_B1D, x_B1D if more_B1D is None else more_B1D.contiguous(), norm.weight, h_B1D, norm.eps, **given, num_warps=8
    )
    return h_B1D


def _fed_forward(feed: FeedForward, h_B1D: Tensor) -> Tensor:
    from llamalab.model.fused.gate_kernel import gate_kernel

    gate_B1F, up_B1F = feed.w1(h_B1D).contiguous(), feed.w3(h_B1D).contiguous()
    size = gate_B1F.numel()
    gate_kernel[(-(-size // _GATE_TILE),)](gate_B1F, up_B1F, size, TILE=_GATE_TILE, num_warps=4)
    out_B1D: Tensor = feed.w2(gate_B1F)
    return out_B1D
