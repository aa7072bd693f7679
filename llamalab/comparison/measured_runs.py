"""Measured runs of other people from a CSV file: device, stack, workload, and the measured value.

A row has device, n_gpus, framework, model, dtype, batch, prompt, generate, metric and value, and may have unit, source,
and threads of a CPU, which are also read from the source ("8 threads"). `run_s` is a whole run of a static batch;
`prefill_*` the prompt's pass; `decode_*` the mean decode step; `tpot_ms` the mean time between a request's tokens at a
server with a constant `batch` requests in flight, prefills of other requests included; `peak_memory_gb` weights, cache
and activations.
"""

import csv
import io
import re
from functools import lru_cache

from llamalab.analytic.workload import Workload
from llamalab.arch import LlamaArch
from llamalab.errors import FormatError, InputError, UnknownNameError
from llamalab.files.inputs import read_bounded_text
from llamalab.hardware import HARDWARE, HardwareSpec, device_family
from llamalab.presets import PRESETS
from llamalab.startup.hints import NamedTuple
from llamalab.units import DTYPES, dtype_bits

AUTO_STACK = "auto"
COLUMNS = ("device", "n_gpus", "framework", "model", "dtype", "batch", "prompt", "generate", "metric", "value")
METRICS = {
    "run_s": "run",
    "prefill_ms": "prefill",
    "prefill_tok_s": "prefill",
    "decode_ms": "decode",
    "decode_tok_s": "decode",
    "tpot_ms": "serving",
    "peak_memory_gb": "memory",
}
MOST_ROWS = 1_000_000
BEYOND = "cells beyond the columns"  # csv's key for surplus cells of a row
LEAST_VALUE, MOST_VALUE = 1e-9, 1e15  # range of a measurement in its unit; values outside are errors of the file
_LLAMA3 = {"rope_theta": 500_000.0, "max_positions": 8192}
SHAPES = {  # config.json of models without a preset
    "llama3-8b": LlamaArch(4096, 32, 32, 8, 14336, 128256, 1e-5, **_LLAMA3),  # type: ignore[arg-type]
    "llama3-70b": LlamaArch(8192, 80, 64, 8, 28672, 128256, 1e-5, **_LLAMA3),  # type: ignore[arg-type]
    "llama3.1-8b": LlamaArch(4096, 32, 32, 8, 14336, 128256, 1e-5, **_LLAMA3),  # type: ignore[arg-type]
    "llama3.1-70b": LlamaArch(8192, 80, 64, 8, 28672, 128256, 1e-5, **_LLAMA3),  # type: ignore[arg-type]
    "llama3.1-405b": LlamaArch(16384, 126, 128, 8, 53248, 128256, 1e-5, **_LLAMA3),  # type: ignore[arg-type]
    "mistral-7b": LlamaArch(4096, 32, 32, 8, 14336, 32000, max_positions=32768),
}
# Patterns of framework names, the first match counts; versions with other constants have rows of their own.
FRAMEWORKS = (
    (r"vllm 0\.12\S*", "vllm-0.12"),
    (r"vllm (0\.([89]|1\d)|1)\S*.*", "vllm"),
    (r"vLLM.*", "vllm-2024"),
    (r"vllm.*", "vllm"),
    (r"TensorRT-LLM( 0\.\d+\S*)?", "tensorrt-llm"),
    (r"(tensorrt-llm|trt-?llm).*", "tensorrt-llm-1"),
    (r"sglang.*", "sglang"),
    (r".*llama\.cpp (b\d{1,3}|b1[01]\d\d|2023-0\d)", "llama.cpp-2023-08"),
    (r".*llama\.cpp (b1[2-7]\d\d|335acd2|2023\S*)", "llama.cpp-2023"),
    (r".*llama\.cpp (b1[89]\d\d|b2\d{3}|b3[01]\d\d|2024-0[1-6]\S*)", "llama.cpp-2024"),
    (r".*llama\.cpp.*", "llama.cpp"),
    (r"exllama.*", "exllamav2"),
    (r"(hf )?transformers.*", "transformers"),
    (r"(gpt-fast|torchao).*", "gpt-fast"),
    (r"autoawq gemv.*", "autoawq-gemv"),
    (r"autoawq ipex.*", "autoawq-ipex"),
    (r"ipex.*", "ipex"),
    (r"autoawq.*|awq", "autoawq"),
    (r"tinychat.*", "tinychat"),
    (r"llm-awq.*", "llm-awq"),
    (r"mlc.*", "mlc"),
    (r"lmdeploy.*", "lmdeploy"),
    (r"llamalab.*", "llamalab"),
)
# (activations, weights) by a source's name of its dtype; the first match counts.
_FORMATS = (
    (r"(fp16|bf16|fp32)", r"\1", r"\1"),
    (r"fp8.*", "bf16", "fp8"),
    (r"(q4_0|q8_0|q4_k_m|q5_k_m|q6_k)", "fp16", r"\1"),
    (r"q4_k.*", "fp16", "q4_k_m"),
    (r"q5_k.*", "fp16", "q5_k_m"),
    (r"exl2 (\d(?:\.\d+)?)\s*bpw", "fp16", r"\1bpw"),
    (r"int8.*", "bf16", "int8"),
    (r"int4 (g64|hqq|q4f16).*", "fp16", "q4_0"),
    (r"(awq|gptq|exl2|int4).*", "fp16", "int4"),
)


class MeasuredPoint(NamedTuple):
    """One measured run: device, stack, workload, and the measurement in the unit of the file."""

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
        return METRICS[self.metric]

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
        bits = dtype_bits(self.work.weight_dtype or self.work.dtype)
        several = "several" if self.work.tensor_parallel > 1 else "one"
        stack = re.sub(r"(?<=cpp)-20.*|-0\.12$", "", self.stack)  # versions of a stack are one group
        return stack, self.row["device"], self.phase, bits, several


