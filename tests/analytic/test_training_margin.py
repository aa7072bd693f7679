"""The margin of a training step is the CUDA runtime's memory, and shares of what moves and of the sum."""

from llamalab.analytic.fine_tuning import tuning_memory
from llamalab.analytic.runtimes import RUNTIMES
from llamalab.analytic.training_margin import STEP_ERROR, training_margin
from llamalab.analytic.tuning import Tuning
from llamalab.presets import PRESETS


def test_its_terms_add_up_and_are_named_apart() -> None:
    margin = training_margin(10**9, 10**8)
    terms = margin.terms()
    assert sum(int(one["bytes"]) for one in terms) == margin.total_bytes
    assert len({one["term"] for one in terms}) == len(terms)
    assert {one["basis"] for one in terms} == {"margin"}


def test_a_step_fits_where_its_sum_its_runtime_and_its_error_do() -> None:
    held, cuda = tuning_memory(Tuning(PRESETS["7b"].arch, 512)), RUNTIMES["cuda"]
    least = cuda.context_bytes + cuda.workspace_bytes + STEP_ERROR * held.total_bytes
    assert (
        least + cuda.fragmentation * held.activation_bytes <= held.safe_bytes - held.total_bytes <= 1.1 * least + 10**9
    )
