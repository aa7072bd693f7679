"""Who runs against whom in experiments.versus_transformers: passes over the same shape, each in its process.

A contestant is a function that makes `Turn`s by name: prefill of a prompt, or a few decode steps behind it. The
built-in model brings its yardsticks along: its matrix products alone, and the fastest read of memory that torch has.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from llamalab.arch import LlamaArch
from llamalab.model import StaticKVCache, Transformer, build
from llamalab.model.compiled import compile
from llamalab.model.packed import PackedLinear

PROMPT, STEPS = 512, 4
READ_BYTES = 1 << 31


class Turn(NamedTuple):
    """One thing to time: what has to be done before, untimed, and the work; `tokens` it makes or reads."""

    before: Callable[[], object]
    work: Callable[[], object]
    tokens: int


Turns = dict[str, Turn]


def tokens_of(arch: LlamaArch, count: int) -> Tensor:
    """tokens_BT of one sequence, the same for all."""
    return torch.randint(arch.vocab_size, (1, count), generator=torch.Generator().manual_seed(count))


def built_in(arch: LlamaArch, dtype: str) -> Turns:
    """The model as it is built, made ready by `compile`, and with its blocks compiled; and the yardsticks."""
    plain = build(arch, dtype=dtype)
    ready = compile(build(arch, dtype=dtype), scope="none")
    turns = _passes("as built", plain, dtype)
    eager = _passes("ready", ready, dtype, stance="force_eager")
    compiled = _passes("compiled blocks", ready, dtype, stance="default")
    compile(ready, scope="block")
    return turns | eager | compiled | dict(_yardsticks(ready))


def _passes(name: str, model: Transformer, dtype: str, stance: str = "default") -> Turns:
    cache = StaticKVCache(model.arch, batch=1, max_tokens=PROMPT + STEPS, dtype=dtype)
    prompt, one = tokens_of(model.arch, PROMPT), tokens_of(model.arch, 1)

    def prefill() -> None:
        with torch.compiler.set_stance(stance):
            model(prompt, cache=cache, logits="last")

    def decode() -> None:
        with torch.compiler.set_stance(stance):
            for _ in range(STEPS):
                model(one, cache=cache, logits="last")

    return {
        f"prefill, {name}": Turn(lambda: cache.rewind(0), prefill, PROMPT),
        f"decode, {name}": Turn(lambda: cache.rewind(PROMPT) if cache.length > PROMPT else None, decode, STEPS),
    }


def _yardsticks(model: Transformer) -> Iterator[tuple[str, Turn]]:
    """What no pass can beat: its own products alone, and reading as many bytes as memory gives."""
    linears = [module for module in model.modules() if isinstance(module, PackedLinear)]
    blocks, head = linears[:-1], linears[-1]
    inputs = {
        (linear.in_features, rows): torch.randn(1, rows, linear.in_features, dtype=model.norm.weight.dtype)
        for linear in linears
        for rows in (1, PROMPT)
    }

    def products(rows: int) -> None:
        for linear in blocks:
            linear(inputs[linear.in_features, rows])
        head(inputs[head.in_features, 1])

    buffer = torch.ones(READ_BYTES // 4)
    yield "prefill, its products alone", Turn(_nothing, lambda: products(PROMPT), PROMPT)
    yield "decode, its products alone", Turn(_nothing, lambda: products(1), 1)
    yield "decode, sum of 2 GiB", Turn(_nothing, buffer.sum, 1)


def theirs(arch: LlamaArch, dtype: str) -> Turns:
    """LlamaForCausalLM with either attention, either cache, compiled or not."""
    from transformers import LlamaConfig, LlamaForCausalLM

    turns: Turns = {}
    weights: dict[str, Any] = {}
    for attention in ("sdpa", "eager"):
        config = LlamaConfig(
            vocab_size=arch.vocab_size, hidden_size=arch.dim, intermediate_size=arch.ffn_dim,
            num_hidden_layers=arch.n_layers, num_attention_heads=arch.n_heads, num_key_value_heads=arch.n_kv_heads,
            max_position_embeddings=arch.max_positions, attn_implementation=attention,
        )  # fmt: skip
        with torch.device("meta"):
            model = LlamaForCausalLM(config)
        if not weights:
            made = build(arch, dtype=dtype).state_dict().values()
            by_shape: dict[tuple[int, ...], list[Tensor]] = {}
            for tensor in made:
                by_shape.setdefault(tuple(tensor.shape), []).append(tensor)
            weights = {name: by_shape[tuple(slot.shape)].pop() for name, slot in model.state_dict().items()}
        model.load_state_dict(weights, assign=True)
        model.model.rotary_emb = type(model.model.rotary_emb)(config)  # its buffers are in no state dict
        for compiled in (False, True):
            turns |= _their_passes(attention, model.eval(), compiled=compiled)
    return turns


def _their_passes(attention: str, model: nn.Module, *, compiled: bool) -> Turns:
    from transformers import DynamicCache, StaticCache

    config: Any = model.config
    call = torch.compile(model) if compiled else model
    name = f"{attention} attention{', compiled' if compiled else ''}"
    prompt = torch.randint(config.vocab_size, (1, PROMPT), generator=torch.Generator().manual_seed(PROMPT))
    one = prompt[:, :1]
    held: dict[str, Any] = {"dynamic": DynamicCache(config=config)}
    static = StaticCache(config=config, max_cache_len=PROMPT + STEPS)

    def fresh() -> None:
        held["dynamic"] = DynamicCache(config=config)

    def back() -> None:
        extra = held["dynamic"].get_seq_length() - PROMPT
        if extra > 0:
            held["dynamic"].crop(-extra)

    def rewind() -> None:
        for layer in static.layers:
            layer.cumulative_length.fill_(PROMPT)

    def prefill(cache: Callable[[], Any]) -> Callable[[], object]:
        return lambda: call(prompt, past_key_values=cache(), logits_to_keep=1)

    def decode(cache: Callable[[], Any]) -> Callable[[], object]:
        return lambda: [call(one, past_key_values=cache(), logits_to_keep=1) for _ in range(STEPS)]

    return {
        f"prefill, {name}, dynamic cache": Turn(fresh, prefill(lambda: held["dynamic"]), PROMPT),
        f"decode, {name}, dynamic cache": Turn(back, decode(lambda: held["dynamic"]), STEPS),
        f"prefill, {name}, static cache": Turn(static.reset, prefill(lambda: static), PROMPT),
        f"decode, {name}, static cache": Turn(rewind, decode(lambda: static), STEPS),
    }


def _nothing() -> None:
    """Nothing has to be done before."""


CONTESTANTS: dict[str, Callable[[LlamaArch, str], Turns]] = {"llamalab": built_in, "transformers": theirs}
