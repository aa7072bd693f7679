"""The shapes that a run asks of a library that compiles a kernel for each and keeps it, as oneDNN for half types."""

from collections.abc import Iterator

from llamalab.analytic.attention_cost import QUERY_CHUNK, AttentionShape
from llamalab.analytic.batches import chunks
from llamalab.analytic.fit_run import FitRun, pass_shape, prompt_and_chunk
from llamalab.analytic.parallel import shard
from llamalab.analytic.pass_memory import HEAD, LAST_OF_BLOCK, attended, held_by_attention, in_chunks, moments
from llamalab.analytic.scratch import MatrixProduct, NoScratch
from llamalab.checks import whole

KERNELS_KEPT = 1024  # capacity of oneDNN's primitive cache
Shape = MatrixProduct | AttentionShape


class _Asked(NoScratch):
    """Remembers what it is asked about, in order."""

    def __init__(self) -> None:
        self.shapes: list[Shape] = []

    def taken(self) -> list[Shape]:
        """Those since the last time, which are forgotten."""
        taken, self.shapes = self.shapes, []
        return taken

    def product(self, product: MatrixProduct) -> int:
        """Takes nothing."""
        self.shapes.append(product)
        return 0

    def fused_attention(self, shape: AttentionShape) -> int:
        """Takes nothing; short queries are not packed, and compile nothing."""
        if shape.new_tokens >= QUERY_CHUNK:
            self.shapes.append(shape)
        return 0


def kernel_shapes(run: FitRun, *, until: int | None = None, step: str | None = None) -> list[Shape]:
    """The shapes that a run in a half type meets, each once and in order, until that context is reached.

    With `step`, until the last time that the pass of that context takes this step: what a block asks after it does not
    count where there is one block, and what the head asks where the step lies in a block.
    `compiled_kernels` counts them without going through them, shapes that happen to be alike apart.

    >>> from llamalab.presets import PRESETS
    >>> len(kernel_shapes(FitRun(PRESETS["7b"].arch, 12, prompt=10)))
    7
    """
    if run.dtype == "fp32":
        return []
    shapes: dict[Shape, None] = {}
    until = _until(run, until)
    last = step if run.arch.n_layers == 1 or step == HEAD else LAST_OF_BLOCK
    for new, context in _passes(run, until):
        for name, asked in _by_step(run, new, context).items():
            shapes.update(dict.fromkeys(asked))
            if step and context == until and name == last:
                break
    return list(shapes)


def _until(run: FitRun, until: int | None) -> int:
    return run.context if until is None else whole(until, "until", most=run.context)


def _by_step(run: FitRun, new: int, context: int) -> dict[str, list[Shape]]:
    """What each step of one block, and the head, asks of the library, in order."""
    shape = pass_shape(run, new, context)
    asked = _Asked()
    found: dict[str, list[Shape]] = {}
    for moment in moments(run.arch, shape, asked):
        found.setdefault(moment.step, []).extend(asked.taken())
    if run.attention == "chunked" and new > QUERY_CHUNK:
        for window, _ in run.arch.windows:
            for part in in_chunks(attended(run.arch, shape, window)):
                for _ in held_by_attention(part, "naive", asked):
                    pass
        found["attention"] += asked.taken()
    return found


def _passes(run: FitRun, until: int) -> Iterator[tuple[int, int]]:
    """New tokens and context of every pass until that context."""
    prompt, chunk = prompt_and_chunk(run)
    yield from (one for one in chunks(prompt, chunk) if one[1] <= until)
    for context in range(prompt + 1, until + 1):
        yield 1, context


def compiled_kernels(run: FitRun, *, until: int | None = None) -> int:
    """How many kernels a run in a half type compiles and keeps, at most the cache's 1,024, until a context is reached.

    Products of weights for each number of rows, and the head's; of attention one or two for each pass.
    """
    if run.dtype == "fp32":
        return 0
    until = _until(run, until)
    prompt, chunk = prompt_and_chunk(run)
    done = min(prompt, until)
    whole_chunks, rest = divmod(done, chunk)
    parts = [chunk] * whole_chunks + ([rest] if rest else [])
    steps = until - done
    sizes = {*parts, *([1] if steps else [])}
    dim, part = run.arch.dim, shard(run.arch, run.ranks)
    weights = len({(dim, part.query_dim), (dim, part.kv_dim), (dim, part.ffn_dim), (part.ffn_dim, dim)})
    heads = len(sizes) if run.logits == "all" else 1
    if run.attention == "flash":
        attention = sum(part >= QUERY_CHUNK for part in parts)  # shorter ones are not packed, and compile nothing
    else:
        attention = 2 * (
            steps + sum(-(-part // (QUERY_CHUNK if run.attention == "chunked" else part)) for part in parts)
        )
    return min(KERNELS_KEPT, weights * len(sizes) + heads + attention)
