"""The page of a training run: its curve, prediction and measurement of a step, and every step."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from llamalab.comparison.wording import full_name, tokens_per_s
from llamalab.errors import FormatError
from llamalab.files.inputs import parse_json
from llamalab.formatting import format_bytes, format_seconds
from llamalab.report.charts.training import loss_curve
from llamalab.report.data_table import DataTable, error, number, seconds, text
from llamalab.report.layout import Card, Listing, PageContent, Section, figure, fill, plain_json

_MARKS = ("steps", "held_out_loss", "plan")
_STEP = ("step", "loss", "gradient_norm", "learning_rate", "step_s")
_CLOSING = (
    "Loss is in nats a token. An error is predicted / measured − 1. MFU is the share of the machine's best product "
    "(FLOP/s) that the step's matrix products come to. GiB is 2³⁰ bytes."
)


def is_training_run(text_: str) -> bool:
    """Whether a text is JSON of llamalab train, sound or not.

    >>> is_training_run('{"steps": [], "held_out_loss": 1.0, "plan": {}}'), is_training_run('{"rows": []}')
    (True, False)
    """
    try:
        data = parse_json(text_, "it")
    except FormatError:
        return False
    return isinstance(data, dict) and all(key in data for key in _MARKS)


def training_run(text_: str, *, source: str = "the run") -> dict[str, Any]:
    """The output of `llamalab train`. Raises FormatError where a figure is missing or invalid."""
    data: dict[str, Any] = parse_json(text_, source)
    wrong = [key for key in ("model", "device", "dtype") if not isinstance(data.get(key), str)]
    wrong += [key for key in ("held_out_loss", "step_s", "tokens_per_s", "flops") if not _is_number(data.get(key))]
    wrong += [
        key
        for key in ("predicted_step_s", "mfu", "measured_memory_bytes", "predicted_memory_bytes")
        if data.get(key) is not None and not _is_number(data[key])
    ]
    rows = data.get("steps")
    if not isinstance(rows, list) or not rows or not all(_is_row(row) for row in rows):
        wrong.append("steps")
    if not isinstance(data.get("plan"), dict):
        wrong.append("plan")
    if wrong:
        raise FormatError(f"{source} must be what llamalab train wrote; {wrong[0]} is wrong; train again")
    return data


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_row(row: object) -> bool:
    return isinstance(row, dict) and all(_is_number(row.get(key)) for key in _STEP)


def training_page(run: Mapping[str, Any], generator: str) -> str:
    """The whole page of a run."""
    compared, steps = against(run), _steps(run)
    first, last, plan = run["steps"][0], run["steps"][-1], run["plan"]
    doubts = [f"The time of a step is not predicted: {run['reason']}."] if run.get("reason") else []
    return fill(
        PageContent(
            generator=generator,
            title=full_name(run["model"]),
            machine=run["device"],
            dtype=run["dtype"],
            purpose="training",
            headline=f"Loss {first['loss']:.3f} to {last['loss']:.3f} in {last['step']:,} steps, "
            f"{run['held_out_loss']:.3f} on text held out.",
            cards=_cards(run),
            listings=(Listing("What to distrust", doubts, "doubt"),),
            sections=[
                Section("loss", "Loss", "Loss over the steps", "", (figure(loss_curve, run, "loss"),)),
                Section("step", "A step", "A step, predicted and measured", "", (compared,)),
                Section("steps", "Steps", "Every step", "", (steps,)),
            ],
            facts=[
                ("Device", run["device"]),
                ("Dtype", run["dtype"]),
                *((key.capitalize(), f"{value:,}") for key, value in plan.items() if isinstance(value, int)),
            ],
            closing=_CLOSING,
            record_json=Markup(plain_json(run)),
            tables=(compared, steps),
        )
    )


def against(run: Mapping[str, Any]) -> DataTable:
    """Time and memory of a step: predicted, measured, and the error."""
    rows = [
        _row("time", run.get("predicted_step_s"), run["step_s"], format_seconds),
        _row("memory at its peak", run.get("predicted_memory_bytes"), run.get("measured_memory_bytes"), format_bytes),
    ]
    columns = (text("what"), text("predicted"), text("measured"), error())
    return DataTable("predicted-step", "A step, predicted and measured", columns, rows)


def _row(what: str, predicted: float | None, measured: float | None, shown: Any) -> dict[str, Any]:
    return {
        "what": what,
        "predicted": None if predicted is None else shown(predicted),
        "measured": None if measured is None else shown(measured),
        "error": None if predicted is None or not measured else predicted / measured - 1,
    }


def _steps(run: Mapping[str, Any]) -> DataTable:
    columns = (
        number("step", "step"),
        number("loss", "loss", "{:.4f}".format),
        number("gradient_norm", "gradient norm", "{:.3f}".format),
        number("learning_rate", "rate", "{:.2e}".format),
        seconds("step_s", "time"),
    )
    return DataTable("steps", "Steps of the run", columns, [{key: row[key] for key in _STEP} for row in run["steps"]])


def _cards(run: Mapping[str, Any]) -> list[Card]:
    speed, unit = tokens_per_s(run["tokens_per_s"]).split(" ")
    used = run.get("mfu")
    return [
        Card("Held-out loss", f"{run['held_out_loss']:.3f}", "nats", ("a token of text not learned from",)),
        Card("Training", speed, unit, (f"a step takes {format_seconds(run['step_s'])}",)),
        Card("MFU", "–" if used is None else f"{used:.1%}", "", ("of this machine's best product",)),
    ]
