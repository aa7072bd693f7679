import gc
import itertools
import time
from types import SimpleNamespace

import pytest
import torch

from llamalab.analytic.kept_weights import model_ops
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.params import parameter_count
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.checkpoints.checkpoint import weights_of
from llamalab.comparison.comparison import Comparison
from llamalab.comparison.what_if import GENERATED, predicted_workload
from llamalab.errors import DoesNotFitError, InputError, MissingError, UnknownNameError
from llamalab.measure.device.cache_size import effective_cache_bytes
from llamalab.measure.report import budget, phases
from llamalab.measure.report import roofs as report_roofs
from llamalab.measure.report import run as recording
from llamalab.measure.report.budget import SCALES
from llamalab.measure.report.run import measure_report
from llamalab.measure.roofs import best
from llamalab.measure.roofs import machine as machine_module
from llamalab.measure.roofs import probes as roofs
from llamalab.measure.target.blocks import choose_share
from llamalab.measure.timing.deadline import Deadline, unlimited
from llamalab.measure.timing.timer import Plan
from llamalab.model.fastest import fastest_backend
from llamalab.presets import PRESETS
from llamalab.records.record_json import record_from_json, record_to_json
from llamalab.records.roof import Roof
from tests.checkpoints.samples import random_model
from tests.fakes import everywhere

ARCH = LlamaArch(48, 7, 6, 2, 80, 96)
FASTEST = fastest_backend(torch.device("cpu"), torch.bfloat16).name
SCALE = SCALES["host"]._replace(
    prompt_tokens=24,
    gemm_rows=8,
    attention_tokens=(8, 16, 32, 64),
    pass_plan=Plan(0.1, 3, 3),
    attention_plan=Plan(0.1, 2, 2),
)


def make_small(monkeypatch):
    """The whole run on little work: 2 of 7 blocks, 24 tokens."""
    block_bytes = 2 * (2 * 48 * 48 + 2 * 16 * 48 + 3 * 80 * 48 + 2 * 48)
    monkeypatch.setitem(recording.SCALES, "host", SCALE)
    monkeypatch.setitem(budget.BLOCK_LIMITS_BYTES, "host", 2 * block_bytes)
    monkeypatch.setattr(budget, "_FEWEST_TOKENS", 24)
    monkeypatch.setattr(report_roofs, "SQUARE", (64, 64))
    monkeypatch.setattr(report_roofs, "SQUARE", (64, 64))
    monkeypatch.setattr(machine_module, "_FLOOR_BYTES", 1 << 16)
    monkeypatch.setattr(roofs, "_LEAST_MATRIX_BYTES", 1 << 12)
    monkeypatch.setattr(roofs, "_LAUNCHES", 10)
    everywhere(monkeypatch, effective_cache_bytes, lambda device: 1 << 13)
    everywhere(monkeypatch, best.SURVEY, Plan(0.0, 1, 1, 1, 0.0))
    everywhere(monkeypatch, best.FINAL, Plan(0.0, 2, 2, 1, 0.0))


@pytest.fixture
def small(monkeypatch):
    make_small(monkeypatch)


@pytest.fixture
def no_work(monkeypatch):
    """Everything that measures fails: what is refused must be refused before."""
    for name in ("environment", "roofs_of_report", "measure_phases", "made_model"):
        monkeypatch.setattr(recording, name, lambda *a, **k: pytest.fail("work began"))


@pytest.fixture(scope="module")
def record():
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_small(monkeypatch)
        return measure_report("toy", ARCH, device="cpu")


def test_everything_is_there(record):
    assert (record.model, record.dtype, record.llama_arch) == ("toy", "bf16", ARCH)
    assert {(roof.kind, roof.dtype) for roof in record.roofs} == {
        *((kind, "bf16") for kind in ("gemm", "stream", "copy", "cache", "attention", "launch")),
        ("gemm", "fp32"),
        ("stream", "fp32"),
    }
    assert [(run.phase, run.new_tokens, run.context_tokens) for run in record.passes] == [
        ("prefill", 24, 24),
        ("decode", 1, 25),
    ]
    assert record.environment.command == "llamalab report --model toy --device cpu --dtype bf16"
    assert record.environment.before is not None
    assert record.environment.after is not None
    assert len(record.attention) == 12
    assert record.elapsed_s > 0


