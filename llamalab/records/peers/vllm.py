"""vLLM's `bench serve`, `bench latency` and `bench throughput`, as JSON.

Source: vllm/benchmarks/serve.py, latency.py and throughput.py. Times of a served run are those of requests under load,
and are compared with a prediction of a single stream at the same concurrency.
"""

from statistics import mean
from typing import Any

from llamalab.records.run import Run, RunPhase

TOOL = "vLLM bench"
_MS = 1e-3


def recognises(data: Any) -> bool:
    """Whether it is the result of one of the three, or of several runs appended to one file."""
    if isinstance(data, list):
        return bool(data) and all(isinstance(one, dict) and recognises(one) for one in data)
    return isinstance(data, dict) and bool(
        {"total_output_tokens", "completed", "request_throughput"} <= data.keys()
        or {"avg_latency", "latencies"} <= data.keys()
        or {"elapsed_time", "tokens_per_second"} <= data.keys()
    )


def read(data: Any, name: str) -> list[Run]:
    """A run for each result: TTFT and time per output token of a served run; the whole run of the other two."""
    if isinstance(data, list):
        return [_run(one, f"{name}#{place}") for place, one in enumerate(data, 1)]
    return [_run(data, name)]


def _run(data: dict[str, Any], name: str) -> Run:
    settings = {
        key: data[key]
        for key in ("backend", "request_rate", "max_concurrency", "num_prompts", "num_requests", "burstiness")
        if data.get(key) is not None
    }
    return Run(name, TOOL, tuple(_phases(data)), settings, model=data.get("model_id"))


def _phases(data: dict[str, Any]) -> list[RunPhase]:
    if "avg_latency" in data:
        return [RunPhase("latency", "other", float(data["avg_latency"]), tuple(map(float, data["latencies"])))]
    if "elapsed_time" in data:
        tokens = int(data["total_num_tokens"])
        return [
            RunPhase(
                name="throughput",
                kind="other",
                total_s=float(data["elapsed_time"]),
                samples_s=(),
                batch=1,
                new_tokens=tokens,
            )
        ]
    completed = int(data["completed"])
    prompt = round(int(data["total_input_tokens"]) / completed)
    made = round(int(data["total_output_tokens"]) / completed)
    batch = _running(data, made)
    # A failed request is in the lists without a time.
    ttfts = tuple(float(one) for one in data.get("ttfts") or () if float(one) > 0)
    phases = []
    if data.get("mean_ttft_ms"):  # --percentile-metrics may omit either
        phases.append(
            RunPhase(
                name="TTFT",
                kind="prefill",
                total_s=float(data["mean_ttft_ms"]) * _MS,
                samples_s=ttfts,
                batch=1,
                new_tokens=prompt,
                context_tokens=prompt,
            )
        )
    if made > 1 and data.get("mean_tpot_ms"):
        # The mean between tokens of each request: tokens of one request are not independent samples.
        between = tuple(mean(map(float, one)) for one in data.get("itls") or () if one and any(one))
        tpot_s = float(data["mean_tpot_ms"]) * _MS
        phases.append(
            RunPhase(
                name="TPOT",
                kind="decode",
                total_s=tpot_s,
                samples_s=between,
                batch=batch,
                new_tokens=1,
                context_tokens=prompt + made,
            )
        )
    return phases


def _running(data: dict[str, Any], made: int) -> int:
    """Mean number of requests in flight, by Little's law from rate and time of a request.

    `max_concurrency` is its upper bound, and stands in for it where the file has no time of a request.
    """
    most, rate, latency_s = data.get("max_concurrency"), data.get("request_throughput"), _latency_s(data, made)
    if not rate or latency_s is None:
        return int(most or 1)
    running = max(1, round(float(rate) * latency_s))
    return min(running, int(most)) if most else running


def _latency_s(data: dict[str, Any], made: int) -> float | None:
    """Seconds of a request on average: as --percentile-metrics e2el has it, from the requests, or from its parts."""
    if data.get("mean_e2el_ms"):
        return float(data["mean_e2el_ms"]) * _MS
    if known := [float(one) for one in data.get("latencies") or () if float(one) > 0]:
        return mean(known)
    if not data.get("mean_ttft_ms") or not data.get("mean_tpot_ms"):
        return None
    return (float(data["mean_ttft_ms"]) + (made - 1) * float(data["mean_tpot_ms"])) * _MS
