"""Names of devices as people and drivers write them find their rows, and no other."""

import pytest

from llamalab.cli.devices import common_device
from llamalab.errors import LlamaLabError
from llamalab.hardware import CPUS, HARDWARE, device_family
from llamalab.hardware.names import spelled_name


@pytest.mark.parametrize("name", sorted(HARDWARE | CPUS))
def test_a_name_of_the_table_means_its_row_alone_however_it_is_written(name: str) -> None:
    assert [spec.name for spec in device_family(name)] == [name]
    assert [spec.name for spec in device_family(f" {name.upper()} ")] == [name]


@pytest.mark.parametrize("driver", sorted({driver for row in HARDWARE.values() for driver in row.device_names}))
def test_what_a_driver_says_finds_its_chip(driver: str) -> None:
    chips = {spec.name.split("-")[0] for spec in HARDWARE.values() if driver in spec.device_names}
    assert {spec.name.split("-")[0] for spec in device_family(driver)} == chips


@pytest.mark.parametrize(("name", "row"), [
    ("RTX 4090", "rtx4090-24gb"), ("4090", "rtx4090-24gb"), ("rtx_3080_ti", "rtx3080ti-12gb"),
    ("RTX 3080 12GB", "rtx3080-12gb"), ("A6000", "rtxa6000-48gb"), ("RTX 6000 Ada Generation", "rtx6000ada-48gb"),
    ("H100 SXM", "h100-80gb-sxm"), ("H100 PCIe", "h100-80gb-pcie"), ("NVIDIA A100 80GB PCIe", "a100-80gb-pcie"),
    ("Tesla V100-SXM2-16GB", "v100-16gb"), ("AMD Instinct MI300X", "mi300x-192gb"), ("7900 xtx", "rx7900xtx-24gb"),
    ("M3 Max", "apple-m3max-128gb"), ("M3 Max 64 GB", "apple-m3max-64gb"), ("M3 Max CPU", "apple-m3max-cpu"),
    ("m2 ultra 76-core", "apple-m2ultra-76core-192gb"), ("orin 64gb", "jetson-orin-64gb"),
    ("EPYC 9654", "epyc-9654"), ("Ryzen 9 7950X", "ryzen-7950x"), ("Xeon Platinum 8480+", "xeon-8480"),
    ("Intel Core i9-13900K", "core-i9-13900k"), ("Ryzen Threadripper PRO 5975WX", "threadripper-5975wx"),
])  # fmt: skip
def test_what_people_write_finds_one_row(name: str, row: str) -> None:
    assert [spec.name for spec in device_family(name)] == [row]


@pytest.mark.parametrize(("name", "row"), [
    ("a100", "a100-80gb-sxm"), ("A100-SXM4", "a100-80gb-sxm"), ("a100 40gb", "a100-40gb-sxm"),
    ("NVIDIA H100 80GB HBM3", "h100-80gb-sxm"), ("V100", "v100-32gb"),
])  # fmt: skip
def test_the_common_one_is_taken_and_said(name: str, row: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert common_device(name).name == row
    assert f"{name} is taken for {row}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["", "rtx", "apple", "80gb", "sxm", "a10g", "4090-48gb", "h100-40gb", "m3-max-7gb", "9"]
)
def test_what_names_no_device_is_refused(name: str) -> None:
    assert device_family(name) == []
    with pytest.raises(LlamaLabError, match="hardware must be one of"):
        common_device(name)


def test_two_of_which_none_is_common_are_both_named() -> None:
    with pytest.raises(LlamaLabError, match="gh200-96gb, gh200-144gb"):
        common_device("GH200")


@pytest.mark.parametrize("name", ["()", "*", "\\", "a" * 5000, "80 gb 80 gb", "１００", "ß", "\x00"])
def test_rubbish_is_only_unknown(name: str) -> None:
    assert spelled_name(name).form is None
    assert device_family(name) == []
