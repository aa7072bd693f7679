"""Files as other tools write them, in the shape of their newest versions; figures are made up and consistent."""

import json
from typing import Any

BENCH_ROW: dict[str, Any] = {
    "build_commit": "b6a1c0de", "build_number": 6500, "cpu_info": "AMD EPYC 9554", "gpu_info": "NVIDIA H100 80GB HBM3",
    "backends": "CUDA", "model_filename": "models/llama-2-7b.Q4_0.gguf", "model_type": "llama 7B Q4_0",
    "model_size": 3825065984, "model_n_params": 6738415616, "n_batch": 2048, "n_ubatch": 512, "n_threads": 8,
    "cpu_mask": "0x0", "type_k": "f16", "type_v": "f16", "n_gpu_layers": 99, "split_mode": "layer", "flash_attn": True,
    "n_prompt": 512, "n_gen": 0, "n_depth": 0, "test_time": "2026-08-01T10:00:00Z", "avg_ns": 50_000_000,
    "stddev_ns": 1_000_000, "avg_ts": 10240.0, "stddev_ts": 204.8,
    "samples_ns": [49_000_000, 50_000_000, 51_000_000, 49_500_000, 50_500_000],
    "samples_ts": [10448.9, 10240.0, 10039.2, 10343.4, 10138.6],
}  # fmt: skip
BENCH_TG = BENCH_ROW | {
    "n_prompt": 0, "n_gen": 128, "n_depth": 4096, "avg_ns": 1_280_000_000, "stddev_ns": 2_000_000, "avg_ts": 100.0,
    "stddev_ts": 0.2, "samples_ns": [1_279_000_000, 1_280_000_000, 1_281_000_000, 1_280_500_000, 1_279_500_000],
    "samples_ts": [100.1, 100.0, 99.9, 99.96, 100.04],
}  # fmt: skip
_FLAT = [key for key in BENCH_ROW if not key.startswith("samples")]


def llama_bench_json() -> str:
    return json.dumps([BENCH_ROW, BENCH_TG])


def llama_bench_jsonl() -> str:
    return "\n".join(json.dumps(row) for row in (BENCH_ROW, BENCH_TG)) + "\n"


def llama_bench_csv() -> str:
    lines = [",".join(_FLAT)]
    lines += [",".join(f'"{row[key]}"' for key in _FLAT) for row in (BENCH_ROW, BENCH_TG)]
    return "\n".join(lines) + "\n"


def llama_bench_sql() -> str:
    table = "CREATE TABLE IF NOT EXISTS llama_bench (\n  build_commit TEXT,\n  n_gen INTEGER\n);\n\n"
    rows = (
        f"INSERT INTO llama_bench ({', '.join(_FLAT)}) VALUES ({', '.join(repr(str(row[key])) for key in _FLAT)});"
        for row in (BENCH_ROW, BENCH_TG)
    )
    return table + "\n".join(rows) + "\n"


VLLM_DETAILS = ("input_lens", "output_lens", "start_times", "ttfts", "itls", "generated_texts", "errors")