def stack_of(framework: str) -> str:
    """The stack of a framework column. Raises UnknownNameError where none matches.

    >>> stack_of("vLLM"), stack_of("vllm 0.12.0"), stack_of("llama.cpp b3441"), stack_of("trtllm 1.0.0rc3")
    ('vllm-2024', 'vllm-0.12', 'llama.cpp', 'tensorrt-llm-1')
    """
    text = framework.strip()
    for pattern, stack in FRAMEWORKS:
        cased = re.IGNORECASE if pattern.islower() or "(" in pattern else 0
        if re.fullmatch(pattern, text, 0 if pattern in (r"vLLM.*", r"TensorRT-LLM( 0\.\d+\S*)?") else cased):
            return stack
    raise UnknownNameError("framework", framework, dict.fromkeys(stack for _, stack in FRAMEWORKS))


def formats_of(dtype: str, stack: str) -> tuple[str, str]:
    """Dtypes of activations and of weights by a dtype column, for a stack.

    >>> formats_of("awq int4 g128", "tinychat"), formats_of("int4 weights", "llama.cpp")
    (('fp16', 'int4'), ('fp16', 'q4_k_m'))
    """
    text = dtype.strip().lower()
    if text == "int4 weights" and stack.startswith("llama.cpp"):
        return "fp16", "q4_k_m"  # its usual 4-bit format
    if text == "int4 weights" and stack == "mlc":
        return "fp16", "q4_0"  # q4f16_1: as many bits
    for pattern, activations, weights in _FORMATS:
        if found := re.fullmatch(pattern, text):
            return found.expand(activations), found.expand(weights)
    raise UnknownNameError("dtype", dtype, DTYPES)


def read_rows(path: str) -> list[dict[str, str]]:
    """Rows of a CSV file with the columns of measured runs. Raises MissingError, FormatError."""
    text = read_bounded_text(path, "file of measured runs")
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if lacking := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
            raise FormatError(f"{path} must have the columns {', '.join(COLUMNS)}; it lacks {', '.join(lacking)}")
        if repeated := [column for column in COLUMNS if (reader.fieldnames or ()).count(column) > 1]:
            raise FormatError(f"{path} must have every column once; it repeats {', '.join(repeated)}")
        rows = []
        for row in reader:
            beyond = ",".join(row.pop(None, ()))
            rows.append(
                {key: value or "" for key, value in row.items()} | ({BEYOND: beyond} if beyond.strip(",") else {})
            )
            if len(rows) > MOST_ROWS:
                raise FormatError(f"{path} must have at most {MOST_ROWS:,} rows; it has more")
    except csv.Error as error:
        raise FormatError(f"{path} must be a readable CSV file; got {error}") from None
    return rows


def measured_point(row: dict[str, str], stack: str = AUTO_STACK) -> MeasuredPoint:
    """A row as a point. Raises InputError for invalid cells."""
    if BEYOND in row:
        raise InputError(f"a row must have a cell a column; got {row[BEYOND]!r} beyond them; quote a cell with a comma")
    if row["metric"] not in METRICS:
        raise UnknownNameError("metric", row["metric"], METRICS)
    name = stack_of(row["framework"]) if stack == AUTO_STACK else stack
    activations, weights = formats_of(row["dtype"], name)
    batch, prompt, generate, ranks = (_count(row, cell) for cell in ("batch", "prompt", "generate", "n_gpus"))
    work = Workload(prompt, generate, batch, activations, weights, tensor_parallel=ranks, threads=_threads(row))
    spec = device_named(row["device"])
    if weights not in (activations, "fp32") and spec.peak_flops_per_s[activations] is None:
        work = work._replace(dtype="fp16")  # a row of narrow weights does not state the dtype of products
    return MeasuredPoint(
        spec=spec,
        arch=_shape(row["model"]),
        work=work,
        stack=name,
        metric=row["metric"],
        value=_positive(row, "value"),
        row=row,
    )


def _count(row: dict[str, str], cell: str) -> int:
    text = row[cell].strip()
    if not re.fullmatch(r"\d+(\.0*)?", text) or not 0 < float(text) <= 10**9:
        raise InputError(f"{cell} must be a whole number of at least 1; got {row[cell]!r}")
    return int(float(text))


def _threads(row: dict[str, str]) -> int | None:
    """Threads of the row, else those in its source; None where neither states them.

    >>> _threads({"source": "a wiki | NEON, 6 threads"}), _threads({"threads": "16", "source": "8 threads"})
    (6, 16)
    """
    if row.get("threads", "").strip():
        return _count(row, "threads")
    in_source = re.search(r"\b([1-9]\d{0,3}) threads?\b", row.get("source", ""))
    return int(in_source[1]) if in_source else None


def _positive(row: dict[str, str], cell: str) -> float:
    try:
        value = float(row[cell])
    except ValueError:
        value = 0.0
    if not LEAST_VALUE <= value <= MOST_VALUE:
        raise InputError(f"{cell} must be a positive number from {LEAST_VALUE:g} to {MOST_VALUE:g}; got {row[cell]!r}")
    return value


@lru_cache(maxsize=1024)
def device_named(name: str) -> HardwareSpec:
    """The device of a row; where a source leaves the variant open (A100 80 GB), the first of them."""
    family = device_family(name)
    if not family:
        raise UnknownNameError("device", name, HARDWARE)
    return family[0]


def _shape(model: str) -> LlamaArch:
    if model in PRESETS:
        return PRESETS[model].arch
    if model not in SHAPES:
        raise UnknownNameError("model", model, [*PRESETS, *SHAPES])
    return SHAPES[model]
