"""Other tools' files: what they say, in seconds of a pass or of a token, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llamalab.errors import FormatError, MissingError
from llamalab.records.peers import read_peer, runs_of_text
from llamalab.records.run import RunPhase
from tests.records.peers import files


@pytest.mark.parametrize(
    "text", [files.llama_bench_json(), files.llama_bench_jsonl(), files.llama_bench_csv(), files.llama_bench_sql()]
)
def test_llama_bench_in_each_of_its_forms(text: str) -> None:
    (run,) = runs_of_text(text, "it")
    prefill, decode = run.phases
    assert (run.tool, run.model, run.device, run.dtype) == (
        "llama-bench", "llama 7B Q4_0 (6738415616)", "NVIDIA H100 80GB HBM3", "int4",
    )  # fmt: skip
    assert (prefill.name, prefill.kind, prefill.new_tokens, prefill.context_tokens) == ("pp512", "prefill", 512, 512)
    assert prefill.total_s == pytest.approx(0.05)
    assert prefill.tokens_per_s == pytest.approx(10240)
    assert (decode.name, decode.kind, decode.new_tokens, decode.context_tokens) == ("tg128 @ d4096", "decode", 1, 4224)
    assert decode.total_s == pytest.approx(0.01)
    if text.lstrip().startswith(("[", "{")):
        assert len(decode.samples_s) == 5
        assert decode.samples_s[0] == pytest.approx(1.279 / 128)


def test_models_of_one_table_are_runs_of_their_own() -> None:
    other = files.BENCH_ROW | {"model_type": "llama 13B F16", "model_n_params": 13015864320}
    runs = runs_of_text(json.dumps([files.BENCH_ROW, other]), "it")
    assert [(run.name, run.dtype) for run in runs] == [("it: llama 7B Q4_0", "int4"), ("it: llama 13B F16", "fp16")]


def test_a_served_run_of_vllm() -> None:
    (run,) = runs_of_text(files.vllm_serve(), "it")
    ttft, tpot = run.phases
    assert run.model == "meta-llama/Llama-2-7b-hf"
    assert (ttft.kind, ttft.total_s, ttft.new_tokens, ttft.samples_s[1]) == ("prefill", 0.031, 512, 0.032)
    assert (tpot.kind, tpot.total_s, tpot.batch, tpot.context_tokens) == ("decode", 0.011, 2, 640)
    assert tpot.samples_s == pytest.approx((0.011, 0.011, 0.010, 0.012))


@pytest.mark.parametrize(
    ("without", "changed", "batch"),
    [
        ((), {}, 2),
        (("latencies",), {}, 2),  # of before they were kept: by TTFT and the time between tokens
        (("latencies",), {"max_concurrency": None}, 2),
        ((), {"max_concurrency": None, "request_throughput": 7.0}, 10),
        ((), {"max_concurrency": 64, "request_rate": 0.7, "request_throughput": 0.7}, 1),  # a limit that is not reached
        ((), {"max_concurrency": 8, "request_throughput": 7.0}, 8),
        (("latencies",), {"mean_e2el_ms": 2856.0, "max_concurrency": None}, 4),
        (("latencies", "mean_ttft_ms"), {"max_concurrency": 3}, 3),
        (("latencies", "mean_ttft_ms"), {"max_concurrency": None}, 1),
    ],
)
def test_requests_beside_each_other_in_what_vllm_writes_by_default(
    without: tuple[str, ...], changed: dict[str, object], batch: int
) -> None:
    (run,) = runs_of_text(files.vllm_serve(detailed=False, without=without, **changed), "it")
    assert run.phases[-1].batch == batch
    assert all(phase.samples_s == () for phase in run.phases)


def test_results_that_vllm_appended_to_one_file_are_runs_of_their_own() -> None:
    first, second = runs_of_text("\n".join([files.vllm_serve()] * 2), "it")
    assert (first.name, second.name) == ("it#1", "it#2")
    left_out = json.loads(files.vllm_serve())
    del left_out["mean_ttft_ms"]  # --percentile-metrics tpot
    (run,) = runs_of_text(json.dumps(left_out), "it")
    assert [phase.name for phase in run.phases] == ["TPOT"]


def test_latency_and_throughput_of_vllm_are_whole_runs() -> None:
    ((latency,),) = (run.phases for run in runs_of_text(files.vllm_latency(), "it"))
    ((throughput,),) = (run.phases for run in runs_of_text(files.vllm_throughput(), "it"))
    assert (latency.kind, latency.total_s, len(latency.samples_s)) == ("other", 1.5, 3)
    assert throughput.tokens_per_s == pytest.approx(6400)


def test_guidellm_has_a_run_for_each_rate() -> None:
    first, second = runs_of_text(files.guidellm(), "it")
    assert (first.name, second.name) == ("it#1", "it#2")
    assert [(one.kind, one.total_s, one.batch) for one in first.phases] == [("prefill", 0.04, 1), ("decode", 0.012, 4)]


def test_aiperf_takes_the_middle_and_its_unit() -> None:
    (run,) = runs_of_text(files.aiperf(), "it")
    assert [(one.name, round(one.total_s, 6), one.batch) for one in run.phases] == [
        ("TTFT", 0.045, 1), ("ITL", 0.013, 8), ("request", 1.7, 1),
    ]  # fmt: skip
    with pytest.raises(FormatError, match="the unit of time_to_first_token must be one of s, sec, ms"):
        runs_of_text(files.aiperf().replace('"unit": "ms"', '"unit": "min"', 1), "it")


def test_optimum_benchmark_decodes_all_but_the_first_token() -> None:
    (run,) = runs_of_text(files.optimum(), "it")
    prefill, decode = run.phases
    assert (prefill.batch, prefill.new_tokens, prefill.total_s) == (2, 512, pytest.approx(0.08))
    assert decode.total_s == pytest.approx(2.0 / 100)
    assert (run.device, run.dtype) == ("NVIDIA A100-SXM4-80GB", "fp16")
    (bare,) = runs_of_text(json.dumps(json.loads(files.optimum())["report"]), "it")
    assert [phase.kind for phase in bare.phases] == ["prefill", "other"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{}", "must be a record, profile, bench or prediction of llamalab, or of llama-bench, vLLM bench"),
        ("[]", "it is none"),
        ("nonsense", "it is none"),
        ("", "it is none"),
        ('{"a": 1}\n{"b": ', "must be"),
        (json.dumps([{"n_prompt": 1, "n_gen": 0, "avg_ts": 1}]), "must be what llama-bench writes; it lacks"),
        (json.dumps([files.BENCH_ROW | {"avg_ns": "fast"}]), "must be what llama-bench writes"),
        (json.dumps([files.BENCH_ROW | {"avg_ns": 0}]), "times of it must be positive"),
        (files.llama_bench_csv().replace('"0"', "", 1) + "1,2\n", "must be"),
        (files.vllm_serve().replace('"completed": 4', '"completed": 0'), "must be what vLLM bench writes"),
        ('{"traceEvents": []}', "must have a result with a time"),
        ('{"benchmarks": [{"metrics": {}}]}', "must have a result with a time"),
    ],
)
def test_what_is_not_sound_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(FormatError) as refused:
        runs_of_text(text, "it")
    assert sentence in str(refused.value)


ALL: list[Callable[[], str]] = [
    files.llama_bench_json, files.llama_bench_csv, files.llama_bench_sql, files.vllm_serve, files.vllm_latency,
    files.vllm_throughput, files.guidellm, files.aiperf, files.optimum, files.trace_of_kernels, files.trace_of_a_cpu,
]  # fmt: skip


@pytest.mark.parametrize("make", ALL)
def test_half_a_file_is_refused_and_never_a_traceback(make: Callable[[], str]) -> None:
    text = make()
    for share in (0.3, 0.5, 0.9):
        try:
            runs = runs_of_text(text[: int(len(text) * share)], "it")
        except FormatError:
            continue
        assert all(isinstance(phase, RunPhase) for run in runs for phase in run.phases)  # rows that were whole


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        read_peer(tmp_path / "absent.json")
