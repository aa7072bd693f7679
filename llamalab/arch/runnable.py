"""Whether the built-in model can run an architecture, decided here alone.

The calculators accept any LlamaArch. llamalab.model is kept short enough to be read in one sitting: it implements every
field of an architecture except those named here. tests/model/test_families.py runs each of the others.
"""

from llamalab.arch import ALWAYS_STORED, LlamaArch

LACKING = {  # fields that the forward pass does not implement, with the words of a refusal
    "experts": "mixture of experts",
    "post_norms": "norms behind attention and feed-forward",
    "norm_plus_one": "norms that multiply by 1 + w",
    "scaled_streams": "constants on its streams",
    "attention_softcap": "soft-capped scores",
    "logits_softcap": "soft-capped logits",
    "activation": "gate of {0.activation}",
    "gated": "feed-forward without a gate",
    "norm": "{1}",
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
RUNS = tuple(name for name in LlamaArch._fields[ALWAYS_STORED:] if name not in LACKING)


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
    norms = "norms without weights" if arch.norm == "rms_bare" else "LayerNorms"
    missing = [words.format(arch, norms) for name, words in LACKING.items() if name in differs]
    missing += [name for name in differs if name not in LACKING]
    return f"the built-in model runs dense Llamas; it has no {' and no '.join(missing)}; use the calculators"