def test_counts_are_exact(record):
    assert record.parameters_measured == parameter_count(ARCH)
    assert record.kv_bytes_measured == kv_bytes(ARCH, seq=25, dtype="bf16")


def test_parts_and_ops_of_every_pass(record):
    for run in record.passes:
        assert (run.layers_measured, run.layers_total, run.basis) == (2, 7, "extrapolated")
        assert run.attention == FASTEST
        assert run.kernel is None or FASTEST != "chunked"  # in steps, whose names are the profile's to tell
        assert [(part.name, part.count, part.basis) for part in run.parts] == [
            ("embedding", 1, "measured"),
            ("block", 7, "extrapolated"),
            ("head", 1, "measured"),
        ]
        table = forward_ops(ARCH, PassShape(new_tokens=run.new_tokens, context_tokens=run.context_tokens))
        assert {(op.name, op.count) for op in run.ops} == {(op.name, op.count) for op in table}
        assert all(op.basis == ("extrapolated" if op.count > 1 else "measured") for op in run.ops)
        assert {len(row.samples_s) for row in (*run.parts, *run.ops)} == {len(run.whole_s)} == {3}
        assert all(sample > 0 for row in (*run.parts, *run.ops) for sample in row.samples_s)


def test_memory_of_a_pass(record):
    prefill, decode = record.passes
    weights = 2 * parameter_count(ARCH.replace(n_layers=2))
    cache = kv_bytes(ARCH.replace(n_layers=2), seq=25, dtype="bf16")
    assert prefill.memory.resident_bytes == decode.memory.resident_bytes == weights + cache
    # gate, up and act of all tokens live together.
    assert prefill.memory.peak_bytes > 3 * 24 * 80 * 2
    assert 0 < decode.memory.peak_bytes < prefill.memory.peak_bytes


def test_it_survives_json_and_can_be_compared(record):
    assert record_from_json(record_to_json(record)) == record
    comparison = Comparison(record)
    assert comparison.parameters.exact
    assert comparison.kv.exact


def test_full_measures_every_block(small):
    record = measure_report("toy", ARCH, device="cpu", dtype="fp32", full=True)
    assert {run.basis for run in record.passes} == {"measured"}
    assert record.environment.command.endswith("--dtype fp32 --full")
    assert {roof.dtype for roof in record.roofs} == {"fp32"}


def test_quantised_weights_have_their_roof_their_product_and_their_bytes(small):
    arch = ARCH.replace(dim=64, n_heads=8, ffn_dim=96)
    record = measure_report("toy", arch, device="cpu", weight_dtype="int8")
    assert (record.weight_dtype, record.kept.storage) == ("int8", "int8")
    assert record.environment.command.endswith("--dtype bf16 --weight-dtype int8")
    assert record.roof("stream", "int8").per_second > 0
    assert {run.product for run in record.passes} == {record.kept.product}
    prefill, decode = Comparison(record_from_json(record_to_json(record))).phases
    assert decode.ops == model_ops(arch, PassShape(new_tokens=1, context_tokens=25), record.kept)
    assert prefill.predicted_s is None or prefill.predicted_s > 0
    with pytest.raises(UnknownNameError, match="weight dtype"):
        measure_report("toy", arch, device="cpu", weight_dtype="int3")


def test_progress_grows_to_the_end(small):
    seen = []
    measure_report("toy", ARCH, device="cpu", progress=lambda label, done: seen.append((label, done)))
    shares = [done for _, done in seen]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert "prefill, 2 of 7 blocks" in dict(seen)
    assert len(set(shares)) == len(shares)


