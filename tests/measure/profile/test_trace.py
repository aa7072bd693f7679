"""Traces: a file of the layout that TensorBoard's profiler reads, with our names in it, and without the host's."""

import gzip
import importlib.util
import json
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from llamalab.analytic.ops import forward_ops
from llamalab.analytic.pass_shape import PassShape
from llamalab.comparison.run_files import read_runs
from llamalab.errors import InputError
from llamalab.measure.profile.run import measure_profile
from llamalab.measure.profile.trace import trace_path, trace_writer
from tests.model.shrunk import ARCHES, small_model
from tests.report.sample import sample_record

PLUGIN = "data/plugin/pytorch_profiler"


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the traces of a profile."""
    folder = tmp_path_factory.mktemp("traces")
    writer, written = trace_writer(folder, "small-cpu", "small")
    given: dict[str, Any] = {"prompt_tokens": 7, "reference": sample_record(dtype="fp32"), "budget_s": 0.0}
    measure_profile(small_model(ARCHES["GQA"]), trace=writer, **given)
    assert written == [folder / "small-cpu" / f"{phase}.pt.trace.json" for phase in ("prefill", "decode")]
    return folder


def test_ranges_carry_the_names_of_operations(traces: Path) -> None:
    text = (traces / "small-cpu" / "prefill.pt.trace.json").read_text(encoding="utf-8")
    events = json.loads(text)["traceEvents"]
    ranges = [event for event in events if event.get("cat") == "user_annotation"]
    table = [op.name for op in forward_ops(ARCHES["GQA"], PassShape(new_tokens=7))]
    expected = {name.replace("*", str(layer)) for name in table for layer in (0, 1)} | {"setup"}
    assert {event["name"] for event in ranges} - {"PyTorch Profiler (0)"} == expected
    products = [event for event in events if event["name"] == "aten::mm"]
    wq = next(event for event in ranges if event["name"] == "layers.1.attention.wq")
    assert any(wq["ts"] <= event["ts"] and event["ts"] + event["dur"] <= wq["ts"] + wq["dur"] for event in products)
    assert json.dumps(socket.gethostname()) not in text
    assert str(traces) not in text


def test_it_says_what_ran(traces: Path) -> None:
    """So that a prediction of these blocks can stand beside it."""
    (run,) = read_runs(traces / "small-cpu" / "decode.pt.trace.json")
    (phase,) = run.phases
    assert (run.model, run.dtype, phase.kind, phase.new_tokens) == ("small", "fp32", "decode", 1)
    assert (phase.blocks, phase.tokens_per_s) == (None, phase.batch / phase.total_s)


def test_nothing_else_lies_in_the_folder(traces: Path) -> None:
    files = sorted(path.relative_to(traces).as_posix() for path in traces.rglob("*") if path.is_file())
    assert files == ["small-cpu/decode.pt.trace.json", "small-cpu/prefill.pt.trace.json"]


def test_names_become_those_of_files() -> None:
    path = trace_path(Path("t"), "../my model.v2", "prefill")
    assert path.as_posix() == "t/my-model-v2/prefill.pt.trace.json"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(InputError, match="traces must go to a folder"):
        trace_writer(tmp_path / "x", "run", "small")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("torch_tb_profiler") is None, reason="the extra `tensorboard` is not installed"
)
def test_tensorboard_lists_the_run_and_serves_its_overview(traces: Path) -> None:
    with tensorboard(traces) as url:
        runs = waited_for(url, "runs", "runs")
        assert runs == ["small-cpu"]
        assert waited_for(url, "workers", run="small-cpu", view="Overview") == ["decode", "prefill"]
        for worker in ("prefill", "decode"):
            spans = waited_for(url, "spans", run="small-cpu", worker=worker)
            overview = waited_for(url, "overview", run="small-cpu", worker=worker, view="Overview", span=spans[0])
            assert {"performance", "steps", "recommendations"} <= set(overview)
        operators = waited_for(url, "operation/table", run="small-cpu", worker="prefill", span=spans[0],
                               view="Operator", group_by="Operation")  # fmt: skip
        assert "aten::mm" in {row["name"] for row in operators["data"]}


@contextmanager
def tensorboard(folder: Path) -> Iterator[str]:
    """TensorBoard on a folder, on a free port of this machine only."""
    command = [sys.executable, "-W", "ignore", "-m", "tensorboard.main", "--logdir", str(folder), "--port", "0",
               "--host", "127.0.0.1", "--load_fast", "false"]  # fmt: skip
    log = folder.parent / "tensorboard.log"
    with log.open("w", encoding="utf-8") as file:
        server = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        for _ in range(600):
            if found := re.search(r"http://127\.0\.0\.1:\d+/", log.read_text(encoding="utf-8")):
                yield found[0]
                return
            assert server.poll() is None, log.read_text(encoding="utf-8")
            time.sleep(0.1)
        raise AssertionError(log.read_text(encoding="utf-8"))
    finally:
        server.terminate()
        server.wait(timeout=30)


def waited_for(url: str, endpoint: str, key: str | None = None, **query: str) -> Any:
    """What the plugin answers once it has read the files: until then it lists nothing."""
    address = f"{url}{PLUGIN}/{endpoint}?{urlencode(query)}"
    answer: Any = None
    for _ in range(300):
        try:
            with urllib.request.urlopen(address, timeout=30) as response:
                body = response.read()
                if response.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                answer = json.loads(body)
        except urllib.error.HTTPError as error:
            answer = {"status": error.code}
            error.close()
        found = answer.get(key) if key else answer
        if found and "status" not in answer:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{endpoint}: {answer}")
