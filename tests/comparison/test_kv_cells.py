"""The cells of the cache: every kind of attention, exact sizes, and what fits beside the weights."""

from llamalab.comparison.comparison import Comparison
from llamalab.comparison.kv_cells import BATCHES, kv_cells, kv_head_choices, sequence_lengths
from llamalab.presets import PRESETS
from tests.report.sample import sample_record


def test_cells_are_those_of_all_kinds_lengths_and_batches() -> None:
    arch = PRESETS["7b"].arch
    cells = kv_cells(arch, "bf16", 2**33)
    assert len(cells) == 3 * 7 * len(BATCHES)
    assert kv_head_choices(arch) == [32, 8, 1]
    assert kv_head_choices(PRESETS["70b"].arch) == [64, 8, 1]
    assert sequence_lengths(arch)[3] == arch.max_positions
    (full,) = [cell for cell in cells if (cell.n_kv_heads, cell.context, cell.batch) == (32, 4096, 4)]
    assert (full.attention, full.kv_bytes, full.fits) == ("MHA", 2**33, True)
    assert all(cell.fits == (cell.kv_bytes <= 2**33) for cell in cells)


def test_derived_figures_of_a_comparison_are_those_of_its_cells() -> None:
    comparison = Comparison(sample_record())
    assert comparison.free_bytes == 24 * 2**30 - comparison.weight_bytes == 24 * 2**30 - 13_476_831_232
    assert comparison.kv_bytes_per_sequence == 4096 * comparison.kv_bytes_per_token == 2**31
    assert comparison.kv_cells == kv_cells(comparison.arch, "bf16", comparison.free_bytes)
