"""The layer with a quantised weight, which replaces nn.Linear."""

from typing import Any

import torch
from torch import Tensor, nn

from llamalab.model.quantised.codes import Codes, coded
from llamalab.model.quantised.kernel import Parts, Spot, WeightKernel
from llamalab.model.quantised.products import KERNEL_ROWS, kernel_for, multiply


class QuantisedLinear(nn.Module):
    """x W^T, and a bias, with a weight kept in `storage`, for inference.

    Its parameters are what its kernel reads, so that their bytes are the memory it takes. Its state dict has the
    weight, widened: a checkpoint of it is one of the model; loading one codes its weights anew. `kernel_rows` are
    those up to which the kernel multiplies; more rows are multiplied with the weight widened for the time of the call.
    """

    def __init__(
        self,
        parts: Parts,
        kernel: WeightKernel,
        storage: str,
        shape: tuple[int, int],
        group: int,
        dtype: torch.dtype,
        bias_O: nn.Parameter | None = None,
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = shape
        self.kernel, self.storage, self.group, self.dtype = kernel, storage, group, dtype
        self.kernel_rows = KERNEL_ROWS
        self._hold(parts)
        self.bias = bias_O

    @classmethod
    def of(
        cls, codes: Codes, storage: str, dtype: torch.dtype, bias_O: nn.Parameter | None = None
    ) -> "QuantisedLinear":
        """The layer of a weight's codes, where they are, for activations in `dtype`."""
        out, inner = codes.codes.shape
        spot = Spot(device=codes.codes.device, dtype=dtype, bits=codes.bits, out=out, inner=inner, group=codes.group)
        kernel = kernel_for(spot, offsets=codes.offsets is not None)
        return cls(kernel.arrange(codes, dtype), kernel, storage, (out, inner), codes.group, dtype, bias_O)

    @property
    def parts(self) -> Parts:
        """The tensors of the kernel."""
        return tuple(self._parameters[f"part{number}"] for number in range(self._count))  # type: ignore[misc]

    @property
    def weight(self) -> Tensor:
        """weight_OI in the dtype of activations; computed at every call."""
        if self.kernel.widen is not None:
            return self.kernel.widen(self.parts, self.group, self.dtype)
        one = torch.eye(self.in_features, dtype=self.dtype, device=self.parts[0].device)
        return self.kernel.multiply(one, self.parts, self.group).t().contiguous()

    def forward(self, x: Tensor) -> Tensor:
        made = multiply(x, self.kernel, self.parts, self.group, self.kernel_rows)
        return made if self.bias is None else made + self.bias

    def sharing(self, bias_O: nn.Parameter | None) -> "QuantisedLinear":
        """A layer with the same weight in memory and a bias of its own."""
        made = QuantisedLinear(
            parts=self.parts,
            kernel=self.kernel,
            storage=self.storage,
            shape=(self.out_features, self.in_features),
            group=self.group,
            dtype=self.dtype,
            bias_O=bias_O,
        )
        made.kernel_rows = self.kernel_rows
        return made

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, storage={self.storage}, "
            f"product={self.kernel.name}"
        )

    def _hold(self, parts: Parts) -> None:
        self._count = len(parts)
        for number, part in enumerate(parts):
            held = part if isinstance(part, nn.Parameter) else nn.Parameter(part, requires_grad=False)
            self.register_parameter(f"part{number}", held)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self.weight
        if self.bias is not None:
            destination[prefix + "bias"] = self.bias if keep_vars else self.bias.detach()

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *_: Any) -> None:
        if prefix + "weight" in state:
            codes = coded(state[prefix + "weight"].to(self.parts[0].device), self.storage)
            self._hold(self.kernel.arrange(codes, self.dtype))
        if self.bias is not None and prefix + "bias" in state:
            self.bias = nn.Parameter(state[prefix + "bias"].detach(), requires_grad=False)
