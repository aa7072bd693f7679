"""Code Llama's infilling: text between a prefix and a suffix, with the ids of Meta's code.

    BOS <PRE> {prefix} <SUF>{suffix} <MID>      prefix first
    BOS <PRE> <SUF>{suffix} <MID> {prefix}      suffix first

The middle ends at <EOT>. The suffix is encoded without the space that begins a text, and the middle keeps its own
(Roziere et al. 2023, arXiv 2308.12950, section 2.3; meta-llama/codellama e81b597, generation.py,
infilling_prompt_tokens). Only models of 7B and 13B whose vocabulary has the four pieces, 32,016 in all, were
trained for it.
"""

from llamalab.choices import INFILL_ORDERS
from llamalab.errors import InputError
from llamalab.text.settings import Infill
from llamalab.text.tokenizer import Tokenizer


def infill_ids(tokenizer: Tokenizer, prefix: str, suffix: str, *, order: str = "prefix-first") -> list[int]:
    """The ids after which the middle follows. Raises InputError for a tokenizer without the pieces, or an order."""
    marks = infill_marks(tokenizer)
    if order not in INFILL_ORDERS:
        raise InputError(f"the order of infilling must be {' or '.join(INFILL_ORDERS)}; got {order!r}")
    # Meta's code puts a space before every prefix, where a tokenizer of transformers spares one that has its own.
    spaced = f" {prefix}" if prefix and tokenizer.space_first else prefix
    before, after = (tokenizer.encode(part, middle=True) for part in (spaced, suffix))
    begin = ([] if tokenizer.bos_id is None else [tokenizer.bos_id]) + [marks.prefix_id]
    if order == "suffix-first":
        return [*begin, marks.suffix_id, *after, marks.middle_id, *before]
    return [*begin, *before, marks.suffix_id, *after, marks.middle_id]


def infill_marks(tokenizer: Tokenizer) -> Infill:
    """The ids of the marks. Raises InputError where the tokenizer has none."""
    if tokenizer.settings.infill is None:
        raise InputError(
            "infilling must have a tokenizer with the pieces ▁<PRE>, ▁<SUF>, ▁<MID> and ▁<EOT>, as Code Llama 7B and "
            f"13B have; this one of {tokenizer.vocab_size:,} pieces lacks them"
        )
    return tokenizer.settings.infill
