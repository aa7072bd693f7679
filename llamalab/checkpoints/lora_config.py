"""The settings of a LoRA adapter: the scale of each adapted module, and settings that rule out a merge.

A setting is used, or has no effect on a merged Llama, or is refused unless it has its default; an unknown one must be
empty, as the defaults of PEFT's switches are. Initialisations that subtract from the base (PiSSA, OLoRA, CorDA,
LoftQ, LoRA-GA, KaSA) give pairs that are valid only for the modified base, and are refused.
Source: huggingface/peft 0.21, tuners/lora/config.py and utils/other.py, `get_pattern_key`.
"""

import re
from functools import lru_cache
from math import sqrt
from typing import Any, NamedTuple

from llamalab.checks import whole
from llamalab.errors import FormatError

CONFIG = "adapter_config.json"
_DEFAULT = 8  # PEFT's, of r and of lora_alpha
_MOST_RANK = 1_000_000
_EMBEDDING, _HEAD = "embed_tokens", "lm_head"
_EMPTY: tuple[Any, ...] = (None, False, 0, "", [], {})
_USED = frozenset(
    (
        "peft_type",
        "r",
        "lora_alpha",
        "rank_pattern",
        "alpha_pattern",
        "use_rslora",
        "use_dora",
        "init_lora_weights",
        "modules_to_save",
        "trainable_token_indices",
        "ensure_weight_tying",
    )
)
# Settings of training, of sources, or of choices that the stored tensors show.
_NO_EFFECT = frozenset(
    (
        "task_type",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "auto_mapping",
        "peft_version",
        "lora_dropout",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "bias",
        "fan_in_fan_out",
        "megatron_core",
        "loftq_config",
        "eva_config",
        "corda_config",
        "qalora_group_size",
        "velora_config",
        "runtime_config",
    )
)
_SAFE_STARTS = (None, True, False, "gaussian", "eva", "orthogonal", "mica")
# Names and a few common regular-expression signs; nothing that backtracks without bound.
_PATTERN = re.compile(r"(?:\w|\\?\.|\\d\+?|\[[\w-]+\]\+?|\.[*+]|[\^$|]|\(\??:?|\))*")
_MOST_REPEATS = 3


class Settings(NamedTuple):
    """The settings of adapter_config.json that are used; patterns are of modules as Hugging Face names them."""

    rank: int
    alpha: float
    ranks: dict[str, int]
    alphas: dict[str, float]
    uses_root: bool
    is_dora: bool
    saved_modules: tuple[str, ...]
    token_ids: dict[str, tuple[int, ...]]
    keeps_tie: bool

    def rank_of(self, module: str) -> int:
        """The rank of the pair of a module."""
        return self.ranks.get(_matching(tuple(self.ranks), module), self.rank)

    def scale_of(self, module: str) -> float:
        """The factor on a module's product B A: alpha / r, with rsLoRA alpha / sqrt(r)."""
        alpha, rank = self.alphas.get(_matching(tuple(self.alphas), module), self.alpha), self.rank_of(module)
        return alpha / (sqrt(rank) if self.uses_root else rank)

    def token_ids_of(self, module: str) -> tuple[int, ...]:
        """The ids whose rows were trained; a head without ids of its own shares the embedding's."""
        names = (module, _EMBEDDING) if module == _HEAD else (module,)
        return next(
            (ids for name in names for key, ids in self.token_ids.items() if f".{name}".endswith(f".{key}")), ()
        )

    def is_saved(self, name: str) -> bool:
        """Whether a weight belongs to a module of modules_to_save."""
        parts = name.split(".")
        return any(
            ".".join(parts[start:]).startswith(f"{module}.")
            for module in self.saved_modules
            for start in range(len(parts))
        )


