"""Sizes as users write them come out exact; what is ambiguous or absurd is refused with advice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamalab.errors import InputError, UnknownNameError
from llamalab.units import DTYPES, MEMORY_UNITS, dtype_bits, parse_count, parse_memory, storage_bytes

COUNTS = st.integers(1, 10**9)


@given(COUNTS)
def test_a_count_survives_every_way_of_writing_it(count: int) -> None:
    assert parse_count(str(count)) == count
    assert parse_count(f"{count:,}") == count
    assert parse_count(f" {count:_} ") == count


@pytest.mark.parametrize(("text", "count"), [("4k", 4096), ("128K", 131_072), ("1m", 1_048_576), ("007", 7)])
def test_count_suffixes_are_powers_of_two(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "-1", "4q", "1.5", "1e3", "4 k", "1,00", "1__000", "k", "٣x", "+4", "4kk"])
def test_what_is_no_count_is_refused_with_advice(text: str) -> None:
    with pytest.raises(InputError, match=r"tokens must be .*; try 4096, 4_096 or 4k"):
        parse_count(text, "tokens")


@pytest.mark.parametrize(
    ("text", "wanted"), [("0", "at least 1; got 0"), ("10000000000000", "at most 1,000,000,000; got 10000000000000")]
)
def test_a_count_out_of_its_range_is_refused(text: str, wanted: str) -> None:
    with pytest.raises(InputError, match=f"tokens must be {wanted}"):
        parse_count(text, "tokens")


@given(st.integers(1, 900_000), st.sampled_from(sorted(MEMORY_UNITS)))
def test_memory_is_exact_in_every_unit(number: int, unit: str) -> None:
    assert parse_memory(f"{number}{unit}") == parse_memory(f"{number:,} {unit.lower()}") == number * MEMORY_UNITS[unit]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GiB", 25_769_803_776),
        ("24GB", 24_000_000_000),
        ("0.5KiB", 512),
        ("1.5 TB", 1_500_000_000_000),
        ("0.1GB", 10**8),
    ],
)
def test_binary_and_decimal_units_are_never_mixed(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize(
    ("text", "advice"),
    [("16G", "16GiB .* or 16GB"), ("16", "16GiB .* or 16GB"), ("2k", "2KiB .* or 2kB"), ("1.5T", "1.5TiB .* or 1.5TB")],
)
def test_an_ambiguous_unit_is_refused_with_both_readings(text: str, advice: str) -> None:
    with pytest.raises(InputError, match=f"must name its unit in full; got .*; write {advice}"):
        parse_memory(text)


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0GB", "1e3GB", "0.4B", "1.GB", "99999999TB", "1 0GB"])
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="memory must be"):
        parse_memory(text)


def test_dtypes_have_their_sizes() -> None:
    assert {name: dtype_bits(name) for name in DTYPES} == {
        "bf16": 16, "fp16": 16, "fp32": 32, "int8": 8, "fp8": 8, "int4": 4, "q4_0": 4, "q8_0": 8, "q4_k_m": 4,
        "q5_k_m": 5, "q6_k": 6,
    }  # fmt: skip
    with pytest.raises(UnknownNameError, match="did you mean fp8 or bf16"):
        dtype_bits("bf8")


@given(COUNTS, st.sampled_from(["bf16", "fp16", "fp32", "int8", "fp8"]))
def test_storage_is_elements_times_size(elements: int, dtype: str) -> None:
    assert storage_bytes(elements, dtype) * 8 == elements * dtype_bits(dtype)


@pytest.mark.parametrize(("elements", "size"), [(1, 3), (128, 66), (129, 69), (4096 * 4096, 8_650_752)])
def test_grouped_storage_counts_a_scale_for_every_group_begun(elements: int, size: int) -> None:
    assert storage_bytes(elements, "int4") == size
