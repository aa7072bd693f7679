"""The purpose of each operation of a pass, in one sentence, by the operation's last name, for `llamalab tour`."""

WHAT = {
    "tok_embeddings": "each token id picks its row of the table: x = W[id]",
    "attention_norm": "each token is scaled to a mean square of 1: x / sqrt(mean(x²) + eps) · w",
    "wq": "what each token looks for: q = x Wqᵀ, cut into H heads",
    "wk": "what each token offers: k = x Wkᵀ, cut into K heads",
    "wv": "what each token hands over: v = x Wvᵀ, cut into K heads",
    "q_norm": "each head's queries are scaled to a mean square of 1",
    "k_norm": "each head's keys are scaled to a mean square of 1",
    "rope": "pairs of q and k are turned by position · θ^(−2j/E): a score then knows the distance",
    "kv_append": "keys and values are kept, so that the next token need not make them again",
    "scores": "every query times every key before it: q kᵀ / √E; later keys are −∞",
    "softmax": "each row of scores becomes weights that add up to 1: the pattern",
    "values": "each query takes the weighted mean of the values: z = pattern · v",
    "wo": "the heads are joined and mixed: z Woᵀ",
    "attention_residual": "what attention found is added to the stream: x + attention(norm(x))",
    "ffn_norm": "each token is scaled to a mean square of 1 once more",
    "w1": "the gate: x W1ᵀ, wider than the stream",
    "w3": "what may pass it: x W3ᵀ",
    "swiglu": "silu(gate) · up: the gate opens smoothly, element by element",
    "w2": "back to the width of the stream: h W2ᵀ",
    "ffn_residual": "what the feed-forward made is added to the stream",
    "norm": "the last scaling to a mean square of 1",
    "output": "the stream times each word's row: a logit for every token that could come next",
}


def what_does(operation: str) -> str:
    """The sentence for a row of the cost table; its own name where there is none.

    >>> what_does("layers.*.attention.wo")
    'the heads are joined and mixed: z Woᵀ'
    """
    last = operation.rpartition(".")[2].removesuffix("_window")
    return WHAT.get(last, last)
