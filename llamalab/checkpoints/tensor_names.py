"""Tensor names of a checkpoint without the prefixes that training tools add.

DistributedDataParallel, FSDP, fairscale, activation checkpointing and torch.compile wrap modules and so change the
names in a state dict; PEFT puts base_model.model before a whole model and base_layer under each matrix it adapts.
A LlamaModel saved by itself lacks the prefix model. that LlamaForCausalLM has on all but its head.
"""

from collections.abc import Iterable

from llamalab.errors import FormatError

WRAPPERS = frozenset(
    ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_fpw_module", "base_layer")
)
_PEFT = "base_model.model."
_BODY = ("embed_tokens.", "layers.", "norm.")


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """By name in LlamaForCausalLM, the name under which a tensor is stored.

    Raises FormatError where two stored names become the same.

    >>> plain_names(["module.embed_tokens.weight", "module.norm.weight"])
    {'model.embed_tokens.weight': 'module.embed_tokens.weight', 'model.norm.weight': 'module.norm.weight'}
    """
    found = {name: without_wrappers(name) for name in names}
    # Some tools save the inner model alone; a head beside it has no prefix in either case.
    bare = not any(plain.startswith("model.") for plain in found.values())
    plain_to_stored: dict[str, str] = {}
    for name, plain in found.items():
        whole = f"model.{plain}" if bare and plain.startswith(_BODY) else plain
        if whole in plain_to_stored:
            raise FormatError(
                f"a tensor must be stored under one name; {name} and {plain_to_stored[whole]} are the same"
            )
        plain_to_stored[whole] = name
    return plain_to_stored


def without_wrappers(name: str) -> str:
    """A name without wrappers.

    >>> without_wrappers("base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight")
    'model.layers.0.self_attn.q_proj.weight'
    """
    kept = ".".join(part for part in name.split(".") if part not in WRAPPERS)
    return kept.removeprefix(_PEFT)
