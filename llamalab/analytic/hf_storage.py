"""Bytes of a quantised Hugging Face folder from `quantization_config` alone, exact to the tensor.

Each method's own layout: codes, scales, zero points and further tensors. Sources: the tensors that
AutoGPTQ and GPTQModel, AutoAWQ, bitsandbytes, transformers' fp8 and FBGEMM classes and compressed-tensors write.
"""

import re
from collections.abc import Callable

from llamalab.analytic.nf4 import nf4_bytes
from llamalab.analytic.params import Weight, weights
from llamalab.arch import LlamaArch
from llamalab.errors import UnavailableError
from llamalab.startup.hints import Any, NamedTuple
from llamalab.units import storage_bytes

_NAMES = {  # names of modules that a method may exclude, by ours
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
}
_NF4_SETTINGS_BYTES = 96  # about, as text


class HfStorage(NamedTuple):
    """Bytes of all weights, of the layers, and of the embedding; bits of a quantised value, its scales included."""

    kind: str
    bytes: int
    bits: float
    layers_bytes: int
    embedding_bytes: int


StorageLayout = Callable[[int, int], int]  # bytes of a matrix of (rows out, columns in)


def hf_storage(config: dict[str, Any], arch: LlamaArch) -> HfStorage | None:
    """The storage of a config's weights; None where it has no quantization_config.

    Raises UnavailableError for a method that is not known.

    >>> from llamalab.presets import PRESETS
    >>> four = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}, "torch_dtype": "float16"}
    >>> hf_storage(four, PRESETS["7b"].arch).bytes
    3893862400
    """
    said = config.get("quantization_config")
    if not isinstance(said, dict):
        return None
    kind, layout = _layout(said)
    kept_in = {"float32": "fp32", "float16": "fp16"}.get(str(config.get("torch_dtype") or config.get("dtype")), "bf16")
    left_out = _left_out(said)
    total = packed = elements = layers = 0
    for weight in weights(arch):
        quantised = _quantised_count(weight, left_out, said)
        each = weight.parameters // weight.count
        size = (weight.count - quantised) * storage_bytes(each, kept_in)
        if quantised:
            rows, columns = weight.shape
            packed += quantised * layout(rows, columns)
            size += quantised * layout(rows, columns)
            elements += quantised * each
        total += size
        layers += size if weight.name.startswith("layers.") else 0
    if not elements:
        raise UnavailableError("quantization_config must quantise some matrix; it leaves out all of them")
    table = storage_bytes(weights(arch)[0].parameters, kept_in)
    return HfStorage(kind, total, 8 * packed / elements, layers, table)


