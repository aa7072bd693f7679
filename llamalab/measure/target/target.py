"""The target of a measurement: the built-in model, or a Hugging Face model, behind one interface.

Either makes a `Job` of a phase: a preparation before each sample, untimed, and the pass itself.
B batch, T new tokens.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from llamalab.arch import LlamaArch
from llamalab.arch.hf_configs.config import from_hf_config
from llamalab.errors import InputError
from llamalab.instrument.bind import HOOKED_TYPES, is_hugging_face, unwrapped
from llamalab.measure.timing.profiler_ranges import Label, merged_labels, own_labels
from llamalab.model import StaticKVCache, Transformer

_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


class Job(NamedTuple):
    """One repeatable phase; `kv_bytes` is the size of its cache before the pass."""

    before: Callable[[], object]
    run: Callable[[], object]
    kv_bytes: int


class Target(NamedTuple):
    """A measured model: its architecture, dtype, attention, labels of points, and a function that makes jobs."""

    kind: str
    model: nn.Module
    arch: LlamaArch
    dtype: str
    attention: str
    algorithm: str
    label: Label
    job: Callable[[int, int, int], Job]
    ranks: int = 1
    kv_dtype: str | None = None

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.model.parameters()).device

    @property
    def weight_bytes(self) -> int:
        """Bytes of all parameters."""
        return sum(weight.nbytes for weight in self.model.parameters())


def target_of(model: nn.Module, kv_dtype: str | None = None) -> Target:
    """A model as a target, with its cache in `kv_dtype`, None for the model's own.

    Raises InputError for another kind of model or dtype, and for another cache dtype in a model of transformers.
    """
    real = unwrapped(model)
    if not isinstance(real, Transformer) and not is_hugging_face(real):
        raise InputError(
            "a measured model must be a llamalab.Transformer or a LlamaForCausalLM, or of Hugging Face's "
            f"{', '.join(HOOKED_TYPES[1:])}; got {type(real).__name__}"
        )
    stored = next(model.parameters()).dtype
    if stored not in _NAMES:
        raise InputError(f"weights must be stored in one of {', '.join(_NAMES.values())}; got {stored}")
    if isinstance(real, Transformer):
        return _built_in(real, _NAMES[stored], kv_dtype)
    if kv_dtype is not None:
        raise InputError(
            f"the KV cache of a Hugging Face model is as its dtype is; got kv_dtype {kv_dtype}; leave it out"
        )
    if any(hasattr(one, "_orig_mod") or one._compiled_call_impl is not None for one in (model, *model.modules())):
        raise InputError(
            "a measured Hugging Face model must not be compiled: taps stop its graphs; give the model that was compiled"
        )
    return _hugging_face(real, _NAMES[stored])


def tokens_of(arch: LlamaArch, batch: int, new_tokens: int, device: torch.device) -> Tensor:
    """tokens_BT, random but equal on every machine."""
    generator = torch.Generator().manual_seed(new_tokens)
    return torch.randint(arch.vocab_size, (batch, new_tokens), generator=generator).to(device)


def _built_in(model: Transformer, dtype: str, kv_dtype: str | None) -> Target:
    arch, backend, device = model.arch, model.backend, model.norm.weight.device

    def job(batch: int, new_tokens: int, past_tokens: int) -> Job:
        room = past_tokens + new_tokens
        cache = StaticKVCache(model.rank_arch, batch=batch, max_tokens=room, dtype=kv_dtype or dtype, device=device)
        if past_tokens:
            model(tokens_of(arch, batch, past_tokens, device), cache=cache, logits="last")
        tokens_BT = tokens_of(arch, batch, new_tokens, device)
        return Job(
            lambda: cache.rewind(past_tokens, lossy=True),
            lambda: model(tokens_BT, cache=cache, logits="last"),
            cache.nbytes,
        )

    return Target(
        kind="llamalab",
        model=model,
        arch=arch,
        dtype=dtype,
        kv_dtype=kv_dtype,
        attention=backend.name,
        algorithm=backend.algorithm,
        label=own_labels(backend.algorithm, 1 if model.link is None else model.link.ranks),
        job=job,
        ranks=1 if model.link is None else model.link.ranks,
    )


def _hugging_face(model: Any, dtype: str) -> Target:
    arch = from_hf_config(model.config.to_dict())
    attention = str(model.config._attn_implementation)
    algorithm, device = "naive" if attention == "eager" else "flash", next(model.parameters()).device

    def job(batch: int, new_tokens: int, past_tokens: int) -> Job:
        tokens_BT = tokens_of(arch, batch, new_tokens, device)
        if not past_tokens:
            return Job(lambda: None, lambda: model(tokens_BT, use_cache=True, logits_to_keep=1), 0)
        past_BT = tokens_of(arch, batch, past_tokens, device)
        cache = cache_that_rewinds(model)
        model(past_BT, past_key_values=cache, logits_to_keep=1)
        cache.crop(0)  # sliding-window layers hold only their window
        return Job(
            lambda: cache.crop(past_tokens - cache.get_seq_length()) if cache.get_seq_length() > past_tokens else None,
            lambda: model(tokens_BT, past_key_values=cache, logits_to_keep=1),
            sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers),
        )

    return Target(
        kind="transformers",
        model=model,
        arch=arch,
        dtype=dtype,
        attention=attention,
        algorithm=algorithm,
        label=merged_labels(algorithm, _together(model)),
        job=job,
    )


def cache_that_rewinds(model: Any) -> Any:
    """A DynamicCache of the model that can be cropped; sliding-window layers must be created for it."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    for layer in cache.layers:
        if hasattr(layer, "activate_past_recording"):
            layer.activate_past_recording()
    return cache


def _together(model: Any) -> dict[str, str]:
    """Points that its modules make in one operation, or in another order than the built-in model; see merged_labels."""
    block = model.get_submodule("model.layers.0")
    together: dict[str, str] = {}
    if hasattr(block.self_attn, "qkv_proj"):
        together |= {"attention.q": "", "attention.k": "", "attention.v": "attention.wq+wk+wv"}
    if hasattr(block.self_attn, "q_norm"):
        together |= dict.fromkeys(("attention.q", "attention.k", "attention.q_norm", "attention.k_norm"), "")
        together["attention.v"] = "attention.wq+wk+wv+q_norm+k_norm"
    if hasattr(block.mlp, "gate_up_proj"):
        together |= {"feed_forward.gate": "", "feed_forward.up": "feed_forward.w1+w3"}
    return together
