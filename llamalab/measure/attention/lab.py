"""Flash and naive attention compared: every backend at every shape, beside a prediction made before it ran."""

from collections.abc import Iterable
from statistics import median
from typing import NamedTuple

import torch

from llamalab.analytic.activations import attention_bytes
from llamalab.analytic.attention_cost import AttentionShape, flash_step, naive_steps, total
from llamalab.attention import Backend
from llamalab.measure.attention.calls import input_bytes, measure_attention
from llamalab.measure.attention.unit_costs import UnitCosts, kernel_peak_bytes, probe_unit_costs
from llamalab.measure.device.machine import available_bytes, clock_for, device_of, resolve_device
from llamalab.measure.roofs.machine import Machine
from llamalab.measure.timing.deadline import ProgressCallback, part_of
from llamalab.measure.timing.timer import Plan, time_ratio
from llamalab.records.record import AttentionPoint

_PROBED = 0.5  # of the time of a shape, roughly, until its unit costs are known
_SETTLED = 3  # heap kept, over the size of the largest call, so that calls of all sizes reuse it


class LabRow(NamedTuple):
    """One backend at one shape; ratios are the time of naive attention over this backend's, in the same rounds."""

    shape: AttentionShape
    point: AttentionPoint
    predicted_s: float | None
    predicted_peak_bytes: int | None
    ratio: float | None
    predicted_ratio: float | None

    @property
    def time_s(self) -> float | None:
        """Median seconds; None where it did not run."""
        return median(self.point.samples_s) if self.point.samples_s else None

    @property
    def flops_per_s(self) -> float | None:
        """Causal matrix FLOPs per second reached."""
        return flash_step(self.shape).flops_causal / self.time_s if self.time_s else None

    @property
    def bytes_per_s(self) -> float | None:
        """Bytes that the algorithm must move, per second reached."""
        naive = self.point.algorithm == "naive"
        step = total(naive_steps(self.shape)) if naive else flash_step(self.shape)
        return (step.read_bytes + step.written_bytes) / self.time_s if self.time_s else None


def run_lab(
    machine: Machine,
    shapes: Iterable[AttentionShape],
    backends: list[Backend],
    plan: Plan,
    progress: ProgressCallback = lambda label, done: None,
) -> list[LabRow]:
    """Rows by shape and backend. Predictions are made before the shapes are measured."""
    rows: list[LabRow] = []
    costs: dict[AttentionShape, UnitCosts] = {}
    asked = list(shapes)
    for number, shape in enumerate(asked):
        done = number / len(asked)
        family = shape._replace(context_tokens=0, new_tokens=min(shape.new_tokens, 2))
        if family not in costs:
            words = f"unit costs of {shape.n_heads} heads over {shape.n_kv_heads}, batch {shape.batch}, "
            probing = part_of(progress, done, done + _PROBED / len(asked), words)
            costs[family] = probe_unit_costs(machine, shape, backends, probing)
        progress(
            f"{shape.new_tokens} new of {shape.context_tokens} tokens, batch {shape.batch}, KV {shape.n_kv_heads}",
            done + _PROBED / len(asked),
        )
        points = measure_attention(machine, shape, backends, plan)
        rows += _rows(shape, points, costs[family], backends)
    return rows


def lab_machine(device: str, dtype: str, shapes: list[AttentionShape]) -> tuple[Machine, str | None]:
    """The machine to measure on, prepared so that times repeat, and a remark where it could not be."""
    place = resolve_device(device)
    machine = Machine(place, clock_for(place), dtype)
    largest = max(attention_bytes(shape, "naive") + input_bytes(shape) for shape in shapes)
    remarks = []
    if not device_of(place).keep_freed_memory(min(_SETTLED * largest, available_bytes(place) // 2)):
        remarks.append("this C library cannot be told to keep freed memory: naive times will scatter")
    if refusal := device_of(place).graph_refusal:
        remarks.append(f"this device records no graphs ({refusal}): short calls show their launches")
    return machine, "; ".join(remarks) or None


def crossover_tokens(rows: Iterable[LabRow], *, predicted: bool = False) -> int | None:
    """The shortest context from which on the backend of `rows` is faster than naive; None where there is none."""
    ratios = sorted((row.shape.context_tokens, row.predicted_ratio if predicted else row.ratio) for row in rows)
    found = None
    for length, ratio in ratios:
        if ratio is not None:
            found = (found or length) if ratio > 1 else None
    return found


def _rows(
    shape: AttentionShape, points: list[AttentionPoint], costs: UnitCosts, backends: list[Backend]
) -> list[LabRow]:
    predicted = {backend.name: costs.seconds(shape, backend) for backend in backends}
    naive = next((point for point in points if point.backend == "naive"), None)
    naive_s = predicted.get("naive")
    rows = []
    for backend, point in zip(backends, points, strict=True):
        mine_s = predicted[backend.name]
        paired = naive is not None and naive.samples_s and point.samples_s
        rows.append(
            LabRow(
                shape=shape,
                point=point,
                predicted_s=mine_s,
                predicted_peak_bytes=kernel_peak_bytes(shape, backend, costs.device, torch.get_num_threads()),
                ratio=time_ratio(naive.samples_s, point.samples_s) if naive is not None and paired else None,
                predicted_ratio=naive_s / mine_s if naive_s and mine_s else None,
            )
        )
    return rows
