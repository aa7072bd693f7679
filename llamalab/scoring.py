"""How far are predictions from measured runs? A CSV file of them, scored row by row and by group.

A row tells device, n_gpus, framework, model, dtype, batch, prompt, generate, metric, value, unit and source. An
error is predicted over measured time (or memory) minus 1, for throughput too: positive is too slow. Coverage is
the share of measurements inside the predicted interval; `under_bound` counts those more than 2 % faster than
the physical bound. A row that cannot be predicted keeps its place, with the reason.

`run_s` is a whole run of a static batch; `prefill_*` the prompt's pass; `decode_*` the mean decode step;
`tpot_ms` the mean time between a request's tokens at a server that is kept at `batch` requests, where the
prompts of others come in between; `peak_memory_gb` weights, cache and activations.
"""

import csv
import os
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from llamalab.analytic.forecast import Times, Workload, memory_needed, run_times
from llamalab.analytic.roofline import Rates
from llamalab.analytic.stacks import StackConstants, find_stack, stack_constants, workload_of
from llamalab.arch import LlamaArch
from llamalab.errors import FormatError, InputError, LlamaLabError, MissingError, UnknownNameError
from llamalab.hardware import HARDWARE, HardwareSpec, device_family
from llamalab.presets import PRESETS
from llamalab.units import DTYPES

AUTO = "auto"
COLUMNS = ("device", "n_gpus", "framework", "model", "dtype", "batch", "prompt", "generate", "metric", "value")
PHASES = {
    "run_s": "run", "prefill_ms": "prefill", "prefill_tok_s": "prefill", "decode_ms": "decode",
    "decode_tok_s": "decode", "tpot_ms": "serving", "peak_memory_gb": "memory",
}  # fmt: skip
TOLERANCE = 0.02  # measurements and data sheets are rounded
MEMORY_SPREAD = 0.15
MOST_ROWS = 1_000_000
_LLAMA3 = {"rope_theta": 500_000.0, "max_positions": 8192}
SHAPES = {  # config.json of models that have no preset
    "llama3-8b": LlamaArch(4096, 32, 32, 8, 14336, 128256, 1e-5, **_LLAMA3),  # type: ignore[arg-type]
    "llama3-70b": LlamaArch(8192, 80, 64, 8, 28672, 128256, 1e-5, **_LLAMA3),  # type: ignore[arg-type]
    "llama3.1-8b": LlamaArch(4096, 32, 32, 8, 14336, 128256, 1e-5, **_LLAMA3),  # type: ignore[arg-type]
    "llama3.1-70b": LlamaArch(8192, 80, 64, 8, 28672, 128256, 1e-5, **_LLAMA3),  # type: ignore[arg-type]
    "llama3.1-405b": LlamaArch(16384, 126, 128, 8, 53248, 128256, 1e-5, **_LLAMA3),  # type: ignore[arg-type]
    "mistral-7b": LlamaArch(4096, 32, 32, 8, 14336, 32000, max_positions=32768),
}
# What a framework is called, the first that matches; versions of which the constants differ have rows of their own.
FRAMEWORKS = (
    (r"vllm (0\.([89]|1\d)|1)\S*.*", "vllm"),
    (r"vLLM.*", "vllm-2024"),
    (r"vllm.*", "vllm"),
    (r"TensorRT-LLM( 0\.\d+\S*)?", "tensorrt-llm"),
    (r"(tensorrt-llm|trt-?llm).*", "tensorrt-llm-1"),
    (r"sglang.*", "sglang"),
    (r".*llama\.cpp (b\d{1,3}|b1[01]\d\d|2023-0\d)", "llama.cpp-2023-08"),
    (r".*llama\.cpp (b1[2-7]\d\d|335acd2|2023\S*)", "llama.cpp-2023"),
    (r".*llama\.cpp.*", "llama.cpp"),
    (r"exllama.*", "exllamav2"),
    (r"(hf )?transformers.*", "transformers"),
    (r"(gpt-fast|torchao).*", "gpt-fast"),
    (r"autoawq gemv.*", "autoawq-gemv"),
    (r"autoawq ipex|ipex.*", "ipex"),
    (r"autoawq.*|awq", "autoawq"),
    (r"tinychat.*", "tinychat"),
    (r"llm-awq.*", "llm-awq"),
    (r"mlc.*", "mlc"),
    (r"lmdeploy.*", "lmdeploy"),
    (r"llamalab.*", "llamalab"),
)
# (activations, weights) by what a source calls its dtype; the first that matches.
FORMATS = (
    (r"(fp16|bf16|fp32)", r"\1", r"\1"),
    (r"fp8.*", "bf16", "fp8"),
    (r"(q4_0|q8_0|q4_k_m)", "fp16", r"\1"),
    (r"q4_k.*", "fp16", "q4_k_m"),
    (r"int8.*", "bf16", "int8"),
    (r"int4 (g64|hqq|q4f16).*", "fp16", "q4_0"),
    (r"(awq|gptq|exl2|int4).*", "fp16", "int4"),
)


