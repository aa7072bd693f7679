"""Committed ratios by kind of machine, to see whether this revision is where it was.

A file holds the median over runs of both ratios for every benchmark; its name is the machine's key: CPU with its vector
unit and last cache (clouds give many CPUs one name), torch x.y, dtype and schema. Never absolute times: they say which
machine it was, not which revision. An unknown machine passes.
"""

import json
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import torch

from llamalab.files.outputs import write_text
from llamalab.measure.device.machine import cache_bytes, device_name
from tools.speedgate.decision import Decision, Ratios, decide

SCHEMA = 1  # of benchmarks and references: to be raised when one of them changes
DTYPE = "fp32"
THRESHOLD = 0.25
FOLDER = Path(__file__).with_name("baseline")
Runs = Mapping[str, Sequence[Ratios]]


def machine_key() -> str:
    """What ratios of one machine are compared by."""
    cpu = torch.device("cpu")
    torch_version = ".".join(torch.__version__.split(".")[:2])
    kind = f"{device_name(cpu)} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    name = f"{kind} {cache_bytes(cpu) // 2**20} MiB torch {torch_version} {DTYPE} schema {SCHEMA}"
    return re.sub(r"[^a-z0-9._]+", "-", name.lower()).strip("-")


def read(folder: Path, key: str) -> dict[str, Ratios] | None:
    """The ratios of that kind of machine; None where it is unknown."""
    path = folder / f"{key}.json"
    if not path.exists():
        return None
    return {benchmark: Ratios(*pair) for benchmark, pair in json.loads(path.read_text(encoding="utf-8")).items()}


def write(folder: Path, key: str, runs: Runs) -> Path:
    """Keep the median over runs; the file's path."""
    path, rows = folder / f"{key}.json", []
    for benchmark, measured in runs.items():
        middle = [round(median(values), 4) for values in zip(*measured, strict=True)]
        rows.append(f" {json.dumps(benchmark)}: {json.dumps(middle)}")
    write_text(path, "{\n" + ",\n".join(rows) + "\n}\n")
    return path


def against(known: Mapping[str, Ratios], runs: Runs) -> dict[str, Decision]:
    """The decision for every benchmark that both have."""
    return {
        benchmark: decide([known[benchmark]] * len(measured), measured, threshold=THRESHOLD)
        for benchmark, measured in runs.items()
        if benchmark in known
    }
