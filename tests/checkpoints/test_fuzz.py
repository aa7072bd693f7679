"""Thousands of damaged files of each format: each loads or ends in one of our errors, in bounded memory."""

import io
import json
import random
import resource
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from llamalab.checkpoints import read, survey
from llamalab.checkpoints.checkpoint import weights_of
from llamalab.checkpoints.lora import merged
from llamalab.errors import LlamaLabError
from llamalab.model import Transformer
from llamalab.text.gguf_text import vocabulary
from tests.checkpoints.samples import (
    SMALL,
    random_model,
    write_config,
    write_gguf_sample,
    write_params,
    write_shards,
)  # fmt: skip
from tests.checkpoints.test_gguf_split import parts
from tests.checkpoints.test_llama2c import v0, v1, v2
from tests.model.hf_reference import _hf_name

CASES = 2_000
MAX_GROWTH_KIB = 256 * 1024
EXTREMES = [
    b"\xff" * 8,
    b"\x00" * 8,
    b"\xff" * 7 + b"\x7f",
    struct.pack("<Q", 2**40),
    struct.pack("<I", 2**31),
    b"9" * 30,
]


def damaged(data: bytes, draw: random.Random) -> bytes:
    """One to three wounds: flipped bytes, extreme numbers, pieces cut out, doubled or moved, an early end."""
    mutant = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        near = draw.choice([16, 200, max(1, len(mutant))])
        at = draw.randrange(min(near, len(mutant))) if mutant else 0
        size = draw.randint(1, 40)
        wound = draw.randrange(6)
        if wound <= 1:
            mutant[at : at + 1] = bytes([draw.randrange(256)])
        elif wound == 2:
            extreme = draw.choice(EXTREMES)
            mutant[at : at + len(extreme)] = extreme
        elif wound == 3:
            del mutant[at : at + size]
        elif wound == 4:
            mutant[at:at] = mutant[draw.randrange(len(mutant) + 1) :][:size]
        else:
            del mutant[draw.randrange(len(mutant) + 1) :]
    return bytes(mutant)


def damaged_json(text: bytes, draw: random.Random) -> bytes:
    """A value of another kind or an extreme size under one of the keys, or damaged text."""
    if draw.random() < 0.3:
        return damaged(text, draw)
    data = json.loads(text)
    odd = [
        None,
        True,
        -1,
        0,
        1,
        3,
        10**7,
        10**19,
        1e-300,
        float("inf"),
        "8",
        [],
        {},
        [8],
        {"rope_type": "yarn"},
        "x" * 99,
    ]
    key = draw.choice([*data, "rope_scaling", "head_dim", "quantization_config", "attention_bias"])
    data[key] = draw.choice(odd)
    if draw.random() < 0.2:
        del data[draw.choice(list(data))]
    return json.dumps(data).encode()


def tried(load: Callable[[], object]) -> bool:
    with suppress(LlamaLabError):
        load()
        return True
    return False


