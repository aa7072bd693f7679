"""The answer of `llamalab train`: the steps, and the predicted and measured costs of one."""

from llamalab.cli.output import Answer, Column, Table
from llamalab.errors import InputError
from llamalab.formatting import format_bytes, format_rate, format_seconds, format_si
from llamalab.startup.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llamalab.measure.training.step import StepForecast


_COLUMNS = (
    Column("step", "step"),
    Column("loss", "loss", "{:.4f}".format),
    Column("gradient_norm", "gradient norm", "{:.3f}".format),
    Column("learning_rate", "rate", "{:.2e}".format),
    Column("step_s", "time", format_seconds),
)


def training_answer(
    about: dict[str, Any],
    before: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    measured: dict[str, Any],
    expected: "StepForecast",
) -> Answer:
    """The steps as rows, after the predicted and measured time and memory of one."""
    from statistics import median

    if not rows:
        raise InputError("a run must have steps left; all are taken; ask for more --steps in another --run")
    step_s = median(row["step_s"] for row in rows)
    plan = about["plan"]
    tokens_per_s = plan["accumulate"] * plan["batch"] * plan["seq"] / step_s
    data = {
        **about,
        **measured,
        "step_s": step_s,
        "tokens_per_s": tokens_per_s,
        "mfu": expected.mfu(step_s),
        **expected._asdict(),
        "steps": before + rows,
    }
    reached = (
        "MFU -"
        if data["mfu"] is None
        else f"MFU {data['mfu']:.1%} of {format_si(expected.peak_flops_per_s or 0.0, 'FLOP/s')}"
    )
    held = measured["measured_memory_bytes"]
    lead = (
        f"{about['model']}: loss {rows[0]['loss']:.3f} to {rows[-1]['loss']:.3f} in steps {rows[0]['step']} to "
        f"{rows[-1]['step']}, {measured['held_out_loss']:.3f} held out",
        f"  a step takes {format_seconds(step_s)}, {_against(expected, step_s)}",
        f"  {format_rate(tokens_per_s)} tokens/s, {reached}",
        f"  it holds {'-' if held is None else format_bytes(held)} at its peak, predicted "
        f"{format_bytes(expected.predicted_memory_bytes)}"
        + ("" if held is None else f" ({expected.predicted_memory_bytes / held - 1:+.1%})"),
    )
    shown = rows[:: max(1, len(rows) // 10)]
    return Answer(data, lead, (Table(_COLUMNS, shown if shown[-1] is rows[-1] else [*shown, rows[-1]]),))


def _against(expected: "StepForecast", step_s: float) -> str:
    """The prediction in words, and its error."""
    if expected.predicted_step_s is None:
        return f"not predicted ({expected.reason})"
    return f"predicted {format_seconds(expected.predicted_step_s)} ({expected.predicted_step_s / step_s - 1:+.0%})"
