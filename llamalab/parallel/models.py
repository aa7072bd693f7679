"""The model of a run on several ranks: each loads or builds its share, and the first one leads from then on.

Without a team the same calls give the model of one process, so that who measures or generates need not ask.
"""

from typing import Any

from llamalab.arch import LlamaArch
from llamalab.checkpoints import load
from llamalab.errors import UnavailableError
from llamalab.model import Transformer, build
from llamalab.model.compiled import compile
from llamalab.parallel.shares import build_share, load_share
from llamalab.parallel.team import Team


def load_model(
    team: Team | None, path: str, *, device: str, weight_dtype: str | None = None, **options: Any
) -> Transformer:
    """The model of a checkpoint, as llamalab.load gives it, or spread over the ranks of a team.

    Raises UnavailableError for quantised weights on several ranks.
    """
    if team is None:
        return load(path, device=device, weight_dtype=weight_dtype, **options)
    if weight_dtype is not None:
        raise UnavailableError(
            f"weights of a model on several ranks must be in --dtype; got --weight-dtype {weight_dtype}; leave it out"
        )
    return team.lead(team.everywhere(_load, path, options))


def ready_model(team: Team | None, arch: LlamaArch, *, scope: str = "none", attention: str | None = None,
                device: Any, **options: Any) -> Transformer:  # fmt: skip
    """A model with random weights, made ready by llamalab.compile, alone or spread over the ranks of a team."""
    if team is None:
        return compile(build(arch, device=device, **options).eval(), scope=scope, attention=attention)
    return team.lead(team.everywhere(_build, arch, scope, attention, options))


def _load(team: Team, path: str, options: dict[str, Any]) -> Transformer:
    team.model = load_share(path, team.mesh, device=str(team.device), **options)
    return compile(team.model, scope="none", attention=options.get("attention"))


def _build(team: Team, arch: LlamaArch, scope: str, attention: str | None, options: dict[str, Any]) -> Transformer:
    team.model = build_share(arch, team.mesh, device=team.device, **options)
    return compile(team.model.eval(), scope=scope, attention=attention)
