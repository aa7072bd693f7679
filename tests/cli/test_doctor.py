"""`llamalab doctor` on machines that lack this and that."""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace

import pytest

import llamalab.model.cuda_graph  # noqa: F401, with the real torch, before a test puts another in its place
from llamalab.cli import installed as packages
from llamalab.cli import main
from tests.cli.calls import Capture, loaded
from tests.fakes import everywhere

ROOT = Path(__file__).resolve().parents[2]


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Pretend that packages have these versions, or are absent where None."""

    def pretended(name: str) -> str:
        found = versions.get(name.replace("-", "_"), "")
        if found is None:
            raise PackageNotFoundError(name)
        return found or version(name)

    monkeypatch.setattr(packages, "version", pretended)


def checks(capsys: Capture, code: int = 0) -> dict[str, packages.Check]:
    import json

    capsys.readouterr()
    assert main(["doctor", "--format", "json"]) == code
    rows = json.loads(capsys.readouterr().out)["checks"]
    return {row["what"]: packages.Check(**row) for row in rows}


def test_what_is_needed_is_what_pyproject_declares() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [f"{name}>={oldest}" for name, oldest in packages.needed_packages().items()]
    assert sorted(needed) == sorted(declared["dependencies"])
    assert declared["requires-python"] == ">=" + ".".join(map(str, packages.OLDEST_PYTHON))


def test_without_an_installation_it_says_so(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packages, "requires", absent)
    assert checks(capsys)["llamalab"].status == "warn"


def test_the_first_line_says_whether_all_is_there_and_the_next_what_mends_it(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    installed(monkeypatch, jinja2=None)
    assert main(["doctor"]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"llamalab \S+: 1 of what is needed missing", lines[0])
    assert any(line.startswith("  jinja2: ") for line in lines[1:6])
    assert max(map(len, lines)) <= 80
    assert next(line for line in lines if line.startswith("status")).split() == ["status", "what", "found"]


def test_here_nothing_is_missing(capsys: Capture) -> None:
    data = loaded(capsys, "doctor")
    assert data["ok"] is True
    found = {row["what"]: row for row in data["checks"]}
    assert found["torch"]["found"] == version("torch")
    assert {"python", "cpu", "nvml", *packages.needed_packages()} <= found.keys()


def test_without_torch_it_still_runs_and_says_how_to_get_it(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, torch=None)
    monkeypatch.setitem(sys.modules, "torch", None)  # import torch: ModuleNotFoundError
    everywhere(monkeypatch, packages.has_nvidia_driver, lambda: False)
    found = checks(capsys, code=3)
    assert found["torch"] == packages.Check(
        "torch",
        "missing",
        "not installed",
        "python -m pip install torch --index-url https://download.pytorch.org/whl/cpu",
    )
    assert not any(what.startswith("cuda") for what in found)


def test_with_a_driver_the_default_torch_is_advised(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, torch="2.9.1+cpu")
    everywhere(monkeypatch, packages.has_nvidia_driver, lambda: True)
    found = checks(capsys, code=3)["torch"]
    assert found[1:] == ("missing", "2.9.1+cpu, older than 2.10", 'python -m pip install --upgrade "torch>=2.10"')


def test_what_is_missing_is_summed_up_beside_the_table(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, pandas=None, jinja2="3.0.9", numpy="2.0.0rc1")
    assert main(["doctor"]) == 3
    captured = capsys.readouterr()
    assert re.search(
        r"^missing +pandas +not installed +python -m pip install --upgrade \"pandas>=2.2\"$", captured.out, re.M
    )
    assert captured.err == "note: needed and missing or too old: jinja2, pandas; the commands above mend it\n"


def test_an_old_tensorboard_is_a_warning_only(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, tensorboard="2.20.0")
    assert checks(capsys)["tensorboard"].status == "warn"
    installed(monkeypatch, tensorboard="2.21.0")
    assert "tensorboard" not in checks(capsys)


def fake_torch(*, available: bool, cuda: str | None = "13.0") -> SimpleNamespace:
    device = SimpleNamespace(name="NVIDIA H200")
    return SimpleNamespace(
        version=SimpleNamespace(cuda=cuda),
        cuda=SimpleNamespace(
            is_available=lambda: available,
            device_count=lambda: 2,
            get_device_properties=lambda index: device,
            mem_get_info=lambda index: (10 * 2**30, 150_754_820_096),
        ),
    )


def test_every_gpu_is_named_with_its_memory_and_data_sheet(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", fake_torch(available=True))  # type: ignore[arg-type]
    found = checks(capsys)
    assert found["cuda:0"].found == ("NVIDIA H200, 10.00 GiB free of 140.40 GiB, CUDA 13.0, data sheet h200-141gb-sxm")
    assert "cuda:1" in found


def test_a_driver_that_torch_cannot_use_is_a_warning(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", fake_torch(available=False, cuda=None))  # type: ignore[arg-type]
    everywhere(monkeypatch, packages.has_nvidia_driver, lambda: True)
    found = checks(capsys)["cuda"]
    assert (found.status, found.found) == ("warn", "an NVIDIA driver, but torch (built for no CUDA) sees no device")
    assert found.mend


@pytest.mark.parametrize(
    ("text", "release"), [("2.13.0+cpu", (2, 13, 0)), ("12.535.77", (12, 535, 77)), ("3", (3,)), ("x", ())]
)
def test_release_numbers(text: str, release: tuple[int, ...]) -> None:
    assert packages._release(text) == release


@pytest.mark.parametrize("error", [ImportError("libgomp.so.1: no such file"), ValueError("numpy.dtype size changed")])
def test_a_package_that_cannot_be_imported_is_not_ok(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    import importlib

    real = importlib.import_module

    def broken(name: str, package: str | None = None) -> object:
        if name in ("sentencepiece", "pynvml"):
            raise error
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", broken)
    found = checks(capsys, code=3)
    for name in ("sentencepiece", "nvidia-ml-py"):
        assert found[name].status == "missing"
        assert str(error) in found[name].found
        assert "--force-reinstall" in (found[name].mend or "")
    assert found["numpy"].status == "ok"


def test_products_slower_than_fp32_are_named_with_both_rates(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from llamalab.measure.roofs import dtype_rates
    from llamalab.measure.roofs.dtype_rates import ProductRate

    rates = {"fp32": ("packed", 249e9), "bf16": ("plain", 171e9), "fp16": ("packed", 300e9)}
    made = {dtype: ProductRate(dtype, *rate) for dtype, rate in rates.items()}
    monkeypatch.setattr(dtype_rates, "cpu_product_rates", lambda: made)
    found = checks(capsys)
    assert found["product fp32"] == packages.Check("product fp32", "ok", "packed weights, 249.00 GFLOP/s")
    assert found["product bf16"][1:3] == ("warn", "plain weights, 171.00 GFLOP/s, slower than fp32")
    assert "--dtype fp32" in (found["product bf16"].mend or "")
    assert found["product fp16"].status == "ok"


def test_a_torch_that_cannot_multiply_is_a_warning(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from llamalab.measure.roofs import dtype_rates

    def broken() -> None:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(dtype_rates, "cpu_product_rates", broken)
    assert checks(capsys)["products"][1:3] == ("warn", "not tried: no such instruction")
