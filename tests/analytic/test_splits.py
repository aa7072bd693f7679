"""Splits of a model: devices, what is sent, bubbles and memory by published formulas, and the ranking of a plan."""

import pytest

from llamalab.analytic.constants import choose
from llamalab.analytic.forecast import forecast
from llamalab.analytic.plan import Goals, plan, splits_of
from llamalab.analytic.split_forecast import forecast_split, split_memory
from llamalab.analytic.splits import Split, check_split, microbatches, stage_ops
from llamalab.analytic.workload import Workload
from llamalab.errors import InputError
from llamalab.hardware import find_hardware
from llamalab.hardware.links import LINKS, find_link
from llamalab.presets import PRESETS

ARCH = PRESETS["70b"].arch
SPEC = find_hardware("h100-80gb-sxm")
BASIS = choose(SPEC, "shipped", "bf16")
WORK = Workload(2048, 128, 8)


def planned(work: Workload, devices: int, goals: Goals | None = None) -> dict[Split, object]:
    room = SPEC.usable_memory_bytes or 0
    found = plan(ARCH, work, devices, room_bytes=room, basis=BASIS, goals=goals or Goals())
    return {one.split: one for one in found}


@pytest.mark.parametrize("devices", [1, 6, 8, 12])
def test_splits_use_all_devices_and_none_is_there_twice(devices: int) -> None:
    splits = list(splits_of(devices))
    assert {split.devices for split in splits} == {devices}
    assert len(set(splits)) == len(splits)


def test_a_tensor_split_is_what_a_forecast_predicts() -> None:
    known = forecast(ARCH, WORK._replace(tensor_parallel=8), SPEC, BASIS)
    one = planned(WORK, 8)[Split(tensor=8)]
    assert one.ttft_s == pytest.approx(known.times.prefill_s)  # type: ignore[attr-defined]
    assert one.tpot_s == pytest.approx(known.times.decode_s_per_token)  # type: ignore[attr-defined]


def test_bubbles_of_a_pipeline_are_those_of_gpipe() -> None:
    """(P - 1) / (m + P - 1) of a prefill: one sequence leaves P - 1 of P stages idle."""
    alone = planned(WORK._replace(batch=1, generate=1), 8)[Split(pipeline=8)]
    many = planned(WORK._replace(batch=8, generate=1), 8)[Split(pipeline=8)]
    assert alone.bubble_share == pytest.approx(7 / 8, rel=0.01)  # type: ignore[attr-defined]
    assert many.bubble_share == pytest.approx(7 / 15, rel=0.01)  # type: ignore[attr-defined]


def test_a_stage_sends_its_activations_and_a_ring_all_other_keys_and_values() -> None:
    ops = {op.name: op for op in stage_ops(ARCH, WORK._replace(batch=1), Split(pipeline=4, context=4), 2048, 2048)}
    assert ops["pipeline.send"].count * ops["pipeline.send"].link_bytes == 3 * 512 * ARCH.dim * 2
    assert ops["layers.*.attention.ring"].link_bytes == 3 * 2 * 512 * ARCH.kv_dim * 2
    assert ops["layers.*.attention.ring"].count == ARCH.n_layers
    merge = ops["layers.*.attention.merge"]  # sums in fp32, parts in bf16
    assert merge.count == 3 * ARCH.n_layers
    assert (merge.read_bytes, merge.written_bytes) == (512 * ARCH.query_dim * 6, 512 * ARCH.query_dim * 4)


def test_a_decode_step_adds_its_parts_up_on_the_way() -> None:
    names = {op.name for op in stage_ops(ARCH, WORK, Split(context=4), 1, 2048)}
    assert "layers.*.attention.ring" in names
    assert "layers.*.attention.merge" not in names


def test_context_ranks_share_attention_but_no_weights() -> None:
    def flops(split: Split, kind: str) -> int:
        return sum(op.count * op.flops_causal for op in stage_ops(ARCH, WORK, split, 2048, 2048) if op.kind == kind)

    assert flops(Split(context=4), "attention") == pytest.approx(flops(Split(), "attention") / 4, rel=0.01)
    weights = [split_memory(ARCH, WORK._replace(batch=1), Split(context=ways)).total_bytes for ways in (1, 4)]
    assert weights[1] > 0.98 * weights[0]
    four, one = (split_memory(ARCH, WORK, Split(pipeline=stages)).total_bytes for stages in (4, 1))
    assert four < 0.3 * one


