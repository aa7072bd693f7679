"""The cut of a model: what no rank cuts is refused before ranks start."""

import pytest

from llamalab.errors import InputError
from llamalab.parallel.plan import roles
from llamalab.presets import PRESETS


def test_a_vector_that_no_rank_cuts_is_refused() -> None:
    with pytest.raises(InputError, match="must have no attention_sinks"):
        roles(PRESETS["7b"].arch.replace(attention_sinks=True))