def adapter_settings(config: dict[str, Any]) -> Settings:
    """The settings of an adapter. Raises FormatError naming the one that cannot be merged."""
    if config.get("peft_type") != "LORA":
        raise FormatError(f"peft_type of {CONFIG} must be 'LORA'; got {config.get('peft_type')!r}")
    _check_start(config.get("init_lora_weights"))
    for key, value in config.items():
        if key not in _USED | _NO_EFFECT and not any(value == empty for empty in _EMPTY):
            raise FormatError(f"{key} of {CONFIG} must stand at its default, as it is not merged; got {value!r:.80}")
    ranks, alphas = _patterns(config, "rank_pattern"), _patterns(config, "alpha_pattern")
    return Settings(
        rank=_rank(config.get("r", _DEFAULT), "r"),
        alpha=_alpha(config.get("lora_alpha", _DEFAULT), "lora_alpha"),
        ranks={key: _rank(value, "rank_pattern") for key, value in ranks.items()},
        alphas={key: _alpha(value, "alpha_pattern") for key, value in alphas.items()},
        uses_root=_flag(config, "use_rslora"),
        is_dora=_flag(config, "use_dora"),
        saved_modules=tuple(_texts(config, "modules_to_save")),
        token_ids=_token_ids(config.get("trainable_token_indices")),
        keeps_tie=_flag(config, "ensure_weight_tying"),
    )


def _check_start(start: Any) -> None:
    if not any(start is safe or (isinstance(start, str) and start == safe) for safe in _SAFE_STARTS):
        raise FormatError(
            f"init_lora_weights of {CONFIG} must leave the base as it is, which {start!r} does not; save the adapter "
            f"with path_initial_model_for_weight_conversion, which makes it one for the original base"
        )


@lru_cache(maxsize=4096)
def _matching(patterns: tuple[str, ...], module: str) -> str:
    """The first pattern that the module's name ends with, as PEFT matches it; else the name itself."""
    return next((key for key in patterns if re.match(rf"(.*\.)?({key})$", module)), module)


def _patterns(config: dict[str, Any], key: str) -> dict[str, Any]:
    patterns = config.get(key) or {}
    if not isinstance(patterns, dict):
        raise FormatError(f"{key} of {CONFIG} must be values by pattern; got {patterns!r:.80}")
    for pattern in patterns:
        repeats = pattern.count("*") + pattern.count("+")
        if len(pattern) > 200 or repeats > _MOST_REPEATS or not _PATTERN.fullmatch(pattern) or not _compiles(pattern):
            raise FormatError(f"{key} of {CONFIG} must have the names of modules; {pattern!r:.80} is not one")
    return patterns


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _rank(value: Any, key: str) -> int:
    return whole(value, f"{key} of {CONFIG}", most=_MOST_RANK)


def _alpha(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise FormatError(f"{key} of {CONFIG} must be a number; got {value!r:.80}")
    return float(value)


def _flag(config: dict[str, Any], key: str) -> bool:
    value = config.get(key)
    if value not in (None, True, False):
        raise FormatError(f"{key} of {CONFIG} must be true or false; got {value!r:.80}")
    return bool(value)


def _texts(config: dict[str, Any], key: str) -> list[str]:
    value = config.get(key) or []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise FormatError(f"{key} of {CONFIG} must be a list of names; got {value!r:.80}")
    return value


def _token_ids(value: Any) -> dict[str, tuple[int, ...]]:
    """The trained token ids by module; a plain list is of the input embedding."""
    if value is None:
        return {}
    by_module = value if isinstance(value, dict) else {_EMBEDDING: value}
    for ids in by_module.values():
        if not isinstance(ids, list) or not all(type(index) is int and index >= 0 for index in ids):
            raise FormatError(f"trainable_token_indices of {CONFIG} must be lists of ids; got {value!r:.80}")
        if len(set(ids)) != len(ids):
            raise FormatError(f"trainable_token_indices of {CONFIG} must name an id once; got {value!r:.80}")
    return {module: tuple(ids) for module, ids in by_module.items()}
