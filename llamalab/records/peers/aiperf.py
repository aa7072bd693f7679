"""NVIDIA AIPerf's profile_export_aiperf.json (and GenAI-Perf's, of the same shape): a block of statistics a metric.

Source: files that aiperf 0.13 wrote (schema 1.4), whose settings are lists of models and phases, and its reference of
the JSON export schema for those of older versions, with endpoint and loadgen: unit, avg, p1 to p99, std, min, max.
"""

from typing import Any

from llamalab.records.run import Run, RunPhase

TOOL = "AIPerf"
_SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def recognises(data: Any) -> bool:
    """Whether it has a statistics block with a unit for the time to first token or of a request."""
    if not isinstance(data, dict):
        return False
    blocks = [data.get(key) for key in ("time_to_first_token", "inter_token_latency", "request_latency")]
    return any(isinstance(block, dict) and "unit" in block and "avg" in block for block in blocks)


def read(data: Any, name: str) -> list[Run]:
    """One run."""
    config = data.get("input_config") or {}
    load, names = _load(config), _models(config)
    prompt, made = (_value(data, f"{kind}_sequence_length") for kind in ("input", "output"))
    batch = int(load.get("concurrency") or 1)
    new = round(prompt) if prompt else None
    context = round(prompt + (made or 0)) if prompt else None
    phases = []
    if (ttft_s := _seconds(data, "time_to_first_token")) is not None:
        phases.append(
            RunPhase(
                name="TTFT", kind="prefill", total_s=ttft_s, samples_s=(), batch=1, new_tokens=new, context_tokens=new
            )
        )
    if (itl_s := _seconds(data, "inter_token_latency")) is not None:
        phases.append(
            RunPhase(
                name="ITL",
                kind="decode",
                total_s=itl_s,
                samples_s=(),
                batch=batch,
                new_tokens=1,
                context_tokens=context,
            )
        )
    if (request_s := _seconds(data, "request_latency")) is not None:
        phases.append(RunPhase("request", "other", request_s))
    settings = {key: load[key] for key in ("concurrency", "request_rate", "request_count") if load.get(key) is not None}
    return [Run(name, TOOL, tuple(phases), settings, model=names[0] if names else None)]


def _models(config: dict[str, Any]) -> list[str]:
    """The names of the benchmarked models."""
    items = (config.get("models") or {}).get("items")
    if items:
        return [item["name"] for item in items]
    return (config.get("endpoint") or {}).get("model_names") or config.get("model_names") or []


def _load(config: dict[str, Any]) -> dict[str, Any]:
    """The load: of the measured phase, or of the load generator of older versions."""
    phases = config.get("phases") or []
    measured = next((phase for phase in phases if phase.get("kind") == "profiling"), None)
    if measured is None:
        return config.get("loadgen") or {}
    rate = measured.get("rate", measured.get("request_rate"))
    return {
        "concurrency": measured.get("concurrency"),
        "request_rate": rate,
        "request_count": measured.get("requests"),
    }


def _value(data: dict[str, Any], key: str) -> float | None:
    """The median, or the mean without a distribution."""
    block = data.get(key) or {}
    value = block.get("p50", block.get("avg"))
    return None if value is None else float(value)


def _seconds(data: dict[str, Any], key: str) -> float | None:
    value = _value(data, key)
    if value is None:
        return None
    unit = data[key]["unit"]
    if unit not in _SECONDS:
        raise ValueError(f"the unit of {key} must be one of {', '.join(_SECONDS)}; got {unit!r}")
    return value * _SECONDS[unit]
