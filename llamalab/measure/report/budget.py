"""How much a report measures: tokens, rounds and blocks by the role of the device, its free memory and the time."""

from typing import NamedTuple

import torch

from llamalab.analytic.activations import peak_activation_bytes
from llamalab.analytic.op import add_up
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.params import weight_bytes
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.measure.device.machine import available_bytes, device_of
from llamalab.measure.target.blocks import BLOCK_LIMITS_BYTES, Share, bytes_of_block
from llamalab.measure.timing.deadline import Deadline
from llamalab.measure.timing.timer import Plan
from llamalab.records.roof import Roof

BUDGETS_S = {"small": 13.0, "large": 85.0}  # for measuring, where the caller gives no deadline
PREFILL_SHARE = 0.45  # of the time that is left when it begins
LEAST_PHASE_S = 1.5  # at least, for the passes of a phase, however long other steps took
_PASS_SHARE = 1 / 20  # longest pass, as a share of the time for measuring a prefill
_MOST_PREFILL_S = 3.0
_FEWEST_TOKENS = 16
_ROOM_SHARE = 0.7  # share of the free memory for blocks; the rest is for cache, activations and probes


class Scale(NamedTuple):
    """How much to measure in a role of devices (llamalab.measure.device.base.Role)."""

    prompt_tokens: int
    gemm_rows: int
    attention_tokens: tuple[int, ...]
    pass_plan: Plan
    attention_plan: Plan
    call_s: float
    call_bytes: int


SCALES = {
    "host": Scale(
        prompt_tokens=512,
        gemm_rows=512,
        attention_tokens=(256, 512, 1024, 2048),
        pass_plan=Plan(3.0, 4, 14),
        attention_plan=Plan(0.4, 3, 20),
        call_s=2.0,
        call_bytes=3 * 2**29,
    ),
    "accelerator": Scale(
        prompt_tokens=2048,
        gemm_rows=4096,
        attention_tokens=(512, 1024, 2048, 4096, 8192),
        pass_plan=Plan(4.0, 20, 100, 3),
        attention_plan=Plan(1.0, 10, 100, 3),
        call_s=2.0,
        call_bytes=2**34,
    ),
}


def block_limit_bytes(
    arch: LlamaArch, dtype: str, place: torch.device, prompt: int | None = None, batch: int = 1
) -> int:
    """Most bytes of the blocks to run: the usual limit, or the memory left beside embedding, head and cache if less."""
    tokens = prompt or SCALES[device_of(place).role].prompt_tokens
    around = weight_bytes(arch, dtype) - arch.n_layers * bytes_of_block(arch, dtype)
    beside = around + peak_activation_bytes(arch, PassShape(new_tokens=tokens, batch=batch, dtype=dtype)).bytes
    return min(BLOCK_LIMITS_BYTES[device_of(place).role], int(_ROOM_SHARE * available_bytes(place)) - beside)


def prompt_that_fits(share: Share, scale: Scale, roofs: list[Roof], deadline: Deadline, batch: int = 1) -> int:
    """Tokens of the prefill: fewer where a slow machine would spend the whole run on it."""
    tokens = scale.prompt_tokens
    most_s = min(_MOST_PREFILL_S, _PASS_SHARE * deadline.part(PREFILL_SHARE, least_s=LEAST_PHASE_S).left_s)
    rate = next(roof.per_second for roof in roofs if roof.kind == "gemm")
    while rate and tokens > _FEWEST_TOKENS:
        flops = add_up(forward_ops(share.arch, PassShape(new_tokens=tokens, batch=batch))).flops_causal
        if flops / rate <= most_s:
            break
        tokens //= 2
    return tokens
