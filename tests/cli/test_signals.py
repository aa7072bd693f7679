import signal
import sys

import pytest

from llamalab.cli.signals import TorchInOnePiece, ended_as_by_signal, signals_held_back


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_waits_for_the_end_of_the_block(number: signal.Signals, error: type[BaseException]) -> None:
    done = []

    def block() -> None:
        with signals_held_back():
            signal.raise_signal(number)
            done.append("the rest of the block")

    with ended_as_by_signal():
        handler = signal.getsignal(number)
        with pytest.raises(error):
            block()
        assert done
        assert signal.getsignal(number) is handler


def test_without_a_signal_nothing_is_raised_and_an_error_of_the_block_goes_first() -> None:
    with signals_held_back():
        pass

    def block() -> None:
        with signals_held_back():
            signal.raise_signal(signal.SIGINT)
            raise ImportError("torch")

    with pytest.raises(ImportError):
        block()


def test_torch_is_loaded_with_signals_held_back_and_no_other_module(monkeypatch: pytest.MonkeyPatch) -> None:
    finder, seen = TorchInOnePiece(), []
    assert finder.find_spec("json") is None
    spec = finder.find_spec("torch")
    assert spec.name == "torch"
    inside = spec.loader.exec_module.__closure__[0].cell_contents
    assert inside.__self__ is spec.loader
    monkeypatch.setattr(type(spec.loader), "exec_module", lambda self, module: seen.append(signal.getsignal(2)))
    fresh = finder.find_spec("torch")
    fresh.loader.exec_module(sys)
    assert seen != [signal.getsignal(signal.SIGINT)]
    assert callable(seen[0])


def test_imports_are_as_they_were_after_a_command() -> None:
    before = list(sys.meta_path)
    with ended_as_by_signal():
        assert sys.meta_path[1:] == before
    assert sys.meta_path == before
