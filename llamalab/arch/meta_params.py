"""Meta's `params.json` as an architecture.

The feed-forward's width is not in the file: Meta computes it from dim (llama/model.py, FeedForward) with two
truncations, then rounds it up to `multiple_of`.
"""

from llamalab.arch import LlamaArch
from llamalab.arch.fields import MAX_SIZE
from llamalab.arch.parts import RopeScaling
from llamalab.checks import whole
from llamalab.errors import InputError
from llamalab.startup.hints import Any


def meta_ffn_dim(dim: int, multiple_of: int, multiplier: float | None = None) -> int:
    """FFN width from Meta's `params.json` fields (llama/model.py, class FeedForward).

    >>> meta_ffn_dim(4096, 256), meta_ffn_dim(8192, 4096, 1.3)
    (11008, 28672)
    """
    dim, multiple_of = whole(dim, "dim", most=MAX_SIZE), whole(multiple_of, "multiple_of", most=MAX_SIZE)
    hidden = int(2 * (4 * dim) / 3)
    if multiplier is not None:
        if isinstance(multiplier, bool) or not isinstance(multiplier, int | float) or not 0 < multiplier < MAX_SIZE:
            raise InputError(f"ffn_dim_multiplier must be a positive number; got {multiplier!r}")
        hidden = int(multiplier * hidden)
    return -(-hidden // multiple_of) * multiple_of


def from_meta_params(params: dict[str, Any]) -> LlamaArch:
    """Read Meta's `params.json`; a vocab_size of -1 means the tokenizer's 32,000.

    `use_scaled_rope` is Llama 3.1's: its constants stand in code, not in the file (meta-llama/llama-models,
    models/llama3/model.py, apply_scaling); later files may name factor and high_freq_factor.
    """
    vocab_size, scaling = params.get("vocab_size", -1), None
    if params.get("use_scaled_rope"):
        scaling = RopeScaling(
            "llama3",
            factor=_given(params, "rope_scaling_factor", 8.0),
            original_positions=8192,
            high_freq_factor=_given(params, "rope_high_freq_factor", 4.0),
        )
    return LlamaArch(
        dim=params["dim"],
        n_layers=params["n_layers"],
        n_heads=params["n_heads"],
        n_kv_heads=_given(params, "n_kv_heads", params["n_heads"]),
        ffn_dim=meta_ffn_dim(params["dim"], params["multiple_of"], params.get("ffn_dim_multiplier")),
        vocab_size=32_000 if vocab_size == -1 else vocab_size,
        norm_eps=params["norm_eps"],
        rope_theta=params.get("rope_theta", 10_000.0),
        max_positions=4096 if scaling is None else 131_072,
        rope_scaling=scaling,
    )


def _given(data: dict[str, Any], key: str, default: Any) -> Any:
    """The value of a key, or the default where it is absent or null; a 0 is not replaced."""
    value = data.get(key)
    return default if value is None else value
