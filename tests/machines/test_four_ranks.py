"""What tests/parallel/test_ranks.py holds for two ranks, for four: KV heads are fewer than ranks then."""

from typing import Any

import pytest

from tests.parallel.on_ranks import results
from tests.parallel.test_ranks import (  # noqa: F401
    test_a_rank_knows_how_far_its_clock_is_ahead_of_the_first_ones,
    test_a_whole_view_shows_a_tap_what_one_rank_has_and_takes_its_edits,
    test_any_format_loads_onto_ranks,
    test_collectives_are_those_of_the_op_table,
    test_logits_are_those_of_one_rank,
    test_passes_of_a_report_are_what_was_asked_and_send_what_the_op_table_says,
    test_quantised_weights_on_ranks_are_those_of_one_rank,
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return results(4, tmp_path_factory.mktemp("ranks"))
