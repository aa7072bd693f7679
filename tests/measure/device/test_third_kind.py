"""A kind of device that llamalab does not know is one class and one row: every measurement then goes through it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import llamalab
from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention import get_backend
from llamalab.errors import InputError, MissingError
from llamalab.measure.attention.calls import measure_attention
from llamalab.measure.attention.lab import lab_machine
from llamalab.measure.bench.rows import BenchCase
from llamalab.measure.bench.run import measure_bench
from llamalab.measure.calibration.blocks import CHECKED_ON_ACCELERATOR, blocks_for
from llamalab.measure.device.base import Device
from llamalab.measure.device.cache_size import effective_cache_bytes
from llamalab.measure.device.environment import environment
from llamalab.measure.device.kinds import DEVICE_KINDS
from llamalab.measure.device.machine import calibration_name, device_of, probe_budget_bytes, resolve_device
from llamalab.measure.profile.run import measure_profile
from llamalab.measure.timing.timer import Plan
from llamalab.presets import PRESETS
from llamalab.records.record import unmeasured
from llamalab.records.roof import Roof
from tests.measure.device.fake_device import FakeAccelerator

PACKAGE = Path(llamalab.__file__).parent
PLACE = torch.device("cpu")
KIND = "hpu"  # torch knows the word; no kind of llamalab's has it
ARCH = PRESETS["stories260k"].arch
ROOFS = [
    Roof(kind=kind, dtype="fp32", per_second=1e12, seconds=1e-9, shape="", samples_s=[1.0], trusted=True)
    for kind in ("gemm", "stream", "copy", "cache", "attention", "launch")
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """The fake in the place of the CPU, where its kernels run; what was asked of it."""
    monkeypatch.setitem(DEVICE_KINDS, "cpu", "tests.measure.device.fake_device.FakeAccelerator")
    FakeAccelerator.asked.clear()
    effective_cache_bytes.cache_clear()
    yield FakeAccelerator.asked
    effective_cache_bytes.cache_clear()


def test_sizes_are_those_of_its_role(asked: dict[str, int]) -> None:
    assert effective_cache_bytes(PLACE) == 2**21
    assert probe_budget_bytes(PLACE) == 2**30
    assert blocks_for(PLACE).check == CHECKED_ON_ACCELERATOR
    assert calibration_name(PLACE) == "cpu"


def test_its_names_and_versions_are_in_the_record(asked: dict[str, int]) -> None:
    found = environment(PLACE, "")
    assert (found.device_name, found.cuda, found.driver, found.memory_bytes) == ("Fake 3000", "9.9", "1.2.3", 2**33)
    assert found.before is not None
    assert found.before.clock_hz == 7


def test_a_profile_runs_on_it(asked: dict[str, int]) -> None:
    model = llamalab.build("stories260k", dtype="fp32").eval()
    reference = unmeasured("x", ARCH, "fp32", environment(PLACE, ""), ROOFS)
    (phase,) = measure_profile(model, phases=["prefill"], prompt_tokens=8, budget_s=0.1, reference=reference).phases
    assert phase.throttled == ["fake heat"]
    assert (phase.energy.joules_per_token, phase.energy.reason) == (None, "fake: no counter")
    assert phase.usage.device_bytes_by_process == {"41": 1234}
    assert (phase.memory.method, phase.memory.peak_bytes) == ("fake: allocator history", 555)
    assert asked["clock"] >= 2
    assert asked["synchronise"] >= 2


def test_a_bench_runs_on_it(asked: dict[str, int]) -> None:
    reference = unmeasured("x", ARCH, "fp32", environment(PLACE, ""), ROOFS)
    (row,) = measure_bench("x", ARCH, [BenchCase(8, 0)], dtype="fp32", device="cpu", repetitions=1, reference=reference)
    assert (row.device, row.memory_bytes, row.memory_method) == ("Fake 3000", 4321, "fake: bytes held")
    assert "throttled: fake heat" in row.disturbances
    assert asked["start_held"] == 1
    assert asked["release_memory"] >= 1


def test_attention_runs_in_its_graphs(asked: dict[str, int]) -> None:
    shape = AttentionShape(1, 8, 8, 4, 2, 16, "fp32", "fp32")
    machine, remark = lab_machine("cpu", "fp32", [shape])
    points = measure_attention(machine, shape, [get_backend("naive"), get_backend("sdpa")], Plan(0.01, 1, 2, 1, 0.0))
    assert remark is None
    assert asked["keep_freed_memory"] == 1
    assert asked["graph"] == 2
    assert [point.peak_bytes for point in points] == [777, 777]


def test_a_row_makes_it_known_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ", ".join(DEVICE_KINDS)
    with pytest.raises(InputError, match=f"device must be auto, cpu, .*; got '{KIND}'"):
        resolve_device(KIND)
    with pytest.raises(InputError, match=f"one of {kinds}; got {KIND}"):
        device_of(torch.device(KIND))
    monkeypatch.setitem(DEVICE_KINDS, KIND, "tests.measure.device.fake_device.FakeAccelerator")
    assert resolve_device("auto") == resolve_device(KIND) == torch.device(KIND, 0)
    assert resolve_device(f"{KIND}:1") == torch.device(KIND, 1)
    device: Device = device_of(resolve_device(f"{KIND}:1"))
    assert (device.name, device.place.index) == ("Fake 3000", 1)
    with pytest.raises(MissingError, match=f"torch sees 2 {KIND.upper()} devices"):
        resolve_device(f"{KIND}:2")
    with pytest.raises(InputError, match=f"{KIND} or {KIND}:N"):
        resolve_device("gpu")


ACCELERATORS = [kind for kind in DEVICE_KINDS if kind != "cpu"]


def _mentions_of_a_kind(path: Path) -> Iterator[int]:
    """Lines where code names an accelerator: the string, or torch's module of it."""
    for node in ast.walk(ast.parse(path.read_text())):
        named = isinstance(node, ast.Constant) and node.value in ACCELERATORS
        module = isinstance(node, ast.Attribute) and node.attr.removeprefix("is_") in ACCELERATORS
        of_torch = module and not (isinstance(node.value, ast.Name) and node.value.id in ("env", "environment"))
        if named or of_torch:
            yield node.lineno


