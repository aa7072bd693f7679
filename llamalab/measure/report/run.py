"""One run of everything a report needs: roofs, prefill, decode, flash against naive. To a Record.

    whole model = embedding + n_layers * block + head

Where not every block fits, k of n run and the rest is extrapolated, and the record says so. Time and memory are
budgets: on a slow machine there are fewer rounds, shorter prompts and fewer points, and what was left out is named.
"""

import dataclasses
from collections.abc import Callable
from pathlib import PurePath
from typing import NamedTuple

import torch

from llamalab.analytic.activations import peak_activation_bytes
from llamalab.analytic.ops import add_up, forward_ops
from llamalab.analytic.parallel import shard
from llamalab.analytic.params import SMALL_MODEL_BYTES, weight_bytes
from llamalab.analytic.pass_shape import PassShape
from llamalab.arch import LlamaArch
from llamalab.attention import get_backend
from llamalab.checkpoints.checkpoint import Weights
from llamalab.checks import whole
from llamalab.errors import LlamaLabError, UnknownNameError
from llamalab.measure.attention.sweep import Limits, sweep_attention
from llamalab.measure.device.environment import environment, read_telemetry
from llamalab.measure.device.machine import available_bytes, clock_for, device_of, release_memory, resolve_device
from llamalab.measure.report.notes import notes_of
from llamalab.measure.report.passes import NOT_LOOKED, MeasuredModel, measure_pass
from llamalab.measure.report.patterns import Reading, patterns_of
from llamalab.measure.report.shape import ReportShape, decoded_at
from llamalab.measure.roofs.again import probe_again
from llamalab.measure.roofs.best import absent_roof
from llamalab.measure.roofs.kernel_rows import kernel_rows_here
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.roofs.moves import cache_roof, copy_roof
from llamalab.measure.roofs.probes import (
    SQUARE,
    affordable_rows,
    attention_roof,
    gemm_roof,
    launch_time_roof,
    stream_roof,
    weight_shapes,
)
from llamalab.measure.roofs.shape_products import products_here
from llamalab.measure.target.blocks import BLOCK_LIMITS_BYTES, Share, bytes_of_block, check_share_fits, choose_share
from llamalab.measure.target.filled_cache import fill_to
from llamalab.measure.target.made import OWN_WEIGHTS, made_model
from llamalab.measure.timing.deadline import Deadline, ProgressCallback
from llamalab.measure.timing.timer import Plan
from llamalab.model import StaticKVCache, Transformer
from llamalab.model.compiled import compile
from llamalab.model.dtypes import activation_dtype
from llamalab.model.fastest import fastest_backend
from llamalab.model.host_memory import keep_freed_memory
from llamalab.parallel.groups import check_groups
from llamalab.parallel.team import Team
from llamalab.records.patterns import Patterns
from llamalab.records.phase_profile import PhaseProfile
from llamalab.records.ranks import RanksRun
from llamalab.records.record import AttentionPoint, Pass, Record, Roof, unmeasured
from llamalab.units import QUANTISED, check_unscaled

_MOST_PREFILL_S, _FEWEST_TOKENS = 3.0, 16
_ROOFS_DONE, _PASSES_DONE = 0.3, 0.8  # shares of the whole run's time
_ROOFS_SHARE, _PREFILL_SHARE, _DECODE_SHARE = 0.35, 0.45, 0.4  # of the time that is left when each begins
_LEAST_S = 1.5  # for the passes of a phase, which the report is about, however long all else took
_PASS_SHARE = 1 / 20  # of the time for a prefill's measurement that one pass may take
_ROOM_SHARE = 0.7  # of the free memory for the blocks that run; the rest is for what stands beside them
_RANKS_S = 12.0  # for the passes on several ranks, beside the deadline
BUDGETS_S = {"small": 13.0, "large": 85.0}  # for measuring, where the caller gives no deadline


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


