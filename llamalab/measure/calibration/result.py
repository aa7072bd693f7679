"""The result of a calibration: the constants of this machine, the kernels they were fitted on, and their accuracy."""

from typing import NamedTuple

from llamalab.analytic.calibration_files import constants_to_json
from llamalab.analytic.grades import Grade
from llamalab.analytic.roofline import Rates
from llamalab.measure.calibration.blocks import Block, BlockPass
from llamalab.measure.calibration.fit import Fit


class Outcome(NamedTuple):
    """A checked pass: predicted and measured seconds of the whole model."""

    model: str
    shape: BlockPass
    predicted_s: float
    measured_s: float

    @property
    def error(self) -> float:
        """Predicted / measured - 1."""
        return self.predicted_s / self.measured_s - 1


class Calibration(NamedTuple):
    """The constants of this machine, the kernels they were fitted on, and their errors on other passes."""

    device: str
    title: str
    memory_bytes: int
    dtype: str
    made_on: str
    fits: dict[str, Fit]
    fitted_on: tuple[Block, ...]
    outcomes: tuple[Outcome, ...]
    rounds: int
    took_s: float
    load_average: tuple[float, float] | None
    grade: Grade
    spread: float
    left_out: tuple[str, ...] = ()
    quick: bool = False
    weight_dtype: str | None = None

    @property
    def rates(self) -> dict[str, Rates]:
        """Rates by class."""
        return {name: fit.rates for name, fit in self.fits.items()}

    def error(self, phase: str) -> float | None:
        """Mean absolute relative error of a phase's checked passes; None where none was checked."""
        errors = [abs(outcome.error) for outcome in self.outcomes if outcome.shape.phase == phase]
        return sum(errors) / len(errors) if errors else None

    @property
    def json(self) -> str:
        """The file that llamalab.analytic.calibration_files reads."""
        points = [
            {"model": one.model, **one.shape._asdict(), "predicted_s": one.predicted_s, "measured_s": one.measured_s}
            for one in self.outcomes
        ]
        errors = {f"{phase}_error": self.error(phase) for phase in ("prefill", "decode")}
        return constants_to_json(
            self.device,
            self.dtype,
            self.made_on,
            self.rates,
            errors | {"points": points},
            title=self.title,
            memory_bytes=self.memory_bytes,
            rounds=self.rounds,
            load_average=self.load_average,
            grade=self.grade.json,
            spread_between_rounds=self.spread,
            left_out=self.left_out,
            quick=self.quick,
            weight_dtype=self.weight_dtype,
            fitted={name: fit.origin for name, fit in self.fits.items()},
            fitted_on=[_described(block) for block in self.fitted_on],
        )


def _described(block: Block) -> dict[str, object]:
    shapes = [shape._asdict() for shape in block.shapes]
    return {"block": block.name, "arch": block.arch.as_dict(), "attention": block.attention, "shapes": shapes}
