"""The calls that calculate: none imports PyTorch, unless a checkpoint's header is asked for the sizes.

`model` is everywhere a preset by any of its names, the path of a JSON file, a folder or a checkpoint, or a LlamaArch.
"""

from collections.abc import Sequence

from llamalab.api.calls import answered
from llamalab.api.results import Result
from llamalab.arch import LlamaArch

Model = str | LlamaArch
Words = str | Sequence[str]  # one or several, each of which makes a row
Counts = int | str | Sequence[int]  # one, several, or a range in the command line's spelling: "512-4096*2"


def kv(
    model: Model = "7b",
    *,
    context: Counts | None = None,
    prompt: Counts | None = None,
    generate: Counts | None = None,
    batch: Counts = 1,
    tensor_parallel: Counts = 1,
    kv_heads: int | None = None,
    dtype: Words = "bf16",
    weight_dtype: Words | None = None,
    kv_dtype: Words | None = None,
) -> Result:
    """The size of the KV cache of `batch` sequences of `context` tokens, and under fewer KV heads.

    Args:
        model: a preset, a path or an architecture; several, with commas, make a row each.
        context: tokens in each sequence (default: 4096); several make a row each.
        prompt: with `generate`, in place of `context`: prompt tokens.
        generate: tokens after them.
        batch: sequences; several make a row each.
        tensor_parallel: devices that share the model; what is counted is one device's.
        kv_heads: KV heads in place of the model's own.
        dtype: storage of cache and weights, by our names or PyTorch's.
        weight_dtype: that of the weights alone.
        kv_dtype: that of the cache alone.

    >>> import llamalab
    >>> llamalab.kv("70b", context=4096).kv_bytes
    1342177280
    """
    return answered("kv", **locals())


def params(
    model: Model = "7b",
    *,
    dtype: Words = "bf16",
    weight_dtype: Words | None = None,
    tensor_parallel: Counts = 1,
    lora: str | None = None,
    kv_heads: int | None = None,
) -> Result:
    """The number of parameters by component, and their bytes; with `lora` ("r=16,targets=q,v") those of an adapter.

    Args:
        model: a preset, a path or an architecture.
        dtype: storage of the weights.
        weight_dtype: that of the matrices alone.
        tensor_parallel: devices that share the model; bytes are one device's.
        lora: an adapter to count instead.
        kv_heads: KV heads in place of the model's own.

    >>> import llamalab
    >>> llamalab.params("7b").parameters
    6738415616
    """
    return answered("params", **locals())


def flops(
    model: Model = "7b",
    *,
    phase: str = "prefill",
    prompt: Counts | None = None,
    context: Counts | None = None,
    batch: Counts = 1,
    attention: str = "flash",
    logits: str = "last",
    kv_heads: int | None = None,
    dtype: Words = "bf16",
    weight_dtype: Words | None = None,
    kv_dtype: Words | None = None,
    tensor_parallel: Counts = 1,
) -> Result:
    """FLOPs, bytes and intensity of one pass, operation by operation; of several passes the totals of each.

    Args:
        model: a preset, a path or an architecture.
        phase: prefill (of `prompt` new tokens) or decode (of one).
        prompt: new tokens of a prefill.
        context: tokens in view, the new ones included.
        batch: sequences.
        attention: flash or naive.
        logits: last or all positions that the head runs on.
        kv_heads: KV heads in place of the model's own.
        dtype: storage of activations, weights and cache.
        weight_dtype: that of the weights alone.
        kv_dtype: that of the cache alone.
        tensor_parallel: devices that share the model; what is counted is one device's.

    >>> import llamalab
    >>> llamalab.flops("7b", phase="decode", context=4096).flops_causal
    15361638400
    """
    return answered("flops", **locals())