class Point(NamedTuple):
    """One measured run: what ran, on what, and the measurement in the unit of the file."""

    spec: HardwareSpec
    arch: LlamaArch
    work: Workload
    stack: str
    metric: str
    value: float
    row: dict[str, str]

    @property
    def phase(self) -> str:
        """run, prefill, decode, serving or memory."""
        return PHASES[self.metric]

    @property
    def measured(self) -> float:
        """Seconds of the run, of the prompt's pass or of a decode step; bytes of memory."""
        work = self.work
        if self.metric == "prefill_tok_s":
            return work.batch * work.prompt / self.value
        if self.metric == "decode_tok_s":
            return work.batch / self.value
        return self.value * {"run_s": 1.0, "peak_memory_gb": 1e9}.get(self.metric, 1e-3)

    def in_its_unit(self, amount: float) -> float:
        """Seconds or bytes in the unit of the file."""
        return self.value * (amount / self.measured if not self.metric.endswith("tok_s") else self.measured / amount)

    @property
    def group(self) -> tuple[str, str, str, int, str]:
        """Stack, device, phase, bits of the weights, one device or several."""
        bits, several = DTYPES[self.work.weight_dtype or self.work.dtype].bits, self.work.tensor_parallel > 1
        return re.sub(r"(?<=cpp)-2023.*", "", self.stack), self.row["device"], self.phase, bits, "several" if several else "one"


class Scored(NamedTuple):
    """A point with its prediction, interval and bound (seconds or bytes), or the reason why it has none."""

    point: Point | None
    predicted: float | None = None
    interval: tuple[float, float] | None = None
    bound: float | None = None
    reason: str | None = None

    @property
    def error(self) -> float | None:
        """Predicted over measured, minus 1."""
        if self.point is None or self.predicted is None:
            return None
        return self.predicted / self.point.measured - 1

    @property
    def covered(self) -> bool:
        """Whether the measurement lies inside the interval."""
        assert self.point is not None
        assert self.interval is not None
        return self.interval[0] <= self.point.measured <= self.interval[1]

    @property
    def under_bound(self) -> bool:
        """Whether it was measured faster than the physical bound, by more than TOLERANCE."""
        return bool(self.point and self.bound and self.point.measured < (1 - TOLERANCE) * self.bound)


def stack_of(framework: str) -> str:
    """The stack that a framework column means. Raises UnknownNameError for none of them.

    >>> stack_of("vLLM"), stack_of("vllm 0.12.0"), stack_of("llama.cpp b3441"), stack_of("trtllm 1.0.0rc3")
    ('vllm-2024', 'vllm', 'llama.cpp', 'tensorrt-llm-1')
    """
    text = framework.strip()
    for pattern, stack in FRAMEWORKS:
        cased = re.IGNORECASE if pattern.islower() or "(" in pattern else 0
        if re.fullmatch(pattern, text, 0 if pattern in (r"vLLM.*", r"TensorRT-LLM( 0\.\d+\S*)?") else cased):
            return stack
    raise UnknownNameError("framework", framework, dict.fromkeys(stack for _, stack in FRAMEWORKS))


