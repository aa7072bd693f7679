"""SIGTERM and SIGHUP end a command like Ctrl-C: it unwinds, and unfinished files are removed."""

import signal
import sys
from types import FrameType, ModuleType

from llamalab.startup.hints import Any, NoReturn

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_Handlers = dict[signal.Signals, Any]


class ended_as_by_signal:  # noqa: N801  # a context without contextlib, whose import takes 1 ms
    """While a command runs, a signal that ends it unwinds it first; ignored signals, as under nohup, stay ignored."""

    def __enter__(self) -> None:
        self._before: _Handlers = {}
        try:
            for number in (signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) == signal.SIG_DFL:
                    self._before[number] = signal.signal(number, _end)
        except ValueError:  # not in the main thread, which alone handles signals
            pass
        self._finder = TorchInOnePiece()
        sys.meta_path.insert(0, self._finder)

    def __exit__(self, *raised: object) -> None:
        sys.meta_path.remove(self._finder)
        _put_back(self._before)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


class TorchInOnePiece:
    """Finder that holds signals back while torch loads.

    Its C++ imports Python modules, and drops what is raised in them, or aborts: Ctrl-C would be lost or end in a crash.
    """

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> Any:
        """The spec of torch, whose module is executed with signals held back; None for any other name."""
        if name != "torch":
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _held_back(spec.loader.exec_module)  # type: ignore[method-assign]
        return spec


def _held_back(execute: Any) -> Any:
    def run(module: ModuleType) -> None:
        with signals_held_back():
            execute(module)

    return run


class signals_held_back:  # noqa: N801
    """Signals that end a command wait for the end of the block, and take effect then."""

    def __enter__(self) -> None:
        self._came: list[int] = []
        self._before: _Handlers = {}
        try:
            for number in _ENDING:
                if callable(signal.getsignal(number)):  # ignored signals and handlers outside of Python stay
                    self._before[number] = signal.signal(number, lambda number, _: self._came.append(number))
        except ValueError:  # not in the main thread, which alone is interrupted
            pass

    def __exit__(self, kind: object, *raised: object) -> None:
        _put_back(self._before)
        if self._came and kind is None:
            signal.raise_signal(self._came[0])


def _put_back(handlers: _Handlers) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
