"""The target of a measurement: the built-in model, or a Hugging Face LlamaForCausalLM as it is, run the same way.

Either makes a `Job` of a phase: something to call before each sample, untimed, and the pass itself.
B batch, T new tokens.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from llamalab.arch import LlamaArch
from llamalab.errors import InputError
from llamalab.hf_config import from_hf_config
from llamalab.instrument.bind import is_hugging_face
from llamalab.measure.timing.profiler_ranges import Label, merged_labels, own_labels
from llamalab.model import StaticKVCache, Transformer
from llamalab.units import DTYPES

_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


class Job(NamedTuple):
    """One phase, ready to be run again and again; `kv_bytes` is what its cache held before the pass."""

    before: Callable[[], object]
    run: Callable[[], object]
    kv_bytes: int


class Target(NamedTuple):
    """A model to be measured, with its architecture, dtype, attention, labels of points and a maker of jobs."""

    kind: str
    model: nn.Module
    arch: LlamaArch
    dtype: str
    attention: str
    algorithm: str
    label: Label
    job: Callable[[int, int, int], Job]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def weight_bytes(self) -> int:
        """Bytes of all parameters."""
        return sum(weight.nbytes for weight in self.model.parameters())


def target_of(model: nn.Module) -> Target:
    """The model as something to measure. Raises InputError for another kind of model or dtype."""
    if not isinstance(model, Transformer) and not is_hugging_face(model):
        raise InputError(
            f"a measured model must be a llamalab.Transformer or a LlamaForCausalLM; got {type(model).__name__}"
        )
    stored = next(model.parameters()).dtype
    if stored not in _NAMES:
        raise InputError(f"weights must be stored in one of {', '.join(_NAMES.values())}; got {stored}")
    return _built_in(model, _NAMES[stored]) if isinstance(model, Transformer) else _hugging_face(model, _NAMES[stored])


def tokens_of(arch: LlamaArch, batch: int, new_tokens: int, device: torch.device) -> Tensor:
    """tokens_BT, random but the same on every machine."""
    generator = torch.Generator().manual_seed(new_tokens)
    return torch.randint(arch.vocab_size, (batch, new_tokens), generator=generator).to(device)


def _built_in(model: Transformer, dtype: str) -> Target:
    arch, backend, device = model.arch, model.backend, model.norm.weight.device

    def job(batch: int, new_tokens: int, past_tokens: int) -> Job:
        cache = StaticKVCache(arch, batch=batch, max_tokens=past_tokens + new_tokens, dtype=dtype, device=device)
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
        attention=backend.name,
        algorithm=backend.algorithm,
        label=own_labels(backend.algorithm),
        job=job,
    )


def _hugging_face(model: Any, dtype: str) -> Target:
    arch = from_hf_config(model.config.to_dict())
    attention = str(model.config._attn_implementation)
    algorithm, device = "naive" if attention == "eager" else "flash", next(model.parameters()).device
    token_bytes = 2 * arch.n_layers * arch.kv_dim * DTYPES[dtype].bits // 8

    def job(batch: int, new_tokens: int, past_tokens: int) -> Job:
        tokens_BT = tokens_of(arch, batch, new_tokens, device)
        if not past_tokens:
            return Job(lambda: None, lambda: model(tokens_BT, use_cache=True, logits_to_keep=1), 0)
        past_BT = tokens_of(arch, batch, past_tokens, device)
        cache = model(past_BT, use_cache=True, logits_to_keep=1).past_key_values
        return Job(
            lambda: cache.crop(past_tokens - cache.get_seq_length()) if cache.get_seq_length() > past_tokens else None,
            lambda: model(tokens_BT, past_key_values=cache, logits_to_keep=1),
            batch * past_tokens * token_bytes,
        )

    return Target(
        kind="transformers",
        model=model,
        arch=arch,
        dtype=dtype,
        attention=attention,
        algorithm=algorithm,
        label=merged_labels(algorithm),
        job=job,
    )
