"""One question, one formula: every verb gives the same bytes for the same weights, cache and activations."""

import json
from typing import Any

import pytest

from llamalab.analytic.activations import peak_activation_bytes
from llamalab.analytic.kv_cache import kv_bytes
from llamalab.analytic.parallel import shard
from llamalab.analytic.params import weight_bytes
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.run_memory import memory_needed
from llamalab.analytic.weight_storage import stored_weight_bytes
from llamalab.analytic.workload import Workload
from llamalab.cli import main
from llamalab.presets import PRESETS
from llamalab.units import DTYPES, FLOAT_DTYPES, PLAIN_DTYPES

MODEL, SEQ, BATCH = "7b", 1024, 3


def said(capsys: pytest.CaptureFixture[str], line: str) -> dict[str, Any]:
    assert main([*line.split(), "--format", "json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights(capsys: pytest.CaptureFixture[str], dtype: str) -> None:
    floats = dtype in FLOAT_DTYPES
    option, beside = ("--dtype", dtype) if floats else ("--weight-dtype", "bf16")
    predicted = f"predict --model {MODEL} --hardware h200 --prompt {SEQ} {option} {dtype} --basis bound"
    sizes = {
        "library": weight_bytes(PRESETS[MODEL].arch, dtype),
        "one rank": stored_weight_bytes(PRESETS[MODEL].arch, beside, dtype, shard(PRESETS[MODEL].arch)),
        "params": said(capsys, f"params --model {MODEL} --dtype {dtype}")["weight_bytes"],
        "fit": said(capsys, f"fit --model {MODEL} --memory 80GB {option} {dtype}")["weight_bytes"],
        "predict": said(capsys, predicted)["memory"]["weight_bytes"],
    }
    if dtype in PLAIN_DTYPES:
        sizes["kv"] = said(capsys, f"kv --model {MODEL} --dtype {dtype}")["weight_bytes"]
        models = said(capsys, f"models --dtype {dtype}")["models"]
        sizes["models"] = next(row["weight_bytes"] for row in models if row["model"] == MODEL)
    if floats:
        trained = said(capsys, f"train-memory --model {MODEL} --seq {SEQ} --dtype {dtype}")
        sizes["train-memory"] = trained["weight_bytes"]
    assert len(set(sizes.values())) == 1, sizes


@pytest.mark.parametrize("dtype", PLAIN_DTYPES)
def test_the_cache(capsys: pytest.CaptureFixture[str], dtype: str) -> None:
    whole = SEQ + 128
    asked = f"--model {MODEL} --batch {BATCH}"
    predicted = said(
        capsys, f"predict {asked} --hardware h200 --prompt {SEQ} --generate 128 --kv-dtype {dtype} --basis bound"
    )
    fits = said(capsys, f"fit {asked} --seq {whole} --memory 141GB --kv-dtype {dtype}")
    sizes = {
        kv_bytes(PRESETS[MODEL].arch, seq=whole, batch=BATCH, dtype=dtype),
        said(capsys, f"kv {asked} --seq {whole} --dtype {dtype}")["kv_bytes"],
        predicted["memory"]["kv_bytes"],
        fits["kv_bytes_per_token"] * whole * BATCH,
    }
    assert len(sizes) == 1, sizes


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_activations_of_a_rank(ranks: int) -> None:
    work = Workload(8192, 1, 1, tensor_parallel=ranks)
    arch = PRESETS["70b"].arch
    alone = peak_activation_bytes(arch, PassShape(new_tokens=8192, tensor_parallel=ranks)).bytes
    assert memory_needed(arch, work).activation_bytes == alone
    assert alone >= 8192 * (3 * arch.dim + 4 * arch.ffn_dim // ranks) * 2
