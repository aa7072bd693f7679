"""What every benchmark shares: one thread, no collector, a small model, and files that name no host.

`pytest` runs each once as a test; `make bench` times them and keeps the times.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from llamalab import LlamaArch, Transformer, build
from llamalab.measure.timing.timer import collector_off

ARCH = LlamaArch(dim=512, n_layers=4, n_heads=8, n_kv_heads=4, ffn_dim=1376, vocab_size=4096)
PRIVATE = ("node", "release")  # of the machine
LONG = ("flags", "hz_actual", "hz_actual_friendly", "hz_advertised", "hz_advertised_friendly")  # of its processor


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Keep what times depend on; drop the host's name, and what differs between two runs on one machine."""
    for name in PRIVATE:
        machine_info.pop(name, None)
    for name in LONG:
        machine_info.get("cpu", {}).pop(name, None)
    machine_info |= {"torch": torch.__version__, "threads": 1}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was recorded without being compared, which a count of skipped tests would hide."""
    for report in terminalreporter.getreports("skipped"):
        if "nobody has reviewed" in report.longrepr[2]:
            terminalreporter.write_line(report.longrepr[2].removeprefix("Skipped: "), yellow=True)


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """One thread: with two, barriers on a busy machine take longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with collector_off(), torch.no_grad():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def model() -> Transformer:
    """A model whose decode step takes some milliseconds on one thread."""
    return build(ARCH, dtype="fp32").eval()
