"""A profile: the rows of the cost table, each with what was measured of it; what closes and what does not."""

import itertools
import json
import time
from dataclasses import replace
from typing import Any

import pytest
import torch

from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.errors import InputError, UnknownNameError
from llamalab.measure.profile.rows import medians_by_block, missing_time, ops_and_outside, throttle_reasons
from llamalab.measure.profile.run import measure_profile
from llamalab.measure.timing.deadline import Deadline
from llamalab.model.compiled import compile
from llamalab.model.packed import product_of
from llamalab.records.phase_profile import Telemetry
from llamalab.records.profile import Profile, profiles_from_json, profiles_to_json
from llamalab.records.roof import Roof
from tests.model.hf_reference import hf_model
from tests.model.shrunk import ARCHES, small_model
from tests.report.sample import sample_record

PHASES = {"prefill": (11, 11), "decode": (1, 12)}


def profiled(model: Any, **options: Any) -> Profile:
    given: dict[str, Any] = {"prompt_tokens": 11, "batch": 2, "reference": sample_record(dtype="fp32"), "budget_s": 0.0}
    return measure_profile(model, **given | options)


@pytest.fixture(scope="module")
def profile() -> Profile:
    return profiled(small_model(ARCHES["GQA"]), name="small", layers_total=32)


@pytest.mark.parametrize("phase", PHASES)
def test_every_row_of_the_cost_table_has_its_time(profile: Profile, phase: str) -> None:
    new_tokens, context = PHASES[phase]
    table = forward_ops(
        ARCHES["GQA"].replace(n_layers=32),
        PassShape(new_tokens=new_tokens, context_tokens=context, batch=2, dtype="fp32"),
    )
    found = profile.phase(phase)
    assert (found.new_tokens, found.context_tokens, found.batch) == (new_tokens, context, 2)
    assert (found.layers_measured, found.layers_total) == (2, 32)
    assert [op.name for op in found.ops] == [op.name for op in table]
    for op, expected in zip(found.ops, table, strict=True):
        assert (op.flops, op.bytes, op.count) == (expected.flops_causal, expected.bytes, expected.count)
        assert op.calls == (2 if "*" in op.name else 1)
        assert op.time_s > 0
        assert op.device_s is not None
        assert op.gap_s is not None
        assert op.device_s + op.gap_s == pytest.approx(op.time_s)
        assert op.kernels
        assert op.predicted_s is not None
        assert op.error == pytest.approx(op.predicted_s / op.time_s - 1)
        assert op.flops_per_s == pytest.approx(op.flops / op.time_s)
        assert op.total_s == pytest.approx(op.time_s * op.count)
    assert sum(op.share for op in found.ops) == pytest.approx(1)


def test_a_model_of_quantised_weights_is_told_and_predicted_by_its_own_bytes() -> None:
    arch = ARCHES["GQA"].replace(dim=64, n_heads=4, n_kv_heads=2, ffn_dim=96, head_dim=None)
    kept = compile(small_model(arch), scope="none", weight_dtype="int8", kernel_rows=4)
    reference = replace(sample_record(dtype="fp32"), constants=None)
    roofs = [*reference.roofs, Roof(kind="stream", dtype="int8", per_second=1e9)]
    made = profiled(kept, reference=replace(reference, roofs=roofs))
    assert (made.weight_dtype, made.product) == ("int8", product_of(kept))
    (decode,) = (one for one in made.phases if one.phase == "decode")
    w1 = next(op for op in decode.ops if op.name.endswith("w1"))
    assert w1.bytes == 96 * (64 + 4) + 4 * 2 * (64 + 96)  # codes with a scale a row, and two rows of activations
    launch = next(roof.seconds for roof in reference.roofs if roof.kind == "launch")
    assert w1.predicted_s == pytest.approx(w1.bytes / 1e9 + launch)
    prefill = made.phase("prefill")  # 22 rows: the weight is written out and read again
    assert next(op for op in prefill.ops if op.name.endswith("w1")).bytes > 2 * 4 * 96 * 64
    assert profiles_from_json(profiles_to_json([made]))[0] == made


@pytest.mark.parametrize("kind", ["llamalab", "transformers"])
def test_passes_stand_at_the_end_of_the_context_that_is_named(kind: str) -> None:
    model: Any = small_model(ARCHES["GQA"]) if kind == "llamalab" else hf_model(small_model(ARCHES["GQA"]))
    found = profiled(model, context_tokens=30)
    assert [(one.new_tokens, one.context_tokens) for one in found.phases] == [(11, 30), (1, 30)]
    with pytest.raises(InputError, match="context_tokens must count the prompt of 11 tokens; got 9"):
        profiled(model, context_tokens=9)


@pytest.mark.parametrize("phase", PHASES)
def test_the_sums_are_those_of_the_rows(profile: Profile, phase: str) -> None:
    found = profile.phase(phase)
    assert found.named_s == pytest.approx(sum(op.time_s * op.calls for op in found.ops))
    assert found.outside_s > 0
    assert found.closure == pytest.approx((found.named_s + found.outside_s) / found.wall_s - 1)
    assert (found.missing is None) == (abs(found.closure) <= 0.05)
    assert [tool.name for tool in found.instruments] == ["op clock", "profiler", "memory"]
    assert all(tool.ratio > 0 for tool in found.instruments)
    assert found.kernel is not None
    assert "flash_attention_for_cpu" in found.kernel


