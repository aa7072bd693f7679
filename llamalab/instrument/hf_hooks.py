"""Taps on a Hugging Face model: a stack of them, and the ordinary hooks that call it.

The hooks are removed with the last tap; on copies of the model made before, they do nothing.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from llamalab.errors import InputError
from llamalab.model.tap import Tap, edits, recomputing
from llamalab.model.tap_stack import TapStack

_STACK = "llamalab_taps"
PutOn = Callable[["Hooks"], None]


def hooks_of(model: nn.Module, put_on: PutOn) -> "Hooks":
    """The model's stack of taps, or a new one; `put_on` attaches the hooks with the first tap."""
    there = vars(model).get(_STACK)
    return Hooks(model, put_on) if there is None else there


class Hooks(TapStack):
    """The taps on one model, and the hooks that call them; both are removed with the last tap."""

    def __init__(self, model: nn.Module, put_on: PutOn) -> None:
        super().__init__()
        self.model, self._put_on, self._handles = model, put_on, list[Any]()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles of the model have None instead."""
        return type(None), ()

    def _set(self, taps: tuple[Tap, ...]) -> None:
        super()._set(taps)
        if not taps:
            self._take_off()
        elif not self._handles:
            setattr(self.model, _STACK, self)
            try:
                self._put_on(self)
            except BaseException:
                super()._set(())
                self._take_off()
                raise

    def _take_off(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        vars(self.model).pop(_STACK, None)

    def on_output(self, module: nn.Module, hook: Callable[..., Any]) -> None:
        """Call `hook(module, arguments, output)` after the module."""
        self._handles.append(module.register_forward_hook(_Hook(hook)))

    def on_input(self, module: nn.Module, hook: Callable[..., Any]) -> None:
        """Call `hook(module, arguments, options)` before the module."""
        self._handles.append(module.register_forward_pre_hook(_Hook(hook), with_kwargs=True))

    def on_tensor(self, module: nn.Module, name: str) -> None:
        """The point is the output of the module."""

        def hook(module: nn.Module, arguments: Any, output: Any) -> Any:
            tensor = output[0] if isinstance(output, tuple) else output
            result = self.replaced(name, tensor)
            if result is tensor:
                return None
            return (result, *output[1:]) if isinstance(output, tuple) else result

        self.on_output(module, hook)

    def on_argument(self, module: nn.Module, name: str) -> None:
        """The point is the input of the module."""

        def hook(module: nn.Module, arguments: tuple[Tensor, ...], options: dict[str, Any]) -> Any:
            if arguments:
                return (self.replaced(name, arguments[0]), *arguments[1:]), options
            return arguments, options | {"hidden_states": self.replaced(name, options["hidden_states"])}

        self.on_input(module, hook)

    def replaced(self, name: str, tensor: Tensor) -> Tensor:
        """The tensor after all taps."""
        assert self.tap is not None
        return self.tap(name, tensor)

    def look(self, name: str, tensor: Tensor) -> None:
        """Pass a read-only tensor to the taps. Raises InputError where a tap edits it."""
        assert self.tap is not None
        if not edits(self.tap, name):
            self.tap(name, tensor)
            return
        before = tensor.detach().clone()
        result = self.tap(name, tensor)
        if result is not tensor or not before.nan_to_num().equal(tensor.nan_to_num()):
            raise InputError(
                f"{name} of a Hugging Face model must not be replaced: no module takes it in; "
                "load it with llamalab.load"
            )

    def stay_for_backward(self, block: nn.Module, names: list[str]) -> None:
        """Keep edits for the backward pass: checkpointing runs a layer again there, and needs the same edits."""

        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            checkpointed = getattr(block, "gradient_checkpointing", False) and block.training and tensor.requires_grad
            edited = self._editing(names) if checkpointed and not recomputing() else []
            if edited:
                tensor.register_hook(lambda _: self._check_still_on(names, edited))

        self.on_output(block, hook)

    def _editing(self, names: list[str]) -> list[int]:
        """The taps that may edit one of the points, by identity."""
        return [id(tap) for tap in self.taps if any(edits(tap, name) for name in names)]

    def _check_still_on(self, names: list[str], edited: list[int]) -> None:
        if self._editing(names) != edited:
            raise InputError(
                "backward through a checkpointed layer must run inside the block that edits it, as the layer runs again"
            )


class _Hook:
    """A hook that copies and pickles of the model replace by one without effect."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *given: Any) -> Any:
        return self._function(*given)

    def __reduce__(self) -> tuple[Any, ...]:
        return _no_hook, ()


def _no_hook() -> Callable[..., None]:
    return _do_nothing


def _do_nothing(*given: Any) -> None:
    """The hook of a copy."""
