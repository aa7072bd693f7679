"""What one architecture costs more than another, and which of its differences costs it.

From A to B one field at a time, in the order of LlamaArch; after each the cost is counted anew, so that the steps add
up to the whole difference exactly. Fields that no sound model has changed alone (heads and KV heads, a window and the
layers without it) change together.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from llamalab.analytic.forecast import Workload, pass_ops, pass_s
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.ops import add_up
from llamalab.analytic.params import parameter_count, weight_bytes
from llamalab.analytic.roofline import Rates
from llamalab.arch import LlamaArch
from llamalab.errors import InputError


class Cost(NamedTuple):
    """What one architecture costs in a run: stored, and in a prefill and in one step of decode after it.

    FLOPs are causal, bytes those moved; times are None without rates to predict them with.
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


class Term(NamedTuple):
    """Some fields, changed together, and what that adds to each figure; `before` and `after` are their values."""

    fields: tuple[str, ...]
    before: tuple[Any, ...]
    after: tuple[Any, ...]
    added: Cost


def cost_of(arch: LlamaArch, work: Workload, rates: Mapping[str, Rates] | None = None) -> Cost:
    """The cost of a run of `work.prompt` tokens and one step more.

    >>> from llamalab.presets import PRESETS
    >>> cost_of(PRESETS["7b"].arch, Workload(2048)).prefill_flops
    27626028662784
    """
    prompt = work.prompt
    passes = {"prefill": pass_ops(arch, work, prompt, prompt), "decode": pass_ops(arch, work, 1, prompt + 1)}
    totals = {phase: add_up(ops) for phase, ops in passes.items()}
    times = {phase: None if rates is None else pass_s(ops, rates) for phase, ops in passes.items()}
    return Cost(
        parameter_count(arch),
        weight_bytes(arch, work.weight_dtype or work.dtype),
        kv_bytes(arch, seq=prompt, batch=work.batch, dtype=work.kv_dtype or work.dtype),
        totals["prefill"].flops_causal,
        totals["prefill"].bytes,
        totals["decode"].flops_causal,
        totals["decode"].bytes,
        times["prefill"],
        times["decode"],
    )


def terms(
    one: LlamaArch, other: LlamaArch, work: Workload, rates: Mapping[str, Rates] | None = None
) -> tuple[Term, ...]:
    """Every difference and what it adds, in order; their sum is the difference of the two costs.

    >>> from llamalab.presets import PRESETS
    >>> found = terms(PRESETS["7b"].arch, PRESETS["llama-3.1-8b"].arch, Workload(2048))
    >>> [(term.fields, term.added.parameters) for term in found][:3]  # doctest: +NORMALIZE_WHITESPACE
    [(('n_kv_heads',), -805306368), (('ffn_dim',), 1308622848), (('vocab_size',), 788529152)]
    """
    fields, goal = one._asdict(), other._asdict()
    made: list[Term] = []
    waiting: list[str] = []
    before, cost = one, cost_of(one, work, rates)
    for name in one._fields:
        if fields[name] == goal[name]:
            continue
        waiting.append(name)
        fields[name] = goal[name]
        try:
            after = LlamaArch(**fields)
        except InputError:
            continue  # sound only with a field that comes later
        new = cost_of(after, work, rates)
        was, became = (tuple(getattr(arch, field) for field in waiting) for arch in (before, after))
        made.append(Term(tuple(waiting), was, became, _minus(new, cost)))
        before, cost, waiting = after, new, []
    return tuple(made)


def _minus(more: Cost, less: Cost) -> Cost:
    added: list[Any] = [
        None if one is None or other is None else one - other for one, other in zip(more, less, strict=True)
    ]
    return Cost(*added)