def vllm_serve(*, detailed: bool = True, without: tuple[str, ...] = (), **changed: Any) -> str:
    """The keys, and their order, of vllm/benchmarks/serve.py: four requests, two at a time, and one that failed.

    Without --save-detailed it leaves out the lists of VLLM_DETAILS.
    """
    result = {
        "date": "20260801-100000", "endpoint_type": "openai", "backend": "openai", "label": None,
        "model_id": "meta-llama/Llama-2-7b-hf", "tokenizer_id": "meta-llama/Llama-2-7b-hf", "num_prompts": 5,
        "request_rate": "inf", "burstiness": 1.0, "max_concurrency": 2, "duration": 2.856, "completed": 4, "failed": 1,
        "total_input_tokens": 2048, "total_output_tokens": 512, "request_throughput": 1.4006, "request_goodput": None,
        "output_throughput": 179.27, "total_token_throughput": 896.36, "input_lens": [512] * 5,
        "output_lens": [128] * 4 + [0], "ttfts": [0.030, 0.032, 0.031, 0.031, 0.0],
        "itls": [[0.010, 0.012], [0.011, 0.011], [0.010, 0.010], [0.012, 0.012], []],
        "latencies": [1.427, 1.429, 1.428, 1.428, 0.0], "start_times": [10.0, 10.0, 11.427, 11.429, 12.855],
        "queue_times": [0.0, 0.0, 1.427, 1.429, 2.855], "generated_texts": ["a b"] * 4 + [""],
        "errors": ["", "", "", "", "x"], "max_output_tokens_per_s": 182.0, "max_concurrent_requests": 2, "rtfx": 0.0,
        "mean_ttft_ms": 31.0, "median_ttft_ms": 31.0, "std_ttft_ms": 0.7, "p99_ttft_ms": 32.0, "mean_tpot_ms": 11.0,
        "median_tpot_ms": 11.0, "std_tpot_ms": 0.7, "p99_tpot_ms": 12.0, "mean_itl_ms": 11.0, "median_itl_ms": 11.0,
        "std_itl_ms": 0.9, "p99_itl_ms": 12.0,
    }  # fmt: skip
    gone = {*without, *(() if detailed else VLLM_DETAILS)}
    return json.dumps({key: value for key, value in (result | changed).items() if key not in gone})


def vllm_latency() -> str:
    return json.dumps({"avg_latency": 1.5, "latencies": [1.4, 1.5, 1.6], "percentiles": {"50": 1.5, "99": 1.6}})


def vllm_throughput() -> str:
    return json.dumps({"elapsed_time": 10.0, "num_requests": 100, "total_num_tokens": 64000,
                       "requests_per_second": 10.0, "tokens_per_second": 6400.0})  # fmt: skip


def _distribution(median: float) -> dict[str, Any]:
    one = {"mean": 1.01 * median, "median": median, "std_dev": 1.0, "min": 0.9 * median, "max": 1.2 * median,
           "count": 64, "percentiles": {"p01": 0.9 * median, "p50": median, "p99": 1.2 * median}}  # fmt: skip
    return {"total": one, "successful": one, "errored": {"mean": 0.0, "median": 0.0, "count": 0}, "incomplete": {}}


def guidellm() -> str:
    benchmark = {
        "type_": "generative_benchmark", "config": {"strategy": {"type_": "concurrent", "streams": 4}},
        "metrics": {
            "request_concurrency": _distribution(4.0), "prompt_token_count": _distribution(512.0),
            "output_token_count": _distribution(128.0), "time_to_first_token_ms": _distribution(40.0),
            "inter_token_latency_ms": _distribution(12.0), "output_tokens_per_second": _distribution(330.0),
        },
    }  # fmt: skip
    return json.dumps({"metadata": {"version": 1, "guidellm_version": "0.5.0"},
                       "args": {"model": "meta-llama/Llama-2-7b-hf", "target": "http://localhost:8000"},
                       "benchmarks": [benchmark, benchmark]})  # fmt: skip


def aiperf() -> str:
    def block(unit: str, value: float) -> dict[str, Any]:
        return {"unit": unit, "avg": 1.02 * value, "p1": value, "p50": value, "p90": 1.1 * value, "p99": 1.2 * value,
                "min": value, "max": 1.3 * value, "std": 0.1 * value, "count": 50}  # fmt: skip

    return json.dumps({
        "schema_version": "1.0", "aiperf_version": "0.13.0", "time_to_first_token": block("ms", 45.0),
        "inter_token_latency": block("ms", 13.0), "request_latency": block("ms", 1700.0),
        "input_sequence_length": block("tokens", 512.0), "output_sequence_length": block("tokens", 128.0),
        "output_token_throughput": {"unit": "tokens/sec", "avg": 600.0},
        "input_config": {"endpoint": {"model_names": ["meta-llama/Llama-2-7b-hf"], "streaming": True},
                         "loadgen": {"concurrency": 8, "request_count": 50}},
    })  # fmt: skip


