"""The cost difference of two architectures, attributed to the fields in which they differ.

From A to B one field at a time, in the order of LlamaArch; the cost is counted after each, so that the terms add up to
the whole difference exactly. Fields that are only valid together (heads and KV heads, a window and the layers without
it) change together.
"""

from collections.abc import Callable

from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.op import Op, add_up
from llamalab.analytic.params import parameter_count, weight_bytes
from llamalab.analytic.workload import Workload, pass_ops
from llamalab.arch import LlamaArch
from llamalab.arch.parts import Experts, RopeScaling
from llamalab.errors import InputError
from llamalab.presets import PRESETS
from llamalab.startup.hints import Any, NamedTuple

LLAMA_2 = ("7b", "13b", "70b")  # as released
Seconds = Callable[[LlamaArch, tuple[Op, ...]], float | None]  # of a pass of an architecture; None where unknown


class Cost(NamedTuple):
    """The cost of one architecture in a run: stored bytes, a prefill, and one step of decode after it.

    FLOPs are causal, bytes those moved; times are None without constants to predict them.
    """

    parameters: int
    weight_bytes: int
    kv_bytes: int
    prefill_flops: int
    prefill_bytes: int
    decode_flops: int
    decode_bytes: int
    prefill_s: float | None = None
    decode_s: float | None = None


class DifferenceTerm(NamedTuple):
    """Fields changed together, and the change of each figure; `before` and `after` are their values."""

    fields: tuple[str, ...]
    before: tuple[Any, ...]
    after: tuple[Any, ...]
    added: Cost


def unlike_llama_2(arch: LlamaArch) -> tuple[str, ...]:
    """The fields, apart from sizes, in which it differs from any Llama 2.

    >>> unlike_llama_2(PRESETS["70b"].arch), unlike_llama_2(PRESETS["mistral-7b-v0.1"].arch)
    ((), ('window',))
    """
    same = PRESETS["7b"].arch
    fields = ("vocab_size", "rope_theta", "tied_embeddings")
    return (*(name for name in fields if getattr(arch, name) != getattr(same, name)), *arch.beyond_llama_2)


def nearest_llama_2(arch: LlamaArch) -> str:
    """The Llama 2 whose number of parameters is nearest, as a factor.

    >>> nearest_llama_2(PRESETS["llama-3.1-8b"].arch), nearest_llama_2(PRESETS["qwen2.5-72b"].arch)
    ('7b', '70b')
    """
    own = parameter_count(arch)
    counts = {name: parameter_count(PRESETS[name].arch) for name in LLAMA_2}
    return min(counts, key=lambda name: max(own, counts[name]) / min(own, counts[name]))


def cost_of(arch: LlamaArch, work: Workload, seconds: Seconds | None = None) -> Cost:
    """The cost of a run of `work.prompt` tokens and one step more.

    >>> from llamalab.presets import PRESETS
    >>> cost_of(PRESETS["7b"].arch, Workload(2048)).prefill_flops
    27626028662784
    """
    prompt = work.prompt
    passes = {"prefill": pass_ops(arch, work, prompt, prompt), "decode": pass_ops(arch, work, 1, prompt + 1)}
    totals = {phase: add_up(ops) for phase, ops in passes.items()}
    times = {phase: None if seconds is None else seconds(arch, ops) for phase, ops in passes.items()}
    return Cost(
        parameters=parameter_count(arch),
        weight_bytes=weight_bytes(arch, work.weight_dtype or work.dtype),
        kv_bytes=kv_bytes(arch, seq=prompt, batch=work.batch, dtype=work.kv_dtype or work.dtype),
        prefill_flops=totals["prefill"].flops_causal,
        prefill_bytes=totals["prefill"].bytes,
        decode_flops=totals["decode"].flops_causal,
        decode_bytes=totals["decode"].bytes,
        prefill_s=times["prefill"],
        decode_s=times["decode"],
    )


def terms(
    one: LlamaArch, other: LlamaArch, work: Workload, seconds: Seconds | None = None
) -> tuple[DifferenceTerm, ...]:
    """Every difference with its change of each figure, in order; their sum is the difference of the two costs.

    >>> from llamalab.presets import PRESETS
    >>> found = terms(PRESETS["7b"].arch, PRESETS["llama-3.1-8b"].arch, Workload(2048))
    >>> [(term.fields, term.added.parameters) for term in found][:3]  # doctest: +NORMALIZE_WHITESPACE
    [(('n_kv_heads',), -805306368), (('ffn_dim',), 1308622848), (('vocab_size',), 788529152)]
    """
    fields, goal = one._asdict(), other._asdict()
    made: list[DifferenceTerm] = []
    waiting: list[str] = []
    before, cost = one, cost_of(one, work, seconds)
    for name in one._fields:
        if fields[name] == goal[name]:
            continue
        waiting.append(name)
        fields[name] = goal[name]
        try:
            after = LlamaArch(**fields)
        except InputError:
            continue  # valid only with a later field
        new = cost_of(after, work, seconds)
        was, became = (tuple(getattr(arch, field) for field in waiting) for arch in (before, after))
        made.append(DifferenceTerm(tuple(waiting), was, became, _minus(new, cost)))
        before, cost, waiting = after, new, []
    return tuple(made)


def table_rows(
    names: tuple[str, str], costs: tuple[Cost, Cost], found: tuple[DifferenceTerm, ...]
) -> list[dict[str, Any]]:
    """One row for each model and, between them, for each term that leads from the first to the second."""
    between = [_row(" + ".join(term.fields), term.added, _all(term.before), _all(term.after)) for term in found]
    return [_row(names[0], costs[0]), *between, _row(names[1], costs[1])]


def _row(term: str, cost: Cost, before: str = "", after: str = "") -> dict[str, Any]:
    return {"term": term, "before": before, "after": after, **cost._asdict()}


def _all(values: tuple[Any, ...]) -> str:
    return " / ".join(map(field_words, values))


def field_words(value: Any) -> str:
    """A field's value in a table cell.

    >>> field_words(RopeScaling("llama3", 8.0, 8192)), field_words((1, 3)), field_words(None), field_words(False)
    ('llama3 × 8', '2 layers', 'none', 'no')
    """
    if isinstance(value, RopeScaling):
        return f"{value.kind} × {value.factor:g}"
    if isinstance(value, Experts):
        return f"{value.n_active} of {value.n_experts}"
    if isinstance(value, tuple):
        return f"{len(value)} layers"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _minus(more: Cost, less: Cost) -> Cost:
    added: list[Any] = [
        None if one is None or other is None else one - other for one, other in zip(more, less, strict=True)
    ]
    return Cost(*added)