def measure_report(
    name: str,
    arch: LlamaArch,
    *,
    device: str = "auto",
    dtype: str = "bf16",
    full: bool = False,
    prompt_tokens: int | None = None,
    batch: int = 1,
    generate: int | None = None,
    context_tokens: int | None = None,
    weights: Weights | None = None,
    read: Reading | None = None,
    weight_dtype: str | None = None,
    kv_dtype: str | None = None,
    attention: str | None = None,
    deadline: Deadline | None = None,
    team: Team | None = None,
    progress: ProgressCallback = lambda label, done: None,
) -> Record:
    """Measure `arch` on this machine, by the deadline (default: BUDGETS_S from now).

    Args:
        name: a preset's name, or the path of a model, of which the record keeps the last part.
        arch: its architecture.
        device: auto, cpu, cuda or cuda:N.
        dtype: of weights, activations and cache.
        full: run every block, not as many as fit the usual limit.
        prompt_tokens: of each sequence (default: as SCALES has it); measured as it is, however slow the machine.
        batch: sequences.
        generate: tokens of a run after its prompt: the one in their middle is decoded, and predictions of a run are of
            so many (default: the token after the prompt).
        context_tokens: tokens in view of the decoded one, itself included (default: as `generate` says).
        weights: of a checkpoint of that architecture (default: random ones).
        read: the sentence to look at the checkpoint's attention with (default: none is looked at).
        weight_dtype: the storage of quantised matrices (default: they are in `dtype`).
        kv_dtype: the storage of the KV cache (default: as `dtype`).
        attention: a backend's name (default: the fastest of the device).
        deadline: when measuring is to be over.
        team: the ranks that measure passes together at the end, of which this one leads; all else is of one process.
        progress: called as `progress(label, done)` before each step, with the share of the time that is over.

    Raises InputError for another dtype or device, MissingError for a device that is absent and
    DoesNotFitError, all before any work.
    """
    activation_dtype(dtype)
    if weight_dtype is not None and weight_dtype not in QUANTISED:
        raise UnknownNameError("weight dtype", weight_dtype, QUANTISED)
    if kv_dtype is not None:
        check_unscaled(kv_dtype, "kv dtype")
    if attention is not None:
        get_backend(attention)
    if team is not None:
        shard(arch, team.place.ranks)  # raises where they do not divide the model
        check_groups(arch, team.place.ranks, weight_dtype)
    place = resolve_device(device)
    scale = SCALES[device_of(place).role]
    named = prompt_tokens is not None
    if prompt_tokens is not None:
        scale = scale._replace(prompt_tokens=whole(prompt_tokens, "prompt_tokens"))
    batch = whole(batch, "batch")
    generate = None if generate is None else whole(generate, "generate")
    context_tokens = None if context_tokens is None else whole(context_tokens, "context_tokens", least=2)
    longest = ReportShape(batch, scale.prompt_tokens, decoded_at(scale.prompt_tokens, generate, context_tokens)).longest
    deadline = deadline or Deadline(BUDGETS_S["small" if weight_bytes(arch, dtype) < SMALL_MODEL_BYTES else "large"])
    share = choose_share(
        arch, dtype, limit_bytes=_limit_bytes(arch, dtype, place, scale.prompt_tokens, batch), full=full
    )
    need = share.need_bytes(
        batch=batch, new_tokens=scale.prompt_tokens, max_tokens=longest, dtype=dtype, kv_dtype=kv_dtype
    )
    check_share_fits(share, name, need, available_bytes(place))
    model_name = PurePath(name).name
    command = f"llamalab report --model {model_name} --device {place.type} --dtype {dtype}{' --full' if full else ''}"
    command += f" --prompt {prompt_tokens}" if named else ""
    for option, value in (
        ("batch", batch if batch > 1 else None),
        ("generate", generate),
        ("context", context_tokens),
        ("weight-dtype", weight_dtype),
        ("kv-dtype", kv_dtype),
        ("attention", attention),
    ):
        command += f" --{option} {value}" if value else ""
    command += read.options if read else ""
    surroundings = environment(place, command)
    keep_freed_memory()  # as the model that is measured does
    with torch.inference_mode():
        probing = deadline.part(_ROOFS_SHARE)
        kernel_rows = None if weight_dtype is None else kernel_rows_here(place, dtype, weight_dtype)
        products_here(place, dtype, arch, weight_dtype)  # kept for all that follow, calibration included
        roofs = _roofs(
            Machine(place, clock_for(place), dtype, probing, weight_dtype, kernel_rows), arch, scale, progress
        )
        tokens = scale.prompt_tokens if named else _prompt_tokens(share, scale, roofs, deadline, batch)
        shape = ReportShape(batch, tokens, decoded_at(tokens, generate, context_tokens), kv_dtype, attention)
        base = unmeasured(model_name, arch, dtype, surroundings, roofs, generate_tokens=generate)
        base = dataclasses.replace(base, weight_dtype=weight_dtype, kernel_rows=kernel_rows)
        measured, patterns = _passes(
            lambda: made_model(share.arch, weights, dtype=dtype, device=place),
            read,
            share,
            dtype,
            shape,
            scale,
            base,
            deadline,
            progress,
        )
        if deadline.left_s:
            base = probe_again(dataclasses.replace(base, passes=[run for run, _ in measured]), place)
        points = _attention(Machine(place, clock_for(place), dtype, deadline), arch, scale, progress)
        parameters, cache_bytes = _count(arch, measured[-1][0])
    together, lost = (None, []) if team is None else _together(team, share, shape, base, progress)
    after = read_telemetry(place)
    progress("done", 1.0)
    record = dataclasses.replace(
        base,
        environment=dataclasses.replace(surroundings, after=after),
        passes=[run for run, _ in measured],
        profile=[profile for _, profile in measured if profile is not None] or None,
        budget_s=deadline.seconds,
        ranks=together,
        patterns=patterns,
        attention=points,
        parameters_measured=parameters,
        kv_bytes_measured=cache_bytes,
        elapsed_s=deadline.spent_s,
    )
    own = [] if weights is None else [OWN_WEIGHTS]
    return dataclasses.replace(record, notes=[*own, *notes_of(record, place), *_left_out(record, scale), *lost])