def formats_of(dtype: str, stack: str) -> tuple[str, str]:
    """Types of activations and of weights that a dtype column means for a stack.

    >>> formats_of("awq int4 g128", "tinychat"), formats_of("int4 weights", "llama.cpp")
    (('fp16', 'int4'), ('fp16', 'q4_k_m'))
    """
    text = dtype.strip().lower()
    if text == "int4 weights" and stack.startswith("llama.cpp"):
        return "fp16", "q4_k_m"  # its usual 4-bit format
    if text == "int4 weights" and stack == "mlc":
        return "fp16", "q4_0"  # q4f16_1: as many bits
    for pattern, activations, weights in FORMATS:
        if found := re.fullmatch(pattern, text):
            return found.expand(activations), found.expand(weights)
    raise UnknownNameError("dtype", dtype, DTYPES)


def read_rows(path: str) -> list[dict[str, str]]:
    """Rows of a CSV file with the columns of measured runs. Raises MissingError, FormatError."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if lacking := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
                raise FormatError(f"{path} must have the columns {', '.join(COLUMNS)}; it lacks {', '.join(lacking)}")
            rows = []
            for row in reader:
                rows.append({key: value or "" for key, value in row.items() if key is not None})
                if len(rows) > MOST_ROWS:
                    raise FormatError(f"{path} must have at most {MOST_ROWS:,} rows; it has more")
            return rows
    except FileNotFoundError:
        raise MissingError(f"a file of measured runs must exist; there is none at {path!r}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path} must be a readable CSV file; got {error}") from None


def point_of(row: dict[str, str], stack: str = AUTO) -> Point:
    """A row as a point. Raises InputError for what it cannot mean."""
    if row["metric"] not in PHASES:
        raise UnknownNameError("metric", row["metric"], PHASES)
    name = stack_of(row["framework"]) if stack == AUTO else stack
    activations, weights = formats_of(row["dtype"], name)
    batch, prompt, generate, ranks = (_count(row, cell) for cell in ("batch", "prompt", "generate", "n_gpus"))
    work = Workload(prompt, generate, batch, activations, weights, tensor_parallel=ranks)
    return Point(
        _device(row["device"]), _shape(row["model"]), work, name, row["metric"], _positive(row, "value"), row
    )


def _count(row: dict[str, str], cell: str) -> int:
    text = row[cell].strip()
    if not re.fullmatch(r"\d+(\.0*)?", text) or not 0 < float(text) <= 10**9:
        raise InputError(f"{cell} must be a whole number of at least 1; got {row[cell]!r}")
    return int(float(text))


def _positive(row: dict[str, str], cell: str) -> float:
    try:
        value = float(row[cell])
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise InputError(f"{cell} must be a positive number; got {row[cell]!r}")
    return value


@lru_cache(maxsize=1024)
def _device(name: str) -> HardwareSpec:
    # A source that leaves the form open (A100 80 GB) is read as the first of them.
    family = device_family(name)
    if not family:
        raise UnknownNameError("device", name, HARDWARE)
    return family[0]


def _shape(model: str) -> LlamaArch:
    if model in PRESETS:
        return PRESETS[model].arch
    if model not in SHAPES:
        raise UnknownNameError("model", model, PRESETS | SHAPES)
    return SHAPES[model]


@lru_cache(maxsize=4096)
def _constants(name: str, spec_name: str, dtype: str, weight: str) -> StackConstants:
    spec = _device(spec_name)
    return stack_constants(find_stack(name, spec), spec, dtype, weight)


def predict_row(row: dict[str, str], stack: str = AUTO) -> Scored:
    """A row with its prediction, or with the reason why there is none."""
    point = None
    try:
        point = point_of(row, stack)
        constants = _constants(point.stack, row["device"], point.work.dtype, point.work.weight_dtype or point.work.dtype)
        predicted = predicted_of(point, constants)
        bound = bound_of(point, constants)
    except LlamaLabError as error:
        return Scored(point, reason=str(error))
    if point.phase == "memory":
        return Scored(point, predicted, (predicted / (1 + MEMORY_SPREAD), predicted * (1 + MEMORY_SPREAD)), bound)
    phase = "decode" if point.phase == "serving" else point.phase
    return Scored(point, predicted, constants.interval_of_phase(phase, predicted, bound), bound)


def predicted_of(point: Point, constants: StackConstants) -> float:
    """Seconds, or bytes, of what was measured."""
    work = workload_of(constants.stack, point.work)
    if point.phase == "memory":
        return float(memory_needed(point.arch, work).total_bytes)
    if point.phase == "serving":
        return serving_s(point.arch, work, constants)
    return _of(point, run_times(point.arch, _whole(point, work), constants.rates, constants.host))


def serving_s(arch: LlamaArch, work: Workload, constants: StackConstants) -> float:
    """Mean seconds between the tokens of a request at a server kept at B requests.

    While one request generates its G tokens the B - 1 others bring one prompt each; a stack lets the share
    `interleave` of their prefills come between two tokens (1/2: all start together; 1: evenly spread).
    """
    if work.generate < 2:
        raise InputError(f"generate must be at least 2 for the time between tokens; got {work.generate}")
    step_s = run_times(arch, work._replace(prompt=work.prompt), constants.rates, constants.host).decode_s_per_token
    alone = run_times(arch, work._replace(batch=1, generate=1), constants.rates).prefill_s
    assert step_s is not None
    return step_s + constants.stack.interleave * (work.batch - 1) / work.generate * alone


def bound_of(point: Point, constants: StackConstants) -> float:
    """The physical bound: fused kernels at the highest peaks of the device, no host; of memory, the weights."""
    work = workload_of(constants.stack, point.work)
    if point.phase == "memory":
        return float(memory_needed(point.arch, work).weight_bytes)
    work = _whole(point, work)._replace(fused=True, attention="flash", chunk=None, unpack_rows=None)
    rates: dict[str, Rates] = {name: rate.bound() for name, rate in constants.rates.items()}
    return _of(point, run_times(point.arch, work, rates))


def _whole(point: Point, work: Workload) -> Workload:
    # A step needs a token after the first; what a prefill generates is no part of it.
    if point.phase in ("decode", "serving"):
        return work._replace(generate=max(2, work.generate))
    return work if point.phase == "run" else work._replace(generate=1)


def _of(point: Point, times: Times) -> float:
    if point.phase == "run":
        return times.total_s
    if point.phase == "prefill":
        return times.prefill_s
    assert times.decode_s_per_token is not None
    return times.decode_s_per_token


def summary(scored: Sequence[Scored]) -> dict[str, Any]:
    """n, MAPE, bias and p90 in per cent, coverage in per cent, points under the bound, of those predicted."""
    known = [one for one in scored if one.error is not None]
    errors = [100 * (one.error or 0.0) for one in known]
    if not errors:
        return {"n": 0, "mape": None, "bias": None, "p90": None, "coverage": None, "under_bound": 0}
    sizes = sorted(map(abs, errors))
    return {
        "n": len(errors),
        "mape": sum(sizes) / len(sizes),
        "bias": sum(errors) / len(errors),
        "p90": sizes[min(len(sizes) - 1, int(0.9 * len(sizes)))],
        "coverage": 100 * sum(one.covered for one in known) / len(known),
        "under_bound": sum(one.under_bound for one in known),
    }


def grouped(scored: Iterable[Scored]) -> dict[tuple[str, str, str, int, str], list[Scored]]:
    """Predicted points by stack, device, phase, bits of the weights, and one device or several; sorted."""
    groups: dict[tuple[str, str, str, int, str], list[Scored]] = {}
    for one in scored:
        if one.point is not None and one.predicted is not None:
            groups.setdefault(one.point.group, []).append(one)
    return dict(sorted(groups.items()))


def name_of(path: str) -> str:
    """A file's name without its folder."""
    return os.path.basename(path)
