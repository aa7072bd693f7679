"""Taps of a forward pass: keep tensors, replace them, or combine several taps.

    with capture(model, "layers.*.attention.pattern", tokens=-1) as got:
        model(tokens)

`capture` and `edit` tap every forward pass of the model inside their block. Outside of it the model is unchanged, so
that unused taps cost nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llamalab.arch.fields import MAX_LAYERS
from llamalab.errors import InputError
from llamalab.instrument.bind import depth_of, names_in, tapped
from llamalab.instrument.copies import Arrived, buffer_like
from llamalab.instrument.selection import Indices, Selection, TensorPart

if TYPE_CHECKING:
    from torch import Tensor, nn

    from llamalab.instrument.scores import Mask

RECOMPUTED = (".scores", ".pattern")


class Capture(Selection):
    """A tap that keeps the tensors of the chosen points, or a part of each.

    Tensors are kept as they are, with their graph; those of `k_cache` and `v_cache` may be views of a
    cache that changes later. With `copy` they are copied, without a graph, into buffers that the first
    pass allocates and later ones of the same shape reuse, on `device` if given. A point that fires again
    replaces its tensor, except when gradient checkpointing recomputes it in a backward pass.

    >>> tap = Capture("layers.*.attention.q")
    >>> tap.wants("layers.7.attention.q"), tap.wants("layers.7.attention.k")
    (True, False)
    """

    edits = False

    def __init__(
        self,
        *patterns: str,
        layers: Iterable[int] | None = None,
        tokens: Indices | None = None,
        heads: Indices | None = None,
        copy: bool = False,
        device: "str | None" = None,
        n_layers: int = MAX_LAYERS,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(patterns, layers=layers, n_layers=n_layers, names=names)
        if names is not None and not (tokens is None and heads is None):
            raise InputError("tokens and heads must be left out for a model of several stacks; take them of the tensor")
        self._kept: dict[str, Tensor] = {}
        self._part, self._copy, self._device = TensorPart(tokens, heads), copy or device is not None, device
        self._as_is = self._part.whole and not self._copy
        self._behind: Tensor | None = None  # the accelerator whose copies may be unfinished
        from llamalab.model.tap import outside_checkpointing, recomputing

        self._outside_checkpointing, self._recomputing = outside_checkpointing, recomputing

    @property
    def tensors(self) -> "MutableMapping[str, Tensor]":
        """The kept tensors by name, after unfinished copies have been awaited."""
        return Arrived(self._kept, self.wait)

    def wants(self, name: str) -> bool:
        """Whether the whole tensor of a point is needed; parts of scores and pattern are recomputed."""
        return name in self.names and (self._part.whole or not name.endswith(RECOMPUTED))

    def __call__(self, name: str, tensor: "Tensor", /) -> "Tensor":
        if name in self.names and not (tensor.requires_grad and self._recomputing()):
            if self._as_is:
                self._kept[name] = tensor
            else:
                with self._outside_checkpointing():
                    self._keep(name, tensor if self._part.whole else self._part.of(name, tensor))
        return tensor

    def attended(
        self,
        prefix: str,
        q_BHTE: "Tensor",
        k_BKSE: "Tensor",
        *,
        window: int | None = None,
        mask: "Callable[[], Mask] | None" = None,
    ) -> None:
        """Recompute the requested rows and heads of scores and pattern, which fused attention does not store."""
        if self._part.whole:
            return  # before any name is formatted, since this runs in every layer
        scores, pattern = prefix + "scores", prefix + "pattern"
        if not (scores in self.names or pattern in self.names) or self._recomputing():
            return
        from llamalab.instrument.scores import partial_scores, scores_and_pattern

        with self._outside_checkpointing():
            given = None if mask is None else mask()
            scores_BNRS, pattern_BNRS = scores_and_pattern(
                partial_scores(q_BHTE, k_BKSE, self._part, window=window, mask=given), given
            )
            if scores in self.names:
                self._keep(scores, scores_BNRS)
            if pattern in self.names:
                self._keep(pattern, pattern_BNRS)

    def wait(self) -> None:
        """Wait until copies from an accelerator to the host have finished."""
        if self._behind is not None:
            import torch

            torch.accelerator.synchronize(self._behind.device)
            self._behind = None

    def _keep(self, name: str, tensor: "Tensor") -> None:
        if not self._copy:
            self._kept[name] = tensor
            return
        buffer = self._kept.get(name)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = self._kept[name] = buffer_like(tensor, self._device)
        if buffer.device.type == "cpu" and tensor.device.type not in ("cpu", "meta"):
            self._behind = tensor
        buffer.copy_(tensor.detach() if tensor.requires_grad else tensor, non_blocking=True)


class Edit(Selection):
    """A tap that replaces the tensors of the points matching `pattern` by `function(tensor)`."""

    def __init__(
        self,
        pattern: str,
        function: Callable[["Tensor"], "Tensor"],
        *,
        layers: Iterable[int] | None = None,
        n_layers: int = MAX_LAYERS,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__((pattern,), layers=layers, n_layers=n_layers, names=names)
        self._function = function

    def __call__(self, name: str, tensor: "Tensor", /) -> "Tensor":
        return self._function(tensor) if name in self.names else tensor


@contextmanager
def capture(
    model: "nn.Module",
    *patterns: str,
    layers: Iterable[int] | None = None,
    tokens: Indices | None = None,
    heads: Indices | None = None,
    copy: bool = False,
    device: str | None = None,
    reduce: str | None = None,
) -> "Iterator[Mapping[str, Tensor]]":
    """Tap every forward pass inside the block; yields the tensors by name, filled by each pass.

    The model is a Transformer, a ClassicTransformer (whole tensors only) or a Hugging Face Llama, Mistral, Qwen2, Qwen3
    or Phi-3, also inside PEFT, DDP, FSDP or torch.compile. Copies of the model made inside the block are not tapped.

    Args:
        model: the model to tap.
        patterns: names of points, with `*` for any layer and `?`, `[...]` as in a shell.
        layers: the layers to keep, all by default.
        tokens: the positions to keep, all by default.
        heads: the heads to keep, all by default.
        copy: keep copies without a graph, in buffers that later passes reuse (see Capture).
        device: where copies are kept.
        reduce: mean, rms, absmax, histogram, norm or entropy: statistics over all passes of the block in constant
            memory instead of tensors (see llamalab.instrument.reduce).

    >>> import llamalab, torch
    >>> model = llamalab.build("stories260k", dtype="fp32")
    >>> with capture(model, "layers.*.attention.pattern", layers=[4], tokens=-1, heads=[0, 7]) as got:
    ...     _ = model(torch.tensor([[1, 2, 3]]))
    >>> {name: tuple(tensor.shape) for name, tensor in got.items()}
    {'layers.4.attention.pattern': (1, 2, 1, 3)}
    """
    depth, names = depth_of(model), names_in(model)
    if reduce is not None:
        from llamalab.instrument.reduce import Reduce

        if names is not None:
            raise InputError("reduce must be left out for a model of several stacks; reduce what was captured")
        if tokens is not None or heads is not None or copy or device is not None:
            raise InputError("reduce must be given without tokens, heads, copy and device; it reads whole tensors")
        statistics = Reduce(*patterns, kind=reduce, layers=layers, model=model)
        with tapped(model, statistics):
            yield statistics
        return
    tap = Capture(
        *patterns, layers=layers, tokens=tokens, heads=heads, copy=copy, device=device, n_layers=depth, names=names
    )
    with tapped(model, tap):
        yield tap.tensors
    tap.wait()


@contextmanager
def edit(
    model: "nn.Module",
    pattern: str,
    function: Callable[["Tensor"], "Tensor"],
    *,
    layers: Iterable[int] | None = None,
) -> Iterator[None]:
    """Replace the tensors of matching points by `function(tensor)` in every pass inside the block.

    The function returns a tensor of the same shape, dtype and device, which may be its argument, changed in place or
    not; InputError is raised for anything else. Gradients flow through it. llamalab.instrument.edits has many.

    >>> import llamalab, torch
    >>> from llamalab.instrument.edits import scale
    >>> model, tokens = llamalab.build("stories260k", dtype="fp32"), torch.tensor([[1, 2, 3]])
    >>> with edit(model, "layers.*.attn_out", scale(0.0)), edit(model, "layers.*.ffn_out", scale(0.0)):
    ...     with capture(model, "embed", "layers.4.resid_post") as got:
    ...         _ = model(tokens)
    >>> bool((got["embed"] == got["layers.4.resid_post"]).all())
    True
    """
    tap = Edit(pattern, function, layers=layers, n_layers=depth_of(model), names=names_in(model))
    with tapped(model, tap):
        yield
