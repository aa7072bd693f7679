"""Verbs on several ranks, started here with --tensor-parallel, or by torchrun or another launcher that sets RANK.

A verb that can run on ranks has `ON_RANKS = True`; it finds the team in `args.team`, None for a single process. Any
other verb is run by the first rank.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from llamalab.cli.delivery import run_module
from llamalab.cli.parser import Parser
from llamalab.errors import InputError, LlamaLabError
from llamalab.startup.hints import Any, NoReturn


def is_rank() -> bool:
    """Whether this process is one of several, as launchers say it; costs no import."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "1") and "RANK" in os.environ and "MASTER_ADDR" in os.environ


def add_tensor_parallel(parser: Parser) -> None:
    """--tensor-parallel of a verb that runs a model."""
    from llamalab.cli.arguments import count

    parser.add_argument(
        "--tp",
        "--tensor-parallel",
        dest="tensor_parallel",
        type=count("--tensor-parallel"),
        metavar="N",
        help="processes that share the model, started here; under torchrun those it started (default: 1)",
    )


def hush() -> int | None:
    """Discard the output of all ranks but the first; gives a descriptor of the original stderr."""
    if not is_rank() or os.environ["RANK"] == "0":
        return None
    spoken, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return spoken


def run_verb(module: Any, args: argparse.Namespace, argv: Sequence[str], spoken: int | None) -> int:
    """Run a verb that can be on ranks: alone, as the rank that this process is, or as ranks started for it."""
    args.team, asked = None, args.tensor_parallel
    if not is_rank():
        if (asked or 1) == 1:
            return run_module(module, args)
        _check_shares(args, asked)
        from llamalab.parallel.launch import launch

        return launch(argv, ranks=asked)
    from llamalab.parallel.team import place_here

    place = place_here()
    if place is None or asked not in (None, place.ranks):
        ranks = os.environ.get("WORLD_SIZE")
        raise InputError(f"--tensor-parallel must be the ranks that were started, {ranks}; got {asked}; leave it out")
    return _as_rank(lambda team: _led(module, args, team), place, args.device, spoken)


def _check_shares(args: argparse.Namespace, ranks: int) -> None:
    """Raise InputError for ranks that do not divide what they are to share, before any is started."""
    from llamalab.analytic.parallel import shard
    from llamalab.cli.find_model import find_model, split_paths

    if getattr(args, "record", None) is None and getattr(args, "model", None) is not None:
        for name in split_paths(args.model):
            shard(find_model(name)[1], ranks)


def _gone(code: int) -> NoReturn:
    """End without the interpreter's shutdown, which may wait for ranks that are gone and abort in torch's threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _led(module: Any, args: argparse.Namespace, team: Any) -> int:
    args.team = team
    code = run_module(module, args)
    team.end()
    return code


def _as_rank(lead: Callable[[Any], int], place: Any, device: str, spoken: int | None) -> int:
    from llamalab.parallel.rank_watch import LOST, RankWatch, is_loss
    from llamalab.parallel.team import Team

    watch, team = RankWatch().begin(), None
    code = LOST
    try:
        team = Team.join(place, device)
        if team.leads:
            code = lead(team)
        else:
            team.follow()
            code = 0
    except (KeyboardInterrupt, SystemExit):
        _gone(130)  # the launcher reports it; unfinished work is unwound, and peers may be gone already
    except Exception as error:
        if is_loss(error):
            import time

            time.sleep(1.0)  # so that the launcher sees the one that failed first
            _gone(LOST)
        code = error.exit_code if isinstance(error, LlamaLabError) else 1
        if (team is None and place.rank) or (team is not None and not team.speaks_first()):
            raise SystemExit(code) from None
        if spoken is not None:
            os.dup2(spoken, 2)
        raise
    finally:
        sys.stdout.flush()
        watch.leave(code)
    _gone(code)
