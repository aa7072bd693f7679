"""The model as an ONNX graph, exported by torch and checked with onnxruntime.

The graph takes token ids (batch, tokens), both sizes free, and gives fp32 logits (batch, tokens, V); it has no
KV cache. Weights above 2 GB lie in a second file beside it, as protobuf allows no more.
"""

import logging
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from llamalab.errors import FormatError
from llamalab.extras import missing
from llamalab.files.outputs import check_new, new_outputs
from llamalab.model import Transformer

# Relative to the largest logit. It exceeds the rounding of fp32 sums over a model's depth and width; a wrong graph
# differs by as much as the logits themselves.
LOGIT_TOLERANCE = 1e-3
_SHAPES = ((1, 1), (2, 7))  # checked: one token, and a ragged batch of more than was exported


def write_onnx(path: str | os.PathLike[str], model: Transformer) -> float:
    """Write a graph of the model; gives its largest difference in logits, relative to the largest logit.

    Raises InputError where a file is in the way, MissingError where onnxscript or onnxruntime is absent, and
    FormatError where logits differ; then there is no new file.
    """
    target = Path(path)
    files = [target.with_name(f"{target.name}.data"), target]  # the graph last: readers open it before the weights
    check_new(files)
    with new_outputs(files) as place:
        aside = place / target.name
        with _quiet(), torch.no_grad():
            _exported(model).save(aside)
        difference = largest_difference(aside, model)
        if not difference <= LOGIT_TOLERANCE:
            raise FormatError(
                f"the logits of the ONNX graph must be the model's to {LOGIT_TOLERANCE:g} of the largest; "
                f"they differ by {difference:.3g} of it"
            )
    return difference


@torch.no_grad()
def largest_difference(path: Path, model: Transformer) -> float:
    """The largest difference between the logits of a graph in onnxruntime and those of a model, over the largest logit.

    NaN where either has a logit that is NaN; 0 where all logits of both are 0.

    Raises MissingError where onnxruntime is absent.
    """
    session, draw = _session(path), torch.Generator().manual_seed(0)
    worst, largest = 0.0, 0.0
    for shape in _SHAPES:
        tokens_BT = torch.randint(model.arch.vocab_size, shape, generator=draw)
        theirs = torch.from_numpy(session.run(None, {"tokens": tokens_BT.numpy()})[0])
        ours = model(tokens_BT)
        # As double, and NaN first: max(0.0, nan) is 0.0.
        worst = max(float((theirs.double() - ours.double()).abs().max()), worst)
        largest = max(float(ours.abs().max()), largest)
        if not math.isfinite(worst) or not math.isfinite(largest):
            return math.nan
    if not worst:
        return 0.0
    return worst / largest if largest else math.inf


def _exported(model: Transformer) -> Any:
    _needs("onnxscript")
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    program = torch.onnx.export(
        model.eval(),
        (torch.ones(2, 5, dtype=torch.long),),
        dynamo=True,
        verbose=False,
        dynamic_shapes={"tokens_BT": sizes},
        input_names=["tokens"],
        output_names=["logits"],
    )
    assert program is not None  # installed by dynamo=True
    # The exporter stores source paths of this machine with each operation; they are removed.
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    return program


def _session(path: Path) -> Any:
    onnxruntime = _needs("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _needs(package: str) -> Any:
    from importlib import import_module

    try:
        return import_module(package)
    except ModuleNotFoundError:
        raise missing(package, "ONNX") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter's warnings about packages that this model does not use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
