"""The model of a profile of a preset: as many of its real-size blocks as fit.

Or a transformers model of the same shape, for comparison.
"""

from typing import Any

import torch

from llamalab.arch import LlamaArch
from llamalab.checkpoints.checkpoint import Weights
from llamalab.extras import missing
from llamalab.measure.device.machine import available_bytes, device_of
from llamalab.measure.roofs.kernel_rows import kernel_rows_here
from llamalab.measure.roofs.shape_products import products_here, products_like
from llamalab.measure.target.blocks import BLOCK_LIMITS_BYTES, check_share_fits, choose_share
from llamalab.measure.target.made import made_model
from llamalab.model import Transformer
from llamalab.model.compiled import compile
from llamalab.model.dtypes import activation_dtype
from llamalab.parallel.models import ready_model
from llamalab.parallel.team import Team


def built_in(
    name: str,
    arch: LlamaArch,
    *,
    device: torch.device,
    dtype: str,
    attention: str | None,
    full: bool,
    batch: int,
    prompt_tokens: int,
    context_tokens: int | None = None,
    weights: Weights | None = None,
    weight_dtype: str | None = None,
    kv_dtype: str | None = None,
    team: Team | None = None,
) -> tuple[Transformer, int]:
    """Blocks of the real size, made ready for speed, and how many the whole model has.

    Args:
        name: the model's name, for the error.
        arch: the architecture of the whole model.
        device: of the weights.
        dtype: of weights, activations and cache.
        attention: a backend's name (default: the fastest of the device).
        full: every block, not as many as fit the usual limit.
        batch: sequences of the passes that must fit.
        prompt_tokens: tokens of each of them.
        team: the ranks that share the model, of which this one leads (default: none).
        context_tokens: in view at their end (default: the prompt's, and one more).
        weights: of a checkpoint (default: random ones).
        weight_dtype: the storage of quantised matrices (default: they are in `dtype`).
        kv_dtype: of the cache of passes that must fit (default: as `dtype`).

    Raises DoesNotFitError.
    """
    share = choose_share(arch, dtype, limit_bytes=BLOCK_LIMITS_BYTES[device_of(device).role], full=full)
    most = context_tokens or prompt_tokens + 1
    # Tokens before a pass are processed as one prompt.
    need = share.need_bytes(
        batch=batch, new_tokens=max(prompt_tokens, most - 1), max_tokens=most, dtype=dtype, kv_dtype=kv_dtype
    )
    check_share_fits(share, name, need, available_bytes(device))
    rows = None if weight_dtype is None else kernel_rows_here(device, dtype, weight_dtype)
    if team is not None:
        ready = ready_model(
            team,
            share.arch,
            dtype=dtype,
            attention=attention,
            weight_dtype=weight_dtype,
            kernel_rows=rows,
            products=products_like(device, dtype, share.arch, team.place.ranks),
        )
        return ready, share.layers_total
    model = made_model(share.arch, weights, dtype=dtype, device=device)
    ready = compile(
        model,
        scope="none",
        attention=attention,
        weight_dtype=weight_dtype,
        kernel_rows=rows,
        products=products_here(device, dtype, share.arch, weight_dtype),
    )
    return ready, share.layers_total


def beside(model: Transformer) -> Any:
    """The model of transformers of the same shape, dtype and device; its weights are random. Raises MissingError."""
    try:
        from transformers import AutoConfig, AutoModelForCausalLM
    except ImportError as error:
        raise missing("transformers", "a profile beside transformers") from error
    from llamalab.checkpoints.config_json import config_json

    weight = model.norm.weight
    config = AutoConfig.for_model(**config_json(model.arch, weight.dtype))
    with torch.device("meta"):
        build: Any = AutoModelForCausalLM.from_config
        made: Any = build(config, attn_implementation=_attention(model))
    made = made.to(activation_dtype({torch.bfloat16: "bf16", torch.float16: "fp16"}.get(weight.dtype, "fp32")))
    made.to_empty(device=weight.device)
    return made


def _attention(model: Transformer) -> str:
    return "eager" if model.backend.algorithm == "naive" else "sdpa"
