"""The model of a run on several ranks: each loads or builds its share, and the first one leads from then on.

Weights that are measured are random, of the model's sizes.
"""

from typing import Any

from llamalab.arch import LlamaArch
from llamalab.checkpoints import load
from llamalab.model import Transformer
from llamalab.model.compiled import compile
from llamalab.parallel.shares import build_share, load_share
from llamalab.parallel.team import Team, check_unquantised


def load_model(
    team: Team | None, path: str, *, device: str, weight_dtype: str | None = None, **options: Any
) -> Transformer:
    """The model of a checkpoint, as llamalab.load gives it, or spread over the ranks of a team.

    Raises UnavailableError for quantised weights on several ranks.
    """
    if team is None:
        return load(path, device=device, weight_dtype=weight_dtype, **options)
    check_unquantised(weight_dtype)
    return team.lead(team.everywhere(_load, path, options))


def ready_model(
    team: Team,
    arch: LlamaArch,
    *,
    scope: str = "none",
    attention: str | None = None,
    weight_dtype: str | None = None,
    **options: Any,
) -> Transformer:
    """A model with random weights, spread over the ranks of a team and made ready by llamalab.compile.

    Raises UnavailableError for quantised weights.
    """
    check_unquantised(weight_dtype)
    return team.lead(team.everywhere(_build, arch, scope, attention, options))


def ready_share(team: Team, arch: LlamaArch, *, dtype: str, mesh: Any = None) -> Transformer:
    """This rank's share of a model with random weights, made ready; for measurements that all ranks make at once.

    `mesh` are the ranks that share it (default: all of the team).
    """
    model = build_share(arch, team.mesh if mesh is None else mesh, device=team.device, dtype=dtype)
    return compile(model.eval(), scope="none")


def _load(team: Team, path: str, options: dict[str, Any]) -> Transformer:
    team.model = load_share(path, team.mesh, device=str(team.device), **options)
    return compile(team.model, scope="none", attention=options.get("attention"))


def _build(team: Team, arch: LlamaArch, scope: str, attention: str | None, options: dict[str, Any]) -> Transformer:
    team.model = build_share(arch, team.mesh, device=team.device, **options)
    return compile(team.model.eval(), scope=scope, attention=attention)
