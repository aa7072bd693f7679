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
    """The storage of a config's weights; None where it has no quantization_config, or one whose weights are plain.

    Raises UnavailableError for a method that is not known.

    >>> from llamalab.presets import PRESETS
    >>> four = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}, "torch_dtype": "float16"}
    >>> hf_storage(four, PRESETS["7b"].arch).bytes
    3893862400
    """
    said = config.get("quantization_config")
    if said is None:
        return None
    if not isinstance(said, dict):
        raise UnavailableError(
            f"quantization_config must be an object with a quant_method; got {said!r}",
            hint="name the weights' storage with {weight_dtype}",
        )
    if said.get("quant_method") == "compressed-tensors" and said.get("format") == "dense":
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
    scales = arch.n_layers * _cache_scales_bytes(said)
    total, layers = total + scales, layers + scales
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


def _cache_scales_bytes(said: dict[str, Any]) -> int:
    """A scale for keys and one for values of a layer, where the cache is quantised too."""
    if said.get("quant_method") == "compressed-tensors" and said.get("kv_cache_scheme"):
        return 2 * 2
    return 2 * 4 if said.get("quant_method") == "modelopt" and said.get("kv_cache_quant_algo") == "FP8" else 0


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
    """One byte a code, and scales in fp32: of a row, a block or a matrix, and one of its inputs where that is fixed."""
    block, algorithm = said.get("weight_block_size"), said.get("quant_algo", "FP8")
    if method == "modelopt" and algorithm not in ("FP8", "NVFP4"):
        raise UnavailableError(
            f"quant_algo of modelopt must be FP8 or NVFP4; got {algorithm!r}",
            hint="name the weights' storage with {weight_dtype}",
        )
    if method == "modelopt" and algorithm == "NVFP4":
        return "modelopt float4, groups of 16", lambda rows, columns: _float4(rows, columns, 16) + 4 + 4
    inputs = 4 * (method == "modelopt" or said.get("activation_scheme") == "static")
    if block is not None:
        if not (isinstance(block, list | tuple) and len(block) == 2 and all(map(_is_size, block))):
            raise UnavailableError(f"weight_block_size of quantization_config must be two whole numbers; got {block!r}")
        tall, wide = block
        return (
            f"fp8, blocks of {tall} × {wide}",
            lambda rows, columns: rows * columns + 4 * -(-rows // tall) * -(-columns // wide) + inputs,
        )
    by_row = method == "fbgemm-fp8"
    return (
        f"fp8, one scale a {'row' if by_row else 'matrix'}",
        lambda rows, columns: rows * columns + (4 * rows if by_row else 4 + inputs),
    )


def _is_size(value: object) -> bool:
    return type(value) is int and value > 0


def _float4(rows: int, columns: int, group: int) -> int:
    """Two codes a byte, and a scale of one byte for each group."""
    return -(-rows * columns // 2) + rows * _groups(columns, group)


def _compressed(said: dict[str, Any]) -> tuple[str, StorageLayout]:
    """Of the group whose targets are the linear layers; several groups take the first that has weights."""
    groups, sparsity = said.get("config_groups"), said.get("sparsity_config")
    forms = [said.get("format"), sparsity.get("format") if isinstance(sparsity, dict) else None]
    if sparse := next((one for one in map(str, forms) if "sparse" in one or "24" in one), None):
        raise UnavailableError(
            f"format of compressed-tensors must be of dense matrices; got {sparse}",
            hint="name the weights' storage with {weight_dtype}",
        )
    each = [group for group in groups.values() if isinstance(group, dict)] if isinstance(groups, dict) else []
    first = next((group for group in each if isinstance(group.get("weights"), dict)), None)
    if first is None:
        raise UnavailableError("config_groups of compressed-tensors must tell how weights are stored; none does")
    weights_as, inputs_as = first["weights"], first.get("input_activations")
    bits, strategy = _number(weights_as, "num_bits", 8), str(weights_as.get("strategy") or "tensor")
    group = _number(weights_as, "group_size", 128) if weights_as.get("group_size") is not None else -1
    packed = bits < 8 or "pack" in str(said.get("format"))
    floats, zeros = weights_as.get("type") == "float", weights_as.get("symmetric") is False
    fixed_inputs = isinstance(inputs_as, dict) and not inputs_as.get("dynamic")
    block = weights_as.get("block_structure")
    if strategy == "block" and not (isinstance(block, list) and len(block) == 2 and all(map(_is_size, block))):
        raise UnavailableError(f"block_structure of compressed-tensors must be two whole numbers; got {block!r}")

    def layout(rows: int, columns: int) -> int:
        groups = _groups(columns, group)
        if packed and floats:  # nvfp4 has fp32 scales of its scales, one of the matrix and one of its inputs
            nested = 4 * (1 + isinstance(inputs_as, dict)) if strategy == "tensor_group" else 0
            return _float4(rows, columns, group) + nested
        scales = {"tensor": 1, "channel": rows}.get(strategy, rows * groups)
        if strategy == "block":
            scales = -(-rows // block[0]) * -(-columns // block[1])
        codes = 4 * rows * -(-columns * bits // 32) if packed else rows * columns
        zero_bytes = (4 * -(-rows * bits // 32) * groups if packed else scales) if zeros else 0
        return codes + 2 * (scales + fixed_inputs) + zero_bytes + (16 if packed else 0)

    shared = f"groups of {group}" if strategy == "group" or group > 0 else f"a scale a {strategy}"
    return f"compressed-tensors {'float' if floats else 'int'}{bits}, {shared}", layout
