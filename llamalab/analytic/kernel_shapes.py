"""The shapes of a run for which a library compiles and caches kernels, such as oneDNN for half types."""

from collections.abc import Iterator

from llamalab.analytic.attention_cost import QUERY_CHUNK, AttentionShape
from llamalab.analytic.batches import chunks
from llamalab.analytic.fit_run import FitRun, pass_shape, prompt_and_chunk
from llamalab.analytic.parallel import shard
from llamalab.analytic.pass_memory import HEAD, attended, held_by_attention, in_chunks, moments
from llamalab.analytic.scratch import MatrixProduct, NoScratch
from llamalab.checks import whole

KERNELS_KEPT = 1024  # capacity of oneDNN's primitive cache
Shape = MatrixProduct | AttentionShape


class _Asked(NoScratch):
    """A recorder of the shapes it is called with, in order."""

    def __init__(self) -> None:
        self.shapes: list[Shape] = []

    def taken(self) -> list[Shape]:
        """The shapes since the last call."""
        taken, self.shapes = self.shapes, []
        return taken

    def product(self, product: MatrixProduct) -> int:
        """Records the shape; no scratch."""
        self.shapes.append(product)
        return 0

    def fused_attention(self, shape: AttentionShape) -> int:
        """Records nothing for short queries, which are not packed; no scratch."""
        if shape.new_tokens >= QUERY_CHUNK:
            self.shapes.append(shape)
        return 0


def kernel_shapes(run: FitRun, *, until: int | None = None, moment: int | None = None) -> list[Shape]:
    """The shapes of a run in a half type, each once and in order, until a context is reached.

    With `moment`, until the last time that the pass of that context comes to this one of its moments
    (activations.live_moments): what a block asks after it counts where a block before it has asked the same.
    `compiled_kernels` counts them without going through them, shapes that happen to be alike apart.

    >>> from llamalab.presets import PRESETS
    >>> len(kernel_shapes(FitRun(PRESETS["7b"].arch, 12, prompt=10)))
    7
    """
    if run.dtype == "fp32":
        return []
    shapes: dict[Shape, None] = {}
    until = _until(run, until)
    for new, context in _passes(run, until):
        asked = _by_moment(run, new, context)
        for at, (step, group) in enumerate(asked):
            last = context == until and moment is not None and at > moment
            if last and (step == HEAD or run.arch.n_layers == 1):
                break
            shapes.update(dict.fromkeys(group))
    return list(shapes)


def _until(run: FitRun, until: int | None) -> int:
    return run.context if until is None else whole(until, "until", most=run.context)


def _by_moment(run: FitRun, new: int, context: int) -> list[tuple[str, list[Shape]]]:
    """The step of each moment of one block and of the head, and its shapes, in order."""
    shape, asked = pass_shape(run, new, context), _Asked()
    found = [(moment.step, asked.taken()) for moment in moments(run.arch, shape, asked)]
    if run.attention == "chunked" and new > QUERY_CHUNK:
        # The last two parts are there: they are the largest. Those before them were compiled before them.
        first = next(group for step, group in found if step == "attention" and group)
        for window, _ in run.arch.windows:
            for part in [*in_chunks(attended(run.arch, shape, window))][:-2]:
                for _ in held_by_attention(part, "naive", asked):
                    pass
        first[:0] = asked.taken()
    return found


def _passes(run: FitRun, until: int) -> Iterator[tuple[int, int]]:
    """New tokens and context of every pass until that context."""
    prompt, chunk = prompt_and_chunk(run)
    yield from (one for one in chunks(prompt, chunk) if one[1] <= until)
    for context in range(prompt + 1, until + 1):
        yield 1, context


def compiled_kernels(run: FitRun, *, until: int | None = None) -> int:
    """Number of kernels that a run in a half type compiles and keeps, at most 1,024, until a context is reached.

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
