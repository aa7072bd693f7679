"""Prefill and decode of a report, one after the other on one model and cache, each within its share of the time."""

from collections.abc import Callable

from llamalab.measure.report.budget import (
    LEAST_PHASE_S,
    PREFILL_SHARE,
    Scale,
)
from llamalab.measure.report.passes import MeasuredModel, measure_pass
from llamalab.measure.report.patterns import ReadSentence, patterns_of
from llamalab.measure.report.roofs import ROOFS_DONE
from llamalab.measure.report.shape import ReportShape
from llamalab.measure.roofs.shape_products import products_here
from llamalab.measure.target.blocks import Share
from llamalab.measure.target.filled_cache import fill_to
from llamalab.measure.timing.deadline import Deadline, ProgressCallback
from llamalab.model import StaticKVCache, Transformer
from llamalab.model.compiled import compile
from llamalab.records.patterns import Patterns
from llamalab.records.phase_profile import PhaseProfile
from llamalab.records.record import Pass, Record

PASSES_DONE = 0.8
_DECODE_SHARE = 0.4  # of the time that is left when it begins


def measure_phases(
    make: Callable[[], Transformer],
    read: ReadSentence | None,
    share: Share,
    dtype: str,
    shape: ReportShape,
    scale: Scale,
    base: Record,
    deadline: Deadline,
    progress: ProgressCallback,
) -> tuple[list[tuple[Pass, PhaseProfile | None]], Patterns | None]:
    """Prefill of the prompt, decode of one token at the end of the context, and attention shares of a sentence."""
    blocks = f"{share.layers} of {share.layers_total} blocks"
    progress(f"building {blocks}", ROOFS_DONE)
    made = make()
    products = products_here(made.norm.weight.device, dtype, share.arch, base.weight_dtype)
    model = compile(
        made,
        scope="none",
        attention=shape.attention,
        weight_dtype=base.weight_dtype,
        kernel_rows=base.kernel_rows,
        products=products,
    )
    cache = StaticKVCache(
        model.rank_arch,
        batch=shape.batch,
        max_tokens=shape.longest,
        dtype=shape.kv_dtype or dtype,
        device=model.norm.weight.device,
    )
    bench = MeasuredModel(model.eval(), cache, share, dtype)
    progress(f"prefill, {blocks}", ROOFS_DONE + 0.05)
    part = deadline.part(PREFILL_SHARE, least_s=LEAST_PHASE_S)
    prefill = measure_pass(bench, "prefill", scale.pass_plan, base, new_tokens=shape.prompt, deadline=part)
    progress(f"decode, {blocks}", PASSES_DONE - 0.1)
    fill_to(cache, shape.context - 1)
    part = deadline.part(_DECODE_SHARE, least_s=LEAST_PHASE_S)
    decode = measure_pass(
        bench, "decode", scale.pass_plan, base, new_tokens=1, past_tokens=shape.context - 1, deadline=part
    )
    return [prefill, decode], None if read is None else patterns_of(model, read)
