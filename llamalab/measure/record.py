"""One run of everything a report needs: roofs, prefill, decode, flash against naive. To a Record.

    whole model = embedding + n_layers * block + head

Where not every block fits, k of n run and the rest is extrapolated, and the record says so.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import PurePath
from typing import NamedTuple

import torch

from llamalab.analytic.ops import add_up, forward_ops
from llamalab.arch import LlamaArch
from llamalab.attention import fastest_backend
from llamalab.measure.blocks import BLOCK_LIMITS_BYTES, Share, check_fits, choose_share
from llamalab.measure.clock import clock_for
from llamalab.measure.environment import environment, telemetry
from llamalab.measure.findings import findings
from llamalab.measure.machine import available_bytes, release_memory, resolve_device
from llamalab.measure.passes import Bench, measure_pass
from llamalab.measure.roofs import (
    SQUARE,
    Machine,
    affordable_rows,
    attention_roof,
    cache_roof,
    copy_roof,
    gemm_roof,
    launch_roof,
    stream_roof,
    weight_shapes,
)
from llamalab.measure.roofs_again import probe_again
from llamalab.measure.sweep import Limits, sweep_attention
from llamalab.measure.timer import Plan
from llamalab.model import StaticKVCache, Transformer, build
from llamalab.model.compiled import compile
from llamalab.model.dtypes import activation_dtype
from llamalab.model.host_memory import keep_freed_memory
from llamalab.phase_profile import PhaseProfile
from llamalab.records import AttentionPoint, Pass, Record, Roof, unmeasured

Progress = Callable[[str, float], None]
_MOST_PREFILL_S, _FEWEST_TOKENS = 3.0, 64
_ROOFS_DONE, _PASSES_DONE = 0.3, 0.8  # shares of the whole run's time


class Scale(NamedTuple):
    """How much to measure on a kind of device."""

    prompt_tokens: int
    gemm_rows: int
    attention_tokens: tuple[int, ...]
    pass_plan: Plan
    attention_plan: Plan
    call_s: float
    call_bytes: int


SCALES = {
    "cpu": Scale(512, 512, (256, 512, 1024, 2048), Plan(3.0, 4, 14), Plan(0.4, 3, 20), 2.0, 3 * 2**29),
    "cuda": Scale(2048, 4096, (512, 1024, 2048, 4096, 8192), Plan(4.0, 20, 100, 3), Plan(1.0, 10, 100, 3), 2.0, 2**34),
}


def measure_report(
    name: str,
    arch: LlamaArch,
    *,
    device: str = "auto",
    dtype: str = "bf16",
    full: bool = False,
    progress: Progress = lambda label, done: None,
) -> Record:
    """Measure `arch` on this machine.

    `progress(label, done)` is called before each step with the share of the time that is over.
    Raises InputError for a dtype or device that cannot be, MissingError for a device that is not
    there and DoesNotFitError, all before any work.
    """
    activation_dtype(dtype)
    place = resolve_device(device)
    scale = SCALES[place.type]
    share = choose_share(arch, dtype, limit_bytes=BLOCK_LIMITS_BYTES[place.type], full=full)
    need = share.need_bytes(batch=1, new_tokens=scale.prompt_tokens, max_tokens=scale.prompt_tokens + 1, dtype=dtype)
    check_fits(share, name, need, available_bytes(place))
    began = time.perf_counter()
    model_name = PurePath(name).name
    command = f"llamalab report --model {model_name} --device {place.type} --dtype {dtype}{' --full' if full else ''}"
    surroundings = environment(place, command)
    keep_freed_memory()  # as the model that is measured does
    with torch.inference_mode():
        roofs = _roofs(Machine(place, clock_for(place), dtype), arch, scale, progress)
        prompt_tokens = _prompt_tokens(share, scale, roofs)
        base = unmeasured(model_name, arch, dtype, surroundings, roofs)
        measured = _passes(share, dtype, place, prompt_tokens, scale, base, progress)
        base = probe_again(dataclasses.replace(base, passes=[run for run, _ in measured]), place)
        attention = _attention(Machine(place, clock_for(place), dtype), arch, scale, progress)
        parameters, cache_bytes = _count(arch, measured[-1][0])
    after = telemetry(place)
    progress("done", 1.0)
    record = dataclasses.replace(
        base,
        environment=dataclasses.replace(surroundings, after=after),
        passes=[run for run, _ in measured],
        profile=[profile for _, profile in measured],
        attention=attention,
        parameters_measured=parameters,
        kv_bytes_measured=cache_bytes,
        elapsed_s=time.perf_counter() - began,
    )
    return dataclasses.replace(record, notes=findings(record, place))


def _roofs(machine: Machine, arch: LlamaArch, scale: Scale, progress: Progress) -> list[Roof]:
    """The ceilings in the run's dtype, and the product's and stream's in fp32 to hold it against."""
    shapes = weight_shapes(arch)
    heads, rows = [(arch.vocab_size, arch.dim)], affordable_rows(machine, max(shapes), scale.gemm_rows)
    attend, lengths = fastest_backend(machine.device).attend, scale.attention_tokens[1:4]
    steps: list[tuple[str, Callable[[], Roof]]] = [
        (f"GEMM roof, {machine.dtype}", lambda: gemm_roof(machine, shapes, rows)),
        (f"stream roof, {machine.dtype}", lambda: stream_roof(machine, [*shapes, *heads])),
        (f"copy roof, {machine.dtype}", lambda: copy_roof(machine)),
        (f"cache roof, {machine.dtype}", lambda: cache_roof(machine)),
        (
            f"attention roof, {machine.dtype}",
            lambda: attention_roof(machine, arch, attend, lengths),
        ),
        ("launch time", lambda: launch_roof(machine)),
    ]
    if machine.dtype != "fp32":
        wide, square = machine._replace(dtype="fp32"), [SQUARE]
        steps += [
            ("GEMM roof, fp32", lambda: gemm_roof(wide, square, max(1, rows // 4))),
            ("stream roof, fp32", lambda: stream_roof(wide, square)),
        ]
    roofs = []
    for done, (label, find) in enumerate(steps):
        progress(label, _ROOFS_DONE * done / len(steps))
        roofs.append(find())
        release_memory(machine.device)
    return roofs


def _prompt_tokens(share: Share, scale: Scale, roofs: list[Roof]) -> int:
    """Tokens of the prefill: fewer where a slow machine would spend the whole run on it."""
    tokens = scale.prompt_tokens
    rate = next(roof.per_second for roof in roofs if roof.kind == "gemm")
    while rate and tokens > _FEWEST_TOKENS:
        flops = add_up(forward_ops(share.arch, new_tokens=tokens)).flops_causal
        if flops / rate <= _MOST_PREFILL_S:
            break
        tokens //= 2
    return tokens


def _passes(
    share: Share, dtype: str, device: torch.device, prompt_tokens: int, scale: Scale, base: Record, progress: Progress
) -> list[tuple[Pass, PhaseProfile]]:
    """Prefill of the prompt, then decode of the token after it."""
    blocks = f"{share.layers} of {share.layers_total} blocks"
    progress(f"building {blocks}", _ROOFS_DONE)
    model: Transformer = compile(build(share.arch, dtype=dtype, device=device), scope="none")
    cache = StaticKVCache(share.arch, batch=1, max_tokens=prompt_tokens + 1, dtype=dtype, device=device)
    bench = Bench(model.eval(), cache, share, dtype)
    progress(f"prefill, {blocks}", _ROOFS_DONE + 0.05)
    prefill = measure_pass(bench, "prefill", scale.pass_plan, base, new_tokens=prompt_tokens)
    progress(f"decode, {blocks}", _PASSES_DONE - 0.1)
    decode = measure_pass(bench, "decode", scale.pass_plan, base, new_tokens=1, past_tokens=prompt_tokens)
    return [prefill, decode]


def _attention(machine: Machine, arch: LlamaArch, scale: Scale, progress: Progress) -> list[AttentionPoint]:
    release_memory(machine.device)  # the model is gone: its memory is free for the score matrices
    progress("flash against naive attention", _PASSES_DONE)
    limits = Limits(scale.call_s, min(scale.call_bytes, available_bytes(machine.device) // 2))
    return sweep_attention(machine, arch, scale.attention_tokens, limits, scale.attention_plan)


def _count(arch: LlamaArch, last: Pass) -> tuple[int, int]:
    """Parameters and cache bytes of the whole model as it would be allocated, which meta does for nothing."""
    model = Transformer(arch, dtype=last.dtype, device="meta")
    cache = StaticKVCache(arch, batch=last.batch, max_tokens=last.context_tokens, dtype=last.dtype, device="meta")
    return sum(weight.numel() for weight in model.parameters()), cache.nbytes
