"""The model of a run on several ranks: each loads or builds its share, then the first one leads.

Measured weights are random, of the model's sizes.
"""

from typing import Any

import torch

from llamalab.arch import LlamaArch
from llamalab.checkpoints import load
from llamalab.model import Transformer
from llamalab.model.compiled import compile
from llamalab.parallel.groups import check_groups
from llamalab.parallel.shares import build_share, load_share
from llamalab.parallel.team import Team


def load_model(
    team: Team | None, path: str, *, device: str, weight_dtype: str | None = None, **options: Any
) -> Transformer:
    """The model of a checkpoint, as llamalab.load gives it, or spread over the ranks of a team.

    On several ranks each quantises its part, anew where the file has codes.

    Raises InputError where ranks cut the groups of quantised weights.
    """
    if team is None:
        return load(path, device=device, weight_dtype=weight_dtype, **options)
    return team.lead(team.everywhere(_load, path, weight_dtype, options))


def ready_model(team: Team, arch: LlamaArch, *, dtype: str, tie_blocks: int | None = None, **speed: Any) -> Transformer:
    """A model with random weights, spread over the ranks of a team and made ready by llamalab.compile.

    `speed` are options of llamalab.compile, by default without a compiler.

    Raises InputError where ranks cut the groups of quantised weights.
    """
    return team.lead(team.everywhere(_build, arch, dtype, tie_blocks, speed))


def ready_share(team: Team, arch: LlamaArch, *, dtype: str, mesh: Any = None, **speed: Any) -> Transformer:
    """This rank's share of a model with random weights, made ready, for measurements on all ranks at once.

    `mesh` are the ranks that share it (default: all of the team); else as ready_model.
    """
    return _ready(arch, team.mesh if mesh is None else mesh, team.device, dtype, None, speed)


def _load(team: Team, path: str, weight_dtype: str | None, options: dict[str, Any]) -> Transformer:
    team.model = load_share(path, team.mesh, device=str(team.device), **options)
    check_groups(team.model.arch, team.place.ranks, weight_dtype)
    return compile(team.model, scope="none", attention=options.get("attention"), weight_dtype=weight_dtype)


def _build(team: Team, arch: LlamaArch, dtype: str, tie_blocks: int | None, speed: dict[str, Any]) -> Transformer:
    team.model = _ready(arch, team.mesh, team.device, dtype, tie_blocks, speed)
    return team.model


def _ready(
    arch: LlamaArch, mesh: Any, device: torch.device, dtype: str, tie_blocks: int | None, speed: dict[str, Any]
) -> Transformer:
    check_groups(arch, mesh.size(), speed.get("weight_dtype"))
    model = build_share(arch, mesh, device=device, dtype=dtype, tie_blocks=tie_blocks)
    return compile(model.eval(), **{"scope": "none"} | speed)