@pytest.mark.parametrize("error", [InputError("the link is gone"), RuntimeError("Connection reset\nby peer")])
def test_ranks_that_fail_cost_their_section_and_not_the_record(small, error, monkeypatch):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("llamalab.measure.ranks.run.measure_ranks", fails)
    record = measure_report("toy", ARCH, device="cpu", team=SimpleNamespace(place=SimpleNamespace(ranks=1)))
    assert record.ranks is None
    assert [run.phase for run in record.passes] == ["prefill", "decode"]
    assert record.notes[-1] == f"The ranks were not measured together: {' '.join(str(error).split())}."


def test_ranks_that_cut_the_groups_of_quantised_weights_are_refused_before_any_work(small):
    with pytest.raises(InputError, match=r"rows of w2 must be whole groups of 128 .* int8"):
        measure_report(
            "toy",
            PRESETS["7b"].arch,
            device="cpu",
            weight_dtype="int4",
            team=SimpleNamespace(place=SimpleNamespace(ranks=4)),
        )


def test_a_path_leaves_only_its_name(small):
    record = measure_report("some/where/params.json", ARCH, device="cpu")
    assert record.model == "params.json"
    assert "where" not in record_to_json(record)


def test_what_does_not_fit_is_said_before_work(no_work, monkeypatch):
    everywhere(monkeypatch, recording.available_bytes, lambda device: 10_000)
    with pytest.raises(DoesNotFitError, match=r"the whole of toy .* leave full out"):
        measure_report("toy", ARCH, device="cpu", full=True)