def damaged_pickle(data: bytes, draw: random.Random) -> bytes:
    """The archive of torch.save with a damaged pickle in it, and checksums that agree."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        for member in old.infolist():
            content = old.read(member)
            is_pickle = member.filename.endswith("data.pkl")
            new.writestr(member.filename, damaged(content, draw) if is_pickle else content)
    return made.getvalue()


def fuzz(
    files: list[Path],
    load: Callable[[], object],
    seed: int,
    cases: int = CASES,
    damage_weights: Callable[[bytes, random.Random], bytes] = damaged,
) -> None:
    """Damage one file at a time; what it was before comes back after each case."""
    assert tried(load), "the sound file must load"
    draw, loaded = random.Random(seed), 0
    originals = {file: file.read_bytes() for file in files}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(cases):
        file = draw.choice(files)
        damage = damaged_json if file.suffix == ".json" else damage_weights
        # A new file, not the old one changed: what is mapped must not change under its reader.
        file.unlink()
        file.write_bytes(damage(originals[file], draw))
        loaded += tried(load)
        file.unlink()
        file.write_bytes(originals[file])
    assert 0 < loaded < cases
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_GROWTH_KIB


def read_all(path: Path) -> None:
    arch, state = read(path)
    assert state.keys() == Transformer(arch, device="meta").state_dict().keys()
    for weight in state.values():
        weight.half()


def write_safetensors_sample(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)


def hf_state() -> dict[str, torch.Tensor]:
    return {_hf_name(name): weight for name, weight in random_model(SMALL).state_dict().items()}


@pytest.mark.parametrize("build", [v0, v1, v2])
def test_llama2c(tmp_path: Path, build: Callable[..., bytes]) -> None:
    path = tmp_path / "model.bin"
    arguments = (2,) if build is v2 else ()
    path.write_bytes(build(SMALL, dict(random_model(SMALL).state_dict()), *arguments))
    fuzz([path], lambda: read_all(path), seed=1)


def test_safetensors(tmp_path: Path) -> None:
    write_config(tmp_path, SMALL)
    state = list(hf_state().items())
    for number in (1, 2):
        write_safetensors_sample(tmp_path / f"part-{number}.safetensors", dict(state[number - 1 :: 2]))
    index = {name: f"part-{1 + number % 2}.safetensors" for number, (name, _) in enumerate(state)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    fuzz(sorted(tmp_path.iterdir()), lambda: read_all(tmp_path), seed=2)


def test_bin(tmp_path: Path) -> None:
    write_config(tmp_path, SMALL)
    torch.save(hf_state(), tmp_path / "pytorch_model.bin")
    fuzz(sorted(tmp_path.iterdir()), lambda: read_all(tmp_path), seed=3)


def test_bin_with_a_damaged_pickle(tmp_path: Path) -> None:
    write_config(tmp_path, SMALL)
    path = tmp_path / "pytorch_model.bin"
    torch.save(hf_state(), path)
    fuzz([path], lambda: read_all(tmp_path), seed=8, damage_weights=damaged_pickle)


def test_meta(tmp_path: Path) -> None:
    write_params(tmp_path, SMALL.replace(n_kv_heads=2))
    write_shards(tmp_path, dict(random_model(SMALL.replace(n_kv_heads=2)).state_dict()), 2)
    fuzz(sorted(tmp_path.iterdir()), lambda: read_all(tmp_path), seed=4)


def test_gguf(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf_sample(path, random_model(SMALL), {"*": "F16"}, [b"<unk>", b"<s>", b"</s>", b"a", b"b"])

    def load() -> None:
        vocabulary(path)
        read_all(path)

    fuzz([path], load, seed=5)


def test_gguf_in_blocks(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    arch = SMALL.replace(dim=32, ffn_dim=32)
    write_gguf_sample(path, random_model(arch), {"*": "Q8_0", "attention.wq": "Q4_0", "attention.wo": "Q5_1"})
    fuzz([path], lambda: read_all(path), seed=6)


def test_gguf_in_parts(tmp_path: Path) -> None:
    first = parts(tmp_path, 2)[0]
    fuzz(sorted(tmp_path.iterdir()), lambda: read_all(first), seed=10)


def test_bin_of_the_old_format(tmp_path: Path) -> None:
    write_config(tmp_path, SMALL)
    torch.save(hf_state(), tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    fuzz([tmp_path / "pytorch_model.bin"], lambda: read_all(tmp_path), seed=9)


def test_adapters(tmp_path: Path) -> None:
    base, names = weights_of(random_model(SMALL)), ("q_proj", "k_proj")
    config = {
        "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": list(names), "alpha_pattern": {"k_proj": 3},
        "use_dora": True, "modules_to_save": ["norm"], "trainable_token_indices": [1, 3], "rank_pattern": {},
    }  # fmt: skip
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    start = "base_model.model.model."
    module = f"{start}layers.0.self_attn."
    tensors = {f"{module}{name}.lora_A.weight": torch.ones(2, 8) for name in names}
    tensors |= {f"{module}q_proj.lora_B.weight": torch.ones(8, 2), f"{module}k_proj.lora_B.weight": torch.ones(4, 2)}
    tensors |= {f"{module}{name}.lora_magnitude_vector": torch.ones(8 if name == "q_proj" else 4) for name in names}
    tensors |= {f"{start}norm.weight": torch.ones(8), f"{start}embed_tokens.trainable_tokens_delta": torch.ones(2, 8)}
    write_safetensors_sample(tmp_path / "adapter_model.safetensors", tensors)

    def load() -> None:
        survey(tmp_path)
        weights = merged(base, tmp_path)
        for name in ("layers.0.attention.wk.weight", "norm.weight", "tok_embeddings.weight"):
            weights.fetch(name)

    fuzz(sorted(tmp_path.iterdir()), load, seed=7)