def fit(
    model: Model = "7b",
    hardware: str | Sequence[str] | None = None,
    *,
    memory: str | None = None,
    free: str | None = None,
    context: Counts | None = None,
    batch: Counts | None = None,
    kv_heads: int | None = None,
    dtype: Words = "bf16",
    weight_dtype: Words | None = None,
    kv_dtype: Words | None = None,
    **others: object,
) -> Result:
    """The largest batch or context of a run that fits a device, or `memory` ("24GiB"), with everything that it holds.

    Args:
        model: a preset, a path or an architecture.
        hardware: a device by name; or give `memory` or `free`.
        memory: of one device.
        free: memory for the KV cache alone, beside everything else.
        context: tokens of each sequence: asks for the largest batch.
        batch: sequences: asks for the longest context.
        kv_heads: KV heads in place of the model's own.
        dtype: storage of cache and weights.
        weight_dtype: that of the weights alone.
        kv_dtype: that of the cache alone.
        others: further options of `llamalab fit`, by name: solve, chunk, gpu_layers and more.

    Raises DoesNotFitError, by how much.

    >>> import llamalab
    >>> llamalab.fit("7b", free="10GB", dtype="fp16").max_tokens
    19073
    """
    options = locals()
    return answered("fit", **options.pop("others"), **options)


def predict(
    model: str | Sequence[str] | LlamaArch = "7b",
    hardware: str | Sequence[str] = "h200-141gb-sxm",
    *,
    prompt: Counts | None = None,
    generate: Counts | None = None,
    context: Counts | None = None,
    batch: Counts = 1,
    tensor_parallel: Counts = 1,
    dtype: Words = "bf16",
    weight_dtype: Words | None = None,
    kv_dtype: Words | None = None,
    attention: str = "flash",
    **others: object,
) -> Result:
    """The predicted time of a run: a prompt, then token after token; several values of an argument make a row each.

    Args:
        model: presets, paths or an architecture.
        hardware: names of data sheets, "all", a JSON file of your own, or "this" for this machine once calibrated.
        prompt: prompt tokens (default: 2048).
        generate: tokens made after the prompt (default: 128).
        context: both together, in place of either.
        batch: sequences.
        tensor_parallel: devices that share the model.
        dtype: of activations, and of what is not named.
        weight_dtype: of the matrices.
        kv_dtype: of the KV cache.
        attention: flash or naive.
        others: options of `llamalab predict`, by name: basis, chunk, logits, fused, unfused, constants, threads.

    Raises DoesNotFitError for a single run that does not fit; of several, such a row has the reason and no times.

    >>> import llamalab
    >>> run = llamalab.predict("7b", "h100", prompt=512, generate=128)
    >>> run.total_s > run.bound["total_s"] > 0.5
    True
    """
    options = locals()
    return answered("predict", **options.pop("others"), **options)


def roofline(
    model: Model = "7b",
    hardware: str = "h200-141gb-sxm",
    *,
    prompt: Counts | None = None,
    generate: Counts | None = None,
    context: Counts | None = None,
    batch: Counts = 1,
    tensor_parallel: Counts = 1,
    dtype: Words = "bf16",
    weight_dtype: Words | None = None,
    kv_dtype: Words | None = None,
    **others: object,
) -> Result:
    """The limit of each operation of a run on a device, and changes that would raise it; `.plot()` draws the roofline.

    Several values of an argument make a row each.

    Args:
        model: a preset, a path or an architecture.
        hardware: one data sheet, a JSON file or "this".
        prompt: prompt tokens (default: 2048).
        generate: tokens made after the prompt (default: 128).
        context: both together, in place of either.
        batch: sequences.
        tensor_parallel: devices that share the model.
        dtype: of activations, and of what is not named.
        weight_dtype: of the matrices.
        kv_dtype: of the KV cache.
        others: further options of `llamalab roofline`, by name.

    >>> import llamalab
    >>> [row["limit"] for row in llamalab.roofline("7b", "h100").ops if row["op"].endswith("w2")]
    ['compute', 'memory']
    """
    options = locals()
    return answered("roofline", **options.pop("others"), **options)