def test_every_split_but_the_first_says_why_it_loses() -> None:
    found = list(planned(WORK, 8, Goals(0.5, 0.03)).values())
    assert found[0].why == ""  # type: ignore[attr-defined]
    assert all(one.why for one in found[1:])  # type: ignore[attr-defined]
    whys = " ".join(one.why for one in found)  # type: ignore[attr-defined]
    assert "too much" in whys
    assert "above 500.00 ms" in whys


@pytest.mark.parametrize(
    ("split", "said"),
    [
        (Split(tensor=3), "n_heads=64"), (Split(pipeline=3), "n_layers=80"), (Split(context=3), "2048 tokens"),
        (Split(replicas=3), "batch of 8"),
    ],
)  # fmt: skip
def test_what_does_not_divide_is_refused(split: Split, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_split(ARCH, split, WORK)


def test_microbatches_divide_the_sequences_of_a_replica() -> None:
    assert [microbatches(WORK, Split(pipeline=stages, replicas=2)) for stages in (1, 3, 8)] == [1, 2, 4]


def test_links_have_sources_and_are_found_in_any_case() -> None:
    assert all(link.source and link.bytes_per_s > 0 for link in LINKS.values())
    assert len({link.title for link in LINKS.values()}) == len(LINKS)
    assert all(name == link.name == name.lower() for name, link in LINKS.items())
    assert find_link("400GbE").bytes_per_s == find_link("ndr").bytes_per_s == 2 * 400e9 / 8
    assert find_link("NVLink4").bytes_per_s == SPEC.interconnect_bytes_per_s


@pytest.mark.parametrize("tensor", [2, 8])
def test_a_tensor_split_is_the_forecast_of_as_many_ranks(tensor: int) -> None:
    work = WORK._replace(tensor_parallel=tensor)
    known, split = forecast(ARCH, work, SPEC, BASIS), forecast_split(ARCH, WORK, Split(tensor), SPEC, BASIS)
    assert split.forecast.times == pytest.approx(known.times)
    assert split.forecast.memory == known.memory
    assert split.forecast.bound.total_s <= split.forecast.times.total_s
    assert split.forecast.prefill_ops == known.prefill_ops


def test_replicas_work_beside_each_other() -> None:
    one = forecast_split(ARCH, WORK, Split(tensor=4), SPEC, BASIS).forecast
    two = forecast_split(ARCH, WORK._replace(batch=16), Split(tensor=4, replicas=2), SPEC, BASIS).forecast
    assert two.times.total_s == pytest.approx(one.times.total_s)
    assert two.times.tokens_per_s == pytest.approx(2 * one.times.tokens_per_s)
    assert two.memory == one.memory


@pytest.mark.parametrize("split", [Split(1, 8), Split(2, 4), Split(2, 1, 4), Split(2, 2, 2, 4)])
def test_no_split_is_faster_than_its_bound(split: Split) -> None:
    found = forecast_split(ARCH, WORK, split, SPEC, BASIS)
    assert 0 < found.forecast.bound.total_s <= found.forecast.times.total_s
    assert 0 <= found.bubble_share < 1
    assert 0 <= found.communication_share < 1


def test_a_prompt_in_chunks_cannot_be_split_further() -> None:
    with pytest.raises(InputError, match="leave chunk out"):
        forecast_split(ARCH, WORK._replace(chunk=256), Split(pipeline=4), SPEC, BASIS)


def test_more_microbatches_leave_a_smaller_bubble() -> None:
    """Prompts of many sequences go one by one: (P - 1) / (m + P - 1) with m sequences, not with m stages."""
    many = forecast_split(ARCH, WORK._replace(batch=64, generate=1), Split(pipeline=8), SPEC, BASIS)
    assert many.bubble_share == pytest.approx(7 / (64 + 7), rel=0.02)
