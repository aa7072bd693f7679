"""Weights of torch.nn.Transformer as a ClassicTransformer's: names changed, in_proj split into wq, wk and wv."""

from collections.abc import Mapping

from torch import Tensor

from llamalab.errors import FormatError

_STEPS = {"self_attn": "attention", "multihead_attn": "cross_attention"}
_NORMS = {
    "encoder": {"norm1": "attention_norm", "norm2": "feed_forward_norm"},
    "decoder": {"norm1": "attention_norm", "norm2": "cross_attention_norm", "norm3": "feed_forward_norm"},
}
_LINEARS = {"linear1": "feed_forward.w1", "linear2": "feed_forward.w2"}


def from_torch(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of torch.nn.Transformer by the names of a ClassicTransformer; embeddings are not among them.

    The model needs attention_bias and final_norms, which torch's has. Raises FormatError for a name that it lacks.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        stack, _, rest = name.partition(".")
        if stack not in _NORMS or not rest:
            raise FormatError(f"weights must be those of torch.nn.Transformer; got {name!r}")
        if rest.startswith("norm."):
            renamed[name] = tensor
            continue
        _, layer, part, field = rest.split(".", 3)
        home = f"{stack}.layers.{layer}."
        if part in _STEPS and field.startswith("in_proj_"):
            for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                renamed[f"{home}{_STEPS[part]}.w{letter}.{field.removeprefix('in_proj_')}"] = third
        elif part in _STEPS:
            renamed[f"{home}{_STEPS[part]}.wo.{field.removeprefix('out_proj.')}"] = tensor
        elif part in _LINEARS or part in _NORMS[stack]:
            renamed[f"{home}{_LINEARS.get(part) or _NORMS[stack][part]}.{field}"] = tensor
        else:
            raise FormatError(f"weights must be those of torch.nn.Transformer; got {name!r}")
    return renamed
