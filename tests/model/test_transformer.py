"""The model as a whole: its weights against the cost table, its calls, its errors."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from llamalab.analytic.params import parameter_count, weights
from llamalab.arch import LlamaArch
from llamalab.errors import FormatError, InputError, UnavailableError, UnknownNameError
from llamalab.model import StaticKVCache, Transformer
from llamalab.model.transformer import TransformerBlock
from llamalab.presets import PRESETS
from tests.model.shrunk import ARCHES, small_model, some_tokens

COUNTS = {
    "7b": 6_738_415_616,
    "13b": 13_015_864_320,
    "34b": 33_743_970_304,
    "70b": 68_976_648_192,
    "llama1-7b": 6_738_415_616,
    "llama1-13b": 13_015_864_320,
    "llama1-33b": 32_528_943_616,
    "llama1-65b": 65_285_660_672,
    "tiny": 15_191_712,
    "stories260k": 260_032,
}
TIED = ARCHES["GQA"].replace(tied_embeddings=True)


def expected_state(arch: LlamaArch) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the cost table, layer by layer."""
    return {
        weight.name.replace("*", str(layer)): weight.shape
        for weight in weights(arch)
        for layer in range(weight.count if "*" in weight.name else 1)
    }


OTHERS = ("llama-3.2-1b", "mistral-nemo-12b", "qwen2.5-0.5b", "qwen3-0.6b", "phi-3-mini-4k")


@pytest.mark.parametrize("name", [*COUNTS, *OTHERS])
def test_parameters_of_every_preset(name: str) -> None:
    arch = PRESETS[name].arch
    model = Transformer(arch, device="meta")
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == parameter_count(arch) == COUNTS.get(name, counted)
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert shapes == expected_state(arch)
    assert not list(model.buffers())
    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("mixtral-8x7b", "mixture of experts"),
        ("gemma-2b", "norms that multiply by 1 \\+ w and no constants on its streams and no gate of gelu_tanh"),
        ("gemma-2-9b", "norms behind attention and feed-forward .* soft-capped scores and no soft-capped logits"),
    ],
)
def test_what_the_model_leaves_out_is_refused_in_one_sentence(name: str, lacks: str) -> None:
    with pytest.raises(UnavailableError, match=f"runs dense Llamas; it has no {lacks}"):
        Transformer(PRESETS[name].arch, device="meta")


@pytest.mark.parametrize("kind", ARCHES)
def test_a_meta_state_dict_loads_as_it_is(kind: str) -> None:
    """Also with the table that Meta's files carry beside the weights."""
    source = small_model(ARCHES[kind])
    state = source.state_dict() | {"rope.freqs": torch.zeros(5)}
    target = Transformer(ARCHES[kind])
    assert not target.load_state_dict(state, strict=True).missing_keys
    assert torch.equal(target(some_tokens(2, 5)), source(some_tokens(2, 5)))


def test_a_foreign_key_is_still_refused() -> None:
    model = small_model(ARCHES["GQA"])
    with pytest.raises(RuntimeError, match=r"rope\.freq_cis"):
        model.load_state_dict(model.state_dict() | {"rope.freq_cis": torch.zeros(5)}, strict=True)


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("with_head", [False, True])
def test_a_tied_model_stays_tied(assign: bool, with_head: bool) -> None:
    source = small_model(TIED)
    state = source.state_dict()
    if with_head:
        state["output.weight"] = state["tok_embeddings.weight"].clone()
    target = Transformer(TIED, device="meta") if assign else Transformer(TIED)
    target.load_state_dict(state, strict=True, assign=assign)
    target = copy.deepcopy(target)
    assert target.output.weight is target.tok_embeddings.weight
    assert sum(parameter.numel() for parameter in target.parameters()) == parameter_count(TIED)
    assert torch.equal(target(some_tokens(2, 5)), source(some_tokens(2, 5)))


def test_a_tied_model_refuses_another_head() -> None:
    model = small_model(TIED)
    state = model.state_dict()
    state["output.weight"] = state["tok_embeddings.weight"] + 1
    with pytest.raises(FormatError, match=r"output.weight of a tied model must equal .* tied_embeddings=False"):
        model.load_state_dict(state)


@pytest.mark.parametrize("attention", ["naive", "sdpa"])
@pytest.mark.parametrize("kind", [*ARCHES])
def test_no_token_sees_a_later_one(kind: str, attention: str) -> None:
    model = small_model(ARCHES[kind], attention=attention)
    tokens = some_tokens(2, 9)
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 97
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5], rtol=0, atol=1e-6)
    assert (before[:, 5:] - after[:, 5:]).abs().amax((0, 2)).min() > 1e-2


def test_last_logits_are_the_last_of_all() -> None:
    model = small_model(ARCHES["GQA"])
    tokens = some_tokens(3, 7)
    every, last = model(tokens), model(tokens, logits="last")
    assert every.shape == (3, 7, 97)
    assert last.shape == (3, 1, 97)
    torch.testing.assert_close(last, every[:, -1:], rtol=0, atol=1e-6)
    with pytest.raises(UnknownNameError, match="logits must be one of last, all; got 'first'"):
        model(tokens, logits="first")


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("attention", ["naive", "sdpa"])
def test_half_precision_stays_close_and_logits_are_fp32(dtype: str, attention: str) -> None:
    tokens = some_tokens(3, 7)
    logits = small_model(ARCHES["GQA"], dtype=dtype, attention=attention)(tokens)
    assert logits.dtype == torch.float32
    expected = small_model(ARCHES["GQA"])(tokens)
    assert (logits - expected).abs().max() < (0.1 if dtype == "bf16" else 0.02)


