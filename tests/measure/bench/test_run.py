"""A bench on little work: what is run, what follows from its times, and what a row says where nothing ran."""

import gc
import json
from dataclasses import replace
from statistics import mean, stdev

import pytest
import torch

from llamalab.analytic.calibration_files import constants_to_json
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.op import add_up
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.params import parameter_count, weight_bytes
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.rate_constants import CLASSES
from llamalab.analytic.roofline import Rates
from llamalab.arch import LlamaArch
from llamalab.checkpoints.checkpoint import weights_of
from llamalab.errors import DoesNotFitError, InputError, MissingError, UnknownNameError
from llamalab.measure.bench import one_case, reference_here
from llamalab.measure.bench import run as bench
from llamalab.measure.bench.passes import filled_cache, time_passes
from llamalab.measure.bench.reference import Reference
from llamalab.measure.bench.rows import BenchCase, BenchRow, grid, percentiles
from llamalab.measure.bench.run import measure_bench
from llamalab.measure.target.target import tokens_of
from llamalab.model import build
from llamalab.model.fastest import fastest_backend
from llamalab.records.phase_profile import Telemetry
from tests.checkpoints.samples import random_model
from tests.measure.fakes import StepClock
from tests.report.sample import GEMM, STREAM, sample_record

ARCH = LlamaArch(48, 7, 6, 2, 80, 96)
FASTEST = fastest_backend(torch.device("cpu"), torch.bfloat16).name
CASES = grid([5], [4], [(3, 2)], depths=[0, 6], batches=[1, 3])


def measured(cases=CASES, **options):
    given = {"device": "cpu", "repetitions": 3, "reference": sample_record(), "threads": 1, "repeat_s": 0.0}
    return measure_bench("toy", ARCH, cases, **(given | options))


@pytest.fixture(scope="module")
def rows() -> list[BenchRow]:
    return list(measured())


def test_every_combination_is_a_row(rows):
    assert [(row.test, row.batch) for row in rows] == [
        (name + depth, batch) for depth in ("", " @ d6") for batch in (1, 3) for name in ("pp5", "tg4", "pp3+tg2")
    ]
    for row, case in zip(rows, CASES, strict=True):
        assert row.case == case
        assert (row.basis, row.reason, row.blocks) == ("measured", None, "7 blocks")
        assert (row.size_bytes, row.parameters) == (weight_bytes(ARCH, "bf16"), parameter_count(ARCH))
        assert [len(passes) for passes in row.passes_s] == [len(case.passes)] * 3
        assert row.attention == FASTEST
        assert row.kernel is None or FASTEST != "chunked"
        assert row.warmup_s > 0


def test_figures_follow_from_the_raw_times(rows):
    for row in rows:
        figures, rates = row.to_dict(), [row.case.tokens / sum(passes) for passes in row.passes_s]
        assert figures["tokens_per_s"] == mean(rates)
        assert figures["tokens_per_s_deviation"] == stdev(rates)
        assert (figures["ttft_p50_s"] is None) == (row.prompt_tokens == 0)
        assert (figures["token_p50_s"] is None) == (row.generated_tokens == 0)
        assert figures["predicted_error"] == row.predicted_tokens_per_s / mean(rates) - 1
        assert figures["repetitions"] == 3


def test_what_a_test_reached_is_what_the_cost_table_counts(rows):
    roofs = {roof.kind: roof.per_second for roof in sample_record().roofs if roof.dtype == "bf16"}
    assert (roofs["gemm"], roofs["stream"]) == (GEMM, STREAM)
    for row in rows:
        totals = [
            add_up(forward_ops(ARCH, PassShape(new_tokens=new, context_tokens=context, batch=row.batch)))
            for new, context in row.case.passes
        ]
        per_s = row.tokens_per_s / row.case.tokens
        flops_per_s, bytes_per_s = (
            sum(getattr(one, key) for one in totals) * per_s for key in ("flops_causal", "bytes")
        )
        if row.test.startswith("tg"):
            assert (row.flops_per_s, row.bytes_per_s) == (None, pytest.approx(bytes_per_s))
            assert row.stream_fraction == pytest.approx(bytes_per_s / STREAM)
        elif "tg" in row.test:
            assert row.flops_per_s is row.bytes_per_s is row.gemm_fraction is row.stream_fraction is None
        else:
            assert (row.flops_per_s, row.bytes_per_s) == (pytest.approx(flops_per_s), None)
            assert row.gemm_fraction == pytest.approx(flops_per_s / GEMM)


def test_a_row_is_plain_data(rows):
    for row in rows:
        data = json.loads(json.dumps(row.to_dict(), allow_nan=False))
        assert data == row.to_dict()
        assert BenchRow(**{name: data[name] for name in BenchRow.__dataclass_fields__}) == row


