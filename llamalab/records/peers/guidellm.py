"""GuideLLM's benchmarks.json: a benchmark for each rate, with distributions over its requests.

Source: files that guidellm 0.8 wrote (version 2 of its report), and its schemas of older versions.
"""

from typing import Any

from llamalab.records.run import Run, RunPhase

TOOL = "GuideLLM"
_MS = 1e-3


def recognises(data: Any) -> bool:
    """Whether it has benchmarks with metrics by the status of requests."""
    found = data.get("benchmarks") if isinstance(data, dict) else None
    return bool(found) and isinstance(found, list) and all(isinstance(one, dict) and "metrics" in one for one in found)


def read(data: Any, name: str) -> list[Run]:
    """A run for each benchmark."""
    found = data["benchmarks"]
    return [
        _run(one, f"{name}#{place}" if len(found) > 1 else name, _model(data, one))
        for place, one in enumerate(found, 1)
    ]


def _run(benchmark: dict[str, Any], name: str, model: str | None) -> Run:
    metrics = benchmark["metrics"]
    prompt, made = (_center(metrics, f"{kind}_token_count") for kind in ("prompt", "output"))
    batch = max(1, round(_center(metrics, "request_concurrency", status="successful") or 1))
    new = round(prompt) if prompt else None
    context = round(prompt + (made or 0)) if prompt else None
    phases = []
    ttft, itl = _center(metrics, "time_to_first_token_ms"), _center(metrics, "inter_token_latency_ms")
    if ttft:
        samples = _samples(benchmark, "time_to_first_token_ms")
        phases.append(
            RunPhase(
                name="TTFT",
                kind="prefill",
                total_s=ttft * _MS,
                samples_s=samples,
                batch=1,
                new_tokens=new,
                context_tokens=new,
            )
        )
    if itl:
        samples = _samples(benchmark, "inter_token_latency_ms")
        phases.append(
            RunPhase(
                name="ITL",
                kind="decode",
                total_s=itl * _MS,
                samples_s=samples,
                batch=batch,
                new_tokens=1,
                context_tokens=context,
            )
        )
    strategy = (benchmark.get("config") or benchmark.get("args") or {}).get("strategy") or {}
    settings = {key: value for key, value in strategy.items() if isinstance(value, str | int | float)}
    return Run(name, TOOL, tuple(phases), settings, model=model)


def _samples(benchmark: dict[str, Any], key: str) -> tuple[float, ...]:
    """The seconds of each successful request, where the report contains them."""
    requests = benchmark.get("requests")
    found = requests.get("successful") if isinstance(requests, dict) else None
    return tuple(float(one[key]) * _MS for one in found or () if one.get(key))


def _center(metrics: dict[str, Any], key: str, *, status: str = "successful") -> float | None:
    """The median over successful requests; the mean without a median."""
    found = (metrics.get(key) or {}).get(status) or {}
    value = found.get("median") or found.get("mean")
    return None if value is None else float(value)


def _model(data: dict[str, Any], benchmark: dict[str, Any]) -> str | None:
    config = benchmark.get("config") or {}
    holders = (config.get("backend"), data.get("args"), benchmark.get("args"), benchmark.get("worker"), config)
    for holder in holders:
        if isinstance(holder, dict):
            found = holder.get("model") or holder.get("backend_model")
            if isinstance(found, str) and found:
                return found
    return None
