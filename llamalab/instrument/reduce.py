"""Statistics of activations over every pass, in constant memory.

    mean        sum(x) / n                      rms   sqrt(sum(x**2) / n)
    absmax      max(abs(x))                     norm  mean over tokens of the length of their vectors
    histogram   how many abs(x) lie in [2**b, 2**(b+1)), b = -40 .. 23; the first bin takes all that is
                smaller, the last all that is larger
    entropy     per head, mean over queries of -sum p log p of its pattern, in nats

The state is two tensors on the model's device, allocated before the first pass; a pass only adds to it, without
allocations that grow with the tokens, copies to the host or synchronisation: after one warm-up pass it can be captured
in a CUDA graph and replayed. With fused attention, scores and pattern are recomputed a few rows at a time; their
statistics are over the keys visible to each query.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from llamalab.errors import InputError, UnknownNameError
from llamalab.instrument.bind import depth_of, unwrapped
from llamalab.instrument.scores import CHUNK_ELEMENTS, Mask, score_chunks
from llamalab.instrument.selection import Selection
from llamalab.instrument.statistics import STATISTICS
from llamalab.model.tap import recomputing

_OF_ATTENTION = (".scores", ".pattern")


class Reduce(Selection, Mapping[str, Tensor]):
    """A tap that accumulates one kind of statistics of the chosen points; a mapping from point to tensor.

    Values are scalars, for `histogram` int64 counts of 64 bins and for `entropy` one per query head. A
    point that has not fired is absent. Raises UnknownNameError for another kind, InputError for the entropy of a point
    that is not a pattern.
    """

    edits = False

    def __init__(self, *patterns: str, kind: str, model: nn.Module, layers: Iterable[int] | None = None) -> None:
        super().__init__(patterns, layers=layers, n_layers=depth_of(model))
        if kind not in STATISTICS:
            raise UnknownNameError("reduce", kind, STATISTICS)
        if kind == "entropy" and not all(name.endswith(".pattern") for name in self.names):
            raise InputError("entropy must be asked of attention patterns only; try 'layers.*.attention.pattern'")
        self.kind, (self._add, shape) = kind, STATISTICS[kind]
        if kind == "entropy":
            shape = (_query_heads(model),)
        device = next(model.parameters()).device
        plain = [name for name in self.in_order() if not name.endswith(_OF_ATTENTION)]
        self._order = plain + [name for name in self.in_order() if name.endswith(_OF_ATTENTION)]
        self._of_attention = len(plain) < len(self.names)
        with torch.inference_mode(False):
            self._left_behind = torch.zeros((), dtype=torch.int64, device=device)
            self.sums = torch.zeros(len(self.names), *shape, dtype=torch.float64, device=device)
            self.counts = torch.zeros(len(self.names), dtype=torch.int64, device=device)
            # Views are made once, so that a pass only looks them up.
            self._cells = dict(zip(self._order, zip(self.sums, self.counts, strict=True), strict=True))
            self._pass = _Pass(kind, plain, self.sums[: len(plain)], self.counts[: len(plain)])

    def wants(self, name: str) -> bool:
        """Whether the whole tensor is needed: not of scores and pattern, whose rows are recomputed."""
        return name in self.names and not name.endswith(_OF_ATTENTION)

    def __call__(self, name: str, tensor: Tensor, /) -> Tensor:
        if self._of_attention and name.endswith(".scores"):
            # Number of keys outside the window of the last query, which the following pattern hides.
            self._left_behind = (tensor[0, 0, -1] == float("-inf")).cumprod(-1).sum()
        if name in self.names and not (torch.is_grad_enabled() and recomputing()):
            x = tensor.detach() if tensor.requires_grad else tensor
            if name in self._pass.slots and not torch.compiler.is_compiling():
                self._pass.add(name, x)
            elif name.endswith(_OF_ATTENTION):
                self._add_attention(name, x)
            else:
                for piece in _pieces(x):
                    self._add(*self._cells[name], piece, 0)
        return tensor

    def attended(
        self,
        prefix: str,
        q_BHTE: Tensor,
        k_BKSE: Tensor,
        *,
        window: int | None = None,
        mask: Callable[[], Mask] | None = None,
    ) -> None:
        """Scores and pattern of fused attention, some rows at a time."""
        scores, pattern = prefix + "scores", prefix + "pattern"
        if not (scores in self.names or pattern in self.names) or recomputing():
            return
        with torch.no_grad():
            given = None if mask is None else mask()
            for chunk_BHRS, pattern_BHRS in score_chunks(q_BHTE, k_BKSE, window=window, mask=given):
                later = chunk_BHRS == float("-inf")
                if pattern in self.names:
                    self._add_visible(pattern, pattern_BHRS, later)
                if scores in self.names:
                    self._add_visible(scores, chunk_BHRS, later)

    def __getitem__(self, name: str) -> Tensor:
        values: Tensor
        values, count = self._cells[name]
        if not count:
            raise KeyError(name)
        if self.kind == "histogram":
            return values.long()
        if self.kind == "absmax":
            return values.float()
        mean: Tensor = values / count
        if self.kind == "rms":
            mean = mean.sqrt()
        return mean.float()

    def __iter__(self) -> Iterator[str]:
        fired = self.counts.tolist()
        return (name for name, count in zip(self._order, fired, strict=True) if count)

    def __len__(self) -> int:
        return int((self.counts != 0).sum())

    def over_depth(self, point: str) -> Tensor:
        """The statistics of one point (such as `resid_post`) of every layer that has fired, first layer first."""
        layers = sorted((int(name.split(".")[1]), name) for name in self if name.startswith("layers."))
        return torch.stack([self[name] for _, name in layers if name.split(".", 2)[2] == point])

    def _add_attention(self, name: str, tensor_BHTS: Tensor) -> None:
        """Accumulate a materialised score or pattern tensor, some rows at a time."""
        batch, heads, tokens, keys = tensor_BHTS.shape
        rows = max(1, CHUNK_ELEMENTS // (batch * heads * keys))
        row_T1 = torch.arange(keys - tokens, keys, device=tensor_BHTS.device)[:, None]
        column_S = torch.arange(keys, device=tensor_BHTS.device)
        for start in range(0, tokens, rows):
            part = slice(start, start + rows)
            row_R1 = row_T1[part]
            hidden_RS = (column_S > row_R1) | (column_S <= row_R1 - keys + self._left_behind)
            self._add_visible(name, tensor_BHTS[:, :, part], hidden_RS)

    def _add_visible(self, name: str, chunk_BHRS: Tensor, hidden: Tensor) -> None:
        """Accumulate visible elements; keys after the query or outside its window become 0 and are not counted."""
        number = hidden.expand_as(chunk_BHRS).sum()
        self._add(*self._cells[name], chunk_BHRS.masked_fill(hidden, 0.0), number)


class _Pass:
    """Sums of the current pass: one operation a tensor, and one more for all of them at its end.

    Only plain sums can be combined at the end; other kinds have no slots. A pass that fails is
    discarded.
    """

    def __init__(self, kind: str, names: list[str], sums: Tensor, counts: Tensor) -> None:
        self._squared, known = kind == "rms", names if kind in ("mean", "rms") else []
        self._all_sums, self._all_counts = sums, counts
        self._last = known[-1] if known else ""
        self._sums = torch.zeros(len(known), device=sums.device)
        self.slots = dict(zip(known, self._sums, strict=True))
        self._sizes = dict.fromkeys(known, 0)
        self._counts: dict[tuple[int, ...], Tensor] = {}

    def add(self, name: str, x: Tensor) -> None:
        """Sum up one tensor; with the last of the pass, the pass."""
        if x.numel() > CHUNK_ELEMENTS:
            sums = [self._sum(piece) for piece in _pieces(x)]
            self._sum(torch.stack(sums), out=self.slots[name])
        else:
            self._sum(x, out=self.slots[name])
        self._sizes[name] = x.numel()
        if name == self._last:
            self._end()

    def _sum(self, x: Tensor, *, out: Tensor | None = None) -> Tensor:
        """The sum, or the root of the sum of squares, whose squares also add up."""
        total: Tensor = (
            torch.linalg.vector_norm(x, dtype=torch.float32, out=out)
            if self._squared
            else torch.sum(x, (), dtype=torch.float32, out=out)
        )
        return total

    def _end(self) -> None:
        sizes = tuple(self._sizes.values())
        if sizes not in self._counts:
            with torch.inference_mode(False):
                self._counts[sizes] = torch.tensor(sizes, device=self._sums.device)
        if self._squared:
            self._all_sums.addcmul_(self._sums, self._sums)
        else:
            self._all_sums.add_(self._sums)
        self._all_counts.add_(self._counts[sizes])


def _pieces(x: Tensor) -> tuple[Tensor, ...]:
    """The tensor some tokens at a time, since a sum of half-precision numbers makes a wide copy of its input."""
    if x.numel() <= CHUNK_ELEMENTS:
        return (x,)
    rows = max(1, CHUNK_ELEMENTS // (x.numel() // x.shape[-2]))
    return torch.split(x, rows, dim=-2)


def _query_heads(model: nn.Module) -> int:
    of: Any = unwrapped(model)
    return int(of.arch.n_heads if hasattr(of, "arch") else of.config.num_attention_heads)
