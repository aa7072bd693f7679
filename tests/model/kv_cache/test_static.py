"""The KV cache: its bytes against the formula, what it hands out, what it refuses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llamalab.analytic.kv_cache import kv_bytes
from llamalab.arch import LlamaArch
from llamalab.arch.fields import valid_kv_heads
from llamalab.errors import CacheOverflowError, DoesNotFitError, InputError, UnknownNameError
from llamalab.model import StaticKVCache
from llamalab.model.dtypes import TORCH_DTYPES
from llamalab.presets import PRESETS
from tests.model.shrunk import ARCHES, small_model, some_tokens

GQA = ARCHES["GQA"]


def new_keys(
    new_tokens: int, seed: int = 0, arch: LlamaArch = GQA, batch: int = 3
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, batch, arch.n_kv_heads, new_tokens, arch.head_dim)
    k, v = torch.randn(shape, generator=generator)
    return k, v


@pytest.mark.parametrize("dtype", TORCH_DTYPES)
@pytest.mark.parametrize("kind", ARCHES)
def test_bytes_are_the_formulas(kind: str, dtype: str) -> None:
    cache = StaticKVCache(ARCHES[kind], batch=3, max_tokens=29, dtype=dtype)
    assert cache.nbytes == kv_bytes(ARCHES[kind], seq=29, batch=3, dtype=dtype)
    tensors = (*cache.keys, *cache.values)
    assert cache.nbytes == sum(tensor.untyped_storage().nbytes() for tensor in tensors)
    assert {tensor.dtype for tensor in tensors} == {TORCH_DTYPES[dtype]}
    assert cache.scale_nbytes == (2 * 4 * 2 * 3 * ARCHES[kind].n_kv_heads * 29 if dtype == "int8" else 0)


@pytest.mark.parametrize("name", ["7b", "70b"])
def test_bytes_of_real_shapes_with_any_kv_heads(name: str) -> None:
    for kv_heads in valid_kv_heads(PRESETS[name].arch.n_heads):
        arch = PRESETS[name].arch.replace(n_kv_heads=kv_heads)
        cache = StaticKVCache(arch, batch=16, max_tokens=4096, dtype="bf16", device="meta")
        assert cache.nbytes == kv_bytes(arch, seq=4096, batch=16, dtype="bf16")


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_views_hold_everything_appended_and_nothing_more(sizes: list[int]) -> None:
    cache = StaticKVCache(GQA, batch=3, max_tokens=20, dtype="fp32")
    chunks = [[new_keys(size, seed=10 * i + layer) for layer in range(2)] for i, size in enumerate(sizes)]
    for i, size in enumerate(sizes):
        for layer in range(2):
            k_view, v_view = cache.at(layer).append(*chunks[i][layer])
            for which, view in enumerate((k_view, v_view)):
                expected = torch.cat([chunk[layer][which] for chunk in chunks[: i + 1]], dim=2)
                assert torch.equal(view, expected)
            assert k_view.untyped_storage().data_ptr() == cache.keys[layer].untyped_storage().data_ptr()
            assert cache.length == sum(sizes[:i])
        cache.advance(size)
    assert cache.length == sum(sizes)


@pytest.mark.parametrize(("stored", "worst"), [("bf16", 2**-8), ("fp16", 2**-11), ("fp8", 2**-4)])
def test_narrow_storage_rounds_each_value(stored: str, worst: float) -> None:
    cache = StaticKVCache(GQA, batch=3, max_tokens=9, dtype=stored)
    k, v = (x + x.sign() for x in new_keys(7))  # away from zero, where relative error is the format's
    for view, exact in zip(cache.at(0).append(k, v), (k, v), strict=True):
        assert view.dtype == torch.float32
        assert ((view - exact) / exact).abs().max() <= worst
        assert not torch.equal(view, exact)


@pytest.mark.parametrize("activations", [torch.float32, torch.bfloat16])
def test_int8_rounds_to_a_step_of_each_token_and_head(activations: torch.dtype) -> None:
    cache = StaticKVCache(GQA, batch=3, max_tokens=9, dtype="int8")
    size = torch.tensor([1e-6, 1.0, 1e3, 0.0, 7.0])[:, None]  # tokens of very different magnitude
    k, v = ((x * size).to(activations) for x in new_keys(5))
    for view, exact in zip(cache.at(1).append(k, v), (k, v), strict=True):
        assert view.dtype == activations
        step = exact.float().abs().amax(-1, keepdim=True) / 127
        rounding = exact.float().abs() * torch.finfo(activations).eps
        assert ((view.float() - exact.float()).abs() <= step * 0.5001 + rounding).all()
        assert torch.equal(view[:, :, 3], torch.zeros_like(view[:, :, 3]))
        peak = exact.abs().argmax(-1, keepdim=True)
        torch.testing.assert_close(view.gather(-1, peak), exact.gather(-1, peak), rtol=1e-2, atol=0)


def test_fp8_is_cut_not_turned_into_nan() -> None:
    cache = StaticKVCache(GQA, batch=3, max_tokens=2, dtype="fp8")
    k, v = (x.sign() * 1e4 for x in new_keys(2))
    k_view, v_view = cache.at(0).append(k, v)
    assert torch.equal(k_view, k.sign() * 448)
    assert torch.equal(v_view, v.sign() * 448)


@pytest.mark.parametrize(
    ("dtype", "worst"), [("fp32", 1e-5), ("fp16", 5e-3), ("bf16", 5e-2), ("int8", 5e-2), ("fp8", 0.4)]
)
@pytest.mark.parametrize("kind", ARCHES)
def test_logits_through_each_storage(kind: str, dtype: str, worst: float) -> None:
    """Logits have a standard deviation of about 1."""
    model = small_model(ARCHES[kind])
    tokens = some_tokens(3, 17)
    cache = StaticKVCache(model.arch, batch=3, max_tokens=17, dtype=dtype)
    with torch.no_grad():
        parts = [model(part, cache=cache) for part in tokens.split([10, 4, 1, 1, 1], dim=1)]
        error = (torch.cat(parts, dim=1) - model(tokens)).abs().max()
    assert error < worst
    assert dtype == "fp32" or error > 1e-5


def test_overflow_is_refused_before_anything_is_written() -> None:
    cache = StaticKVCache(GQA, batch=3, max_tokens=8, dtype="fp32")
    cache.at(0).append(*new_keys(5))
    cache.advance(5)
    keys = torch.stack(cache.keys)
    with pytest.raises(CacheOverflowError, match="a KV cache of 8 tokens must not be written to 9"):
        cache.at(0).append(*new_keys(4))
    with pytest.raises(CacheOverflowError, match="must not advance by 4"):
        cache.advance(4)
    assert cache.length == 5
    assert torch.equal(torch.stack(cache.keys), keys)


def test_a_pass_that_does_not_fit_starts_no_work() -> None:
    model, fired = small_model(GQA), []
    cache = StaticKVCache(GQA, batch=3, max_tokens=8, dtype="fp32")
    model(some_tokens(3, 6), cache=cache)
    keys = torch.stack(cache.keys)
    with pytest.raises(
        CacheOverflowError, match=r"fit in the KV cache of 8; it holds 6 and 3 more came; make the cache"
    ):
        model(some_tokens(3, 3), cache=cache, tap=lambda name, tensor: fired.append(name) or tensor)
    assert not fired
    assert cache.length == 6
    assert torch.equal(torch.stack(cache.keys), keys)
    assert model(some_tokens(3, 2), cache=cache).shape == (3, 2, 97)


@pytest.mark.parametrize("point", ["layers.0.attention.v_cache", "layers.1.ffn_out", "logits"])
def test_a_failed_pass_leaves_the_cache_as_it_was(point: str) -> None:
    model = small_model(GQA)
    tokens = some_tokens(3, 7)
    cache = StaticKVCache(GQA, batch=3, max_tokens=8, dtype="fp32")

    def fail(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if name == point:
            raise ZeroDivisionError
        return tensor

    model(tokens[:, :3], cache=cache)
    with pytest.raises(ZeroDivisionError):
        model(some_tokens(3, 5), cache=cache, tap=fail)
    assert cache.length == 3
    torch.testing.assert_close(model(tokens[:, 3:], cache=cache), model(tokens)[:, 3:], rtol=0, atol=1e-5)


def test_rewind_forgets() -> None:
    model = small_model(GQA)
    tokens = some_tokens(3, 7)
    cache = StaticKVCache(GQA, batch=3, max_tokens=7, dtype="fp32")
    first = model(tokens, cache=cache)
    cache.rewind(4)
    torch.testing.assert_close(model(tokens[:, 4:], cache=cache), first[:, 4:], rtol=0, atol=1e-5)
    cache.rewind()
    assert torch.equal(model(tokens, cache=cache), first)
    for length in (8, -1):
        with pytest.raises(InputError, match=rf"0 .. 7 tokens; got {length}"):
            cache.rewind(length)


def test_no_graph_is_kept() -> None:
    model = small_model(GQA)
    cache = StaticKVCache(GQA, batch=3, max_tokens=7, dtype="fp32")
    assert model(some_tokens(3, 5), cache=cache).requires_grad
    assert not any(tensor.requires_grad for tensor in (*cache.keys, *cache.values))


@pytest.mark.parametrize(
    ("arch", "batch", "message"),
    [
        (GQA, 2, "tokens must have the batch of the KV cache, 2; got 3"),
        (ARCHES["MQA"], 3, "layers, KV heads and head dim 2, 4, 10; got 2, 1, 10"),
        (GQA.replace(n_layers=3), 3, "2, 4, 10; got 3, 4, 10"),
        (GQA.replace(dim=144), 3, "2, 4, 10; got 2, 4, 12"),
    ],
)
def test_another_models_cache_is_refused(arch: LlamaArch, batch: int, message: str) -> None:
    cache = StaticKVCache(arch, batch=batch, max_tokens=8, dtype="fp32")
    with pytest.raises(InputError, match=message):
        small_model(GQA)(some_tokens(3, 5), cache=cache)
    assert cache.length == 0
    assert not torch.stack(cache.keys).any()


@pytest.mark.parametrize(
    ("layer", "k_shape", "v_shape"),
    [
        (2, (3, 4, 5, 10), (3, 4, 5, 10)),
        (-1, (3, 4, 5, 10), (3, 4, 5, 10)),
        (0, (2, 4, 5, 10), (2, 4, 5, 10)),
        (0, (3, 1, 5, 10), (3, 1, 5, 10)),
        (0, (3, 4, 5, 10), (3, 4, 4, 10)),
        (0, (3, 4, 5, 12), (3, 4, 5, 12)),
        (0, (4, 5, 10), (4, 5, 10)),
    ],
)
def test_foreign_keys_are_refused(layer: int, k_shape: tuple[int, ...], v_shape: tuple[int, ...]) -> None:
    cache = StaticKVCache(GQA, batch=3, max_tokens=8, dtype="fp32")
    match = (
        "keys and values must be of shape" if layer == 0 else f"layer of this KV cache must be from 0 to 1; got {layer}"
    )
    with pytest.raises(InputError, match=match):
        cache.at(layer).append(torch.ones(k_shape), torch.ones(v_shape))
    assert not torch.stack(cache.keys).any()


def test_keys_of_another_device_are_refused() -> None:
    cache = StaticKVCache(GQA, batch=3, max_tokens=8, dtype="fp32", device="meta")
    with pytest.raises(InputError, match="on the device of the KV cache, meta; got cpu"):
        cache.at(0).append(*new_keys(5))


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
@pytest.mark.parametrize("what", ["batch", "max_tokens"])
def test_sizes_must_be_counts(what: str, size: object) -> None:
    sizes = {"batch": 1, "max_tokens": 8} | {what: size}
    with pytest.raises(InputError, match=f"{what} of a KV cache must be a whole number of at least 1"):
        StaticKVCache(GQA, dtype="fp32", **sizes)  # type: ignore[arg-type]


def test_unknown_dtype_and_too_little_memory() -> None:
    with pytest.raises(UnknownNameError, match="dtype must be one of"):
        StaticKVCache(GQA, batch=1, max_tokens=8, dtype="int4")
    with pytest.raises(DoesNotFitError, match="must fit on cpu; it does not; take fewer tokens") as error:
        StaticKVCache(GQA, batch=10**9, max_tokens=10**9, dtype="fp32")
    assert error.value.exit_code == 3


SLIDING = GQA.replace(window=6, full_layers=(1,))


def test_a_window_has_room_for_itself_and_no_more() -> None:
    cache = StaticKVCache(SLIDING, batch=3, max_tokens=20, dtype="int8")
    assert [keys.shape[2] for keys in cache.keys] == [6, 20]
    assert cache.nbytes == kv_bytes(SLIDING, seq=20, batch=3, dtype="int8")
    assert cache.scale_nbytes == 2 * 4 * 3 * 4 * 26
    with pytest.raises(InputError, match="must have the model's window and layers without it"):
        cache.check_room(GQA, 3, 1)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8", "fp8"])
def test_a_full_window_keeps_the_last_tokens_in_every_storage(dtype: str) -> None:
    """The same values come back as from a cache that keeps everything, whatever the sizes of the passes."""
    full = StaticKVCache(GQA, batch=3, max_tokens=40, dtype=dtype)
    ring = StaticKVCache(SLIDING.replace(full_layers=()), batch=3, max_tokens=40, dtype=dtype)
    generator = torch.Generator().manual_seed(3)
    for size in (4, 1, 1, 1, 3, 9, 1, 2, 6, 1):
        k_BKTE, v_BKTE = (torch.randn(3, 4, size, 10, generator=generator) for _ in "kv")
        past = min(full.length, 5)
        whole = full.at(0).append(k_BKTE, v_BKTE)
        kept = ring.at(0).append(k_BKTE, v_BKTE, ordered=True)
        for theirs, ours in zip(whole, kept, strict=True):
            assert torch.equal(ours[:, :, -size - past :], theirs[:, :, -size - past :])
        if size == 1:  # as they lie: the same keys, in another order
            lying = ring.at(0).append(k_BKTE, v_BKTE)[0]
            torch.testing.assert_close(lying.sum(2), kept[0].sum(2), rtol=0, atol=1e-2)
        for cache in (full, ring):
            cache.advance(size)


def test_a_window_goes_back_by_one_token_or_to_nothing() -> None:
    cache = StaticKVCache(SLIDING, batch=3, max_tokens=20, dtype="fp32")
    for size, back in ((4, 2), (4, 5), (2, 7)):  # no token has slid out of the six, and then one
        cache.check_room(SLIDING, 3, size)
        cache.advance(size)
        cache.rewind(back)
    cache.rewind(6)
    with pytest.raises(
        InputError, match="with a window of 6 tokens must be rewound to 0 or by one token; it reached 7"
    ):
        cache.rewind(3)
    cache.rewind(3, lossy=True)
    cache.rewind()
    assert cache.holds(0)


def test_a_failed_pass_over_a_full_window_is_noticed() -> None:
    cache = StaticKVCache(SLIDING, batch=3, max_tokens=20, dtype="fp32")
    cache.check_room(SLIDING, 3, 10)
    cache.advance(10)
    cache.check_room(SLIDING, 3, 1)  # fails
    cache.check_room(SLIDING, 3, 4)  # one token is nothing: what it took the place of had left the window; this fails
    with pytest.raises(InputError, match="a pass that failed has overwritten"):
        cache.check_room(SLIDING, 3, 1)
    cache.rewind()
    cache.check_room(SLIDING, 3, 1)