def test_every_pass_is_timed_by_itself():
    case, seen = BenchCase(3, 2, 4, 2), []
    cache = filled_cache(ARCH, case, "bf16", torch.device("cpu"))
    model = build(ARCH)

    def spy(tokens_BT, **options):
        seen.append((tuple(tokens_BT.shape), cache.length))
        return model(tokens_BT, **options)

    prompt, steps = torch.zeros(2, 3, dtype=torch.long), [torch.zeros(2, 1, dtype=torch.long)] * 2
    with torch.inference_mode():
        assert time_passes(spy, cache, prompt, steps, StepClock()) == [1.0, 1.0, 1.0]
    assert seen == [((2, 3), 4), ((2, 1), 7), ((2, 1), 8)]
    assert cache.length == case.context == cache.max_tokens


def test_the_cache_is_written_everywhere_and_filled_to_the_depth():
    cache = filled_cache(ARCH, BenchCase(0, 3, 5, 2), "bf16", torch.device("cpu"))
    assert (cache.length, cache.max_tokens, cache.batch) == (5, 8, 2)
    for layer_BKSE in (*cache.keys, *cache.values):
        assert (layer_BKSE != 0).float().mean() > 0.99
        assert 0.9 < layer_BKSE.float().std() < 1.1


def test_the_tokens_are_the_same_everywhere():
    assert torch.equal(tokens_of(ARCH, 2, 7, torch.device("cpu")), tokens_of(ARCH, 2, 7, torch.device("cpu")))


def test_tied_blocks_are_said_in_every_row():
    rows = list(measured(CASES[:3], tie_blocks=2))
    assert {(row.blocks, row.basis, row.blocks_distinct, row.blocks_total) for row in rows} == {
        ("tied 2 of 7 blocks", "measured, tied blocks", 2, 7)
    }
    assert all(row.size_bytes == weight_bytes(ARCH, "bf16") for row in rows)
    # What is predicted and what is counted is the whole depth.
    whole = list(measured(CASES[:3], tie_blocks=None))
    assert [row.predicted_tokens_per_s for row in rows] == [row.predicted_tokens_per_s for row in whole]


def test_a_checkpoint_is_measured_with_its_own_weights(monkeypatch):
    model = random_model(ARCH)
    seen = []
    monkeypatch.setattr(bench, "compile", lambda made, **_: seen.append(made) or made)
    rows = list(measured(CASES[:1], tie_blocks=2, weights=weights_of(model)))
    assert [row.weights for row in rows] == ["checkpoint"]
    assert torch.equal(seen[0].layers[3].attention.wo.weight, model.layers[1].attention.wo.weight.bfloat16())
    assert next(measured(CASES[:1])).weights == "random"


def test_auto_ties_what_does_not_fit(monkeypatch):
    need = bench.need_bytes(bench.Depth(ARCH, 7), BenchCase(0, 4), "bf16", "flash")
    monkeypatch.setattr(bench, "effective_cache_bytes", lambda place: 0)
    for free, label in ((2 * need, "7 blocks"), (0.9 * need, "tied 2 of 7 blocks")):
        monkeypatch.setattr(bench, "available_bytes", lambda place, free=free: int(free))
        assert [row.blocks for row in measured([BenchCase(0, 4)])] == [label]


def test_what_does_not_fit_is_a_row_with_the_reason(monkeypatch):
    large = BenchCase(0, 2, 400, 9)
    need = kv_bytes(ARCH, seq=402, batch=9, dtype="bf16")
    monkeypatch.setattr(bench, "available_bytes", lambda place: need)
    monkeypatch.setattr(bench, "effective_cache_bytes", lambda place: 0)
    small, missing = measured([BenchCase(0, 2), large])
    assert small.basis == "measured"
    assert (missing.basis, missing.tokens_per_s, missing.passes_s, missing.token_latency) == (None, None, [], None)
    assert "must fit into 90% of the free memory" in missing.reason
    assert missing.predicted_tokens_per_s > 0
    assert missing.predicted_error is None


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory.\n  Tried"), DoesNotFitError("no room")])
def test_memory_that_ends_later_is_a_row_with_the_reason(monkeypatch, error):
    def refuse(arch, case, dtype, place):
        if case.batch == 3:
            raise error
        return filled_cache(arch, case, dtype, place)

    monkeypatch.setattr(one_case, "filled_cache", refuse)
    one, three, after = measured([BenchCase(5, 0), BenchCase(5, 0, 0, 3), BenchCase(0, 2)])
    assert (three.basis, three.reason) == (None, " ".join(str(error).split()))
    assert one.basis == after.basis == "measured"


