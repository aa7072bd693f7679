"""Names of options in other tools and older versions, for advice after an unknown option."""

# Options of the same meaning here, of which the first one of the verb is advised, and the other names.
_WORDS = (
    (("--context", "--prompt"), "seq seq-len seqlen sequence-length length tokens"),
    (("--context",), "ctx ctx-size context-length n-ctx max-seq-len max-model-len max-context"),
    (("--context", "--depth", "--prompt", "--generate"), "context depth"),
    (("--prompt", "--context"), "prompt input-len prompt-tokens n-prompt pp isl"),
    (("--generate",), "output-len new-tokens max-tokens max-new-tokens n-predict n-gen osl"),
    (("--batch",), "batch-size bs concurrency sequences"),
    (("--tensor-parallel",), "tensor-parallel-size tp-size gpus ranks devices"),
    (("--device", "--hardware"), "device gpu"),
    (("--hardware", "--device"), "hardware hw"),
    (("--model",), "checkpoint weights model-path preset path"),
    (("--dtype",), "precision"),
    (("--weight-dtype", "--dtype"), "quantization quant weight-type"),
    (("--kv-dtype",), "kv-cache-dtype cache-dtype cache-type"),
    (("--attention",), "attn backend attention-backend"),
    (("--out",), "output output-file o"),
    (("--text",), "prompt-text input"),
    (("--format json",), "json"),
    (("--format csv",), "csv"),
)
MEANT = {f"--{word}": options for options, words in _WORDS for word in words.split()}
