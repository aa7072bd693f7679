"""Tiny models, and the files of other people's formats made without llamalab's writers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llamalab.arch import LlamaArch
from llamalab.model import Transformer

# n_heads, n_kv_heads, their ratio, head_dim, layers, ffn and vocabulary all differ.
ARCH = LlamaArch(24, 2, 6, 2, 20, 38, max_positions=11)
TIED = ARCH.replace(tied_embeddings=True)
SMALL = LlamaArch(8, 1, 2, 1, 6, 10, max_positions=5)  # for thousands of files
GGUF_NAMES = {
    "tok_embeddings": "token_embd",
    "norm": "output_norm",
    "output": "output",
    "attention.wq": "attn_q",
    "attention.wk": "attn_k",
    "attention.wv": "attn_v",
    "attention.wo": "attn_output",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w2": "ffn_down",
    "feed_forward.w3": "ffn_up",
    "attention_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
}
SPLIT_INPUTS = ("tok_embeddings.weight", "wo.weight", "w2.weight")


def random_model(arch: LlamaArch, dtype: torch.dtype = torch.float32, seed: int = 11) -> Transformer:
    """A model whose every weight is drawn, norms too."""
    draw = torch.Generator().manual_seed(seed)
    model = Transformer(arch, device="meta")
    state = {
        name: (torch.randn(like.shape, generator=draw) * 0.3 + (like.dim() == 1)).to(dtype)
        for name, like in model.state_dict().items()
    }
    model.load_state_dict(state, assign=True)
    return model


def write_params(folder: Path, arch: LlamaArch, **changes: Any) -> None:
    folder.mkdir(exist_ok=True)
    params = {
        "dim": arch.dim, "n_layers": arch.n_layers, "n_heads": arch.n_heads, "n_kv_heads": arch.n_kv_heads,
        "multiple_of": arch.ffn_dim, "ffn_dim_multiplier": 0.1, "norm_eps": arch.norm_eps, "vocab_size": -1,
    }  # fmt: skip
    (folder / "params.json").write_text(json.dumps(params | changes))


def write_shards(folder: Path, state: dict[str, Tensor], shards: int) -> None:
    """As fairscale's layers lie: inputs of wo and w2 and the embedding's columns, outputs of the rest."""
    for rank in range(shards):
        part = {"rope.freqs": torch.ones(3)}
        for name, weight in state.items():
            axis = 1 if name.endswith(SPLIT_INPUTS) else 0
            part[name] = weight.clone() if weight.dim() == 1 else weight.chunk(shards, axis)[rank].clone()
        torch.save(part, folder / f"consolidated.{rank:02d}.pth")


def write_config(folder: Path, arch: LlamaArch, **changes: Any) -> None:
    folder.mkdir(exist_ok=True)
    config = {
        "model_type": "llama", "hidden_size": arch.dim, "intermediate_size": arch.ffn_dim,
        "num_hidden_layers": arch.n_layers, "num_attention_heads": arch.n_heads,
        "num_key_value_heads": arch.n_kv_heads, "vocab_size": arch.vocab_size, "rms_norm_eps": arch.norm_eps,
        "max_position_embeddings": arch.max_positions, "tie_word_embeddings": arch.tied_embeddings,
        "rope_theta": arch.rope_theta,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config | changes))


def write_gguf_sample(
    path: Path,
    model: Transformer,
    kinds: dict[str, str] | None = None,
    words: list[bytes] | None = None,
    **settings: Any,
) -> dict[str, Tensor]:
    """A file of the gguf package's writer and quantiser; what its own dequantiser makes of it, by Meta's names."""
    import gguf

    arch, kept = model.arch, {}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(arch.max_positions)
    writer.add_embedding_length(arch.dim)
    writer.add_block_count(arch.n_layers)
    writer.add_feed_forward_length(arch.ffn_dim)
    writer.add_head_count(arch.n_heads)
    writer.add_head_count_kv(arch.n_kv_heads)
    writer.add_layer_norm_rms_eps(arch.norm_eps)
    writer.add_rope_freq_base(arch.rope_theta)
    for key, value in settings.items():
        adders = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, list: writer.add_array,
                  str: writer.add_string}  # fmt: skip
        adders[type(value)](key.replace("__", "."), value)
    if words:
        writer.add_tokenizer_model("llama")
        writer.add_token_list(words)
        writer.add_token_scores([-float(index) for index in range(len(words))])
        writer.add_token_types([1] * len(words))
        writer.add_bos_token_id(1)
    for name, weight in model.state_dict().items():
        module = name.removesuffix(".weight")
        layer = f"blk.{module.split('.')[1]}." if module.startswith("layers.") else ""
        rest = module.split(".", 2)[2] if layer else module
        kind = gguf.GGMLQuantizationType[(kinds or {}).get(rest, (kinds or {}).get("*", "F32"))]
        if weight.dim() == 1:
            kind = gguf.GGMLQuantizationType.F32
        data = gguf.quantize(weight.detach().float().numpy(), kind)
        writer.add_tensor(f"{layer}{GGUF_NAMES[rest]}.weight", data, raw_dtype=kind)
        kept[name] = torch.from_numpy(np.array(gguf.dequantize(data, kind))).view(weight.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kept


def pairs_to_halves_by_index(weight: Tensor, heads: int) -> Tensor:
    """Row i * E/2 + j of a head in Hugging Face's order is row 2 j + i of Meta's."""
    half = len(weight) // heads // 2
    rows = [head * 2 * half + 2 * j + i for head in range(heads) for i in (0, 1) for j in range(half)]
    return weight[rows]
