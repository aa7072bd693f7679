"""Taps on a Hugging Face model: a stack of them, and the ordinary hooks that call it.

The model is left as it is; hooks are taken off with the last tap, and copies made before have none that does anything.
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
    """The stack of the model, or a new one; `put_on` puts the hooks on it with the first tap."""
    there = vars(model).get(_STACK)
    return Hooks(model, put_on) if there is None else there


class Hooks(TapStack):
    """The taps on one model, and the hooks that call them; both are gone when the last tap is."""

    def __init__(self, model: nn.Module, put_on: PutOn) -> None:
        super().__init__()
        self.model, self._put_on, self._handles = model, put_on, list[Any]()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles of the model have None in its place."""
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

    def on_tensor(self, module: nn.Module, name: str, block: nn.Module | None = None) -> None:
        """The point is the output of the module, inside of a layer `block` or of none."""

        def hook(module: nn.Module, arguments: Any, output: Any) -> Any:
            tensor = output[0] if isinstance(output, tuple) else output
            result = self.replaced(name, tensor, block)
            if result is tensor:
                return None
            return (result, *output[1:]) if isinstance(output, tuple) else result

        self.on_output(module, hook)

    def on_argument(self, module: nn.Module, name: str, block: nn.Module | None = None) -> None:
        """The point is what the module is given."""

        def hook(module: nn.Module, arguments: tuple[Tensor, ...], options: dict[str, Any]) -> Any:
            if arguments:
                return (self.replaced(name, arguments[0], block), *arguments[1:]), options
            return arguments, options | {"hidden_states": self.replaced(name, options["hidden_states"], block)}

        self.on_input(module, hook)

    def replaced(self, name: str, tensor: Tensor, block: nn.Module | None = None) -> Tensor:
        """What the taps make of the tensor. `block` is the layer that checkpointing may run again with it."""
        assert self.tap is not None
        result = self.tap(name, tensor)
        if block is not None and result is not tensor:
            self._stay_for_backward(name, result, block)
        return result

    def look(self, name: str, tensor: Tensor) -> None:
        """Show what cannot be replaced. Raises InputError where a tap tries."""
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

    def _stay_for_backward(self, name: str, result: Tensor, block: nn.Module) -> None:
        """Checkpointing runs the layer again in the backward pass: without the edit its gradients would be wrong."""
        if not (getattr(block, "gradient_checkpointing", False) and block.training and result.requires_grad):
            return

        def check(_: Tensor) -> None:
            if self.tap is None:
                raise InputError(f"backward through {name}, edited in a checkpointed layer, must run inside the block")

        if not recomputing():
            result.register_hook(check)  # type: ignore[no-untyped-call]


class _Hook:
    """A hook of which copies and pickles of the model get one that does nothing."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *given: Any) -> Any:
        return self._function(*given)

    def __reduce__(self) -> tuple[Any, ...]:
        return _no_hook, ()


def _no_hook() -> Callable[..., None]:
    return _do_nothing


def _do_nothing(*given: Any) -> None:
    """What is left of a hook in a copy."""
