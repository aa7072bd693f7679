"""Matrices of GPTQ and AWQ: codes in words of 32 bits, a scale and a zero for each group of a column's rows.

    weight[o, i] = scale[g, o] * (code[i, o] - zero[g, o])      g the group of input i

    gptq   qweight (I / n, O): n codes of one output in a word, the first in its lowest bits; qzeros (G, O / n) alike,
           each zero stored minus one, except in the format gptq_v2; g_idx (I) the group of each input
    awq    qweight (I, O / 8): 8 outputs in a word, in the order 0, 2, 4, 6, 1, 3, 5, 7; qzeros (G, O / 8) alike
    n = 32 / bits; scales (G, O)

Contiguous groups of a row are used as they are. With `desc_act` inputs are in another order, so that groups are not
contiguous in a row; those matrices are widened.
Source: AutoGPTQ auto_gptq/nn_modules/qlinear, GPTQModel (checkpoint_format), AutoAWQ awq/modules/linear/gemm.py.

O out features, I in features, G groups.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from llamalab.checkpoints.checkpoint import StoredTensor
from llamalab.errors import FormatError
from llamalab.model.quantised.codes import Codes

WORD_PARTS = ("qweight", "qzeros", "scales", "g_idx")
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_WORD = 32


class WordFormat(NamedTuple):
    """The packing of a checkpoint's matrices according to its config.json."""

    method: str
    bits: int
    zeros_less_one: bool

    @property
    def label(self) -> str:
        """The name shown in place of a dtype."""
        return f"{self.method} {self.bits} bits"


def word_format(said: Any) -> WordFormat:
    """The packing from quantization_config. Raises FormatError for another method or width of codes."""
    said = said if isinstance(said, dict) else {}
    method, bits = str(said.get("quant_method", "")).lower(), said.get("bits", said.get("w_bit", 4))
    form = str(said.get("checkpoint_format", said.get("version", "")) or "").lower()
    taken = {"gptq": (4, 8), "awq": (4,)}
    if bits not in taken.get(method, ()) or (method == "awq" and form not in ("", "gemm")):
        raise FormatError(
            "a quantised checkpoint must be of gptq in 4 or 8 bits, or of awq's gemm in 4 bits; "
            f"got {said.get('quant_method')!r}, {bits!r} bits{f', {form}' if form else ''}; use one of bf16 or fp16"
        )
    return WordFormat(method, bits, zeros_less_one=method == "gptq" and form != "gptq_v2")


class WordMatrices:
    """The packed matrices of a checkpoint, by their names as plain weights.

    `stored` and `tensor` are of the checkpoint; raises FormatError where a part of a matrix is missing.
    """

    def __init__(self, form: WordFormat, stored: Mapping[str, StoredTensor], tensor: Callable[[str], Tensor]) -> None:
        self._form, self._tensor = form, tensor
        homes = [name.removesuffix(".qweight") for name in stored if name.endswith(".qweight")]
        self.names = {f"{home}.weight": home for home in homes}
        self.stored: dict[str, StoredTensor] = {}
        for name, home in self.names.items():
            if lacking := [part for part in WORD_PARTS[:3] if f"{home}.{part}" not in stored]:
                raise FormatError(f"a packed matrix must have qweight, qzeros and scales; {home} has no {lacking[0]}")
            (rows, columns), factor = stored[f"{home}.qweight"].shape, _WORD // form.bits
            shape = (columns, rows * factor) if form.method == "gptq" else (columns * factor, rows)
            nbytes = sum(stored[f"{home}.{part}"].nbytes for part in WORD_PARTS if f"{home}.{part}" in stored)
            self.stored[name] = StoredTensor(name, shape, form.label, nbytes)
        self._ordered = {home for home in homes if f"{home}.g_idx" in stored}

    def codes(self, name: str) -> Codes | None:
        """The codes of a matrix; None where its groups are not contiguous."""
        home = self.names[name]
        scales_GO = self._tensor(f"{home}.scales").float()
        if not self._in_order(home, len(scales_GO), self.stored[name].shape[1]):
            return None
        codes_IO, offsets_GO = self._codes_and_offsets(home, scales_GO)
        return Codes(
            self._form.bits, codes_IO.t().contiguous(), scales_GO.t().contiguous(), offsets_GO.t().contiguous()
        )

    def widened(self, name: str) -> Tensor:
        """weight_OI in fp32."""
        codes = self.codes(name)
        if codes is not None:
            return codes.widened(torch.float32)
        home = self.names[name]
        scales_GO, group_I = self._tensor(f"{home}.scales").float(), self._tensor(f"{home}.g_idx").long()
        codes_IO, offsets_GO = self._codes_and_offsets(home, scales_GO)
        return (codes_IO.float() * scales_GO[group_I] + offsets_GO[group_I]).t().contiguous()

    def is_empty_bias(self, name: str) -> bool:
        """Whether a tensor is the all-zero bias of a packed matrix, which tools write for models without biases."""
        home = name.removesuffix(".bias")
        return home != name and f"{home}.weight" in self.names and not bool(self._tensor(name).any())

    def _in_order(self, home: str, groups: int, inner: int) -> bool:
        if inner % groups:
            return False
        if home not in self._ordered:
            return True
        group_I = self._tensor(f"{home}.g_idx").long()
        return bool(torch.equal(group_I, torch.arange(inner) // (inner // groups)))

    def _codes_and_offsets(self, home: str, scales_GO: Tensor) -> tuple[Tensor, Tensor]:
        """Codes around zero as int8, and an offset for the zeros: weight = code * scale + offset."""
        bits, half = self._form.bits, 1 << (self._form.bits - 1)
        words, zero_words = (self._tensor(f"{home}.{part}") for part in ("qweight", "qzeros"))
        by_rows = self._form.method == "gptq"
        raw_IO = _unpacked(words.t(), bits).t() if by_rows else _unpacked(words, bits, _AWQ_ORDER)
        zeros_GO = _unpacked(zero_words, bits, None if by_rows else _AWQ_ORDER) + int(self._form.zeros_less_one)
        return (raw_IO - half).to(torch.int8), (half - zeros_GO) * scales_GO


def _unpacked(words_RW: Tensor, bits: int, order: tuple[int, ...] | None = None) -> Tensor:
    """The codes of each row's words, from the lowest bits up; `order` is the column of each position in a word."""
    shifts = torch.arange(0, _WORD, bits, dtype=torch.int32)
    codes_RWN = (words_RW[..., None] >> shifts) & ((1 << bits) - 1)
    if order is not None:
        codes_RWN = codes_RWN[..., torch.tensor(order).argsort()]
    return codes_RWN.flatten(-2)
