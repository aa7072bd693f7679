"""The wheel, installed where nothing of this checkout is: its calculators on every Python, its pages where torch is."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from llamalab import __version__
from llamalab.cli import VERBS
from llamalab.records.record_json import record_to_json
from tests.report.sample import sample_record

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11", "3.12", "3.13")
# Calls of the command in one process, as each is one of its own: what each printed, and how it ended.
CALLS = """
import contextlib, io, json, sys
sys.path[:0] = {paths!r}
from llamalab.cli import main
told = []
for arguments in {calls!r}:
    out, err, sys.stdin = io.StringIO(), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    told.append([arguments, code, out.getvalue(), err.getvalue()])
print(json.dumps(told))
"""
CALCULATORS = (
    ["kv", "--context", "4096", "--batch", "16"], ["params", "--model", "70b"], ["flops"], ["models"], ["hardware"],
    ["predict", "--hardware", "h200", "--model", "7b"], ["roofline", "--hardware", "h200"],
    ["fit", "--memory", "24GiB"], ["train-memory", "--model", "7b"], ["compare-hardware"], ["taps"],
    ["completion", "bash"], ["man"],
)  # fmt: skip


def python(version: str) -> str:
    """An interpreter of that version, from the path or from where pyenv keeps them."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    kept = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    found = str(kept[-1]) if kept else shutil.which(f"python{version}")
    if not found or subprocess.run([found, "--version"], capture_output=True).returncode:
        pytest.skip(f"Python {version} is not here")
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git has, without what lies about in the folder, unpacked from the source distribution that is made of it."""
    folder = tmp_path_factory.mktemp("distribution")
    tree = folder / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("llamalab", "experiments/records"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    made = Path(built("sdist.SdistBuilder", tree, folder))
    with tarfile.open(made) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked


def built(builder: str, tree: Path, folder: Path) -> str:
    """The path of what hatchling makes of a tree; without the network."""
    module, _, kind = builder.partition(".")
    code = f"from hatchling.builders.{module} import {kind}; "
    code += f"print(next({kind}({str(tree)!r}).build(directory={str(folder)!r})))"
    return ask(sys.executable, code, folder).splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    """Built from the source distribution, as whoever installs from it does."""
    folder = source.parents[1]
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    (made,) = folder.glob("llamalab-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """A folder with the package and nothing else."""
    folder = wheel.parent / "site"
    pip("install", "--target", str(folder), str(wheel))
    return folder


@pytest.fixture(scope="module")
def empty(installed: Path) -> Path:
    """An environment whose only path beside its own is that of torch and the other dependencies."""
    home = installed.parent / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    site.joinpath("paths.pth").write_text(f"{installed}\n{sysconfig.get_path('purelib')}\n")
    return home / "bin" / "python"


@pytest.fixture(scope="module")
def bare(installed: Path) -> Path:
    """An environment without any package."""
    home = installed.parent / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    return home / "bin" / "python"


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments, "--no-deps"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def ask(interpreter: str | Path, code: str, cwd: Path, *, strict: bool = True) -> str:
    warnings = ("-W", "error") if strict else ()
    done = subprocess.run(
        [str(interpreter), "-I", *warnings, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=200,
        # One thread: what is asked is whether a verb runs, and threads of small products wait for each other.
        env=os.environ | {"XDG_DATA_HOME": str(cwd / "kept"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(
    interpreter: str | Path, calls: Sequence[list[str]], cwd: Path, *paths: Path, strict: bool = True
) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each call, all in one process, which `-I` keeps from seeing this checkout."""
    code = CALLS.format(paths=[str(path) for path in paths], calls=list(calls))
    answers = json.loads(ask(interpreter, code, cwd, strict=strict).splitlines()[-1])
    assert [arguments for arguments, *_ in answers] == list(calls)
    return [(code, out, err) for _, code, out, err in answers]


@pytest.mark.parametrize("version", PYTHONS)
def test_every_module_compiles(version: str, installed: Path, tmp_path: Path) -> None:
    code = f"import compileall, sys; sys.exit(not compileall.compile_dir({str(installed / 'llamalab')!r}, quiet=1))"
    ask(python(version), code, tmp_path)


@pytest.mark.parametrize("version", PYTHONS)
def test_calculators_need_nothing_but_the_wheel(version: str, installed: Path, tmp_path: Path) -> None:
    """Other versions than this one have none of its packages."""
    calls = [*CALCULATORS, *([verb, "--help"] for verb in VERBS)]
    for arguments, (code, out, err) in zip(calls, told(python(version), calls, tmp_path, installed), strict=True):
        assert code == 0, (arguments, err)
        assert out, arguments
    assert list(tmp_path.iterdir()) == []


