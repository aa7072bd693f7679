"""Structured fields of an architecture: norms, RoPE scaling, and a mixture of experts.

llamalab.model.rope has the formulas of scaled frequencies; here are their parameters, checked.
"""

from collections.abc import Mapping

from llamalab.errors import InputError
from llamalab.startup.hints import Any, NamedTuple

ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "relu2")
ROPE_KINDS = ("linear", "dynamic", "yarn", "llama3", "longrope")
MAX_EXPERTS = 10_000


class Norm(NamedTuple):
    """A kind of norm: its weight vectors, and the operations for each element."""

    vectors: tuple[str, ...]
    ops: int


# Root of the mean square: square, sum, scale, and the product with the weight. A LayerNorm takes the mean off first.
NORMS = {
    "rms": Norm(("weight",), 4),
    "rms_bare": Norm((), 3),
    "layer": Norm(("weight", "bias"), 7),
    "layer_unbiased": Norm(("weight",), 6),
    "layer_bare": Norm((), 5),
}


class RopeScaling(NamedTuple):
    """The scaling of RoPE beyond the `original_positions` of the first training.

    linear     every frequency divided by `factor` (Chen et al. 2023, arXiv 2306.15595)
    dynamic    a base that grows with the length once it is beyond the original one (dynamic NTK)
    yarn       high frequencies as they were, low ones divided by `factor`, a ramp from `beta_fast` to
               `beta_slow` turns between them (Peng et al. 2023, arXiv 2309.00071)
    llama3     the same idea with wavelengths: original_positions / `high_freq_factor` and / `low_freq_factor`
               (meta-llama/llama-models, models/llama3/model.py, apply_scaling)
    longrope   a divisor per frequency, of `short_factors` or, beyond the original length, of `long_factors`
               (Ding et al. 2024, arXiv 2402.13753)

    Cosine and sine are multiplied by `attention_factor` (yarn, longrope; 1 otherwise). With `rounded`, yarn's ramp
    begins and ends at whole frequencies.
    """

    kind: str
    factor: float
    original_positions: int
    attention_factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    rounded: bool = True
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """What differs from the defaults, for JSON."""
        return _differing(self)

    def check(self, frequencies: int) -> None:
        """Raise InputError for parameters that are invalid for so many frequencies."""
        if self.kind not in ROPE_KINDS:
            raise InputError(f"kind of RopeScaling must be one of {', '.join(ROPE_KINDS)}; got {self.kind!r}")
        check_whole("original_positions of RopeScaling", self.original_positions, 2**40)
        numbers = ("factor", "attention_factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow")
        for name in numbers:
            check_number(f"{name} of RopeScaling", getattr(self, name))
        if self.kind == "llama3" and self.low_freq_factor == self.high_freq_factor:
            raise InputError(f"low_freq_factor and high_freq_factor must differ; got {self.low_freq_factor!r} twice")
        for name in ("short_factors", "long_factors"):
            factors, most = getattr(self, name), frequencies if self.kind == "longrope" else 0
            if not isinstance(factors, tuple) or len(factors) != most:
                raise InputError(f"{name} of a {self.kind} RopeScaling must be {most} numbers; got {factors!r:.80}")
            for factor in factors:
                check_number(f"{name} of RopeScaling", factor)


class Experts(NamedTuple):
    """A mixture of experts: a router picks `n_active` of `n_experts` feed-forwards for every token.

    `ffn_dim` is one expert's width. `shared_ffn_dim` is the total width of the experts that process every token;
    with `shared_gate` a learnt gate weighs them. `dense_layers` have a plain feed-forward instead. `biases` are
    those of the router and of every expert (gpt-oss); with `correction` a learnt number for each expert shifts the
    choice (GLM 4.5).
    """

    n_experts: int
    n_active: int
    ffn_dim: int
    shared_ffn_dim: int = 0
    shared_gate: bool = False
    dense_layers: tuple[int, ...] = ()
    biases: bool = False
    correction: bool = False

    def as_dict(self) -> dict[str, Any]:
        """What differs from the defaults, for JSON."""
        return _differing(self)

    def check(self) -> None:
        """Raise InputError for invalid sizes."""
        check_whole("n_experts of Experts", self.n_experts, MAX_EXPERTS)
        check_whole("n_active of Experts", self.n_active, self.n_experts)
        check_whole("ffn_dim of Experts", self.ffn_dim, 10_000_000)
        if self.shared_ffn_dim != 0:
            check_whole("shared_ffn_dim of Experts", self.shared_ffn_dim, 10_000_000)
        for name in ("shared_gate", "biases", "correction"):
            if type(getattr(self, name)) is not bool:
                raise InputError(f"{name} of Experts must be true or false; got {getattr(self, name)!r}")

    def of_first(self, layers: int) -> "Experts":
        """The same for a model of the first so many layers."""
        return self._replace(dense_layers=tuple(layer for layer in self.dense_layers if layer < layers))


def as_tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    """Fields from JSON, with lists converted to tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}


def _differing(part: RopeScaling | Experts) -> dict[str, Any]:
    defaults, absent = part._field_defaults, object()
    return {name: value for name, value in part._asdict().items() if value != defaults.get(name, absent)}


def check_whole(what: str, value: Any, most: int) -> None:
    """Raise InputError unless it is a whole number from 1 to `most`."""
    if type(value) is not int or not 1 <= value <= most:
        raise InputError(f"{what} must be a whole number from 1 to {most:,}; got {value!r}")


def check_number(what: str, value: Any) -> None:
    """Raise InputError unless it is a positive, finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(f"{what} must be a positive number; got {value!r}")