def _together(
    team: Team, share: Share, shape: ReportShape, base: Record, progress: ProgressCallback
) -> tuple[RanksRun | None, list[str]]:
    """What the ranks of a team measure together; where they fail, why: what one process measured is not lost for it."""
    # These load DTensor, which takes a report of one process a second.
    from llamalab.measure.ranks.passes import SharedWork
    from llamalab.measure.ranks.run import measure_ranks

    work = SharedWork(
        share.arch, base.dtype, shape.batch, shape.prompt, shape.context, shape.kv_dtype, shape.attention, base.kept
    )
    try:
        run = measure_ranks(
            team,
            work,
            layers_total=share.layers_total,
            budget_s=_RANKS_S,
            progress=lambda label, _: progress(label, 1.0),
        )
    except (LlamaLabError, RuntimeError, MemoryError) as error:
        return None, [f"The ranks were not measured together: {' '.join(str(error).split())}."]
    return run, []


def _limit_bytes(arch: LlamaArch, dtype: str, place: torch.device, prompt: int | None = None, batch: int = 1) -> int:
    """Bytes of the blocks to run: the usual limit, or less where memory beside embedding, head and work is smaller."""
    tokens = prompt or SCALES[device_of(place).role].prompt_tokens
    around = weight_bytes(arch, dtype) - arch.n_layers * bytes_of_block(arch, dtype)
    beside = around + peak_activation_bytes(arch, PassShape(new_tokens=tokens, batch=batch, dtype=dtype)).bytes
    return min(BLOCK_LIMITS_BYTES[device_of(place).role], int(_ROOM_SHARE * available_bytes(place)) - beside)


def _left_out(record: Record, scale: Scale) -> list[str]:
    """Parts that were shortened or left out for lack of time, a sentence each."""
    prefill = record.phase("prefill")
    few = [f"{run.phase} in {len(run.whole_s)}" for run in record.passes if len(run.whole_s) < scale.pass_plan.least]
    blind = [run.phase for run in record.passes if run.memory.method == NOT_LOOKED]
    notes = [
        f"The prompt was cut to {prefill.new_tokens} of {scale.prompt_tokens} tokens, as this machine is slow."
        if prefill.new_tokens < scale.prompt_tokens
        else "",
        f"There was time for few rounds: {', '.join(few)}; their intervals are wider." if few else "",
        f"There was no time to look at kernels and memory of {' and '.join(blind)}." if blind else "",
    ]
    return [note for note in notes if note]


