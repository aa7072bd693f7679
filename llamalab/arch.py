"""The shape of a Llama-2-like model: eight numbers, checked once, everything else derived.

FFN width as Meta computes it (llama/model.py, FeedForward): two truncations, then rounded up
to `multiple_of`. Batch, cache length and dtype belong to a run, not to the architecture.
"""

from typing import Any, NamedTuple

from llamalab.checks import whole
from llamalab.errors import FormatError, InputError
from llamalab.input_files import read_object

MAX_LAYERS = 1_000
MAX_SIZE = 10_000_000  # no width or vocabulary is larger; a typo must not allocate terabytes


class _Fields(NamedTuple):
    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    ffn_dim: int
    vocab_size: int
    norm_eps: float
    rope_theta: float
    tied_embeddings: bool
    max_positions: int


class LlamaArch(_Fields):
    """A frozen, validated architecture.

    `max_positions` is the context that the weights were trained for; it bounds no calculation.

    >>> arch = LlamaArch(4096, 32, 32, 32, 11008, 32000)
    >>> arch.head_dim, arch.group_size
    (128, 1)
    """

    __slots__ = ()

    def __new__(
        cls,
        dim: int,
        n_layers: int,
        n_heads: int,
        n_kv_heads: int,
        ffn_dim: int,
        vocab_size: int,
        norm_eps: float = 1e-5,
        rope_theta: float = 10_000.0,
        *,
        tied_embeddings: bool = False,
        max_positions: int = 4096,
    ) -> "LlamaArch":
        self = super().__new__(
            cls, dim, n_layers, n_heads, n_kv_heads, ffn_dim, vocab_size,
            norm_eps, rope_theta, tied_embeddings, max_positions,
        )  # fmt: skip
        self._check()
        return self

    def _check(self) -> None:
        for name in ("dim", "n_layers", "n_heads", "n_kv_heads", "ffn_dim", "vocab_size", "max_positions"):
            value, most = getattr(self, name), MAX_LAYERS if name == "n_layers" else MAX_SIZE
            if type(value) is not int or not 1 <= value <= most:
                raise InputError(f"{name} of LlamaArch must be a whole number from 1 to {most:,}; got {value!r}")
        for name in ("norm_eps", "rope_theta"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise InputError(f"{name} of LlamaArch must be a positive number; got {value!r}")
        if self.dim % self.n_heads or (self.dim // self.n_heads) % 2:
            raise InputError(f"dim of LlamaArch must be n_heads={self.n_heads} times an even head size; got {self.dim}")
        if self.n_heads % self.n_kv_heads:
            raise InputError(
                f"n_kv_heads of LlamaArch must divide n_heads={self.n_heads}; got {self.n_kv_heads}; "
                f"try one of {', '.join(map(str, valid_kv_heads(self.n_heads)))}"
            )

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        """How copies and pickles are made: by name, through validation."""
        return (), self._asdict()

    @property
    def head_dim(self) -> int:
        """E: the size of one attention head."""
        return self.dim // self.n_heads

    @property
    def group_size(self) -> int:
        """G: query heads that share one KV head."""
        return self.n_heads // self.n_kv_heads

    @property
    def kv_dim(self) -> int:
        """Width of the key (and of the value) of one token: K * E."""
        return self.n_kv_heads * self.head_dim

    def replace(self, **changes: Any) -> "LlamaArch":
        """A copy with some fields changed, validated like a new one."""
        return LlamaArch(**(self._asdict() | changes))


def valid_kv_heads(n_heads: int) -> list[int]:
    """Counts of KV heads that divide the query heads, MHA first, MQA last.

    >>> valid_kv_heads(8)
    [8, 4, 2, 1]
    """
    return [heads for heads in range(n_heads, 0, -1) if n_heads % heads == 0]


def attention_kind(n_heads: int, n_kv_heads: int) -> str:
    """MHA, GQA-k (k KV heads) or MQA.

    >>> attention_kind(32, 8)
    'GQA-8'
    """
    if n_kv_heads == n_heads:
        return "MHA"
    return "MQA" if n_kv_heads == 1 else f"GQA-{n_kv_heads}"


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
    """Read Meta's `params.json`; its vocab_size of -1 stands for the tokenizer's 32,000.

    Raises FormatError for the scaled RoPE of Llama 3.1.
    """
    if params.get("use_scaled_rope"):
        raise FormatError(f"use_scaled_rope must be false, as in Llama 2; got {params['use_scaled_rope']!r}")
    vocab_size = params.get("vocab_size", -1)
    return LlamaArch(
        dim=params["dim"],
        n_layers=params["n_layers"],
        n_heads=params["n_heads"],
        n_kv_heads=_given(params, "n_kv_heads", params["n_heads"]),
        ffn_dim=meta_ffn_dim(params["dim"], params["multiple_of"], params.get("ffn_dim_multiplier")),
        vocab_size=32_000 if vocab_size == -1 else vocab_size,
        norm_eps=params["norm_eps"],
        rope_theta=params.get("rope_theta", 10_000.0),
    )


def _given(data: dict[str, Any], key: str, default: Any) -> Any:
    """The value of a key, or the default where it is absent or null; a 0 stays a 0 and is refused."""
    value = data.get(key)
    return default if value is None else value


def _flag(data: dict[str, Any], key: str) -> bool:
    value = _given(data, key, False)
    if not isinstance(value, bool):
        raise FormatError(f"{key} of config.json must be true or false; got {value!r}")
    return value


def from_hf_config(config: dict[str, Any]) -> LlamaArch:
    """Read a Hugging Face `config.json`, with the RoPE settings of transformers 4 or 5.

    Raises FormatError for what a Llama 2 has not: biases, another activation, scaled RoPE.
    """
    if config.get("model_type", "llama") != "llama":
        raise FormatError(f"model_type of config.json must be 'llama'; got {config['model_type']!r}")
    for bias in ("attention_bias", "mlp_bias"):
        if config.get(bias):
            raise FormatError(f"{bias} of config.json must be false, as in Llama 2; got {config[bias]!r}")
    if config.get("hidden_act", "silu") != "silu":
        raise FormatError(f"hidden_act of config.json must be 'silu'; got {config['hidden_act']!r}")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    if rope_type != "default":
        raise FormatError(f"rope_type of config.json must be 'default', as in Llama 2; got {rope_type!r}")
    n_heads = whole(config["num_attention_heads"], "num_attention_heads of config.json", most=MAX_SIZE)
    dim = whole(config["hidden_size"], "hidden_size of config.json", most=MAX_SIZE)
    head_dim = config.get("head_dim")
    if head_dim is not None and (type(head_dim) is not int or head_dim * n_heads != dim):
        raise FormatError(f"head_dim of config.json must be hidden_size / num_attention_heads; got {head_dim}")
    return LlamaArch(
        dim=dim,
        n_layers=config["num_hidden_layers"],
        n_heads=n_heads,
        n_kv_heads=_given(config, "num_key_value_heads", n_heads),
        ffn_dim=config["intermediate_size"],
        vocab_size=config["vocab_size"],
        norm_eps=config["rms_norm_eps"],
        rope_theta=rope.get("rope_theta", config.get("rope_theta", 10_000.0)),
        tied_embeddings=_flag(config, "tie_word_embeddings"),
        max_positions=config.get("max_position_embeddings", 4096),
    )


def read_arch(path: str) -> LlamaArch:
    """Read `params.json` or `config.json`, told apart by content.

    Raises MissingError where there is no file, FormatError where it is neither.
    """
    data = read_object(path, "model file")
    read = from_hf_config if "hidden_size" in data else from_meta_params
    try:
        return read(data)
    except KeyError as missing:
        raise FormatError(
            f"{path} must be Meta's params.json or a Hugging Face config.json; it lacks {missing}"
        ) from None
    except (TypeError, AttributeError) as error:
        raise FormatError(f"{path} must hold numbers where a Llama has sizes; {error}") from None
    except InputError as error:
        raise FormatError(f"{path} must describe a Llama; {error}") from None
