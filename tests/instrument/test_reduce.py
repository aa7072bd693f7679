"""Statistics in place of tensors: the same as of the tensors kept, in memory that does not grow."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from llamalab.analytic.activations import attention_bytes
from llamalab.analytic.attention_cost import AttentionShape
from llamalab.errors import InputError, UnknownNameError
from llamalab.instrument.reduce import Reduce
from llamalab.instrument.scores import CHUNK_ELEMENTS
from llamalab.instrument.statistics import BINS, LOWEST, STATISTICS
from llamalab.instrument.taps import capture
from llamalab.measure.device.machine import measure_peak
from llamalab.model import Transformer
from llamalab.presets import PRESETS
from tests.model.shrunk import ARCHES, small_model, some_tokens


def visible(name: str, tensor: Tensor) -> Tensor:
    """The values that the statistics are over: all, or the pairs that are not masked."""
    if not name.endswith((".scores", ".pattern")):
        return tensor.flatten()
    keys, rows = tensor.shape[-1], tensor.shape[-2]
    seen = torch.ones(rows, keys, dtype=torch.bool).tril(keys - rows)
    return tensor[seen.expand_as(tensor)]


def histogram(x: Tensor) -> Tensor:
    exponent = torch.where(x == 0, -1000.0, x.abs().double().log2().floor()).clamp(LOWEST, LOWEST + BINS - 1)
    return torch.bincount((exponent - LOWEST).long(), minlength=BINS)


EXPECTED: dict[str, Callable[[str, list[Tensor]], Tensor]] = {
    "mean": lambda name, xs: torch.cat([visible(name, x) for x in xs]).mean(),
    "rms": lambda name, xs: torch.cat([visible(name, x) for x in xs]).square().mean().sqrt(),
    "absmax": lambda name, xs: torch.cat([visible(name, x) for x in xs]).abs().max(),
    "histogram": lambda name, xs: histogram(torch.cat([visible(name, x) for x in xs])),
}


def passes(model: Transformer) -> list[Tensor]:
    return [some_tokens(2, 7), some_tokens(2, 4)]


@pytest.mark.parametrize("attention", ["naive", "sdpa"])
@pytest.mark.parametrize("kind", EXPECTED)
def test_statistics_over_passes_are_those_of_the_tensors(kind: str, attention: str) -> None:
    model, kept = small_model(ARCHES["GQA"], attention=attention), []
    with torch.no_grad(), capture(model, "*", reduce=kind) as got:
        assert list(got) == []
        for ids in passes(model):
            with capture(model, "*") as whole:
                model(ids)
            kept.append(dict(whole))
    assert set(got) == set(kept[0])
    assert len(got) == len(list(got.values())) == len(kept[0])
    for name, value in got.items():
        expected = EXPECTED[kind](name, [one[name] for one in kept]).to(value.dtype)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("attention", ["naive", "sdpa"])
def test_entropy_is_that_of_the_pattern_of_each_head(attention: str) -> None:
    model, ids = small_model(ARCHES["GQA"], attention=attention), some_tokens(2, 9)
    with capture(model, "*.pattern", reduce="entropy") as got:
        model(ids)
    with capture(model, "*.pattern") as whole:
        model(ids)
    for name, pattern in whole.items():
        expected = torch.distributions.Categorical(probs=pattern.double()).entropy().mean((0, 2))
        torch.testing.assert_close(got[name], expected.float(), rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="entropy must be asked of attention patterns only"):
        capture(model, "embed", reduce="entropy").__enter__()


def test_norm_grows_over_depth() -> None:
    model, ids = small_model(ARCHES["GQA"]), some_tokens(2, 9)
    with capture(model, "*.resid_post", reduce="norm") as got, capture(model, "*.resid_post") as whole:
        model(ids)
    expected = torch.stack([tensor.norm(dim=-1).mean() for tensor in whole.values()])
    torch.testing.assert_close(got.over_depth("resid_post"), expected)


def test_rows_in_chunks_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids, found = small_model(ARCHES["GQA"]), some_tokens(2, 23), {}
    for elements in (CHUNK_ELEMENTS, 2 * 12 * 23 * 5):  # all rows at once, and five at a time
        for module in ("scores", "reduce"):
            monkeypatch.setattr(f"llamalab.instrument.{module}.CHUNK_ELEMENTS", elements)
        for kind in STATISTICS:
            with capture(model, "*.pattern" if kind == "entropy" else "*", reduce=kind) as got:
                model(ids)
            for name, value in got.items():
                found.setdefault((kind, name), []).append(value)
    assert len(found) == 5 * 43 + 2
    for what, (whole, chunked) in found.items():
        torch.testing.assert_close(whole, chunked, msg=lambda text, what=what: f"{what}: {text}")


def test_statistics_of_all_taps_of_7b_take_less_than_16_mb() -> None:
    """Whatever the tokens: the state is made before the first pass, and a pass replaces none of it."""
    model = Transformer(PRESETS["7b"].arch, dtype="bf16", device="meta")
    taps = [Reduce("*", kind=kind, model=model) for kind in STATISTICS if kind != "entropy"]
    taps.append(Reduce("*.pattern", kind="entropy", model=model))
    states = [state for tap in taps for state in (tap.sums, tap.counts)]
    tokens = torch.zeros(1, 48, dtype=torch.long, device="meta")
    for tap in taps[:1]:  # the others are made alike
        model(tokens, tap=tap)
    assert all(tap.sums is states[2 * i] and tap.counts is states[2 * i + 1] for i, tap in enumerate(taps))
    assert sum(state.nbytes for state in states) < 500_000


@pytest.mark.parametrize("kind", [kind for kind in STATISTICS if kind != "entropy"])
@pytest.mark.parametrize("point", ["feed_forward.act", "attention.rot_q"])
def test_a_tensor_of_7b_at_4096_tokens_takes_less_than_16_mb(kind: str, point: str) -> None:
    """In bf16, where a careless sum widens it all: that would be 180 MB for the first."""
    sizes = {"feed_forward.act": (1, 4096, 11_008), "attention.rot_q": (1, 4096, 32, 128)}[point]
    x, name = torch.ones(sizes, dtype=torch.bfloat16), f"layers.0.{point}"
    x = x if x.dim() == 3 else x.transpose(1, 2)
    tap = Reduce(name, kind=kind, model=small_model(ARCHES["GQA"]))

    def run() -> None:
        with torch.inference_mode():
            tap(name, x)

    run()
    peak = measure_peak(run, torch.device("cpu")).peak_bytes
    assert peak is not None
    assert peak < 16 * 10**6
    expected = {"mean": 1.0, "rms": 1.0, "absmax": 1.0, "norm": sizes[-1] ** 0.5}
    if kind in expected:
        assert tap[name] == pytest.approx(expected[kind], rel=1e-3)
    else:
        assert int(tap[name].sum()) == int(tap[name][-LOWEST]) == 3 * x.numel()  # every one of them is 2**0


@pytest.mark.parametrize("kind", STATISTICS)
def test_what_a_pass_takes_beside_the_state_does_not_grow_with_the_tokens(kind: str) -> None:
    """For a long pattern it is a small part of the scores, which are never there at once."""
    arch = ARCHES["GQA"].replace(n_layers=1)
    model = small_model(arch)
    q, k = torch.randn(1, 12, 1024, 10), torch.randn(1, 4, 1024, 10)
    tap = Reduce("*.pattern", kind=kind, model=model)

    def run() -> None:
        tap.attended("layers.0.attention.", q, k)

    run()
    peak = measure_peak(run, torch.device("cpu")).peak_bytes
    assert peak is not None
    assert peak < 16 * 10**6
    assert peak < attention_bytes(AttentionShape(1, 1024, 1024, 12, 4, 10, "fp32", "fp32"), "naive") / 6


def test_it_runs_in_inference_mode_and_is_read_outside() -> None:
    model = small_model(ARCHES["GQA"])
    with torch.inference_mode(), capture(model, "embed", reduce="mean") as got:
        model(some_tokens(2, 5))
    model(some_tokens(2, 5), tap=got)
    assert got["embed"].shape == ()


def test_another_kind_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="reduce must be one of mean, rms"):
        capture(small_model(ARCHES["GQA"]), "embed", reduce="median").__enter__()


def test_nothing_waits_for_the_device() -> None:
    """No operation of a pass copies to the host, as a CUDA graph demands."""
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: set[str] = set()

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    model = small_model(ARCHES["GQA"])
    taps = [Reduce("*" if kind != "entropy" else "*.pattern", kind=kind, model=model) for kind in STATISTICS]
    x, q, k = torch.randn(2, 5, 120), torch.randn(2, 12, 5, 10), torch.randn(2, 4, 9, 10)
    with torch.no_grad(), Seen():
        for tap in taps:
            tap("embed", x)
            tap.attended("layers.1.attention.", q, k)
            tap("layers.0.attention.pattern", q @ q.transpose(2, 3))
    waits = {"_local_scalar_dense", "item", "nonzero", "unique", "masked_select", "_unique2", "bincount"}
    assert {"linalg_vector_norm", "histc", "special_entr"} <= seen
    assert not seen & waits
