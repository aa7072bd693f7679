"""ggml's Q8_0 and Q4_0 as codes and scales in the order of the file, without dequantising.

A block is 32 weights of a row. Q8_0: a scale in fp16, 32 codes in int8. Q4_0: a scale in fp16, 16 bytes; byte j has
code j in its low half and code j + 16 in its high one, 8 too large. Source: ggml/src/ggml-common.h, ggml-quants.c.

O out features, N blocks of a row.
"""

import torch
from torch import Tensor

from llamalab.checkpoints.pages import drop_pages
from llamalab.model.quantised.codes import Codes

_BLOCK, _SCALE_BYTES = 32, 2


def codes_of(raw: Tensor, kind: str, shape: tuple[int, ...]) -> Codes | None:
    """The codes and scales of a matrix from its bytes; None for another kind or a tensor that is not a matrix."""
    if kind not in ("Q8_0", "Q4_0") or len(shape) != 2:
        return None
    out, inner = shape
    blocks_ONB = raw.view(out, inner // _BLOCK, -1)
    scales_ON = blocks_ONB[..., :_SCALE_BYTES].contiguous().view(torch.float16).squeeze(-1).float()
    coded = blocks_ONB[..., _SCALE_BYTES:]
    if kind == "Q4_0":
        codes = torch.cat(((coded & 15).to(torch.int8), (coded >> 4).to(torch.int8)), -1).sub_(8)
    else:
        codes = coded.contiguous().view(torch.int8)
    drop_pages(raw)
    return Codes(8 if kind == "Q8_0" else 4, codes.reshape(out, inner), scales_ON)
