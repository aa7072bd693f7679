"""The words that options and arguments can take, each list once and without an import."""

PHASES = ("prefill", "decode")
FORMATS = ("table", "json", "csv", "md")
ACTIVATION_DTYPES = ("bf16", "fp16", "fp32")  # what the built-in model computes in
SCOPES = ("none", "block", "step")  # of llamalab.compile
LOGITS = ("last", "all")  # the positions that the head runs on
WRITTEN_FORMATS = ("hf", "meta", "llama2c", "gguf", "onnx")  # of checkpoints, those that can be written
QUANTISERS = ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "q6_k", "q5_k", "q4_k")  # kinds of GGUF that can be written
PROMPT_FORMATS = ("llama2", "chinese-alpaca-2", "alpaca", "llama2-chinese", "chatml", "llama3")
INFILL_ORDERS = ("prefix-first", "suffix-first")
ATTENTION_BACKENDS = (
    "naive",
    "chunked",
    "tiled",
    "sdpa",
    "streamed",
    "mixed",
    "math",
    "flash",
    "efficient",
    "cudnn",
    "flex",
    "triton",
)

STACK_NAMES = (  # of analytic/stacks.json, in its order
    "tensorrt-llm",
    "tensorrt-llm-1",
    "vllm-2024",
    "vllm",
    "vllm-0.12",
    "sglang",
    "llama.cpp-2024",
    "llama.cpp",
    "llama.cpp-2023",
    "llama.cpp-2023-08",
    "exllamav2",
    "tinychat",
    "llm-awq",
    "autoawq",
    "autoawq-gemv",
    "mlc",
    "lmdeploy",
    "gpt-fast",
    "transformers",
    "llamalab",
    "ipex",
    "autoawq-ipex",
)

# Names that PyTorch, model cards and servers give to the storage types of llamalab.units.DTYPES.
DTYPE_ALIASES = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "f16": "fp16",
    "float32": "fp32",
    "float": "fp32",
    "f32": "fp32",
    "float8": "fp8",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8",
}
TEXT_DEVICES = ("cpu", "cuda", "mps")  # that text verbs run on
NUMBERED_DEVICES = ("cuda",)  # kinds of which a machine may have several


def plain_dtype(name: str) -> str:
    """Our name of a storage type under any of its names, letters of either case; any other text as it is.

    >>> plain_dtype("torch.bfloat16"), plain_dtype("Float16"), plain_dtype("int8"), plain_dtype("bf17")
    ('bf16', 'fp16', 'int8', 'bf17')
    """
    lowered = name.strip().lower().removeprefix("torch.")
    return DTYPE_ALIASES.get(lowered, lowered)
