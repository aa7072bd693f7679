"""Memory of profiled passes: step by step, operation by operation, and live bytes at the peak."""

from collections.abc import Sequence

from llamalab.records.profile import Profile
from llamalab.report.data_table import (
    DataTable,
    byte_count,
    error,
    share,
    text,
)
from llamalab.report.profile_rows import each_phase, pass_columns


def timeline_table(profiles: Sequence[Profile]) -> DataTable:
    """The most live bytes in each operation; blocks equal to the one before are left out."""
    rows = []
    for profile, phase in each_phase(profiles):
        for one in phase.memory.timeline:
            rows.append(
                {
                    "phase": phase.phase,
                    "kind": profile.kind,
                    "op": one.op,
                    "total_bytes": one.total_bytes,
                    "kv_bytes": one.kv_bytes,
                    "activation_bytes": one.activation_bytes,
                    "logits_bytes": one.logits_bytes,
                    "workspace_bytes": one.workspace_bytes,
                }
            )
    columns = (
        text("op", "operation"),
        *pass_columns(profiles),
        byte_count("total_bytes", "all"),
        byte_count("kv_bytes", "KV"),
        byte_count("activation_bytes", "activations"),
        byte_count("logits_bytes", "logits"),
        byte_count("workspace_bytes", "workspace"),
    )
    return DataTable(
        "timeline", "Most alive while an operation ran; blocks like the one before are left out", columns, rows
    )


def at_peak(profiles: Sequence[Profile]) -> DataTable:
    """The origin of the live bytes at the peak."""
    rows = [
        {
            "phase": phase.phase,
            "kind": profile.kind,
            "op": one.op,
            "category": one.category,
            "bytes": one.bytes,
            "share": one.bytes / (phase.memory.peak_bytes or one.bytes),
        }
        for profile, phase in each_phase(profiles)
        for one in phase.memory.at_peak
    ]
    columns = (
        text("op", "made by"),
        *pass_columns(profiles),
        text("category", "category"),
        byte_count("bytes", "bytes"),
        share("share", "of the peak"),
    )
    return DataTable("peak", "Alive at the peak, and what made it", columns, rows)


def steps(profiles: Sequence[Profile]) -> DataTable:
    """Memory step by step, measured and predicted."""
    rows = [
        {
            "phase": phase.phase,
            "kind": profile.kind,
            "step": one.step,
            "measured_bytes": one.measured_bytes,
            "predicted_bytes": one.predicted_bytes,
            "error": one.error,
        }
        for profile, phase in each_phase(profiles)
        for one in phase.memory.steps
    ]
    columns = (
        text("step", "step"),
        *pass_columns(profiles),
        byte_count("measured_bytes", "most alive"),
        byte_count("predicted_bytes", "predicted"),
        error(),
    )
    return DataTable("steps", "Most alive in each step, predicted and measured", columns, rows)
