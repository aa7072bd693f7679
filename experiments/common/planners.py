"""The formula of planners: dense FLOPs over a share of the peak, all bytes over a share of the bandwidth.

The head is on every token and the whole embedding is read; ranks divide peak and bandwidth.
"""

import math

from llamalab.analytic.kv_cache import kv_bytes_per_token
from llamalab.analytic.op import add_up
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.params import weight_bytes
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.workload import Workload
from llamalab.arch import LlamaArch
from llamalab.hardware import HardwareSpec

# Shares of compute and memory: those of llm-flops 0.0.1, of opal-sim, and of none.
SHARES = {"llm-flops": (0.5, 0.8), "opal-sim": (0.4, 0.6), "plain roofline": (1.0, 1.0)}


def planned_s(arch: LlamaArch, work: Workload, spec: HardwareSpec, shares: tuple[float, float]) -> tuple[float, float]:
    """Seconds of the prompt's pass, and of the step at the middle of what is generated."""
    peaks, weight = spec.peak_flops_per_s, work.weight_dtype or work.dtype
    peak = (peaks.get(weight) or peaks[work.dtype] or peaks["fp32"] or math.inf) * shares[0] * work.tensor_parallel
    bandwidth = spec.bandwidth_bytes_per_s * shares[1] * work.tensor_parallel
    stored, cached = weight_bytes(arch, weight), kv_bytes_per_token(arch, work.kv_dtype or work.dtype) * work.batch

    def step_s(new: int, context: int) -> float:
        ops = forward_ops(arch, PassShape(new_tokens=new, context_tokens=context, batch=work.batch, logits="all"))
        return max(add_up(ops).flops_full / peak, (stored + cached * context) / bandwidth)

    return step_s(work.prompt, work.prompt), step_s(1, work.prompt + work.generate // 2)
