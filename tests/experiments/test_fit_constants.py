from pathlib import Path

import numpy as np
import pytest

from experiments import fit_constants
from llamalab.analytic.shipped_constants import SHIPPED
from llamalab.hardware import find_hardware

SPEC = find_hardware("a100-80gb-sxm")


@pytest.fixture
def kernels_folder() -> Path:
    folder = Path(__file__).resolve().parents[3] / "shared" / "kernels"
    if not folder.is_dir():
        pytest.skip("the kernel tables are not here: ../shared/kernels is absent")
    return folder


def test_constants_that_made_the_times_are_found_again() -> None:
    true = np.array([3e-6, 0.62, 0.81, 1.9])
    sizes = [(m, n, 4096) for m in (1, 16, 64, 256, 1024, 4096) for n in (1024, 4096, 16384)]
    rows = [(2.0 * m * n * k, 2.0 * (m * k + k * n + m * n), 1, 0.0) for m, n, k in sizes]
    data = fit_constants.kernels(rows)
    assert data is not None
    data = data._replace(time_s=fit_constants.model(data, SPEC, "gemm", true))
    found, error = fit_constants.fit(data, SPEC, "gemm")
    assert found == pytest.approx(true, rel=1e-3)
    assert error < 1e-4


def test_every_source_weighs_the_same() -> None:
    many = fit_constants.kernels([(1, 1, 1, 1.0)] * 8)
    few = fit_constants.kernels([(1, 1, 1, 2.0)] * 2)
    both = fit_constants.together((many, None, few))
    assert both.weight[:8].sum() == both.weight[8:].sum() == 1.0
    assert both.layer_s is None


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["elementwise", "attention_decode"])
def test_the_shipped_constants_are_what_the_kernels_give(kernels_folder: Path, kind: str) -> None:
    if kind == "elementwise":
        data = fit_constants.elementwise(kernels_folder, SPEC.name)
    else:
        data = fit_constants.attention(kernels_folder, SPEC.name, "decode")
    assert data is not None
    (t0, compute, memory, q), error = fit_constants.fit(data, SPEC, kind)
    fit = SHIPPED[SPEC.name][kind]
    found = (t0, compute, memory, q, len(data.time_s), error)
    assert found == pytest.approx(tuple(fit), rel=0.02)
