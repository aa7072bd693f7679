import pytest
import torch

from llamalab.errors import CacheOverflowError, InputError
from llamalab.model import DynamicKVCache, RaggedKVCache, StaticKVCache
from tests.model.shrunk import ARCHES, small_model, some_tokens

LENGTHS = (5, 1, 9)


@pytest.mark.parametrize("attention", ["sdpa", "naive"])
@pytest.mark.parametrize("name", ARCHES)
def test_every_row_computes_what_it_would_alone(name: str, attention: str) -> None:
    model = small_model(ARCHES[name], attention=attention)
    tokens_BT = some_tokens(3, 13)
    rows = [StaticKVCache(model.arch, batch=1, max_tokens=13, dtype="fp32") for _ in LENGTHS]
    with torch.inference_mode():
        for b, (length, row) in enumerate(zip(LENGTHS, rows, strict=True)):
            model(tokens_BT[b : b + 1, :length], cache=row)
        # One token each, then two at once, then the first row leaves.
        for new, taken in ((1, (0, 1, 2)), (2, (0, 1, 2)), (1, (1, 2))):
            starts = [rows[b].length for b in taken]
            fed_BT = torch.stack([tokens_BT[b, start : start + new] for b, start in zip(taken, starts, strict=True)])
            cache = RaggedKVCache([rows[b] for b in taken])
            assert cache.length == tuple(starts)
            logits_BTV = model(fed_BT, cache=cache)
            for at, (b, start) in enumerate(zip(taken, starts, strict=True)):
                alone_TV = model(tokens_BT[b : b + 1, : start + new])[0, start:]
                torch.testing.assert_close(logits_BTV[at], alone_TV, rtol=0, atol=1e-5)
    assert [row.length for row in rows] == [8, 5, 13]


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
@pytest.mark.parametrize("name", ARCHES)
def test_neighbours_attend_in_one_call_and_compute_what_each_does_alone(name: str, dtype: str) -> None:
    model = small_model(ARCHES[name], attention="chunked")
    tokens_BT = some_tokens(3, 13)
    home = StaticKVCache(model.arch, batch=4, max_tokens=13, dtype=dtype)
    rows, apart = [home.row(place) for place in (1, 2, 3)], []
    with torch.inference_mode():
        for b, (length, row) in enumerate(zip(LENGTHS, rows, strict=True)):
            model(tokens_BT[b : b + 1, :length], cache=row)
            apart.append(StaticKVCache(model.arch, batch=1, max_tokens=13, dtype=dtype))
            model(tokens_BT[b : b + 1, :length], cache=apart[-1])
        for taken in ((0, 1, 2), (0, 1, 2), (1, 2)):
            fed_BT = torch.stack([tokens_BT[b, rows[b].length :][:1] for b in taken])
            side_by_side, one_by_one = (RaggedKVCache([of[b] for b in taken]) for of in (rows, apart))
            assert (side_by_side.at(0).at_once is not None) is (model.arch.window_of(0) is None)
            assert one_by_one.at(0).at_once is None
            made, expected = model(fed_BT, cache=side_by_side), model(fed_BT, cache=one_by_one)
            torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)
    assert [row.length for row in rows] == [7, 4, 12]


def test_rows_that_are_no_neighbours_in_order_attend_one_by_one() -> None:
    arch = ARCHES["GQA"]
    home, other = (StaticKVCache(arch, batch=3, max_tokens=4, dtype="fp32") for _ in range(2))
    pairs = ([home.row(0), home.row(2)], [home.row(1), home.row(0)], [home.row(0), other.row(1)], [home.row(0)])
    assert all(RaggedKVCache(rows).at(0).at_once is None for rows in pairs)
    with pytest.raises(InputError, match="from 0 to 2; got 3"):
        home.row(3)


