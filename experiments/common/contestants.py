"""Who runs against whom in experiments.versus: passes over the same shape, each in its process.

A contestant is a function that makes `Turn`s by name: prefill of a prompt, or a few decode steps behind it. The
built-in model brings its yardsticks along: its matrix products alone, and the fastest read of memory that torch has.
On an accelerator a turn is over when the device is done, storages and llama.cpp, whose kernels here are the CPU's, do
not take part, and the built-in model also decodes in its loop of graphs.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from llamalab.arch import LlamaArch
from llamalab.files.outputs import replacing
from llamalab.hardware import CPU
from llamalab.measure.device.machine import device_of
from llamalab.measure.roofs.kernel_rows import kernel_rows_here
from llamalab.measure.roofs.shape_products import products_here
from llamalab.model import StaticKVCache, Transformer, build
from llamalab.model.compiled import compile
from llamalab.model.packed import PackedLinear
from llamalab.text.decode_loop import DecodeLoop
from llamalab.units import QUANTISED

PROMPT, STEPS = 512, 4
READ_BYTES, READ = 1 << 31, "sum of 2 GiB"
PRODUCTS = "its products alone, prefill"
HERE = torch.device(CPU)


class Turn(NamedTuple):
    """One thing to time: what has to be done before, untimed, and the work; `tokens` it makes or reads.

    Who keeps time itself returns the seconds of its work.
    """

    before: Callable[[], object]
    work: Callable[[], float | None]
    tokens: int


Turns = dict[str, Turn]


def tokens_of(arch: LlamaArch, count: int) -> Tensor:
    """tokens_BT of one sequence, the same for all."""
    return torch.randint(arch.vocab_size, (1, count), generator=torch.Generator().manual_seed(count))


def built_in(
    arch: LlamaArch, dtype: str, folder: Path, *, place: torch.device = HERE, storage: str | None = None,
    compiled: bool = False,
) -> Turns:  # fmt: skip
    """The model made ready as bench does; in `dtype` with its blocks compiled too, and with the yardsticks."""
    if storage is not None:
        rows = kernel_rows_here(place, dtype, storage)
        kept = compile(build(arch, dtype=dtype), scope="none", weight_dtype=storage, kernel_rows=rows)
        return _passes("ready", kept, dtype)
    products = products_here(place, dtype, arch)
    ready = compile(build(arch, dtype=dtype, device=place), scope="none", products=products)
    turns = _passes("ready", ready, dtype, stance="force_eager")
    if place.type != CPU:
        turns |= _loop(ready)
    if compiled:
        turns |= _passes("compiled blocks", ready, dtype, stance="default")
        compile(ready, scope="block")
    return {name: finished(turn, place) for name, turn in (turns | dict(_yardsticks(ready))).items()}


def finished(turn: Turn, place: torch.device) -> Turn:
    """The same, begun and over when the device has nothing left to do."""
    wait = device_of(place).synchronise

    def before() -> None:
        turn.before()
        wait()

    def work() -> float | None:
        own_s = turn.work()
        wait()
        return own_s

    return Turn(before, work, turn.tokens)


def _loop(model: Transformer) -> Turns:
    """Decode as text is made: a step in a graph, and the choice of its token."""
    loop = DecodeLoop(model, batch=1, max_tokens=PROMPT + STEPS)
    prompt = tokens_of(model.arch, PROMPT).to(model.norm.weight.device)

    def back() -> None:
        if loop.cache.length < PROMPT:
            loop.prefill(prompt)
        loop.cache.rewind(PROMPT)

    def steps() -> None:
        with torch.compiler.set_stance("force_eager"):  # where steps are the model's own passes
            loop.steps(STEPS)

    return {"decode, loop": Turn(back, steps, STEPS)}


def _passes(name: str, model: Transformer, dtype: str, stance: str = "default") -> Turns:
    place = model.norm.weight.device
    cache = StaticKVCache(model.arch, batch=1, max_tokens=PROMPT + STEPS, dtype=dtype, device=place)
    prompt, one = tokens_of(model.arch, PROMPT).to(place), tokens_of(model.arch, 1).to(place)

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
    place = model.norm.weight.device
    linears = [module for module in model.modules() if isinstance(module, PackedLinear | nn.Linear)]
    blocks, head = linears[:-1], linears[-1]
    inputs = {
        (linear.in_features, rows): torch.randn(1, rows, linear.in_features, dtype=model.norm.weight.dtype).to(place)
        for linear in linears
        for rows in (1, PROMPT)
    }

    def products(rows: int) -> None:
        for linear in blocks:
            linear(inputs[linear.in_features, rows])
        head(inputs[head.in_features, 1])

    buffer = torch.ones(READ_BYTES // 4, device=place)
    yield PRODUCTS, Turn(_nothing, lambda: products(PROMPT), PROMPT)
    yield "its products alone, decode", Turn(_nothing, lambda: products(1), 1)
    yield READ, Turn(_nothing, lambda: _untimed(buffer.sum()), 1)


def theirs(
    arch: LlamaArch, dtype: str, folder: Path, *, place: torch.device = HERE, compiled: bool = False
) -> Turns:  # fmt: skip
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
            made = build(arch, dtype=dtype, device=place).state_dict().values()
            by_shape: dict[tuple[int, ...], list[Tensor]] = {}
            for tensor in made:
                by_shape.setdefault(tuple(tensor.shape), []).append(tensor)
            weights = {name: by_shape[tuple(slot.shape)].pop() for name, slot in model.state_dict().items()}
        model.load_state_dict(weights, assign=True)
        model.model.rotary_emb = type(model.model.rotary_emb)(config).to(place)  # its buffers are in no state dict
        for way in (False, True) if compiled else (False,):
            turns |= _their_passes(attention, model.eval(), place, compiled=way)
    return {name: finished(turn, place) for name, turn in turns.items()}


def _their_passes(attention: str, model: nn.Module, place: torch.device, *, compiled: bool) -> Turns:
    from transformers import DynamicCache, StaticCache

    config: Any = model.config
    call = torch.compile(model) if compiled else model
    name = f"{attention} attention{', compiled' if compiled else ''}"
    prompt = torch.randint(config.vocab_size, (1, PROMPT), generator=torch.Generator().manual_seed(PROMPT)).to(place)
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

    def prefill(cache: Callable[[], Any]) -> Callable[[], None]:
        return lambda: _untimed(call(prompt, past_key_values=cache(), logits_to_keep=1))

    def decode(cache: Callable[[], Any]) -> Callable[[], None]:
        return lambda: _untimed([call(one, past_key_values=cache(), logits_to_keep=1) for _ in range(STEPS)])

    return {
        f"prefill, {name}, dynamic cache": Turn(fresh, prefill(lambda: held["dynamic"]), PROMPT),
        f"decode, {name}, dynamic cache": Turn(back, decode(lambda: held["dynamic"]), STEPS),
        f"prefill, {name}, static cache": Turn(static.reset, prefill(lambda: static), PROMPT),
        f"decode, {name}, static cache": Turn(rewind, decode(lambda: static), STEPS),
    }


def llama_cpp(arch: LlamaArch, dtype: str, folder: Path, *, kind: str) -> Turns:
    """llama.cpp on a GGUF file of the same shape, in `dtype` or a kind of ggml; threads as torch has."""
    from experiments.common.llama_server import LlamaServer, bytes_alone
    from llamalab.checkpoints.checkpoint import weights_of
    from llamalab.checkpoints.gguf_write import write_gguf

    path = folder / f"{arch.n_layers}-layers-{kind}.gguf"
    if not path.exists():
        source = weights_of(build(arch, dtype=dtype))
        with replacing(path) as made:
            kept = None if kind == dtype else kind
            write_gguf(Path(made.name), source, dtype=None, quantised=kept, words=bytes_alone())
    asked = LlamaServer(path, context=PROMPT + 2 * STEPS + 8, threads=torch.get_num_threads())
    prompt = tokens_of(arch, PROMPT)[0].tolist()

    def prefill() -> float:
        return asked.times(prompt, 1, reuse=False).prompt_s

    def decode() -> float:
        return asked.times(prompt, STEPS + 1, reuse=True).steps_s

    return {
        f"prefill, {kind}": Turn(_nothing, prefill, PROMPT),
        f"decode, {kind}": Turn(_nothing, decode, STEPS),
    }


def _nothing() -> None:
    """Nothing has to be done before."""


def _untimed(made: object) -> None:
    """Discard the result: the caller measures the time."""


class Entry(NamedTuple):
    """A contestant in one storage: its name, and what makes its turns for a shape, a dtype and a folder for files."""

    name: str
    turns: Callable[[LlamaArch, str, Path], Turns]


CONTESTANTS = ("llamalab", "transformers", "llama.cpp")
LLAMA_CPP_KINDS = ("bf16", "q8_0", "q4_0")


def entries(
    dtype: str, only: Sequence[str] = CONTESTANTS, *, place: torch.device = HERE, compiled: bool = False
) -> list[Entry]:  # fmt: skip
    """All that run on a device, each a process.

    >>> [entry.name for entry in entries("bf16", ["transformers", "llama.cpp"])]
    ['transformers', 'llama.cpp bf16', 'llama.cpp q8_0', 'llama.cpp q4_0']
    >>> [entry.name for entry in entries("bf16", place=torch.device("cuda", 0))]
    ['llamalab bf16', 'transformers']
    """
    here = place.type == CPU
    found = {
        "llamalab": [
            Entry(f"llamalab {dtype}", partial(built_in, place=place, compiled=compiled)),
            *(Entry(f"llamalab {storage}", partial(built_in, storage=storage)) for storage in QUANTISED if here),
        ],
        "transformers": [Entry("transformers", partial(theirs, place=place, compiled=compiled))],
        "llama.cpp": [Entry(f"llama.cpp {kind}", partial(llama_cpp, kind=kind)) for kind in LLAMA_CPP_KINDS if here],
    }
    return [entry for name in CONTESTANTS if name in only for entry in found[name]]
