"""Results of experiments: questions and conclusions in words, from the experiments' JSON files.

An experiment (experiments/*.py, --out) writes one JSON file; those of the checkout are shown in every report,
each with its device and date. A file that is no such result is a FormatError.
"""

from pathlib import Path
from typing import Any, NamedTuple

from llamalab.errors import FormatError, LlamaLabError
from llamalab.files.inputs import MOST_BYTES, read_object
from llamalab.report.recorded_runs import OnBroken, each_read

ORDER = (
    "versus",
    "neighbour",
    "decode_series",
    "flash_vs_naive",
    "attention_arithmetic",
    "attention_backends",
    "attention_by_hand",
    "positions",
    "norms",
    "feed_forward",
    "optimiser",
    "translation",
    "gqa_groups",
    "gqa_uptraining",
    "kv_cache_onoff",
    "speculative",
    "continuous_batch",
    "prefix_reuse",
    "memory_peaks",
    "tied_blocks",
    "tap_cost",
)


class ExperimentResult(NamedTuple):
    """One experiment's question and answer; `data` is the content of its file."""

    experiment: str
    question: str
    conclusion: str
    device: str
    made_on: str
    data: dict[str, Any]

    @property
    def origin(self) -> str:
        """Where and when it was measured."""
        return f"Recorded on {self.device}, {self.made_on}: python -m experiments.{self.experiment}"


def recorded_results(folder: Path, *, on_broken: OnBroken = None) -> list[ExperimentResult]:
    """The results under a folder, in reading order; none where it is absent; `on_broken` as for records."""
    paths = (path for path in sorted(folder.glob("*/*.json")) if path.stem in ORDER)
    found = each_read(paths, read_result, on_broken)
    return sorted(found, key=lambda answer: (ORDER.index(answer.experiment), answer.device))


def read_result(path: Path) -> ExperimentResult:
    """Read one file. Raises FormatError where it is not an experiment's answer."""
    try:
        data = read_object(path, "answer of an experiment", most=MOST_BYTES)
        return ExperimentResult(**{key: str(data[key]) for key in ExperimentResult._fields[:-1]}, data=data)
    except (LlamaLabError, KeyError) as error:
        raise FormatError(f"{path.name} must be the answer of an experiment; {error!r}; run it again") from None