def test_a_row_that_settles_elsewhere_takes_its_tokens_along() -> None:
    model, tokens_BT = small_model(ARCHES["GQA"]), some_tokens(1, 6)
    home = StaticKVCache(model.arch, batch=2, max_tokens=6, dtype="fp32")
    row = home.row(1)
    with torch.inference_mode():
        model(tokens_BT[:, :5], cache=row)
        row.settle(home, 0)
        home.row(1).keys[0].fill_(7.0)
        torch.testing.assert_close(model(tokens_BT[:, 5:], cache=row)[0, 0], model(tokens_BT)[0, -1], rtol=0, atol=1e-5)


def test_a_full_row_stops_the_pass_before_any_work() -> None:
    model = small_model(ARCHES["GQA"])
    rows = [StaticKVCache(model.arch, batch=1, max_tokens=size, dtype="fp32") for size in (4, 2)]
    model(some_tokens(1, 2), cache=rows[0])
    model(some_tokens(1, 2), cache=rows[1])
    with pytest.raises(CacheOverflowError, match="KV cache of 2"):
        model(some_tokens(2, 1), cache=RaggedKVCache(rows))
    assert [row.length for row in rows] == [2, 2]


def test_what_is_no_batch_is_refused() -> None:
    model = small_model(ARCHES["GQA"])
    one = StaticKVCache(model.arch, batch=1, max_tokens=4, dtype="fp32")
    two = StaticKVCache(model.arch, batch=2, max_tokens=4, dtype="fp32")
    for rows in ([], [one, one], [one, two]):
        with pytest.raises(InputError, match="at least one cache, all distinct and of batch 1"):
            RaggedKVCache(rows)
    with pytest.raises(InputError, match="a row for each of the 1 caches; got 2"):
        model(some_tokens(2, 1), cache=RaggedKVCache([one]))
    with pytest.raises(InputError, match="a tap must not be used with a ragged KV cache"):
        model(some_tokens(1, 1), cache=RaggedKVCache([one]), tap=lambda name, tensor: tensor)


def test_a_growing_cache_gives_what_a_static_one_gives() -> None:
    model, tokens_BT = small_model(ARCHES["GQA"]), some_tokens(3, 11)
    static = StaticKVCache(model.arch, batch=3, max_tokens=11, dtype="fp32")
    dynamic = DynamicKVCache(model.arch, batch=3, dtype="fp32")
    with torch.inference_mode():
        for start, stop in ((0, 6), (6, 7), (7, 11)):
            chunk_BT = tokens_BT[:, start:stop]
            assert torch.equal(model(chunk_BT, cache=dynamic), model(chunk_BT, cache=static))
            assert dynamic.length == static.length == stop
    assert dynamic.nbytes == static.nbytes


def test_a_growing_cache_forgets_what_it_is_told_to() -> None:
    model, tokens_BT = small_model(ARCHES["MQA"]), some_tokens(1, 8)
    cache = DynamicKVCache(model.arch, batch=1, dtype="fp32")
    with torch.inference_mode():
        expected_BTV = model(tokens_BT)[:, 5:]
        model(tokens_BT[:, :7].flip(1), cache=cache)
        cache.rewind()
        model(tokens_BT[:, :7], cache=cache)
        cache.rewind(5)
        assert cache.nbytes == 5 * 2 * 2 * 10 * 4
        torch.testing.assert_close(model(tokens_BT[:, 5:], cache=cache), expected_BTV, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match=r"rewound to 0 \.\. 8"):
        cache.rewind(9)


def test_a_growing_cache_belongs_to_its_model_and_batch() -> None:
    model = small_model(ARCHES["GQA"])
    with pytest.raises(InputError, match="the tokens' batch"):
        model(some_tokens(3, 1), cache=DynamicKVCache(model.arch, batch=2, dtype="fp32"))
    with pytest.raises(InputError, match="the model's layers"):
        model(some_tokens(2, 1), cache=DynamicKVCache(ARCHES["MHA"], batch=2, dtype="fp32"))
    with pytest.raises(InputError, match="dtype of a model must be"):
        DynamicKVCache(model.arch, batch=2, dtype="int8")
    with pytest.raises(InputError, match="batch of a KV cache"):
        DynamicKVCache(model.arch, batch=0, dtype="fp32")
