"""Whether the built-in model can run an architecture, decided here alone.

The calculators accept any LlamaArch. llamalab.model is kept short enough to be read in one sitting, and supports the
fields listed here; any other field is refused, so that none is ignored.
"""

from llamalab.arch import ON_DISK, LlamaArch

RUNS = (  # fields beyond those of a Llama 2 that the forward pass implements
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


def model_refusal(arch: LlamaArch) -> str | None:
    """Why the built-in model does not run `arch`, as one sentence; None where it does.

    >>> from llamalab.presets import PRESETS
    >>> model_refusal(PRESETS["7b"].arch)
    >>> model_refusal(PRESETS["7b"].arch.replace(post_norms=True))
    'the built-in model runs dense Llamas; it has no norms behind attention and feed-forward; use the calculators'
    """
    differs = [name for name in arch.beyond_llama_2 if name not in RUNS]
    if not arch.gated and "activation" in differs:
        differs.remove("activation")  # of the gate, which such a model lacks
    if not differs:
        return None
    words = _words(arch)
    missing = [words[name] for name in words if name in differs] + [name for name in differs if name not in words]
    return f"the built-in model runs dense Llamas; it has no {' and no '.join(missing)}; use the calculators"


def _words(arch: LlamaArch) -> dict[str, str]:
    """The unsupported part, by field."""
    return {
        "experts": "mixture of experts",
        "post_norms": "norms behind attention and feed-forward",
        "norm_plus_one": "norms that multiply by 1 + w",
        "scaled_streams": "constants on its streams",
        "attention_softcap": "soft-capped scores",
        "logits_softcap": "soft-capped logits",
        "activation": f"gate of {arch.activation}",
        "gated": "feed-forward without a gate",
        "norm": "norms without weights" if arch.norm == "rms_bare" else "LayerNorms",
        "pre_norms": "blocks without norms before attention and feed-forward",
        "shared_norm": "attention beside the feed-forward",
        "wide_qk_norm": "norms of queries and keys with a weight for each head",
        "norms_after_rope": "norms of queries and keys after RoPE",
        "unrotated_layers": "layers without RoPE",
        "alibi": "ALiBi",
        "attention_sinks": "attention sinks",
        "head_bias": "bias of its head",
        "normed_head": "head of rows scaled to length 1",
    }
