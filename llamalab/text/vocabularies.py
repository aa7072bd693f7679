"""Vocabulary sizes of Llama 2 and its derivatives by name, as their tokenizers and embeddings have them.

Sources: meta-llama/llama and codellama (tokenizer.model); ymcui/Chinese-LLaMA-Alpaca and Chinese-LLaMA-Alpaca-2 READMEs
(Chinese-Alpaca has a padding token more than Chinese-LLaMA); meta-llama/llama3.
"""

VOCABULARIES = {
    "llama2": 32_000,
    "code-llama": 32_016,
    "chinese-llama": 49_953,
    "chinese-alpaca": 49_954,
    "chinese-llama-alpaca-2": 55_296,
    "llama3": 128_256,
}


def vocabulary_name(size: int) -> str | None:
    """The name of the vocabulary with this many tokens; None where none is known.

    >>> vocabulary_name(55_296)
    'chinese-llama-alpaca-2'
    """
    return next((name for name, known in VOCABULARIES.items() if known == size), None)
