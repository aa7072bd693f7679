"""A file with llama.cpp's mix of types: what lies on the device and its host, and several files in one prediction.

The types are those that llama_model_quantize (node-llama-cpp 3.22.1) chose for this shape as Q4_K_M; the bytes of each
layer are that file's, and so is the sum with a cache of 1,024 tokens, as xllamacpp's estimate_gpu_layers counts it.
"""

from pathlib import Path

import numpy as np
import pytest

from tests.cli.calls import Capture, loaded

DIM, LAYERS, KV, FFN, VOCABULARY = 512, 8, 128, 1536, 4096
MORE_BITS = (0, 3, 6, 7)  # layers whose values and down projections are Q6_K
PLAIN_LAYER_BYTES, WIDE_LAYER_BYTES = 1_699_840, 1_919_488
TABLE_BYTES, HEAD_BYTES, FILE_BYTES, WITH_CACHE_BYTES = 1_179_648, 1_720_320 + 2_048, 17_379_328, 21_573_632


def write_q4_k_m(path: Path) -> Path:
    """The file without its values: zeros in blocks of the right size."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(2048)
    writer.add_embedding_length(DIM)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(8)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"piece {place}" for place in range(VOCABULARY)])
    shapes = {"token_embd": (VOCABULARY, DIM), "output_norm": (DIM,), "output": (VOCABULARY, DIM)}
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.{name}": shape
            for name, shape in {
                "attn_norm": (DIM,), "attn_q": (DIM, DIM), "attn_k": (KV, DIM), "attn_v": (KV, DIM),
                "attn_output": (DIM, DIM), "ffn_norm": (DIM,), "ffn_gate": (FFN, DIM), "ffn_up": (FFN, DIM),
                "ffn_down": (DIM, FFN),
            }.items()
        }  # fmt: skip
    wide = {"output", *(f"blk.{layer}.{name}" for layer in MORE_BITS for name in ("attn_v", "ffn_down"))}
    for name, shape in shapes.items():
        kind = gguf.GGMLQuantizationType["F32" if len(shape) == 1 else "Q6_K" if name in wide else "Q4_K"]
        blocks = np.zeros(gguf.quants.quant_shape_to_byte_shape(shape, kind), dtype=np.uint8)
        writer.add_tensor(f"{name}.weight", blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def q4_k_m(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_q4_k_m(tmp_path_factory.mktemp("gguf") / "mixed.gguf")


def layer_bytes(first: int) -> int:
    """Of the layers from that one on."""
    return sum(WIDE_LAYER_BYTES if layer in MORE_BITS else PLAIN_LAYER_BYTES for layer in range(first, LAYERS))


@pytest.mark.parametrize("layers", [0, 1, 3, 7, 8])
def test_head_and_last_layers_lie_on_the_device(capsys: Capture, q4_k_m: Path, layers: int) -> None:
    asked = ("fit", "--model", str(q4_k_m), "--memory", "2GiB", "--context", "1024", "--batch", "1")
    found = loaded(capsys, *asked, "--gpu-layers", str(layers))
    assert found["weight_bytes"] == (HEAD_BYTES + layer_bytes(LAYERS - layers) if layers else 0)
    assert found["n_gpu_layers"] == (layers + 1 if layers else 0)  # llama.cpp counts the head
    assert found["weight_bytes"] + found["kv_bytes"] + found["host_bytes"] == WITH_CACHE_BYTES
    assert TABLE_BYTES + HEAD_BYTES + layer_bytes(0) == FILE_BYTES


def test_llama_cpp_counts_the_same_file_alike(capsys: Capture, q4_k_m: Path) -> None:
    llama_cpp = pytest.importorskip("xllamacpp")
    gpus = [{"name": "cuda", "memory_free": 2 << 30, "memory_total": 2 << 30}]
    counted = llama_cpp.estimate_gpu_layers(
        gpus, str(q4_k_m), [], context_length=1024, batch_size=512, num_parallel=1, kv_cache_type=""
    )
    asked = ("fit", "--model", str(q4_k_m), "--memory", "2GiB", "--context", "1024", "--batch", "1")
    found = loaded(capsys, *asked, "--solve", "gpu-layers")
    assert found["n_gpu_layers"] == counted.layers == LAYERS + 1
    none = llama_cpp.estimate_gpu_layers(
        [gpus[0] | {"memory_free": 0}], str(q4_k_m), [], context_length=1024, batch_size=512, num_parallel=1,
        kv_cache_type="",
    )  # fmt: skip
    assert none.total_size == found["weight_bytes"] + found["kv_bytes"] + found["host_bytes"] == WITH_CACHE_BYTES


def test_each_of_several_files_is_predicted_by_its_own_storage(capsys: Capture, q4_k_m: Path, tmp_path: Path) -> None:
    from llamalab import LlamaArch, build
    from tests.checkpoints.samples import write_gguf_sample

    plain = tmp_path / "plain.gguf"
    write_gguf_sample(plain, build(LlamaArch(DIM, 1, 8, 2, FFN, 512), dtype="fp32"), {"*": "Q8_0"})
    asked = ("predict", "--hardware", "rtx4090", "--stack", "llama.cpp", "--prompt", "64", "--generate", "9")
    rows = loaded(capsys, *asked, "--model", f"{q4_k_m},{plain},7b")["rows"]
    assert [row["weight_dtype"] for row in rows] == ["q4_k_m", "q8_0", "bf16"]
    for row, model in zip(rows, (q4_k_m, plain, "7b"), strict=True):
        alone = loaded(capsys, *asked, "--model", str(model))
        for key in ("prefill_s", "decode_s_per_token"):
            assert row[key] == alone[key]
