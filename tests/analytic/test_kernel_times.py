"""Published kernels: the file is what was published, rows of the op table find the nearest of their kind."""

import csv
import math
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llamalab.analytic.constants import choose
from llamalab.analytic.kernel_times import (
    FILE,
    devices_with_kernel_times,
    far,
    kernel_of,
    kernel_op,
    kernel_times,
    nearest,
)
from llamalab.analytic.roofline import predict_op, rates_of_op
from llamalab.analytic.workload import Workload, pass_ops
from llamalab.hardware import HARDWARE
from llamalab.presets import PRESETS

SHARED = Path(__file__).parents[3] / "shared" / "kernels"
DEVICE = "h100-80gb-sxm"


@pytest.mark.shared
def test_the_file_is_what_its_tool_makes_of_what_was_published() -> None:
    if not SHARED.is_dir():
        pytest.skip("the published kernel times are not here: ../shared/kernels is absent")
    from tools.kernel_times import text_of

    assert Path(FILE).read_text(encoding="utf-8") == text_of(SHARED)
    with open(SHARED / "gemm_bf16.csv", encoding="utf-8", newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if list(row.values())[:4] == [DEVICE, "64", "4096", "8192"]]
    assert kernel_times(DEVICE, "gemm")[64, 4096, 8192].time_s == pytest.approx(float(row["ms"]) / 1e3, rel=1e-4)


def test_its_devices_are_known_and_every_row_says_whose_it_is() -> None:
    assert {"a100-80gb-sxm", "h100-80gb-sxm", "h200-141gb-sxm"} <= set(devices_with_kernel_times()) <= set(HARDWARE)
    kernels = [one for device in devices_with_kernel_times() for one in kernel_times(device, "gemm").values()]
    assert all(one.time_s > 0 and one.source for one in kernels)
    assert kernel_times("b200-180gb", "gemm") == {}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("model", "ranks"), [("7b", 1), ("70b", 4), ("13b", 2)])
def test_products_of_the_op_table_have_the_sizes_of_their_weights(model: str, ranks: int, fused: bool) -> None:
    arch, work = PRESETS[model].arch, Workload(512, batch=3, fused=fused, tensor_parallel=ranks)
    ops = {op.name: op for op in pass_ops(arch, work, 512, 512)}
    shape = work.shape(512, 512)
    rows, dim, ffn = 3 * 512, arch.dim, arch.ffn_dim // ranks
    heads, kv_heads = arch.n_heads // ranks, arch.n_kv_heads // ranks
    both = (heads + kv_heads) * arch.head_dim
    expected = {
        "layers.*.attention.wo": ("gemm", (rows, dim, dim // ranks)),
        "layers.*.feed_forward.w2": ("gemm", (rows, dim, ffn)),
        "layers.*.feed_forward.swiglu": ("swiglu", (rows, ffn)),
        "layers.*.attention.flash": ("attention_prefill", (3, 512, heads, kv_heads)),
        "layers.*.ffn_norm": ("norm", (rows, dim)),
        f"layers.*.attention.rope{'_append' * fused}": ("rope", (rows, both)),
        "output": ("gemm", (3, arch.vocab_size // ranks, dim)),
    }
    expected |= (
        {"layers.*.feed_forward.w13": ("gemm", (rows, 2 * ffn, dim))}
        if fused
        else {"layers.*.attention_residual": ("residual", (rows, dim))}
    )
    assert {name: kernel_of(ops[name], arch, shape) for name in expected} == expected


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [({"dtype": "fp32"}, (64, 64)), ({"weight_dtype": "int4"}, (64, 64)), ({"kv_dtype": "fp8"}, (64, 64)),
     ({}, (64, 128)), ({"attention": "naive"}, (64, 64))],
)  # fmt: skip
def test_what_nobody_timed_has_no_kernel(changes: dict[str, str], tokens: tuple[int, int]) -> None:
    arch, work = PRESETS["7b"].arch, Workload(64, fused=False)._replace(**changes)
    ops = {op.name: op for op in pass_ops(arch, work, *tokens)}
    name = "layers.*.attention.wo" if {"dtype", "weight_dtype"} & set(changes) else next(
        name for name, op in ops.items() if op.kind == "attention"
    )  # fmt: skip
    assert kernel_of(ops[name], arch, work.shape(*tokens)) is None


def test_the_nearest_is_the_least_far_and_an_exact_one_wins() -> None:
    wanted = (1000, 4000, 5000)
    found = nearest(DEVICE, "gemm", wanted)
    assert found is not None
    assert all(far(found.sizes, wanted) <= far(sizes, wanted) for sizes in kernel_times(DEVICE, "gemm"))
    assert nearest(DEVICE, "gemm", found.sizes) == found


@pytest.mark.parametrize(
    ("kernel", "within"), [("gemm", 0.12), ("attention_prefill", 0.12), ("attention_decode", 0.15)]
)
@pytest.mark.parametrize("device", ["a100-80gb-sxm", "h100-80gb-sxm", "h200-141gb-sxm"])
def test_a_published_kernel_is_the_row_that_constants_were_fitted_on(device: str, kernel: str, within: float) -> None:
    """Were FLOPs or bytes of its row not those of the fit, its prediction would be far off."""
    rates = choose(HARDWARE[device], "shipped", "bf16").rates
    errors = [
        abs(math.log(predict_op(kernel_op(one), rates_of_op(kernel_op(one), rates)).time_s / one.time_s))
        for one in kernel_times(device, kernel).values()
    ]
    assert sum(errors) / len(errors) < within


@given(
    st.sampled_from(devices_with_kernel_times()),
    st.sampled_from(["gemm", "attention_prefill", "attention_decode"]),
    st.data(),
)
def test_no_published_kernel_is_nearer_than_the_nearest(device: str, kernel: str, data: st.DataObject) -> None:
    """The search looks at two of each line; here at all."""
    known = kernel_times(device, kernel)
    assume(known)
    factors = st.sampled_from([1, 1, 2, 0.5, 1.3, 0.1, 7])
    sizes = tuple(max(1, int(size * data.draw(factors))) for size in data.draw(st.sampled_from(list(known))))
    found = nearest(device, kernel, sizes)
    assert found is not None
    assert far(found.sizes, sizes) <= min(far(one, sizes) for one in known) * (1 + 1e-12)
