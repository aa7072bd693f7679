"""Whether the built-in model can run an architecture. Shape is one question, this is the other, answered here alone.

The calculators answer for any LlamaArch. llamalab.model is to be read in one sitting, and does without what would
cost that: what it leaves out is listed here, one sentence each.
"""

from llamalab.arch import LlamaArch


def model_refusal(arch: LlamaArch) -> str | None:
    """Why the built-in model does not run `arch`, as one sentence; None where it does.

    >>> from llamalab.presets import PRESETS
    >>> model_refusal(PRESETS["7b"].arch)
    >>> model_refusal(PRESETS["7b"].arch.replace(post_norms=True))
    'the built-in model runs dense Llamas; it has no norms behind attention and feed-forward; use the calculators'
    """
    lacks = (
        ("mixture of experts", arch.experts is not None),
        ("norms behind attention and feed-forward", arch.post_norms),
        ("norms that multiply by 1 + w", arch.norm_plus_one),
        ("constants on its streams", arch.scaled_streams),
        ("soft-capped scores", arch.attention_softcap is not None),
        ("soft-capped logits", arch.logits_softcap is not None),
        (f"gate of {arch.activation}", arch.gated and arch.activation != "silu"),
        ("feed-forward without a gate", not arch.gated),
        ("LayerNorms", arch.norm.startswith("layer")),
        ("norms without weights", arch.norm == "rms_bare"),
        ("blocks without norms before attention and feed-forward", not arch.pre_norms),
        ("attention beside the feed-forward", arch.shared_norm),
        ("norms of queries and keys with a weight for each head", arch.wide_qk_norm),
        ("norms of queries and keys after RoPE", arch.norms_after_rope),
        ("layers without RoPE", bool(arch.unrotated_layers)),
        ("ALiBi", arch.alibi),
        ("attention sinks", arch.attention_sinks),
        ("bias of its head", arch.head_bias),
        ("head of rows scaled to length 1", arch.normed_head),
    )
    missing = [what for what, needed in lacks if needed]
    if not missing:
        return None
    return f"the built-in model runs dense Llamas; it has no {' and no '.join(missing)}; use the calculators"
