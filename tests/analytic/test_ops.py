"""THE op table against the published totals, and against the identities that any pass obeys."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamalab.analytic import ops as ops_module
from llamalab.analytic.batches import ragged
from llamalab.analytic.kv_cache import kv_bytes, kv_bytes_per_token
from llamalab.analytic.op import Op, Totals, add_up
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.params import components
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.errors import InputError, UnknownNameError
from llamalab.presets import PRESETS
from tests.analytic.strategies import archs

MODELS = ("7b", "13b", "34b", "70b")
PREFILL_2048 = {  # dense with all logits, causal with all, causal with the last
    "7b": (29_261_612_187_648, 28_162_637_430_784, 27_626_028_662_784),
    "13b": (56_076_166_758_400, 54_359_018_700_800, 53_688_257_740_800),
    "34b": (143_735_375_527_936, 140_438_451_257_344, 139_365_233_721_344),
    "70b": (292_444_323_184_640, 286_949_449_400_320, 285_876_231_864_320),
}
DECODE_4096 = {  # FLOPs, weight bytes, weight and KV bytes
    "7b": (15_361_638_400, 13_214_695_424, 15_362_703_360),
    "13b": (29_058_662_400, 25_704_058_880, 29_060_321_280),
    "34b": (73_404_514_304, 66_963_668_992, 67_769_171_968),
    "70b": (148_163_788_800, 137_429_024_768, 138_771_529_728),
}


def totals(arch: LlamaArch, **run: object) -> Totals:
    return add_up(forward_ops(arch, PassShape(**run)))  # type: ignore[arg-type]


def named(ops: tuple[Op, ...], ending: str) -> Op:
    return next(op for op in ops if op.name.endswith(ending))


@pytest.mark.parametrize("attention", ["naive", "flash"])
@pytest.mark.parametrize("model", MODELS)
def test_prefill_of_2048_tokens(model: str, attention: str) -> None:
    arch, (dense, causal, last) = PRESETS[model].arch, PREFILL_2048[model]
    every = totals(arch, new_tokens=2048, attention=attention, logits="all")
    assert (every.flops_full, every.flops_causal) == (dense, causal)
    assert totals(arch, new_tokens=2048, attention=attention).flops_causal == last


@pytest.mark.parametrize("model", MODELS)
def test_decode_at_4096_tokens(model: str) -> None:
    arch, (flops, streamed, moved) = PRESETS[model].arch, DECODE_4096[model]
    ops = forward_ops(arch, PassShape(new_tokens=1, context_tokens=4096))
    total = add_up(ops)
    assert (total.flops_full, total.flops_causal, total.weight_bytes) == (flops, flops, streamed)
    query = 2 * arch.dim
    keys_read = arch.n_layers * (named(ops, "attention.flash").read_bytes - query)
    keys_written = arch.n_layers * named(ops, "kv_append").written_bytes
    assert keys_read == kv_bytes(arch, seq=4096)
    assert keys_written == kv_bytes_per_token(arch)
    assert streamed + keys_read + keys_written == moved
    assert total.intensity == pytest.approx(flops / moved, rel=0.01)  # activations are the rest


RUNS = st.fixed_dictionaries(
    {
        "new_tokens": st.integers(1, 300),
        "attention": st.sampled_from(["naive", "flash"]),
        "logits": st.sampled_from(["last", "all"]),
    }
)


@given(archs(), RUNS, st.integers(2, 5))
def test_everything_but_the_weights_is_linear_in_batch(arch: LlamaArch, run: dict[str, object], batch: int) -> None:
    one, many = totals(arch, **run), totals(arch, batch=batch, **run)
    for field in ("flops_full", "flops_causal", "vector_flops", "read_bytes", "written_bytes"):
        assert getattr(many, field) == batch * getattr(one, field), field
    gathered = 2 * arch.dim * int(str(run["new_tokens"]))  # embedding rows are per token, all else is streamed once
    assert many.weight_bytes - batch * gathered == one.weight_bytes - gathered


@given(archs(), RUNS)
def test_layers_add_up(arch: LlamaArch, run: dict[str, object]) -> None:
    none_more, one, two = (totals(arch.replace(n_layers=layers), **run) for layers in (1, 2, 3))
    assert [b - a for a, b in zip(none_more, one, strict=True)] == [b - a for a, b in zip(one, two, strict=True)]


@given(archs(), st.integers(1, 40), st.integers(0, 40))
@settings(max_examples=50)
def test_a_prefill_is_the_sum_of_its_decode_steps(arch: LlamaArch, new_tokens: int, past: int) -> None:
    prefill = totals(arch, new_tokens=new_tokens, context_tokens=past + new_tokens, logits="all")
    steps = [totals(arch, new_tokens=1, context_tokens=past + t + 1) for t in range(new_tokens)]
    assert prefill.flops_causal == sum(step.flops_causal for step in steps)


@given(archs(), st.integers(1, 300), st.integers(0, 300))
def test_flash_computes_what_naive_does_and_moves_no_more(arch: LlamaArch, new_tokens: int, past: int) -> None:
    run = {"new_tokens": new_tokens, "context_tokens": new_tokens + past}
    naive, flash = totals(arch, attention="naive", **run), totals(arch, attention="flash", **run)
    assert (flash.flops_full, flash.flops_causal) == (naive.flops_full, naive.flops_causal)
    assert flash.bytes <= naive.bytes


@given(archs(), RUNS)
def test_weights_are_streamed_once_and_the_embedding_is_a_gather(arch: LlamaArch, run: dict[str, object]) -> None:
    parts, rows = components(arch), int(str(run["new_tokens"]))
    head = arch.vocab_size * arch.dim
    streamed = parts["attention"] + parts["feed_forward"] + parts["norms"] + head + rows * arch.dim
    assert totals(arch, **run).weight_bytes == 2 * streamed


@given(archs(), RUNS)
def test_totals_are_the_sum_of_count_times_figure(arch: LlamaArch, run: dict[str, object]) -> None:
    ops = forward_ops(arch, PassShape(**run))  # type: ignore[arg-type]
    total = add_up(ops)
    assert total.bytes == sum(op.count * op.bytes for op in ops)
    assert total.flops_causal == sum(op.count * op.flops_causal for op in ops)
    assert len({op.name for op in ops}) == len(ops)
    assert {op.count for op in ops if op.name.startswith("layers.*.")} == {arch.n_layers}


def test_a_smaller_cache_changes_only_what_the_cache_moves() -> None:
    arch = PRESETS["70b"].arch
    wide = forward_ops(arch, PassShape(new_tokens=1, context_tokens=4096))
    narrow = forward_ops(arch, PassShape(new_tokens=1, context_tokens=4096, kv_dtype="int8"))
    changed = [a.name for a, b in zip(wide, narrow, strict=True) if a != b]
    assert changed == ["layers.*.attention.kv_append", "layers.*.attention.flash"]


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        ({"new_tokens": 0}, InputError),
        ({"new_tokens": -1}, InputError),
        ({"new_tokens": 1, "batch": 0}, InputError),
        ({"new_tokens": 9, "context_tokens": 8}, InputError),
        ({"new_tokens": 1, "attention": "flex"}, UnknownNameError),
        ({"new_tokens": 1, "logits": "first"}, UnknownNameError),
        ({"new_tokens": 1, "dtype": "fp7"}, UnknownNameError),
    ],
)
def test_a_run_that_cannot_be_is_refused(run: dict[str, object], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        forward_ops(PRESETS["7b"].arch, PassShape(**run))  # type: ignore[arg-type]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("attention", ops_module.ALGORITHMS)
def test_a_step_is_the_same_table_whether_made_whole_or_around_its_attention(attention: str, fused: bool) -> None:
    for name, preset in PRESETS.items():
        for context in (1, 7, 5000):
            shape = PassShape(new_tokens=1, context_tokens=context, batch=3, attention=attention, fused=fused)
            whole = ops_module._pass_ops(preset.arch, ragged(1, context, 3), shape)
            assert forward_ops(preset.arch, shape) == whole, (name, context)