def test_int32_tokens_are_tokens() -> None:
    model = small_model(ARCHES["GQA"])
    assert torch.equal(model(some_tokens(3, 7).int()), model(some_tokens(3, 7)))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.tensor([1, 2]), r"shape \(batch, new_tokens\), at least \(1, 1\); got \(2,\)"),
        (torch.zeros(2, 0, dtype=torch.long), r"got \(2, 0\)"),
        (torch.zeros(0, 2, dtype=torch.long), r"got \(0, 2\)"),
        ([[1, 2]], "got list"),
        (torch.zeros(2, 3), "int64 or int32; got torch.float32"),
        (torch.zeros(2, 3, dtype=torch.bool), "int64 or int32; got torch.bool"),
        (torch.tensor([[0, 97]]), "ids from 0 to 96; got 97"),
        (torch.tensor([[0, -1]]), "ids from 0 to 96; got -1"),
    ],
)
def test_what_is_no_tokens_is_refused_before_work(tokens: object, message: str) -> None:
    model, called = small_model(ARCHES["GQA"]), []
    with pytest.raises(InputError, match=message):
        model(tokens, tap=lambda name, tensor: called.append(name) or tensor)
    assert not called


def test_tokens_on_meta_are_not_read() -> None:
    model = Transformer(ARCHES["GQA"], device="meta")
    assert model(torch.zeros(2, 3, dtype=torch.long, device="meta")).shape == (2, 3, 97)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype of a model must be one of bf16, fp16, fp32; got 'int8'"),
        ({"dtype": "float32"}, "dtype must be one of .*; got 'float32'"),
        ({"attention": "flash3"}, "attention must be one of .*; got 'flash3'"),
        ({"device": "gpu"}, "device must be cpu, cuda, cuda:N, mps or meta; got 'gpu'"),
    ],
)
def test_unknown_options_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Transformer(ARCHES["GQA"], **options)  # type: ignore[arg-type]


def test_every_submodule_is_really_called() -> None:
    """So that anyone's forward hooks work on the model as on any other."""
    model, called = small_model(ARCHES["GQA"]), []
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList):
            module.register_forward_hook(lambda *_, name=name: called.append(name))
    model(some_tokens(2, 3))
    expected = [name for name, module in model.named_modules() if not isinstance(module, nn.ModuleList)]
    assert sorted(called) == sorted(expected)


def test_a_hook_that_returns_a_tensor_replaces_it() -> None:
    model = small_model(ARCHES["GQA"])
    plain = model(some_tokens(2, 3))
    block = model.layers[1]
    assert isinstance(block, TransformerBlock)
    handle = block.attention.wq.register_forward_hook(lambda module, inputs, output: output * 2)
    assert (model(some_tokens(2, 3)) - plain).abs().max() > 1e-2
    handle.remove()
    assert torch.equal(model(some_tokens(2, 3)), plain)


def test_positions_end_with_the_cache_only() -> None:
    """Not with the context the weights were trained for."""
    arch = ARCHES["GQA"].replace(max_positions=4)
    model = small_model(arch)
    tokens = some_tokens(1, 40)
    cache = StaticKVCache(arch, batch=1, max_tokens=40, dtype="fp32")
    parts = [model(part, cache=cache) for part in tokens.split(13, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", ["naive", "sdpa"])
@given(
    kind=st.sampled_from([*ARCHES]), cuts=st.lists(st.integers(1, 5), min_size=1, max_size=5), batch=st.integers(1, 3)
)
def test_any_chunks_through_the_cache_equal_one_pass(attention: str, kind: str, cuts: list[int], batch: int) -> None:
    model = small_model(ARCHES[kind], attention=attention)
    tokens = some_tokens(batch, sum(cuts))
    cache = StaticKVCache(model.arch, batch=batch, max_tokens=sum(cuts) + 2, dtype="fp32")
    with torch.no_grad():
        parts = [model(part, cache=cache) for part in tokens.split(cuts, dim=1)]
        torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), rtol=0, atol=1e-5)
    assert cache.length == sum(cuts)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["naive", "sdpa"])
def test_one_graph_without_breaks(attention: str) -> None:
    """torch.compile traces prefill, chunk and decode through the cache whole, and taps fire in it."""
    model = small_model(ARCHES["GQA"], attention=attention)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    tokens = some_tokens(2, 9)
    cache = StaticKVCache(model.arch, batch=2, max_tokens=9, dtype="fp32")
    seen: dict[str, torch.Tensor] = {}

    def halve_pattern(name: str, tensor: torch.Tensor) -> torch.Tensor:
        seen[name] = tensor
        return tensor.mul_(0.5) if name.endswith(".pattern") else tensor

    with torch.no_grad():
        parts = [compiled(part, cache=cache) for part in tokens.split([4, 4, 1], dim=1)]
        torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), rtol=0, atol=1e-5)
        edited = compiled(tokens, tap=halve_pattern)
        fired = len(seen)
        torch.testing.assert_close(edited, model(tokens, tap=halve_pattern), rtol=0, atol=1e-5)
    assert fired == len(seen) == 3 + 20 * model.arch.n_layers
    assert (edited - model(tokens)).abs().max() > 1e-2
    torch._dynamo.reset()
