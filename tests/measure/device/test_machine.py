import pytest
import torch

from llamalab.errors import InputError, MissingError
from llamalab.measure.device.cpu import Cpu
from llamalab.measure.device.machine import probe_budget_bytes, resolve_device

CPU = torch.device("cpu")


@pytest.fixture
def root(tmp_path):
    """A Linux of 1000 kB with 600 kB free, 32 MiB of cache, no limits."""
    files = {
        "proc/meminfo": "MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:   600 kB\n",
        "proc/cpuinfo": "processor : 0\nmodel name\t: Fast CPU\n\nprocessor : 1\nmodel name : other\n",
        "sys/devices/system/cpu/cpu0/cache/index0/size": "48K\n",
        "sys/devices/system/cpu/cpu0/cache/index3/size": "32M\n",
    }
    for name, text in files.items():
        put(tmp_path, name, text)
    return tmp_path


def put(root, name, text):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_the_host(root):
    assert Cpu(CPU, root=root).memory_bytes() == 1_024_000
    assert Cpu(CPU, root=root).available_bytes() == 614_400
    assert Cpu(CPU, root=root).cache_bytes() == 32 * 2**20
    assert Cpu(CPU, root=root).name == "Fast CPU"


@pytest.mark.parametrize(
    ("limit", "used"),
    [
        ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ],
)
def test_a_container_has_less(root, limit, used):
    put(root, limit, "500000\n")
    put(root, used, "120000\n")
    assert Cpu(CPU, root=root).memory_bytes() == 500_000
    assert Cpu(CPU, root=root).available_bytes() == 380_000


def test_a_container_without_limit_has_the_host(root):
    put(root, "sys/fs/cgroup/memory.max", "max\n")
    put(root, "sys/fs/cgroup/memory.current", "120000\n")
    assert Cpu(CPU, root=root).memory_bytes() == 1_024_000


@pytest.mark.parametrize(
    ("free_kb", "budget"), [(0, 0), (2**19, 2**27), (2**21, 2**29), (2**22, 2**29), (2**30, 2**29)]
)
def test_a_probe_gets_a_quarter_of_what_is_free_and_half_a_gibibyte_at_most(root, free_kb, budget, monkeypatch):
    put(root, "proc/meminfo", f"MemTotal: {2**31} kB\nMemAvailable: {free_kb} kB\n")
    monkeypatch.setattr("llamalab.measure.device.machine.device_of", lambda place: Cpu(place, root=root))
    assert probe_budget_bytes(CPU) == budget


@pytest.mark.parametrize("text", ["", "M", "K\n", "twoM", "-5K", "٣M"])
def test_a_cache_that_is_told_badly_is_not_known(root, text):
    put(root, "sys/devices/system/cpu/cpu0/cache/index0/size", text)
    put(root, "sys/devices/system/cpu/cpu0/cache/index3/size", text)
    assert Cpu(CPU, root=root).cache_bytes() == 0


def test_an_unknown_system_has_memory_and_no_known_cache(tmp_path):
    assert Cpu(CPU, root=tmp_path).memory_bytes() > 0
    assert Cpu(CPU, root=tmp_path).available_bytes() == Cpu(CPU, root=tmp_path).memory_bytes()
    assert Cpu(CPU, root=tmp_path).cache_bytes() == 0


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:-1", "cpu:0", "", "CPU"])
def test_other_devices_are_refused(name):
    with pytest.raises(InputError, match="device must be auto, cpu, cuda"):
        resolve_device(name)


def test_auto_and_missing_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == CPU == resolve_device("cpu")
    with pytest.raises(MissingError, match="torch sees 0 CUDA devices"):
        resolve_device("cuda")


def test_cuda_by_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert resolve_device("auto") == torch.device("cuda", 0)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(MissingError):
        resolve_device("cuda:2")
    assert current == [torch.device("cuda", 0), torch.device("cuda", 1)]  # events and graphs go to the current one