def _quantised_count(weight: Weight, left_out: list[str], said: dict[str, Any]) -> int:
    """Number of quantised occurrences of a weight: matrices of layers, and the head only if named."""
    if len(weight.shape) != 2 or weight.name.startswith("tok_embeddings") or weight.name.endswith("gate.weight"):
        return 0
    if weight.name.startswith("output"):
        return int(bool(said.get("lm_head", False)))
    plain = weight.name.removeprefix("layers.*.").removesuffix(".weight")
    if (known := _NAMES.get(plain)) is None:  # weights of experts are in every layer's list
        known = plain
    layers = weight.count if plain in _NAMES else 1
    kept = sum(not _is_named(f"model.layers.{layer}.{known}", left_out) for layer in range(layers))
    return kept * (weight.count // layers)


def _is_named(module: str, left_out: list[str]) -> bool:
    """Whether a module is matched: by a pattern after `re:`, or by dotted words of its name."""
    for one in left_out:
        if one.startswith("re:"):
            if re.match(one[3:], module):
                return True
        elif f".{one.strip('.')}." in f".{module}.":
            return True
    return False


def _left_out(said: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for key in ("modules_to_not_convert", "llm_int8_skip_modules", "ignore", "ignored_layers"):
        if isinstance(names := said.get(key), list):
            found += [name for name in names if isinstance(name, str)]
    return found


def _layout(said: dict[str, Any]) -> tuple[str, StorageLayout]:
    """A method's display name, and its bytes of a matrix."""
    method = str(said.get("quant_method", "")).lower().replace("_", "-")
    if method == "bitsandbytes" or (not method and ("load_in_4bit" in said or "load_in_8bit" in said)):
        return _bitsandbytes(said)
    if method in ("gptq", "awq", "auto-round", "intel/auto-round"):
        return _packed_in_words("gptq" if "awq" not in f"{method} {said.get('packing_format')}" else "awq", said)
    if method in ("fp8", "fbgemm-fp8", "modelopt"):
        return _fp8(method, said)
    if method == "compressed-tensors":
        return _compressed(said)
    raise UnavailableError(
        f"quant_method must be one whose storage is known (gptq, awq, auto-round, bitsandbytes, fp8, fbgemm_fp8, "
        f"compressed-tensors); got {said.get('quant_method')!r}",
        hint="name the weights' storage with {weight_dtype}",
    )


def _number(said: dict[str, Any], key: str, default: int) -> int:
    value = said.get(key)
    value = default if value is None else value
    if type(value) is not int or not (value == -1 or 1 <= value <= 2**20):
        raise UnavailableError(f"{key} of quantization_config must be a whole number; got {value!r}")
    return value


def _groups(columns: int, group: int) -> int:
    return 1 if group <= 0 else -(-columns // group)


def _packed_in_words(method: str, said: dict[str, Any]) -> tuple[str, StorageLayout]:
    """Codes in words of 32 bits along one side, fp16 scales and packed zeros of each group; gptq's row of groups."""
    bits, group = _number(said, "bits", 4), _number(said, "group_size", 128)

    def layout(rows: int, columns: int) -> int:
        groups = _groups(columns, group)
        zeros = 4 * -(-rows * bits // 32) * groups
        order = 4 * columns if method == "gptq" else 0
        return 4 * -(-columns * bits // 32) * rows + 2 * groups * rows + zeros + order

    return f"{method} {bits} bits, {'rows' if group < 1 else f'groups of {group}'}", layout


def _bitsandbytes(said: dict[str, Any]) -> tuple[str, StorageLayout]:
    if said.get("load_in_8bit"):
        return "bitsandbytes 8 bits, rows", lambda rows, columns: rows * columns + 4 * rows
    twice = bool(said.get("bnb_4bit_use_double_quant"))

    def layout(rows: int, columns: int) -> int:
        return nf4_bytes(rows * columns, twice=twice, offset=False) + _NF4_SETTINGS_BYTES

    return f"bitsandbytes {said.get('bnb_4bit_quant_type', 'fp4')}{', quantised twice' if twice else ''}", layout


def _fp8(method: str, said: dict[str, Any]) -> tuple[str, StorageLayout]:
    block = said.get("weight_block_size")
    if method == "modelopt" and "FP8" not in str(said.get("quant_algo", "FP8")):
        raise UnavailableError(
            f"quant_algo of modelopt must be FP8; got {said.get('quant_algo')!r}",
            hint="name the weights' storage with {weight_dtype}",
        )
    if isinstance(block, list | tuple) and len(block) == 2 and all(type(size) is int and size > 0 for size in block):
        tall, wide = block
        return (
            f"fp8, blocks of {tall} × {wide}",
            lambda rows, columns: rows * columns + 4 * -(-rows // tall) * -(-columns // wide),
        )
    by_row = method == "fbgemm-fp8"
    return (
        f"fp8, one scale a {'row' if by_row else 'matrix'}",
        lambda rows, columns: rows * columns + (4 * rows if by_row else 8),
    )


def _compressed(said: dict[str, Any]) -> tuple[str, StorageLayout]:
    """Of the group whose targets are the linear layers; several groups take the first that has weights."""
    groups = said.get("config_groups")
    rows_of = (
        [group.get("weights") for group in groups.values() if isinstance(group, dict)]
        if isinstance(groups, dict)
        else []
    )
    group_weights = next((one for one in rows_of if isinstance(one, dict)), None)
    if group_weights is None:
        raise UnavailableError("config_groups of compressed-tensors must tell how weights are stored; none does")
    bits, strategy = _number(group_weights, "num_bits", 8), str(group_weights.get("strategy") or "tensor")
    group = _number(group_weights, "group_size", 128) if group_weights.get("group_size") is not None else -1
    packed = bits < 8 or "pack" in str(said.get("format"))
    floats = group_weights.get("type") == "float"
    zeros = group_weights.get("symmetric") is False

    def layout(rows: int, columns: int) -> int:
        groups = _groups(columns, group)
        scales = {"tensor": 1, "channel": rows}.get(strategy, rows * groups)
        if packed and floats:  # nvfp4: two codes a byte, fp8 scales, a scale of scales
            return -(-rows * columns * bits // 8) + scales + 4
        codes = 4 * rows * -(-columns * bits // 32) if packed else rows * columns
        zero_bytes = (4 * -(-rows * bits // 32) * groups if packed else scales) if zeros else 0
        return codes + 2 * scales + zero_bytes + (16 if packed else 0)

    shared = f"groups of {group}" if strategy == "group" or group > 0 else f"a scale a {strategy}"
    return f"compressed-tensors {'float' if floats else 'int'}{bits}, {shared}", layout
