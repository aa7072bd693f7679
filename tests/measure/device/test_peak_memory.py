import pytest
import torch

from llamalab.analytic.activations import attention_bytes
from llamalab.analytic.attention_cost import AttentionShape
from llamalab.attention import chunked, naive
from llamalab.measure.device.machine import measure_peak
from llamalab.measure.device.peak_memory import process_peak_bytes, running_peak

CPU = torch.device("cpu")


def test_peak_of_known_allocations_is_exact():
    def work():
        first = torch.empty(1000, dtype=torch.float32)
        second = torch.empty(3000, dtype=torch.float32)
        del first
        third = torch.empty(500, dtype=torch.float32)
        del second, third

    memory = measure_peak(work, CPU, resident_bytes=77)
    assert (memory.peak_bytes, memory.resident_bytes, memory.reason) == (16_000, 77, None)


def test_what_a_call_returns_counts_and_what_was_there_does_not():
    held = torch.empty(10_000)
    assert measure_peak(lambda: held * held, CPU).peak_bytes == 40_000


def test_naive_attention_holds_scores_and_pattern():
    tokens, heads, head_dim = 512, 3, 16
    q = torch.randn(1, heads, tokens, head_dim)

    def attend():
        return naive.attend(q, q, q, query_offset=0)

    scores = 4 * heads * tokens * tokens
    output, mask = 4 * q.numel(), tokens * (tokens - 1)
    attend()
    peak = measure_peak(attend, CPU).peak_bytes
    # Scores and pattern together; the mask is gone by then, the output is not there yet.
    assert 2 * scores <= peak <= 2 * scores + output + mask


def test_it_repeats_to_the_byte():
    x = torch.randn(64, 64)
    peaks = {measure_peak(lambda: (x @ x).softmax(0).sum(), CPU).peak_bytes for _ in range(3)}
    assert len(peaks) == 1


def test_running_sum_never_starts_below_nothing():
    assert running_peak([]) == 0
    assert running_peak([-50, 20]) == 0


def test_process_peak_is_unknown_without_linux(tmp_path):
    assert process_peak_bytes(lambda: None, proc=tmp_path / "absent") is None


def test_process_peak_is_high_water_less_what_was_resident(tmp_path):
    (tmp_path / "status").write_text("VmHWM:\t  900 kB\nVmRSS:\t  640 kB\n")

    def work():
        (tmp_path / "status").write_text("VmHWM:\t  1640 kB\nVmRSS:\t  700 kB\n")

    assert process_peak_bytes(work, proc=tmp_path) == 1000 * 1024
    assert (tmp_path / "clear_refs").read_text() == "5"


@pytest.mark.parametrize("status", ["VmRSS:\t  640 kB\n", "VmHWM:\t  640 kB\n"])
def test_process_peak_is_unknown_where_a_field_lacks(tmp_path, status):
    (tmp_path / "status").write_text(status)
    assert process_peak_bytes(lambda: None, proc=tmp_path) is None


@pytest.mark.parametrize("new_tokens", [2, 128, 200, 512])
def test_chunked_attention_holds_what_its_formula_says(new_tokens: int) -> None:
    shape = AttentionShape(1, new_tokens, 512, 8, 8, 64, "fp32", "fp32")
    q = torch.randn(1, 8, new_tokens, 64)
    k, v = torch.randn(2, 1, 8, 512, 64)
    peak = measure_peak(lambda: chunked.attend(q, k, v, query_offset=512 - new_tokens), CPU).peak_bytes
    assert peak == pytest.approx(attention_bytes(shape, "chunked"), rel=0.01)