def test_a_page_is_rendered_where_only_the_wheel_is(empty: Path, tmp_path: Path) -> None:
    """Templates and style sheets travel in the wheel."""
    (tmp_path / "record.json").write_text(record_to_json(sample_record("tiny")), encoding="utf-8")
    code = "import sys, llamalab; print(llamalab.__file__, llamalab.__version__); from llamalab.cli import main; "
    code += "sys.exit(main(['report', '--from', 'record.json', '--out', 'page.html']))"
    done = subprocess.run([empty, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    where, version = done.stdout.splitlines()[0].rsplit(" ", 1)
    assert Path(where).is_relative_to(empty.parents[2] / "site")
    assert version == __version__
    assert (tmp_path / "page.html").stat().st_size > 10_000


def test_a_model_runs_where_only_the_wheel_is(empty: Path, tmp_path: Path) -> None:
    code = "import torch, llamalab; model = llamalab.build('stories260k').eval(); "
    code += "print(llamalab.compile(model, scope='none')(torch.ones(1, 3, dtype=torch.int64)).isfinite().all())"
    done = subprocess.run([empty, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.stdout == "tensor(True)\n", done.stderr


def test_the_source_distribution_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    direct = Path(built("wheel.WheelBuilder", wheel.parent / "tree", tmp_path))
    assert names_in(direct) == names_in(wheel)
    assert len(names_in(wheel)) > len(list((ROOT / "llamalab").rglob("*.py")))


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


LACKING = (
    (["bench"], "torch"),
    (["report"], "torch"),
    (["compare", "7b@l4", "7b@h200"], "pandas"),
    (["taps"], None),
)


def test_what_an_empty_environment_lacks_is_said_in_a_sentence(bare: Path, installed: Path, tmp_path: Path) -> None:
    answers = told(bare, [arguments for arguments, _ in LACKING], tmp_path, installed)
    for (arguments, needs), (code, out, err) in zip(LACKING, answers, strict=True):
        if needs is None:
            assert code == 0, (arguments, err)
        else:
            assert (code, out, err.count("\n")) == (3, "", 1), arguments
            assert "run llamalab doctor" in err or needs in err


CHECKPOINT = "run/step-00000002"
# Every verb that is no calculator, in an order in which each finds what those before it left.
RUNS = (
    ["calibrate", "--quick"],  # kept in a folder of the test; bench and report take what it found
    ["tokenizer", "train", "text.txt", "t.model", "--vocab-size", "300"],
    ["train", "--text", "text.txt", "--tokenizer", "t.model", "--model", "params.json", "--context", "32", "--batch",
     "2", "--steps", "2", "--run", "run"],
    ["generate", "--model", CHECKPOINT, "--text", "Once", "--generate", "4"],
    ["chat", "--model", CHECKPOINT, "--generate", "4", "--prompt-format", "llama2"],
    ["tour", "--model", CHECKPOINT, "--text", "Once upon"],
    ["inspect", CHECKPOINT],
    ["convert", "--model", CHECKPOINT, "--out", "c.gguf", "--to", "gguf"],
    ["attention", "--phase", "decode", "--context", "32", "--heads", "2", "--head-dim", "16", "--rounds", "1",
     "--attention", "naive"],
    ["bench", "--model", CHECKPOINT, "-p", "8", "-n", "2", "-r", "1", "-o", "json", "--out", "bench.json"],
    ["profile", "--model", CHECKPOINT, "--prompt", "8", "--phase", "decode"],
    ["report", "--model", CHECKPOINT, "--device", "cpu", "--prompt", "8", "--out", "pages/page.html"],
    ["gallery", "pages", "--out", "gallery.html"],
    ["compare", "bench.json", "bench.json"],
    ["score", "points.csv"],
    ["plan", "--model", "70b"],
    ["tune", "--method", "lora"],
    ["diff-arch", "7b", "13b"],
    ["doctor"],
)  # fmt: skip
POINTS = """device,n_gpus,framework,model,dtype,batch,prompt,generate,metric,value,unit,source
rtx3090-24gb,1,llama.cpp,7b,q4_0,1,512,1,prefill_ms,190,ms,made up
"""
PARAMS = """{"dim": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "hidden_dim": 64, "vocab_size": 300,
"max_seq_len": 64, "multiple_of": 32, "norm_eps": 1e-5}"""


def test_every_verb_is_run_somewhere() -> None:
    assert {first for first, *_ in (*CALCULATORS, *RUNS)} == set(VERBS)


def test_every_verb_runs_where_only_the_wheel_is(empty: Path, tmp_path: Path) -> None:
    lines = [f"A small dog, number {one}, ran to {7 * one} red houses and slept.\n" for one in range(300)]
    (tmp_path / "text.txt").write_text("".join(lines))
    (tmp_path / "params.json").write_text(PARAMS)
    (tmp_path / "points.csv").write_text(POINTS)
    for arguments, (code, _, err) in zip(RUNS, told(empty, RUNS, tmp_path, strict=False), strict=True):
        assert code == 0, (arguments, err)