# Who may name a kind, and why: the class of the kind, kernels that are made for it, and a row of data that is about it.
NAMES_A_KIND = {
    "the device itself": ("measure/device/cuda.py", "measure/device/cuda_clock.py", "measure/device/kinds.py"),
    "kernels, each made for a kind": (
        "attention/flex.py",
        "attention/one_query.py",
        "attention/sdpa.py",
        "attention/sdpa_kernels.py",
        "attention/triton_flash/__init__.py",
        "attention/triton_flash/fastest.py",
        "attention/triton_flash/few_queries.py",
        "attention/triton_flash/many_queries.py",
        "model/cuda_graph.py",
        "model/quantised/int4_groups.py",
        "model/quantised/int8_rows.py",
        "text/decode_loop.py",
    ),
    "the seat of a rank on its own GPU": ("parallel/team.py",),
    "a verb that looks for what is wrong with a driver": ("cli/doctor.py",),
    "a row about the memory of a runtime": (
        "analytic/fit.py",
        "analytic/runtimes.py",
        "analytic/training_margin.py",
        "cli/fit.py",
    ),
    "what an option is where nobody gave it": ("cli/fit_cache.py",),
    "words of options": ("choices.py",),
    "a field of a record": ("comparison/own_runs.py",),
}


def test_nothing_else_asks_which_kind_it_is() -> None:
    allowed = {PACKAGE / path for paths in NAMES_A_KIND.values() for path in paths}
    asking = {path for path in PACKAGE.rglob("*.py") if any(_mentions_of_a_kind(path))}
    assert sorted(str(path.relative_to(PACKAGE)) for path in asking - allowed) == []
    assert (
        sorted(str(path.relative_to(PACKAGE)) for path in allowed - asking) == []
    )  # the list is no longer than needed
