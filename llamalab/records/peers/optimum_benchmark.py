"""Hugging Face's optimum-benchmark: benchmark_report.json, or benchmark.json with the configuration beside it.

Source: optimum_benchmark/benchmark/report.py and trackers/latency.py: a phase has its latency with all values in
seconds; `decode` is the generation of all tokens, `per_token` of one.
"""

from typing import Any

from llamalab.records.run import Run, RunPhase

TOOL = "optimum-benchmark"


def recognises(data: Any) -> bool:
    """Whether it has a phase with a latency and its values."""
    if not isinstance(data, dict):
        return False
    report = data.get("report", data)
    return isinstance(report, dict) and any(
        isinstance(report.get(phase), dict) and isinstance(report[phase].get("latency"), dict)
        for phase in ("prefill", "decode", "forward")
    )


def read(data: Any, name: str) -> list[Run]:
    """One run."""
    report, config = data.get("report", data), data.get("config") or {}
    inputs = (config.get("scenario") or {}).get("input_shapes") or {}
    generated = (config.get("scenario") or {}).get("generate_kwargs") or {}
    backend = config.get("backend") or {}
    batch, prompt = int(inputs.get("batch_size") or 1), inputs.get("sequence_length")
    made = generated.get("max_new_tokens")
    phases = []
    for key, label in (("prefill", "prefill"), ("forward", "prefill")):
        if times := _values(report, key):
            phases.append(
                RunPhase(
                    name=key,
                    kind=label,
                    total_s=sum(times) / len(times),
                    samples_s=tuple(times),
                    batch=batch,
                    new_tokens=prompt,
                    context_tokens=prompt,
                )
            )
    phases += _decode(report, batch, prompt, made)
    settings = {
        key: backend[key] for key in ("name", "torch_dtype", "attn_implementation", "device") if backend.get(key)
    }
    gpus = (config.get("environment") or {}).get("gpu")
    device = gpus[0] if isinstance(gpus, list) and gpus else (config.get("environment") or {}).get("cpu")
    return [
        Run(
            name,
            TOOL,
            tuple(phases),
            settings,
            model=backend.get("model"),
            device=device,
            dtype=_dtype(backend.get("torch_dtype")),
        )
    ]


def _dtype(name: Any) -> str | None:
    return {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}.get(str(name))


def _decode(report: dict[str, Any], batch: int, prompt: int | None, made: int | None) -> list[RunPhase]:
    """The time of a token: from `per_token`, else from `decode` over the tokens after the prefill's."""
    context = prompt + made if prompt and made else None
    if times := _values(report, "per_token"):
        return [
            RunPhase(
                name="per_token",
                kind="decode",
                total_s=sum(times) / len(times),
                samples_s=tuple(times),
                batch=batch,
                new_tokens=1,
                context_tokens=context,
            )
        ]
    times = _values(report, "decode")
    if not times:
        return []
    steps = made - 1 if made and made > 1 else None
    if steps is None:
        return [RunPhase("decode", "other", sum(times) / len(times), tuple(times), batch)]
    each = tuple(one / steps for one in times)
    return [
        RunPhase(
            name="decode",
            kind="decode",
            total_s=sum(each) / len(each),
            samples_s=each,
            batch=batch,
            new_tokens=1,
            context_tokens=context,
        )
    ]


def _values(report: dict[str, Any], phase: str) -> list[float]:
    latency = (report.get(phase) or {}).get("latency") or {}
    if latency.get("unit", "s") != "s":
        raise ValueError(f"the latency of {phase} must be in s; got {latency['unit']!r}")
    values = latency.get("values")
    return [float(value) for value in values] if values else [float(latency["mean"])] if "mean" in latency else []
