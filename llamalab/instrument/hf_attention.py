"""The points inside an attention module of Hugging Face: heads, rotated heads, caches, scores, pattern.

Heads of q and k are permuted from halves (x[j], x[j + P]) to adjacent pairs, and back where a tap may have changed
them. Rotated keys and the cache's output are taken from the call of the cache; rotated queries, scores and pattern are
recomputed from cos and sin, the mask and the scale that the module received.
B batch, T new tokens, S visible keys, H query heads, K KV heads, E head dim, R elements of a head that RoPE rotates.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from llamalab.errors import InputError
from llamalab.instrument.hf_hooks import Hooks
from llamalab.instrument.points import POINTS
from llamalab.instrument.scores import Mask, partial_scores, scores_and_pattern
from llamalab.instrument.selection import TensorPart
from llamalab.model.tap import Tap, edits, outside_checkpointing, reads_tensors, wants

_INNER = ("rot_q", "rot_k", "k_cache", "v_cache", "scores", "pattern")
_NORMS = {"q_norm": "q", "k_norm": "k"}


class AttentionHooks:
    """The hooks of one attention module; they share the values that a pass has computed so far."""

    def __init__(self, hooks: Hooks, prefix: str, module: nn.Module) -> None:
        self._hooks, self.module = hooks, module
        self._prefix, self._head_dim = prefix + "attention.", int(self.module.head_dim)  # type: ignore[arg-type]
        self._options: dict[str, Any] = {}
        self._q_BHTE: Tensor | None = None
        hooks.on_input(self.module, self._begin)
        if hasattr(self.module, "qkv_proj"):  # Phi-3: q, k and v in one
            hooks.on_output(self.module.get_submodule("qkv_proj"), self._projected("q", "k", "v"))
        else:
            for point in "qkv":
                hooks.on_output(self.module.get_submodule(f"{point}_proj"), self._projected(point))
        for point in _NORMS:
            if hasattr(self.module, point):
                hooks.on_output(self.module.get_submodule(point), self._normed(point))
        hooks.on_input(self.module.get_submodule("o_proj"), self._attended)

    @property
    def _tap(self) -> Tap:
        assert self._hooks.tap is not None
        return self._hooks.tap

    def _begin(self, module: nn.Module, arguments: Any, options: dict[str, Any]) -> Any:
        """Record the arguments of this pass, and wrap the module's cache."""
        self._options = options
        if not reads_tensors(self._tap):
            return None
        return arguments, options | {"past_key_values": _SeenCache(self, options.get("past_key_values"))}

    def _projected(self, *points: str) -> Callable[..., Tensor | None]:
        """The hook after a projection to heads, or after the fused projection."""

        def hook(module: nn.Module, arguments: Any, x_BTD: Tensor) -> Tensor | None:
            parts = torch.split(x_BTD, self._widths(x_BTD.shape[-1]), dim=-1) if len(points) > 1 else (x_BTD,)
            results = [self._heads(point, part) for point, part in zip(points, parts, strict=True)]
            if all(result is part for result, part in zip(results, parts, strict=True)):
                return None
            return torch.cat(results, dim=-1) if len(points) > 1 else results[0]

        return hook

    def _widths(self, width: int) -> list[int]:
        """Widths of q, k and v in their fused projection."""
        kv_width = width // (int(self.module.num_key_value_groups) + 2)  # type: ignore[arg-type]
        return [width - 2 * kv_width, kv_width, kv_width]

    def _heads(self, point: str, x_BTD: Tensor) -> Tensor:
        x_BHTE = x_BTD.view(*x_BTD.shape[:2], -1, self._head_dim).transpose(1, 2)
        result = self._through(point, x_BHTE, paired=point != "v")
        if point == "q":
            self._q_BHTE = result
        return x_BTD if result is x_BHTE else result.transpose(1, 2).reshape(x_BTD.shape)

    def _normed(self, point: str) -> Callable[..., Tensor | None]:
        """The hook after a per-head norm, where the head axis follows the tokens."""

        def hook(module: nn.Module, arguments: Any, x_BTHE: Tensor) -> Tensor | None:
            x_BHTE = x_BTHE.transpose(1, 2)
            known = any(name.name.endswith(point) for name in POINTS)
            result = self._through(point, x_BHTE, paired=True) if known else x_BHTE
            if point == "q_norm":
                self._q_BHTE = result
            return None if result is x_BHTE else result.transpose(1, 2)

        return hook

    def _through(self, point: str, x_BHTE: Tensor, *, paired: bool) -> Tensor:
        """The tensor after all taps, in their order; itself where none of them edits it."""
        name = self._prefix + point
        turned = paired and reads_tensors(self._tap) and wants(self._tap, name)
        result = self._hooks.replaced(name, self._pairs(x_BHTE) if turned else x_BHTE)
        if not edits(self._tap, name):
            return x_BHTE
        return self._halves(result) if turned else result

    def keys_and_values(
        self, k_BKTE: Tensor, v_BKTE: Tensor, append: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """At the call of the cache: rotated heads, all visible keys and values, and their edited replacements."""
        tap, inner = self._tap, [point for point in _INNER if wants(self._tap, self._prefix + point)]
        asked = bool(inner) or hasattr(tap, "attended")
        q_BHTE = self._rotated_queries() if asked else None
        if q_BHTE is not None and "rot_q" in inner:
            self._hooks.look(self._prefix + "rot_q", self._pairs(q_BHTE))
        if "rot_k" in inner:
            k_BKTE = self._through("rot_k", k_BKTE, paired=True)
        k_BKSE, v_BKSE = append(k_BKTE, v_BKTE)
        if "k_cache" in inner:
            k_BKSE = self._through("k_cache", k_BKSE, paired=True)
        if "v_cache" in inner:
            v_BKSE = self._through("v_cache", v_BKSE, paired=False)
        if q_BHTE is not None:
            self._look_at_scores(q_BHTE, k_BKSE, whole="scores" in inner or "pattern" in inner)
        return k_BKSE, v_BKSE

    def _look_at_scores(self, q_BHTE: Tensor, k_BKSE: Tensor, *, whole: bool) -> None:
        def mask() -> Mask:
            return mask_of(self.module, self._options, q_BHTE.shape[2], k_BKSE)

        if not whole:
            attended = getattr(self._tap, "attended", None)
            if attended is not None:
                attended(self._prefix, q_BHTE, k_BKSE, mask=mask)
            return
        with outside_checkpointing():
            given = mask()
            both = scores_and_pattern(partial_scores(q_BHTE, k_BKSE, TensorPart(), mask=given), given)
        for point, tensor in zip(("scores", "pattern"), both, strict=True):
            self._hooks.look(self._prefix + point, tensor)

    def _rotated_queries(self) -> Tensor:
        """Queries rotated by the cos and sin that the module received."""
        cos_BTR, sin_BTR = (turn.unsqueeze(1) for turn in self._options["position_embeddings"])
        assert self._q_BHTE is not None
        with outside_checkpointing():
            turned, kept = self._q_BHTE.tensor_split([cos_BTR.shape[-1]], dim=-1)
            first, second = turned.chunk(2, dim=-1)
            turned = turned * cos_BTR + torch.cat((-second, first), dim=-1) * sin_BTR
            return torch.cat((turned, kept), dim=-1)

    def _attended(self, module: nn.Module, arguments: tuple[Tensor], options: dict[str, Any]) -> Any:
        """Before the output projection, whose input is z."""
        (x_BTD,) = arguments
        # References to tensors of a pass are dropped, so that memory is as without taps.
        self._options, self._q_BHTE = {}, None
        z_BHTE = x_BTD.view(*x_BTD.shape[:2], -1, self._head_dim).transpose(1, 2)
        result = self._through("z", z_BHTE, paired=False)
        return None if result is z_BHTE else ((result.transpose(1, 2).reshape(x_BTD.shape),), options)

    def _turned(self) -> int:
        """R, from the width of the cos that the module received."""
        turns = self._options.get("position_embeddings")
        return self._head_dim if turns is None else int(turns[0].shape[-1])

    def _pairs(self, x_BHTE: Tensor) -> Tensor:
        """(x[j], x[j + R/2]) as adjacent pairs; elements that RoPE does not rotate keep their place."""
        turned, kept = x_BHTE.tensor_split([self._turned()], dim=-1)
        paired = turned.reshape(*turned.shape[:-1], 2, -1).transpose(-1, -2).flatten(-2)
        return torch.cat((paired, kept), dim=-1) if kept.shape[-1] else paired

    def _halves(self, x_BHTE: Tensor) -> Tensor:
        """The inverse of _pairs."""
        turned, kept = x_BHTE.tensor_split([self._turned()], dim=-1)
        halved = turned.reshape(*turned.shape[:-1], -1, 2).transpose(-1, -2).flatten(-2)
        return torch.cat((halved, kept), dim=-1) if kept.shape[-1] else halved


class _SeenCache:
    """A wrapper of a cache, or of none, that passes its keys and values to the hooks."""

    def __init__(self, attention: AttentionHooks, cache: Any) -> None:
        self._attention, self._cache = attention, cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def update(self, k_BKTE: Tensor, v_BKTE: Tensor, *given: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """All visible keys and values, after the new ones were added."""

        def append(k_BKTE: Tensor, v_BKTE: Tensor) -> tuple[Tensor, Tensor]:
            if self._cache is None:
                return k_BKTE, v_BKTE
            both: tuple[Tensor, Tensor] = self._cache.update(k_BKTE, v_BKTE, *given, **options)
            return both

        return self._attention.keys_and_values(k_BKTE, v_BKTE, append)


def mask_of(module: nn.Module, options: dict[str, Any], queries: int, k_BKSE: Tensor) -> Mask:
    """The effect of the mask argument on the module's attention.

    Raises InputError where it is unknown: other implementations than eager and sdpa, dropout of the pattern,
    masks of another form.
    """
    of: Any = module
    implementation, given = of.config._attn_implementation, options.get("attention_mask")
    if implementation not in ("eager", "sdpa"):
        raise InputError(
            f"scores and pattern of a Hugging Face model must come from eager or sdpa attention; got {implementation}; "
            'use model.set_attn_implementation("sdpa")'
        )
    if of.training and of.attention_dropout:
        raise InputError("scores and pattern must be looked at without attention dropout; use model.eval()")
    keys, scale = k_BKSE.shape[2], float(of.scaling)
    if given is None:
        causal = implementation == "sdpa" and queries > 1 and options.get("is_causal", of.is_causal) is not False
        return Mask(scale, _causal(queries, k_BKSE) if causal else k_BKSE.new_zeros(1, 1, 1, 1))
    if not isinstance(given, Tensor) or given.dim() != 4 or given.shape[-1] != keys:
        got = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise InputError(f"attention must be given a mask of shape (batch, heads, {queries}, {keys}); got {got}")
    if given.dtype == torch.bool and implementation == "sdpa":
        given = torch.zeros_like(given, dtype=k_BKSE.dtype).masked_fill_(~given, float("-inf"))
    return Mask(scale, given)


def _causal(queries: int, k_BKSE: Tensor) -> Tensor:
    """The causal mask of sdpa's is_causal: query t sees the first t + 1 keys, also of a longer cache."""
    bias_TS = k_BKSE.new_full((queries, k_BKSE.shape[2]), float("-inf"))
    return bias_TS.triu_(1)[None, None]