def test_what_does_not_add_up_is_named() -> None:
    assert missing_time(0.049, "llamalab") is None
    assert "add up to 9% more than a clean pass" in str(missing_time(0.09, "llamalab"))
    assert "12% of a clean pass is in no operation" in str(missing_time(-0.12, "llamalab"))
    assert "hooks and modules of transformers" in str(missing_time(-0.12, "transformers"))


def test_throttling_is_told_and_not_guessed() -> None:
    calm, hot = Telemetry(throttle_reasons=[]), Telemetry(throttle_reasons=["hardware slowdown"])
    assert throttle_reasons(calm, hot, calm) == ["hardware slowdown"]
    assert throttle_reasons(calm, calm) == []
    assert throttle_reasons(Telemetry(), hot) is None


@pytest.mark.parametrize("phase", PHASES)
def test_blocks_have_their_own_times(profile: Profile, phase: str) -> None:
    for op in profile.phase(phase).ops:
        assert len(op.layers_s) == (2 if "*" in op.name else 0)
        assert all(seconds > 0 for seconds in op.layers_s)
        if op.layers_s:  # a mean of medians beside a median of means: of the same samples
            assert min(op.samples_s) / 4 < sum(op.layers_s) / 2 < 4 * max(op.samples_s)


def test_passes_become_rows_and_depth() -> None:
    passes = [
        {"tok_embeddings": 1.0, "layers.0.ffn_norm": 2.0, "setup": 0.5, "layers.1.ffn_norm": 4.0},
        {"tok_embeddings": 1.0, "layers.0.ffn_norm": 3.0, "setup": 0.5, "layers.1.ffn_norm": 7.0},
    ]
    assert medians_by_block(passes) == {"layers.*.ffn_norm": [2.5, 5.5]}
    ops, outside = ops_and_outside(passes, 2)
    assert ops == {"tok_embeddings": ([1.0, 1.0], 1), "layers.*.ffn_norm": ([3.0, 5.0], 2)}
    assert outside == [0.5, 0.5]


def test_the_state_is_read_before_during_and_after(profile: Profile) -> None:
    for found in profile.phases:
        assert found.during is not None
        assert found.before.missing.keys() == found.during.missing.keys() == found.after.missing.keys()


def test_it_becomes_json_and_comes_back(profile: Profile) -> None:
    text = profiles_to_json([profile, profile])
    assert json.loads(text)["profiles"][0]["phases"][0]["ops"][2]["name"] == "layers.*.attention.wq"
    assert profiles_from_json(text) == [profile, profile]


def test_the_model_is_left_as_it_was() -> None:
    model = small_model(ARCHES["GQA"])
    before = dict(vars(model))
    profiled(model, phases=("decode",))
    assert vars(model) == before


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_hugging_face_model_is_profiled_as_it_is(profile: Profile, attention: str) -> None:
    reference = hf_model(small_model(ARCHES["GQA"]))
    reference.set_attn_implementation(attention)
    found = profiled(reference, layers_total=32)
    steps = "flash" if attention == "sdpa" else "scores+softmax+values"
    merged = f"layers.*.attention.rope+kv_append+{steps}"
    assert (found.kind, found.attention) == ("transformers", attention)
    for phase in PHASES:
        theirs, ours = found.phase(phase), profile.phase(phase)
        inner = ("rope", "kv_append", "flash")
        expected = [op.name for op in ours.ops if op.name.rpartition(".")[2] not in inner]
        assert [op.name for op in theirs.ops if op.name != merged] == expected
        # The same work, whoever does it.
        if attention == "sdpa":
            assert sum(op.flops * op.count for op in theirs.ops) == sum(op.flops * op.count for op in ours.ops)
            assert sum(op.bytes * op.count for op in theirs.ops) == sum(op.bytes * op.count for op in ours.ops)
    # Its cache grows in the pass: both layers' keys and values, 2 x 2 x 11 tokens x 40 x 4 bytes.
    kv = max(moment.kv_bytes for moment in found.phase("prefill").memory.timeline)
    assert kv == 2 * 2 * 2 * 11 * 40 * 4
    assert not any(module._forward_hooks for module in reference.modules())


def test_what_cannot_be_profiled_is_refused() -> None:
    model = small_model(ARCHES["GQA"])
    with pytest.raises(UnknownNameError, match="phase must be one of prefill, decode"):
        profiled(model, phases=("training",))
    with pytest.raises(InputError, match="prompt_tokens and batch must be at least 1"):
        profiled(model, prompt_tokens=0)
    with pytest.raises(InputError, match=r"must be a llamalab.Transformer or a LlamaForCausalLM, .*; got Linear"):
        profiled(torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"weights must be stored in one of bf16, fp16, fp32; got torch\.float64"):
        profiled(small_model(ARCHES["GQA"]).double())


def test_a_machine_20_times_slower_is_done_in_time_with_fewer_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves only when it is looked at: each look stands for work of `tick_s` seconds."""

    def passes(tick_s: float) -> tuple[int, float]:
        looks, runs = itertools.count(1), itertools.count()
        monkeypatch.setattr(time, "perf_counter_ns", lambda: round(next(looks) * tick_s * 1e9))
        model, deadline = small_model(ARCHES["GQA"]), Deadline(6.0)
        model.register_forward_hook(lambda *_: next(runs) and None)
        profiled(model, budget_s=6.0, deadline=deadline, phases=("decode",))
        return next(runs), deadline.spent_s

    (many, quick_s), (few, slow_s) = passes(2e-3), passes(4e-2)
    assert max(quick_s, slow_s) < 1.5 * 6.0
    assert 2 <= few < many
