import sys

import pytest

from llamalab.cli.signals import NumpyFirst, ended_as_by_signal


class Watcher:
    """Sees what is looked for, and finds no numpy."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        self.names.append(name)
        if name == "numpy":
            raise ImportError(name)


def test_numpy_is_looked_for_before_torch_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher, before = Watcher(), list(sys.meta_path)
    monkeypatch.setattr(sys, "meta_path", [watcher])
    monkeypatch.delitem(sys.modules, "numpy")
    with ended_as_by_signal():
        (first,) = (one for one in sys.meta_path if isinstance(one, NumpyFirst))
        first.find_spec("json")
        assert watcher.names == []
        first.find_spec("torch")
        assert (watcher.names, sys.meta_path) == (["numpy"], [watcher])
    monkeypatch.setattr(sys, "meta_path", before)


def test_a_command_without_torch_leaves_imports_as_they_were() -> None:
    before = list(sys.meta_path)
    with ended_as_by_signal():
        assert sys.meta_path[1:] == before
    assert sys.meta_path == before
