"""Everything that a report measures: roofs, prefill, decode, flash against naive. To a Record.

    whole model = embedding + n_layers * block + head

Where not every block fits, k of n run and the rest is extrapolated, which the record states. Time and memory are
budgets: on a slow machine there are fewer rounds, shorter prompts and fewer points, and omissions are named.
"""

import dataclasses
from pathlib import PurePath

import torch

from llamalab.analytic.parallel import shard
from llamalab.analytic.params import SMALL_MODEL_BYTES, weight_bytes
from llamalab.arch import LlamaArch
from llamalab.arch.positions import beyond_positions
from llamalab.attention import get_backend
from llamalab.checkpoints.checkpoint import Weights
from llamalab.checks import whole
from llamalab.errors import LlamaLabError
from llamalab.measure.attention.sweep import Limits, sweep_attention
from llamalab.measure.device.environment import environment, read_telemetry
from llamalab.measure.device.machine import available_bytes, clock_for, device_of, release_memory, resolve_device
from llamalab.measure.report.budget import (
    BUDGETS_S,
    SCALES,
    Scale,
    block_limit_bytes,
    prompt_that_fits,
)
from llamalab.measure.report.command import report_command
from llamalab.measure.report.notes import left_out, notes_of
from llamalab.measure.report.patterns import ReadSentence
from llamalab.measure.report.phases import PASSES_DONE, measure_phases
from llamalab.measure.report.roofs import roofs_of_report
from llamalab.measure.report.shape import ReportShape, decoded_at
from llamalab.measure.roofs.again import probe_again
from llamalab.measure.roofs.kernel_rows import kernel_rows_here
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.roofs.shape_products import products_here
from llamalab.measure.target.blocks import Share, check_share_fits, choose_share
from llamalab.measure.target.made import OWN_WEIGHTS, allocated_sizes, made_model
from llamalab.measure.timing.deadline import Deadline, ProgressCallback
from llamalab.model.dtypes import check_number_formats
from llamalab.model.host_memory import keep_freed_memory
from llamalab.parallel.groups import check_groups
from llamalab.parallel.team import Team
from llamalab.plain_text import sentence
from llamalab.records.ranks import RanksRun
from llamalab.records.record import AttentionPoint, Record, unmeasured

_ROOFS_SHARE = 0.35  # of the time
_RANKS_S = 12.0  # for the passes on several ranks, beside the deadline


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
    read: ReadSentence | None = None,
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
    check_number_formats(dtype, weight_dtype, kv_dtype)
    if attention is not None:
        get_backend(attention)
    if team is not None:
        shard(arch, team.place.ranks)  # raises where ranks do not divide the model
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
        arch, dtype, limit_bytes=block_limit_bytes(arch, dtype, place, scale.prompt_tokens, batch), full=full
    )
    need = share.need_bytes(
        batch=batch, new_tokens=scale.prompt_tokens, max_tokens=longest, dtype=dtype, kv_dtype=kv_dtype
    )
    check_share_fits(share, name, need, available_bytes(place))
    model_name = PurePath(name).name
    command = report_command(
        model=model_name,
        device=place.type,
        dtype=dtype,
        full=full,
        prompt=prompt_tokens,
        batch=batch if batch > 1 else None,
        generate=generate,
        context=context_tokens,
        weight_dtype=weight_dtype,
        kv_dtype=kv_dtype,
        attention=attention,
    ) + (read.options if read else "")
    surroundings = environment(place, command)
    keep_freed_memory()  # as for the measured model
    with torch.inference_mode():
        probing = deadline.part(_ROOFS_SHARE)
        kernel_rows = None if weight_dtype is None else kernel_rows_here(place, dtype, weight_dtype)
        products_here(place, dtype, arch, weight_dtype)  # stored: calibration and passes multiply by them
        roofs = roofs_of_report(
            Machine(
                device=place,
                clock=clock_for(place),
                dtype=dtype,
                deadline=probing,
                weight_dtype=weight_dtype,
                kernel_rows=kernel_rows,
            ),
            arch,
            scale,
            progress,
        )
        tokens = scale.prompt_tokens if named else prompt_that_fits(share, scale, roofs, deadline, batch)
        shape = ReportShape(batch, tokens, decoded_at(tokens, generate, context_tokens), kv_dtype, attention)
        base = unmeasured(model_name, arch, dtype, surroundings, roofs, generate_tokens=generate)
        base = dataclasses.replace(base, weight_dtype=weight_dtype, kernel_rows=kernel_rows)
        measured, patterns = measure_phases(
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
        parameters, cache_bytes = allocated_sizes(arch, measured[-1][0])
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
    own = [OWN_WEIGHTS if weights is not None else None, beyond_positions(arch, shape.longest)]
    notes = [*filter(None, own), *notes_of(record, place), *left_out(record, scale), *lost]
    return dataclasses.replace(record, notes=notes)


def _together(
    team: Team, share: Share, shape: ReportShape, base: Record, progress: ProgressCallback
) -> tuple[RanksRun | None, list[str]]:
    """Measurements of a team of ranks, or the reason of their failure, which leaves other measurements valid."""
    # Imported here: these load DTensor, which would cost a report of one process a second.
    from llamalab.measure.ranks.passes import SharedWork
    from llamalab.measure.ranks.run import measure_ranks

    work = SharedWork(
        arch=share.arch,
        dtype=base.dtype,
        batch=shape.batch,
        prompt_tokens=shape.prompt,
        context_tokens=shape.context,
        kv_dtype=shape.kv_dtype,
        attention=shape.attention,
        kept=base.kept,
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
        return None, [f"The ranks were not measured together: {sentence(str(error), 200)}."]
    return run, []


def _attention(machine: Machine, arch: LlamaArch, scale: Scale, progress: ProgressCallback) -> list[AttentionPoint]:
    release_memory(machine.device)  # the model is freed: its memory is available for score matrices
    progress("flash against naive attention", PASSES_DONE)
    limits = Limits(scale.call_s, min(scale.call_bytes, available_bytes(machine.device) // 2))
    return sweep_attention(machine, arch, scale.attention_tokens, limits, scale.attention_plan)
