"""Every public calculation refuses what the command line refuses."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from llamalab.analytic.activations import attention_bytes, peak_activation_bytes
from llamalab.analytic.attention_cost import AttentionShape, causal_pairs, flash_step, naive_steps, tile_pairs
from llamalab.analytic.batches import chunks, ragged
from llamalab.analytic.fine_tuning import tuning_memory
from llamalab.analytic.fit import needs
from llamalab.analytic.fit_run import FitRun
from llamalab.analytic.fit_solve import (
    changes_that_fit,
    check_run_fits,
    largest_batch,
    largest_context,
    least_ranks,
    most_gpu_layers,
    widest_weights,
)
from llamalab.analytic.kernel_shapes import compiled_kernels, kernel_shapes
from llamalab.analytic.kv_cache import kv_bytes, kv_bytes_per_token, kv_variants
from llamalab.analytic.lora import Lora, lora_parameters
from llamalab.analytic.memory import check_fits, room_free, room_in
from llamalab.analytic.ops import forward_ops
from llamalab.analytic.packed_weights import head_bytes
from llamalab.analytic.parallel import all_gather_bytes, all_reduce_bytes, is_one_shot, shard
from llamalab.analytic.params import weight_bytes
from llamalab.analytic.pass_shape import PassShape
from llamalab.analytic.runtimes import RUNTIMES
from llamalab.analytic.training import rank_parameters, training_flops, training_memory
from llamalab.analytic.tuning import Tuning
from llamalab.analytic.tuning_solve import check_tuning_fits, largest_tuning_batch
from llamalab.analytic.workload import Workload
from llamalab.arch.meta_params import meta_ffn_dim
from llamalab.checks import whole
from llamalab.errors import InputError, UnknownNameError
from llamalab.presets import PRESETS
from llamalab.units import storage_bytes

ARCH = PRESETS["tiny"].arch
ROOM = room_free(ARCH, 10**9)


def shape(**sizes: Any) -> AttentionShape:
    return AttentionShape(**({"batch": 2, "new_tokens": 4, "context_tokens": 8, "n_heads": 2, "n_kv_heads": 1,
                              "head_dim": 64} | sizes))  # fmt: skip


SOLVES = (
    check_run_fits,
    changes_that_fit,
    largest_batch,
    largest_context,
    widest_weights,
    most_gpu_layers,
    least_ranks,
)
OF_A_STEP = ("seq", "batch", "accumulate", "data_parallel", "tensor_parallel", "pipeline_parallel")

# What each function calls the count, and the function with everything else given.
COUNTS: list[tuple[str, Callable[[Any], object]]] = [
    ("memory_bytes", lambda n: room_in(ARCH, n)),
    ("seq", ROOM.largest_batch),
    ("batch", ROOM.largest_context),
    ("seq", lambda n: check_fits(ROOM, seq=n, batch=1)),
    ("batch", lambda n: check_fits(ROOM, seq=1, batch=n)),
    ("new_tokens", lambda n: forward_ops(ARCH, PassShape(new_tokens=n))),
    ("batch", lambda n: forward_ops(ARCH, PassShape(new_tokens=1, batch=n))),
    ("context_tokens", lambda n: forward_ops(ARCH, PassShape(new_tokens=1, context_tokens=n))),
    ("context_tokens", lambda n: forward_ops(ARCH, PassShape(new_tokens=1, context_tokens=[7, n]))),
    ("ranks", lambda n: forward_ops(ARCH, PassShape(new_tokens=1, tensor_parallel=n))),
    ("new_tokens", lambda n: ragged(n, 9, 1)),
    ("prompt", lambda n: chunks(n, 2)),
    ("chunk", lambda n: chunks(2, n)),
    ("new_tokens", lambda n: causal_pairs(n, 9)),
    ("context_tokens", lambda n: causal_pairs(1, n)),
    ("batch", lambda n: flash_step(shape(batch=n))),
    ("query_tile", lambda n: flash_step(shape(), query_tile=n)),
    ("n_kv_heads", lambda n: naive_steps(shape(n_kv_heads=n))),
    ("key_tile", lambda n: tile_pairs(shape(), 8, n)),
    ("head_dim", lambda n: attention_bytes(shape(head_dim=n), "flash")),
    ("new_tokens", lambda n: peak_activation_bytes(ARCH, PassShape(new_tokens=n))),
    ("batch", lambda n: peak_activation_bytes(ARCH, PassShape(new_tokens=4, batch=n))),
    ("context_tokens", lambda n: peak_activation_bytes(ARCH, PassShape(new_tokens=4, context_tokens=n))),
    ("ranks", lambda n: shard(ARCH, n)),
    ("ranks", lambda n: rank_parameters(ARCH, n)),
    ("ranks", lambda n: all_reduce_bytes(1000, n)),
    ("ranks", lambda n: all_gather_bytes(1000, n)),
    ("new_tokens", lambda n: training_memory(ARCH, PassShape(new_tokens=n))),
    ("batch", lambda n: training_memory(ARCH, PassShape(new_tokens=4, batch=n))),
    ("ranks", lambda n: training_flops(ARCH, PassShape(new_tokens=4, tensor_parallel=n))),
    ("rank", lambda n: lora_parameters(ARCH, Lora(n, ("q",)))),
    ("window", lambda n: causal_pairs(1, 9, n)),
    ("threads", lambda n: needs(FitRun(ARCH, 9), RUNTIMES["cpu"], threads=n)),
    ("until", lambda n: kernel_shapes(FitRun(ARCH, 9), until=n)),
    ("until", lambda n: compiled_kernels(FitRun(ARCH, 9), until=n)),
    ("ranks", lambda n: is_one_shot(1000, n)),
    ("tensor_parallel", lambda n: head_bytes(ARCH, "bf16", n)),
    *(("memory_bytes", lambda n, solve=solve: solve(FitRun(ARCH, 9), n)) for solve in SOLVES),
    ("memory_bytes", lambda n: largest_tuning_batch(Tuning(ARCH, 9), n)),
    ("memory_bytes", lambda n: check_tuning_fits(Tuning(ARCH, 9), n, "it")),
    *((name, lambda n, name=name: tuning_memory(Tuning(ARCH, 9)._replace(**{name: n}))) for name in OF_A_STEP),
    ("prompt", Workload),
    ("batch", lambda n: Workload(5, batch=n)),
    ("multiple_of", lambda n: meta_ffn_dim(512, n)),
    ("dim", lambda n: meta_ffn_dim(n, 32)),
]  # fmt: skip


# An empty cache has 0 bytes.
COUNTS_OR_ZERO: list[tuple[str, Callable[[Any], object]]] = [
    ("seq", lambda n: kv_bytes(ARCH, seq=n)),
    ("batch", lambda n: kv_bytes(ARCH, seq=5, batch=n)),
    ("seq", lambda n: kv_variants(ARCH, seq=n)),
    ("buffer_bytes", lambda n: all_reduce_bytes(n, 2)),
    ("whole_bytes", lambda n: all_gather_bytes(n, 2)),
    ("buffer_bytes", lambda n: is_one_shot(n, 2)),
]


@pytest.mark.parametrize(("name", "call"), COUNTS)
def test_no_count_is_zero(name: str, call: Callable[[Any], object]) -> None:
    with pytest.raises(InputError, match=rf"{name}\b.* must .*got 0"):
        call(0)


@pytest.mark.parametrize(("name", "call"), COUNTS + COUNTS_OR_ZERO)
@pytest.mark.parametrize(
    "wrong",
    [-1, 1.5, 2.0, "2", True, None, float("nan"), 10**400, pytest.param(10**5000, id="huge"), np.float64(2),
     np.bool_(True), {2}],
)  # fmt: skip
def test_what_is_no_count_is_refused(name: str, call: Callable[[Any], object], wrong: object) -> None:
    if wrong is None and name in ("context_tokens", "chunk", "window", "until"):
        pytest.skip("None is the default")
    with pytest.raises(InputError, match=rf"{name}\b.* must "):
        call(wrong)


@pytest.mark.parametrize(("name", "call"), COUNTS + COUNTS_OR_ZERO)
def test_whole_numbers_of_numpy_are_counts(name: str, call: Callable[[Any], object]) -> None:
    size = 10**12 if name == "memory_bytes" else 2 if name in ("ranks", "prompt", "new_tokens") else 4
    if name in ("ranks", "tensor_parallel", "pipeline_parallel"):
        size = 1
    assert call(np.int64(size)) == call(size)
    assert call(np.int64(size)) is not None


@pytest.mark.parametrize("elements", [-1, 1.5, "8", True, None])
def test_elements_are_a_count_or_zero(elements: Any) -> None:
    assert storage_bytes(0, "bf16") == 0
    with pytest.raises(InputError, match="elements must be"):
        storage_bytes(elements, "bf16")


def test_free_memory_may_be_zero_and_no_less() -> None:
    assert room_free(ARCH, 0).tokens == 0
    with pytest.raises(InputError, match="free_bytes must be at least 0; got -1"):
        room_free(ARCH, -1)


@pytest.mark.parametrize("dtype", ["bf17", "", None, 16, ["bf16"], "int4"])
def test_a_cache_is_of_a_plain_dtype(dtype: Any) -> None:
    with pytest.raises(UnknownNameError, match="dtype must be one of"):
        kv_bytes_per_token(ARCH, dtype)
    if dtype != "int4":
        with pytest.raises(UnknownNameError, match="dtype must be one of"):
            weight_bytes(ARCH, dtype)


def test_a_number_of_thousands_of_digits_is_told_by_its_size() -> None:
    with pytest.raises(InputError, match=r"seq must be at most 1,000,000,000; got a number of 16,610 bits"):
        whole(10**5000, "seq")
