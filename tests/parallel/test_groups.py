"""Which storages stay whole where ranks cut the rows of a matrix."""

import pytest

from llamalab.errors import InputError
from llamalab.parallel.groups import check_groups
from llamalab.presets import PRESETS

SEVEN = PRESETS["7b"].arch


@pytest.mark.parametrize(("ranks", "storage"), [(2, "int8"), (16, "int8"), (2, "int4"), (4, "q4_0"), (2, "q8_0")])
def test_whole_groups_are_taken(ranks: int, storage: str) -> None:
    check_groups(SEVEN, ranks, storage)


def test_groups_that_ranks_would_cut_are_refused_with_what_does() -> None:
    """11008 of w2 are 86 groups of 128: four ranks have 21.5 each."""
    with pytest.raises(InputError, match=r"rows of w2 must be whole groups of 128 .* 2752 of 11008 .* int8"):
        check_groups(SEVEN, 4, "int4")