def test_an_untrusted_roof_gives_no_share_and_no_prediction_but_the_reason():
    record = sample_record()
    roofs = [replace(roof, trusted=False, reason="doubled work took 1.3 times") for roof in record.roofs]
    (row,) = measured([BenchCase(5, 0)], reference=replace(record, roofs=roofs))
    assert row.gemm_fraction is row.predicted_tokens_per_s is row.prediction_basis is None
    assert "is not trusted (doubled work took 1.3 times)" in row.prediction_reason
    assert row.flops_per_s > 0


def test_a_prediction_sums_every_pass_at_its_own_context():
    reference = Reference(sample_record(), ARCH, "bf16", "flash")
    whole = reference.predicted_s(BenchCase(3, 4, 2))
    parts = [
        reference.predicted_s(BenchCase(3, 0, 2)),
        *(reference.predicted_s(BenchCase(0, 1, 5 + made)) for made in range(4)),
    ]
    assert whole == pytest.approx(sum(parts))
    assert reference.words == "roofs alone"
    with pytest.raises(InputError, match="a bench in fp32 must have a reference in fp32; got one in bf16"):
        Reference(sample_record(), ARCH, "fp32", "flash")


def test_without_a_reference_the_roofs_are_measured(monkeypatch):
    asked = {}

    def measure(name, arch, machine, *, weight_bytes, team, progress, roofs_known):
        assert team is None
        asked.update(name=name, dtype=machine.dtype, weight_bytes=weight_bytes, threads=torch.get_num_threads())
        return sample_record()

    monkeypatch.setattr(reference_here, "measure_reference", measure)
    list(measured([BenchCase(5, 0)], reference=None, tie_blocks=2))
    assert asked == {
        "name": "toy", "dtype": "bf16", "weight_bytes": weight_bytes(ARCH.replace(n_layers=2), "bf16"), "threads": 1,
    }  # fmt: skip


def test_a_compiled_model_is_what_is_run(monkeypatch):
    calls, scopes = [], []

    def double(model, **options):
        scopes.append(options)
        plain = model.forward
        model.forward = lambda tokens_BT, **given: calls.append(tuple(tokens_BT.shape)) or plain(tokens_BT, **given)
        return model

    monkeypatch.setattr(bench, "compile", double)
    (row,) = measured([BenchCase(0, 4)], compiled="block", attention="sdpa")
    assert row.compiled == "block"
    assert scopes == [
        {"scope": "block", "attention": "sdpa", "weight_dtype": None, "kernel_rows": None, "products": {}}
    ]
    assert calls == [(1, 1)] * (4 + 1 + 3 * 4)  # a whole repetition of warm-up, the kernel's pass, repetitions


def test_throttling_and_load_are_marked(monkeypatch):
    monkeypatch.setattr(one_case.os, "cpu_count", lambda: 2)
    states = iter(
        [Telemetry(throttle_reasons=[], load_average=2.5), Telemetry(throttle_reasons=["software power cap"])]
    )
    monkeypatch.setattr(one_case, "read_telemetry", lambda place: next(states))
    (row,) = measured([BenchCase(5, 0)])
    assert (row.throttle_reasons, row.load_average) == (["software power cap"], 2.5)
    assert row.disturbances[-2:] == ["load average 2.5 on 2 processors", "throttled: software power cap"]


def test_a_disturbed_test_is_repeated_and_says_so(monkeypatch):
    times = iter([[9.0], [1.0], [3.0], [1.1], [1.05], [1.1]])  # warm-up, three repetitions, two more
    monkeypatch.setattr(one_case, "time_passes", lambda *_: next(times))
    monkeypatch.setattr(one_case, "fused_kernel", lambda work, place: None)
    monkeypatch.setattr(one_case, "read_telemetry", lambda place: Telemetry())
    (row,) = measured([BenchCase(5, 0)], repeat_s=1e9)
    assert row.passes_s == [[1.0], [1.1], [1.05]]
    assert row.disturbances == ["repetitions up to 200 % apart; steady after 1 more, the slowest left out"]


@pytest.mark.parametrize("error", [DoesNotFitError("no room for roofs"), KeyError("gemm"), RuntimeError("no kernel")])
def test_what_cannot_be_predicted_is_measured_with_the_reason(monkeypatch, error):
    def measure(*_, **__):
        raise error

    monkeypatch.setattr(reference_here, "measure_reference", measure)
    rows = list(measured([BenchCase(5, 0), BenchCase(0, 2)], reference=None))
    assert all(row.basis == "measured" and row.tokens_per_s > 0 for row in rows)
    assert {row.predicted_tokens_per_s for row in rows} == {None}
    assert all(row.prediction_reason.startswith("not predicted: ") for row in rows)
    assert str(error.args[0]) in rows[0].prediction_reason


