"""Whether a device can be there at all, as its driver tells it without torch."""

import sys

import pytest

from llamalab.errors import MissingError
from llamalab.measure.device import kinds


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(kinds, "ROCM", "/nowhere")


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_device_without_a_driver_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "_loads", lambda library: False)
    with pytest.raises(MissingError, match=f"device {name} must be there; none of its driver's libraries"):
        kinds.check_driver(name)


def test_one_library_that_loads_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def loads(library: str) -> bool:
        tried.append(library)
        return library == "nvcuda.dll"

    monkeypatch.setattr(kinds, "_loads", loads)
    kinds.check_driver("cuda")
    assert tried == ["libcuda.so.1", "nvcuda.dll"]


@pytest.mark.parametrize("name", ["auto", "cpu", "mps"])
def test_others_need_no_driver(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "_loads", lambda library: False)
    kinds.check_driver(name)


def test_rocm_and_a_torch_that_is_loaded_are_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "_loads", lambda library: False)
    monkeypatch.setattr(kinds, "ROCM", __file__)
    kinds.check_driver("cuda")
    monkeypatch.setattr(kinds, "ROCM", "/nowhere")
    monkeypatch.setitem(sys.modules, "torch", object())
    kinds.check_driver("cuda")


def test_a_library_loads_or_not() -> None:
    assert not kinds._loads("libno-such-thing.so.7")