def test_bad_requests_are_refused_before_work(no_work, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for changes, error in (
        ({"dtype": "int8"}, InputError),
        ({"dtype": "bf8"}, InputError),
        ({"device": "gpu"}, InputError),
        ({"device": "cuda"}, MissingError),
    ):
        with pytest.raises(error):
            measure_report("toy", ARCH, **({"device": "cpu"} | changes))


def test_ctrl_c_ends_it_and_keeps_nothing_switched_off(small):
    def interrupt(label, done):
        if label.startswith("decode"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_report("toy", ARCH, device="cpu", progress=interrupt)
    assert gc.isenabled()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(("per_second", "tokens"), [(1e15, 512), (0.6e7, 256), (1.0, 16), (None, 512)])
def test_a_slow_machine_gets_a_shorter_prompt(per_second, tokens):
    share = recording.choose_share(ARCH.replace(n_layers=1), "bf16", limit_bytes=2**30)
    gemm = Roof(kind="gemm", dtype="bf16", per_second=per_second)
    assert budget.prompt_that_fits(share, SCALE._replace(prompt_tokens=512), [gemm], unlimited()) == tokens


def paced_report(monkeypatch, tick_s, seconds):
    """A report under a clock that moves only when it is looked at: each look stands for work of `tick_s` seconds."""
    looks = itertools.count(1)
    monkeypatch.setattr(phases, "LEAST_PHASE_S", 0.0)
    monkeypatch.setattr(budget, "LEAST_PHASE_S", 0.0)
    monkeypatch.setitem(recording.SCALES, "host", SCALE._replace(pass_plan=Plan(1.0, 4, 14)))
    monkeypatch.setattr(time, "perf_counter_ns", lambda: round(next(looks) * tick_s * 1e9))
    monkeypatch.setattr(time, "perf_counter", lambda: next(looks) * tick_s)
    return measure_report("toy", ARCH, device="cpu", deadline=Deadline(seconds))


def test_a_machine_20_times_slower_is_done_in_time_with_fewer_rounds_and_wider_intervals(small, monkeypatch):
    seconds = 10.0
    quick, slow = (paced_report(monkeypatch, tick_s, seconds) for tick_s in (5e-4, 1e-2))
    assert slow.budget_s == seconds
    assert max(quick.elapsed_s, slow.elapsed_s) < 1.2 * seconds
    for few, many in zip(slow.passes, quick.passes, strict=True):
        assert 1 <= len(few.whole_s) < len(many.whole_s)
        widths = [(run.interval_s[1] - run.interval_s[0]) / run.total_s for run in (few, many)]
        assert widths[0] > 1.2 * widths[1] > 0
        assert few.interval_s[0] <= few.total_s <= few.interval_s[1]
    assert any("few rounds" in note for note in slow.notes)
    assert record_from_json(record_to_json(slow)) == slow


def test_without_time_each_pass_runs_once_and_what_is_left_out_says_so(small, monkeypatch, record):
    none = paced_report(monkeypatch, 1e-3, 0.0)
    assert [len(run.whole_s) for run in none.passes] == [1, 1]
    assert none.profile is None
    assert {roof.reason for roof in none.roofs} == {"there was no time left for it"}
    assert {point.reason for point in none.attention} == {"there was no time left for it"}
    assert {run.memory.peak_bytes for run in none.passes} == {None}
    for few, many in zip(none.passes, record.passes, strict=True):
        assert few.interval_s[1] - few.interval_s[0] == pytest.approx(0.5 * few.total_s)
        assert few.interval_s[1] / few.total_s > 1.0 <= many.interval_s[1] / many.total_s
    assert any("few rounds: prefill in 1, decode in 1" in note for note in none.notes)
    assert any("no time to look at kernels and memory of prefill and decode" in note for note in none.notes)
    comparison = Comparison(none)
    assert comparison.errors is None
    assert [phase.measured_s for phase in comparison.phases] == [run.total_s for run in none.passes]


def test_less_memory_means_fewer_blocks(monkeypatch):
    seven = PRESETS["7b"].arch
    place = torch.device("cpu")
    for free_gib, layers in ((24.0, 2), (3.0, 2), (1.5, 1), (0.5, 1)):
        monkeypatch.setattr(budget, "available_bytes", lambda _, free=free_gib: int(free * 2**30))
        share = choose_share(seven, "bf16", limit_bytes=budget.block_limit_bytes(seven, "bf16", place))
        assert share.layers == layers


def test_a_prompt_and_a_batch_that_are_named_are_measured(small):
    record = measure_report("mine", ARCH, device="cpu", dtype="fp32", prompt_tokens=16, batch=3)
    prefill, decode = record.passes
    assert (prefill.batch, prefill.new_tokens, prefill.context_tokens) == (3, 16, 16)
    assert (decode.batch, decode.new_tokens, decode.context_tokens) == (3, 1, 17)
    assert record.environment.command.endswith(" --prompt 16 --batch 3")
    assert Comparison(record).kv.exact
    assert not [note for note in record.notes if "cut to" in note]


@pytest.mark.parametrize(
    ("given", "context", "told"),
    [({"generate": 20}, 26, 20), ({"context_tokens": 40}, 40, None), ({"context_tokens": 9, "generate": 6}, 9, 6)],
)
def test_decode_is_at_the_length_that_is_named(small, given, context, told):
    record = measure_report("mine", ARCH, device="cpu", dtype="fp32", prompt_tokens=16, **given)
    assert [(run.new_tokens, run.context_tokens) for run in record.passes] == [(16, 16), (1, context)]
    assert Comparison(record).kv.exact
    assert (record.generate_tokens, predicted_workload(Comparison(record)).generate) == (told, told or GENERATED)
    assert all(row.op.flops_causal is not None for row in Comparison(record).rows if row.phase == "decode")
    assert record_from_json(record_to_json(record)) == record


def test_the_weights_of_a_checkpoint_are_what_runs(small, monkeypatch):
    model = random_model(ARCH)
    seen = []
    everywhere(monkeypatch, phases.compile, lambda made, **_: seen.append(made) or made)
    record = measure_report("mine", ARCH, device="cpu", dtype="fp32", prompt_tokens=4, weights=weights_of(model))
    assert record.notes[0] == "The weights are the checkpoint's own."
    assert len(seen[0].layers) == record.passes[0].layers_measured
    torch.testing.assert_close(seen[0].layers[0].attention.wq.weight, model.layers[0].attention.wq.weight)


@pytest.mark.parametrize("wrong", [{"prompt_tokens": 0}, {"batch": 0}, {"batch": 1.5}, {"context_tokens": 1}])
def test_sizes_that_are_none_are_refused_before_any_work(no_work, wrong):
    with pytest.raises(InputError):
        measure_report("mine", ARCH, device="cpu", dtype="fp32", **wrong)
