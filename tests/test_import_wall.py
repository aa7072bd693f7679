"""The modules that each part of llamalab pulls in, asked of a fresh interpreter."""

import subprocess
import sys
from pathlib import Path

import pytest

import llamalab

PACKAGE = Path(llamalab.__file__).parent
HEAVY = (
    "torch",
    "numpy",
    "pandas",
    "matplotlib",
    "transformers",
    "jinja2",
    "sentencepiece",
    "tiktoken",
    "tokenizers",
    "tqdm",
    "pynvml",
    "triton",
)
TORCH_ZONE = (
    "streamed",
    "formats",
    "attention",
    "model",
    "checkpoints",
    "text",
    "train",
    "parallel",
    "measure",
    "report",
)
TORCH_MODULES = (
    "llamalab.api.texts",
    "llamalab.__main__",
    *(f"llamalab.instrument.{name}" for name in ("edits", "hf_attention", "hf_hooks", "hugging_face", "reduce")),
    *(f"llamalab.instrument.{name}" for name in ("scores", "statistics", "taps")),
    *(f"llamalab.classic.{name}" for name in ("attention", "blocks", "masks", "positions")),
    *(f"llamalab.classic.{name}" for name in ("search", "state", "torch_weights", "transformer")),
)
CALCULATORS = """
from llamalab.cli import main
for argv in (["kv"], ["params"], ["flops"], ["fit", "--memory", "24GiB"], ["predict"], ["roofline"], ["train-memory"]):
    assert main(argv) == 0, argv
"""


def torch_free_modules() -> list[str]:
    """Every module outside the torch zone, found on disk, so that a new one is tested without being listed."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if (len(parts) < 3 or parts[1] not in TORCH_ZONE) and name not in TORCH_MODULES:
            names.append(name)
    return names


def modules_after(code: str, asked: tuple[str, ...]) -> set[str]:
    """Which of `asked` a fresh interpreter has loaded after running `code`."""
    probe = f"import sys\n{code}\nprint('\\n' + ' '.join(m for m in {asked!r} if m in sys.modules), end='')"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_import_llamalab_is_cheap() -> None:
    assert modules_after("import llamalab", (*HEAVY, "typing", "dataclasses", "re", "json")) == set()


def test_the_torch_free_zone_is_free_of_torch() -> None:
    modules = torch_free_modules()
    assert {"llamalab", "llamalab.analytic.ops", "llamalab.instrument.points", "llamalab.records.record"} <= set(
        modules
    )
    assert modules_after("\n".join(f"import {name}" for name in modules), HEAVY) == set()


def test_the_probe_sees_a_breach() -> None:
    assert "torch" in modules_after("import llamalab.model", HEAVY)


def test_calculators_pull_in_nothing_heavy() -> None:
    slow = ("dataclasses", "pathlib", "tempfile", "typing")  # of the standard library, milliseconds each
    assert modules_after(CALCULATORS, (*HEAVY, *slow)) == set()


def test_taps_start_without_torch() -> None:
    assert modules_after("import llamalab.instrument.taps", HEAVY) == set()


def test_public_names_are_sorted_and_resolve() -> None:
    assert len(set(llamalab.__all__)) == len(llamalab.__all__)
    for name in llamalab.__all__:
        assert name.isupper() or getattr(llamalab, name).__name__ in (name, f"llamalab.{name}")
    assert set(llamalab.__all__) == set(dir(llamalab))
    with pytest.raises(AttributeError, match="no attribute 'bulid'"):
        llamalab.bulid  # noqa: B018
