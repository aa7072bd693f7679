"""Which roof carries which prediction, and that none is guessed."""

import dataclasses

import pytest

from llamalab.analytic.op import Op
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.comparison.basis import rates_of
from llamalab.records.record import Record
from llamalab.records.roof import Roof
from tests.report.sample import ATTENTION, COPY, GEMM, LAUNCH, STREAM, sample_record

RATES = {
    "tok_embeddings": (None, COPY),
    "layers.*.attention_norm": (None, COPY),
    "layers.*.attention.wq": (GEMM, STREAM),
    "layers.*.attention.flash": (ATTENTION, STREAM),
    "layers.*.attention.scores": (GEMM, STREAM),
    "layers.*.attention.softmax": (None, COPY),
    "layers.*.attention.values": (GEMM, STREAM),
    "output": (GEMM, STREAM),
}


@pytest.fixture(scope="module")
def record() -> Record:
    return sample_record()


def ops(record: Record) -> dict[str, Op]:
    tables = (forward_ops(record.llama_arch, PassShape(new_tokens=64, attention=kind)) for kind in ("flash", "naive"))
    return {op.name: op for table in tables for op in table}


@pytest.mark.parametrize("name", RATES)
def test_rates_come_from_the_record(record: Record, name: str) -> None:
    rates = rates_of(record, ops(record)[name], "bf16")
    assert not isinstance(rates, str)
    assert (rates.peak_flops_per_s, rates.bandwidth_bytes_per_s) == RATES[name]
    assert (rates.t0_s, rates.compute_efficiency, rates.memory_efficiency) == (LAUNCH, 1.0, 1.0)


@pytest.mark.parametrize("kind", ["gemm", "stream", "launch"])
@pytest.mark.parametrize("fault", ["absent", "untrusted", "unknown"])
def test_a_roof_that_does_not_hold_gives_a_reason(record: Record, kind: str, fault: str) -> None:
    def spoil(roof: Roof) -> Roof:
        if fault == "untrusted":
            return dataclasses.replace(roof, trusted=False, reason="doubled work took 1.3x")
        return dataclasses.replace(roof, per_second=None, seconds=None)

    roofs = [spoil(roof) if roof.kind == kind else roof for roof in record.roofs]
    roofs = [roof for roof in roofs if fault != "absent" or roof.kind != kind]
    reason = rates_of(dataclasses.replace(record, roofs=roofs), ops(record)["layers.*.attention.wq"], "bf16")
    assert isinstance(reason, str)
    assert reason.startswith("not predicted")
    assert kind in reason


def test_another_dtypes_roof_is_not_taken(record: Record) -> None:
    reason = rates_of(record, ops(record)["layers.*.attention.wq"], "fp32")
    assert reason == "not predicted: there is no gemm roof for fp32"


@pytest.mark.parametrize(("capacity_bytes", "norm", "weights"), [
    (None, COPY, STREAM), (2**20, COPY, STREAM), (2**22, 9e10, STREAM), (2**34, 9e10, 9e10),
])  # fmt: skip
def test_what_stays_in_cache_moves_at_its_roof(
    record: Record, capacity_bytes: int | None, norm: float, weights: float
) -> None:
    cache = Roof(kind="cache", dtype="bf16", per_second=9e10, capacity_bytes=capacity_bytes)
    cached, table = dataclasses.replace(record, roofs=[*record.roofs, cache]), ops(record)
    assert 2**20 < table["layers.*.ffn_norm"].bytes <= 2**22
    for name, expected in (("layers.*.ffn_norm", norm), ("layers.*.feed_forward.w1", weights)):
        rates = rates_of(cached, table[name], "bf16")
        assert not isinstance(rates, str)
        assert rates.bandwidth_bytes_per_s == expected