@pytest.mark.parametrize("lacking", [*([name] for name in sorted(CLASSES)), sorted(CLASSES)])
def test_a_class_without_constants_is_predicted_from_its_roof(lacking):
    rates = {name: Rates(1e12, 1e10, 1e-5) for name in CLASSES if name not in lacking}
    text = constants_to_json("cpu", "bf16", "2026-01-02", rates, {"prefill_error": None, "decode_error": 0.1})
    (row,) = measured([BenchCase(5, 0)], reference=replace(sample_record(), constants=json.loads(text)))
    assert row.predicted_tokens_per_s > 0
    assert f"{', '.join(lacking)} from roofs alone, as the calibration has no kernel of it" in row.prediction_basis
    (row,) = measured([BenchCase(5, 0)], reference=replace(sample_record(), roofs=[], constants=json.loads(text)))
    used = set(lacking) - {"attention_decode"}
    assert (row.predicted_tokens_per_s is None) == bool(used)
    assert row.tokens_per_s > 0


def test_nothing_stays_switched_on_between_rows_or_after_an_interrupt(monkeypatch):
    threads = torch.get_num_threads()
    running = measured(CASES[:2], threads=threads + 1)
    assert next(running).threads == threads + 1
    assert (torch.get_num_threads(), torch.is_inference_mode_enabled(), gc.isenabled()) == (threads, False, True)
    monkeypatch.setattr(one_case, "time_passes", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        next(running)
    assert (torch.get_num_threads(), torch.is_inference_mode_enabled(), gc.isenabled()) == (threads, False, True)


def test_every_step_has_its_share_to_the_end():
    seen = []
    list(measured(CASES[:2], progress=lambda label, done: seen.append((label, done))))
    assert all(0.0 <= done <= 1.0 for _, done in seen)
    assert seen[-1] == ("done", 1.0)
    assert "tg4, batch 1: repetition 3 of 3" in dict(seen)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"dtype": "int8"}, InputError),
        ({"device": "gpu"}, InputError),
        ({"attention": "flesh"}, UnknownNameError),
        ({"compiled": "all"}, UnknownNameError),
        ({"tie_blocks": 8}, InputError),
        ({"tie_blocks": "some"}, InputError),
        ({"tie_blocks": True}, InputError),
        ({"repetitions": 0}, InputError),
        ({"threads": 0}, InputError),
        ({"cases": []}, InputError),
        ({"cases": [BenchCase(0, 0)]}, InputError),
        ({"cases": [BenchCase(1, 0, -1)]}, InputError),
        ({"device": "cuda"}, MissingError),
    ],
)
def test_a_mistake_is_said_at_once_and_not_with_the_first_row(monkeypatch, options, error):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(error):
        measured(**options)  # no row is asked for


def test_a_combination_given_twice_is_one_row():
    assert len(grid([5, 5], [4], depths=[0, 0])) == 2


@pytest.mark.parametrize(
    ("samples", "expected"), [([], None), ([2.0], (2.0, 2.0, 2.0)), ([1.0, 2.0], (1.5, 1.9, 1.99))]
)
def test_percentiles_of_few(samples, expected):
    found = percentiles(samples)
    assert found is None if expected is None else found == pytest.approx(expected)


def test_the_first_pass_of_a_prompt_is_its_ttft_and_all_others_are_tokens(rows):
    (both,) = [row for row in rows if (row.test, row.batch) == ("pp3+tg2", 3)]
    row = replace(both, passes_s=[[8.0, 1.0, 3.0], [10.0, 1.0, 1.0]])
    assert (row.ttft.p50_s, row.token_latency.p50_s) == (9.0, 1.0)
    assert row.tokens_per_s == mean([15 / 12, 15 / 12])
    steps = replace(next(row for row in rows if row.test == "tg4"), passes_s=[[1.0, 2.0, 3.0, 4.0]])
    assert (steps.ttft, steps.token_latency.p50_s, steps.tokens_per_s) == (None, 2.5, 0.4)


def test_one_repetition_has_no_deviation():
    (row,) = measured([BenchCase(0, 2)], repetitions=1)
    assert row.tokens_per_s > 0
    assert row.tokens_per_s_deviation is None


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here")
def test_on_cuda_every_pass_has_a_time_of_the_device():
    rows = list(measured(CASES[:3], device="cuda", attention="sdpa"))
    assert all(min(min(passes) for passes in row.passes_s) > 0 for row in rows)
    assert all(row.memory_method == "cuda: max_memory_allocated" and row.memory_bytes > 0 for row in rows)
