"""Master weights of an optimiser: in fp32, whatever the dtype of the model.

A model in fp32 is its own master. One in bf16 or fp16 has an fp32 copy of each parameter that is trained, which takes
the gradients of all passes of a step, is updated, and is rounded into the model: with AdamW's moments 16 bytes a
parameter beside the model's own gradient in bf16, which is freed as soon as the master has it.
"""

import torch
from torch import Tensor, nn


class Masters:
    """The fp32 parameters behind a model. `named` maps the model's names to them; a shared parameter is there once."""

    def __init__(self, model: nn.Module) -> None:
        self._own = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.named = {
            name: own if own.dtype is torch.float32 else nn.Parameter(own.detach().float())
            for name, own in self._own.items()
        }
        self._copies = [(own, self.named[name]) for name, own in self._own.items() if own is not self.named[name]]

    def collect(self) -> None:
        """Add the gradients of a pass to the masters', in fp32, and free the model's."""
        for own, master in self._copies:
            if own.grad is None:
                continue
            if master.grad is None:
                master.grad = own.grad.float()
            else:
                master.grad += own.grad
            own.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """Round the masters into the model."""
        for own, master in self._copies:
            own.copy_(master)

    def copies(self) -> dict[str, Tensor]:
        """The masters that are not the model's own weights, by name."""
        return {name: master.detach() for name, master in self.named.items() if master is not self._own[name]}

    @torch.no_grad()
    def restore(self, copies: dict[str, Tensor]) -> None:
        """Restore the values of saved copies. Raises KeyError for a missing one."""
        for name, master in self.copies().items():
            master.copy_(copies[name])