def _roofs(machine: Machine, arch: LlamaArch, scale: Scale, progress: ProgressCallback) -> list[Roof]:
    """The ceilings in the run's dtype, and the product's and stream's in fp32 to hold it against."""
    shapes = weight_shapes(arch)
    heads, rows = [(arch.vocab_size, arch.dim)], affordable_rows(machine, max(shapes), scale.gemm_rows)
    attend, lengths = fastest_backend(machine.device, machine.torch_dtype).attend, scale.attention_tokens[1:4]
    ours, square = machine.dtype, [SQUARE]
    steps: list[tuple[str, str, str, Callable[[Machine], Roof]]] = [
        (f"GEMM roof, {ours}", "gemm", ours, lambda own: gemm_roof(own, shapes, rows)),
        (f"stream roof, {ours}", "stream", ours, lambda own: stream_roof(own, [*shapes, *heads])),
        (f"copy roof, {ours}", "copy", ours, copy_roof),
        (f"cache roof, {ours}", "cache", ours, cache_roof),
        (f"attention roof, {ours}", "attention", ours, lambda own: attention_roof(own, arch, attend, lengths)),
        ("launch time", "launch", ours, launch_time_roof),
    ]
    if (storage := machine.weight_dtype) is not None:

        def quantised(own: Machine) -> Roof:
            return stream_roof(own._replace(dtype=ours, weight_dtype=storage), [*shapes, *heads])

        steps.append((f"stream roof, {storage}", "stream", storage, quantised))
    if ours != "fp32":
        steps += [
            ("GEMM roof, fp32", "gemm", "fp32", lambda own: gemm_roof(own, square, max(1, rows // 4))),
            ("stream roof, fp32", "stream", "fp32", lambda own: stream_roof(own, square)),
        ]
    roofs = []
    for done, (label, kind, dtype, find) in enumerate(steps):
        progress(label, _ROOFS_DONE * done / len(steps))
        # Most steps need less than their part: twice of it lets the larger ones have what these leave.
        part = None if machine.deadline is None else machine.deadline.part(min(1.0, 2 / (len(steps) - done)))
        own = machine._replace(dtype=dtype, weight_dtype=None, deadline=part)
        roofs.append(absent_roof(kind, dtype, "there was no time left for it") if own.late else find(own))
        release_memory(machine.device)
    return roofs


def _prompt_tokens(share: Share, scale: Scale, roofs: list[Roof], deadline: Deadline, batch: int = 1) -> int:
    """Tokens of the prefill: fewer where a slow machine would spend the whole run on it."""
    tokens = scale.prompt_tokens
    most_s = min(_MOST_PREFILL_S, _PASS_SHARE * deadline.part(_PREFILL_SHARE, least_s=_LEAST_S).left_s)
    rate = next(roof.per_second for roof in roofs if roof.kind == "gemm")
    while rate and tokens > _FEWEST_TOKENS:
        flops = add_up(forward_ops(share.arch, PassShape(new_tokens=tokens, batch=batch))).flops_causal
        if flops / rate <= most_s:
            break
        tokens //= 2
    return tokens


def _passes(
    make: Callable[[], Transformer],
    read: Reading | None,
    share: Share,
    dtype: str,
    shape: ReportShape,
    scale: Scale,
    base: Record,
    deadline: Deadline,
    progress: ProgressCallback,
) -> tuple[list[tuple[Pass, PhaseProfile | None]], Patterns | None]:
    """Prefill of the prompt, then decode of one token that sees the context, then the sentence that is to be read."""
    blocks = f"{share.layers} of {share.layers_total} blocks"
    progress(f"building {blocks}", _ROOFS_DONE)
    made = make()
    products = products_here(made.norm.weight.device, dtype, share.arch, base.weight_dtype)
    model = compile(
        made, scope="none", attention=shape.attention, weight_dtype=base.weight_dtype, kernel_rows=base.kernel_rows,
        products=products,
    )  # fmt: skip
    cache = StaticKVCache(
        model.rank_arch,
        batch=shape.batch,
        max_tokens=shape.longest,
        dtype=shape.kv_dtype or dtype,
        device=model.norm.weight.device,
    )
    bench = MeasuredModel(model.eval(), cache, share, dtype)
    progress(f"prefill, {blocks}", _ROOFS_DONE + 0.05)
    part = deadline.part(_PREFILL_SHARE, least_s=_LEAST_S)
    prefill = measure_pass(bench, "prefill", scale.pass_plan, base, new_tokens=shape.prompt, deadline=part)
    progress(f"decode, {blocks}", _PASSES_DONE - 0.1)
    fill_to(cache, shape.context - 1)
    part = deadline.part(_DECODE_SHARE, least_s=_LEAST_S)
    decode = measure_pass(
        bench, "decode", scale.pass_plan, base, new_tokens=1, past_tokens=shape.context - 1, deadline=part
    )
    return [prefill, decode], None if read is None else patterns_of(model, read)


def _attention(machine: Machine, arch: LlamaArch, scale: Scale, progress: ProgressCallback) -> list[AttentionPoint]:
    release_memory(machine.device)  # the model is gone: its memory is free for the score matrices
    progress("flash against naive attention", _PASSES_DONE)
    limits = Limits(scale.call_s, min(scale.call_bytes, available_bytes(machine.device) // 2))
    return sweep_attention(machine, arch, scale.attention_tokens, limits, scale.attention_plan)


def _count(arch: LlamaArch, last: Pass) -> tuple[int, int]:
    """Parameters and cache bytes of the whole model as it would be allocated, counted on the meta device."""
    model = Transformer(arch, dtype=last.dtype, device="meta")
    stored = last.kv_dtype or last.dtype
    cache = StaticKVCache(arch, batch=last.batch, max_tokens=last.context_tokens, dtype=stored, device="meta")
    return sum(weight.numel() for weight in model.parameters()), cache.nbytes
