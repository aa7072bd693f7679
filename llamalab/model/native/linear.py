"""A layer of a plain weight that multiplies a few rows at the rate of memory, and many by torch."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from llamalab.model.native.calls import bf16_rows, multiply_bf16, takes_bf16

STREAMED_WEIGHT = "streamed"
_TRIED_OI, _TRIED_ROWS = (48, 96), (1, 3, 11)


@torch.library.custom_op("llamalab::streamed_linear", mutates_args=())
def _streamed_linear(x: Tensor, weight: Tensor) -> Tensor:
    """The product as one operation for compilers, which see into no C."""
    return _few_rows(x, weight)


@_streamed_linear.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight.shape[0])


def _few_rows(x: Tensor, weight_OI: Tensor) -> Tensor:
    made = multiply_bf16(x.reshape(-1, x.shape[-1]), weight_OI)
    return made.view(*x.shape[:-1], made.shape[-1])


def multiply_streamed(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """X W^T, and a bias added to it: of a few rows by our own product, of many by torch's."""
    if x.numel() // x.shape[-1] > bf16_rows():
        return functional.linear(x, weight_OI, bias_O)
    made: Tensor = (_streamed_linear if torch.compiler.is_compiling() else _few_rows)(x, weight_OI)
    return made if bias_O is None else made + bias_O


class StreamedLinear(nn.Linear):
    """nn.Linear for inference on a CPU."""

    @classmethod
    def of(cls, plain: nn.Linear, weight_OI: nn.Parameter) -> "StreamedLinear":
        """The layer with the bias and hooks of another, and that weight."""
        made = cls.__new__(cls)
        made.__dict__.update(plain.__dict__)
        made._parameters = plain._parameters | {"weight": weight_OI}
        if plain.bias is not None:
            made.bias = nn.Parameter(plain.bias.detach(), requires_grad=False)
        return made

    def forward(self, input: Tensor) -> Tensor:
        return multiply_streamed(input, self.weight, self.bias)


@cache
def can_stream(dtype: torch.dtype) -> bool:
    """Whether a small product of this type comes out as it should, held against double precision; tried once."""
    if dtype != torch.bfloat16 or not bf16_rows():
        return False
    out, inner = _TRIED_OI
    with torch.inference_mode(), torch.device("cpu"):
        weight_OI = torch.linspace(-1, 1, out * inner).view(out, inner).sin().to(dtype)
        return takes_bf16(weight_OI) and all(_close(weight_OI, rows) for rows in _TRIED_ROWS)


def _close(weight_OI: Tensor, rows: int) -> bool:
    x = torch.linspace(-2, 2, rows * weight_OI.shape[1]).view(rows, -1).cos().to(weight_OI.dtype)
    made, exact = multiply_bf16(x, weight_OI).double(), x.double() @ weight_OI.double().T
    return bool((made - exact).abs().max() <= 8 * exact.abs().max() * torch.finfo(weight_OI.dtype).eps)
