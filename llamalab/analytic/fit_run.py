"""A run whose memory is counted: a cache of `context` tokens a sequence, filled by a prompt and then token by token."""

from llamalab.analytic.activations import WAYS
from llamalab.analytic.batches import last_chunk
from llamalab.analytic.kv_storage import KV_DTYPES
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.checks import whole
from llamalab.errors import UnknownNameError
from llamalab.startup.hints import NamedTuple
from llamalab.units import DTYPES


class FitRun(NamedTuple):
    """B sequences that grow to `context` tokens, on `ranks` devices.

    `prompt` is the part of the context that comes at once (default: all of it); `attention` is flash, naive or chunked;
    `block_tokens` is the block size of a paged cache. `weight_bytes` are those of a file,
    `layer_bytes` of each of its layers, and `embedding_bytes`. `gpu_layers` is how many of the last layers
    this device has, the others lying with the embedding on its host (default: all, and the embedding).
    """

    arch: LlamaArch
    context: int
    batch: int = 1
    prompt: int | None = None
    chunk: int | None = None
    dtype: str = "bf16"
    weight_dtype: str | None = None
    kv_dtype: str | None = None
    attention: str = "flash"
    logits: str = "last"
    ranks: int = 1
    block_tokens: int = 1
    graphs: int = 0
    weight_bytes: int | None = None
    layer_bytes: tuple[int, ...] = ()
    embedding_bytes: int = 0
    gpu_layers: int | None = None


def check_run(run: FitRun) -> None:
    """Raises InputError for invalid sizes, UnknownNameError for unknown types and algorithms."""
    for name in ("context", "batch", "ranks", "block_tokens"):
        whole(getattr(run, name), name)
    for name in ("prompt", "chunk"):
        if getattr(run, name) is not None:
            whole(getattr(run, name), name)
    whole(run.graphs, "graphs", least=0)
    for what, given, known in (
        ("weight dtype", run.dtype if run.weight_bytes else run.weight_dtype or run.dtype, DTYPES),
        ("KV dtype", run.kv_dtype or run.dtype, KV_DTYPES),
        ("attention", run.attention, WAYS),
    ):
        if given not in known:
            raise UnknownNameError(what, given, known)


def prompt_and_chunk(run: FitRun) -> tuple[int, int]:
    """Tokens of each sequence in the prompt, and in one pass over it."""
    prompt = min(run.prompt or run.context, run.context)
    return prompt, min(run.chunk or prompt, prompt)


def passes(run: FitRun) -> list[tuple[int, int]]:
    """New tokens and context of the passes that can be the largest: the last two of the prompt, and the last token.

    >>> from llamalab.presets import PRESETS
    >>> passes(FitRun(PRESETS["7b"].arch, 1000, prompt=700, chunk=256))
    [(256, 512), (188, 700), (1, 1000)]
    """
    prompt, chunk = prompt_and_chunk(run)
    rest = last_chunk(prompt, chunk)
    before = [(chunk, prompt - rest)] if prompt > rest else []
    return [*before, (rest, prompt), (1, run.context)]


def pass_shape(run: FitRun, new_tokens: int, context_tokens: int) -> PassShape:
    """That of one of a run's passes."""
    return PassShape(
        new_tokens=new_tokens,
        context_tokens=context_tokens,
        batch=run.batch,
        dtype=run.dtype,
        kv_dtype=run.kv_dtype,
        weight_dtype=run.weight_dtype,
        attention=run.attention,
        logits=run.logits,
        tensor_parallel=run.ranks,
    )
