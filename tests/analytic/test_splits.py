"""Splits of a model: devices, what is sent, bubbles and memory by published formulas, and the ranking of a plan."""

import pytest

from llamalab.analytic.constants import choose
from llamalab.analytic.forecast import Workload, forecast
from llamalab.analytic.plan import Goals, needed_bytes, plan, splits_of
from llamalab.analytic.splits import Split, check_split, microbatches, stage_ops
from llamalab.errors import InputError
from llamalab.hardware import find_hardware
from llamalab.links import LINKS, find_link
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


def test_context_ranks_share_attention_but_no_weights() -> None:
    def flops(split: Split, kind: str) -> int:
        return sum(op.count * op.flops_causal for op in stage_ops(ARCH, WORK, split, 2048, 2048) if op.kind == kind)

    assert flops(Split(context=4), "attention") == pytest.approx(flops(Split(), "attention") / 4, rel=0.01)
    weights = [needed_bytes(ARCH, WORK._replace(batch=1), Split(context=ways)) for ways in (1, 4)]
    assert weights[1] > 0.98 * weights[0]
    assert needed_bytes(ARCH, WORK, Split(pipeline=4)) < 0.3 * needed_bytes(ARCH, WORK, Split())


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
    assert find_link("NVLink4").bytes_per_s == SPEC.interconnect_bytes_per_s