def optimum() -> str:
    def times(values: list[float]) -> dict[str, Any]:
        return {"memory": {"unit": "MB", "max_ram": 1000.0}, "latency": {"unit": "s", "values": values, "count": 4},
                "throughput": {"unit": "tokens/s", "value": 1.0}, "energy": None, "efficiency": None}  # fmt: skip

    return json.dumps({
        "config": {
            "name": "run", "backend": {"name": "pytorch", "model": "meta-llama/Llama-2-7b-hf", "torch_dtype": "float16",
                                       "device": "cuda", "attn_implementation": "sdpa"},
            "scenario": {"name": "inference", "input_shapes": {"batch_size": 2, "sequence_length": 512},
                         "generate_kwargs": {"max_new_tokens": 101, "min_new_tokens": 101}},
            "environment": {"cpu": " AMD EPYC", "gpu": ["NVIDIA A100-SXM4-80GB"], "gpu_count": 1},
        },
        "report": {"load_model": times([2.0]), "prefill": times([0.08, 0.081, 0.079, 0.08]),
                   "decode": times([2.0, 2.02, 1.98, 2.0]), "per_token": None},
    })  # fmt: skip


def trace_of_kernels() -> str:
    """Two steps of a GPU, marked on both sides: its kernels run after the host has asked for them."""
    events: list[dict[str, Any]] = [{"ph": "M", "name": "process_name", "pid": 0, "args": {"name": "python"}}]
    for step in (0, 1):
        at = 1000 * step
        events += [
            _event("user_annotation", f"ProfilerStep#{step}", at, 150, 1),
            _event("gpu_user_annotation", f"ProfilerStep#{step}", at + 200, 500 + 100 * step, 0),
            _event("kernel", "gemm", at + 210, 300.0, 0),
            _event("kernel", "flash", at + 540, 100.0 + 100 * step, 0),
            _event("cpu_op", "aten::mm", at + 5, 20.0, 1) | {"args": {"Input type": ["c10::Half", "c10::Half"]}},
            *(attention(at + 10 * (1 + layer), (2, 32, 512, 128), (2, 8, 512, 128)) for layer in range(2)),
        ]
    return json.dumps({"schemaVersion": 1, "deviceProperties": [{"id": 0, "name": "NVIDIA H100 80GB HBM3"}],
                       "traceEvents": events})  # fmt: skip


def attention(at: float, query: tuple[int, ...], key: tuple[int, ...]) -> dict[str, Any]:
    """A call of the fused operator with the shapes that record_shapes adds."""
    dims = [list(query), list(key), list(key), [], []]
    return _event("cpu_op", "aten::scaled_dot_product_attention", at, 5.0, 1) | {"args": {"Input Dims": dims}}


def _event(kind: str, name: str, begin: float, length: float, process: int) -> dict[str, Any]:
    return {"ph": "X", "cat": kind, "name": name, "ts": begin, "dur": length, "pid": process, "tid": 7}


def trace_of_a_cpu() -> str:
    events = [
        {"ph": "X", "cat": "cpu_op", "name": "aten::linear", "ts": 0.0, "dur": 100.0, "pid": 1, "tid": 1},
        {"ph": "X", "cat": "cpu_op", "name": "aten::addmm", "ts": 10.0, "dur": 80.0, "pid": 1, "tid": 1},
        {"ph": "X", "cat": "cpu_op", "name": "aten::copy_", "ts": 20.0, "dur": 10.0, "pid": 1, "tid": 1},
        {"ph": "X", "cat": "cpu_op", "name": "aten::linear", "ts": 200.0, "dur": 50.0, "pid": 1, "tid": 1},
    ]
    return json.dumps({"traceEvents": events})
