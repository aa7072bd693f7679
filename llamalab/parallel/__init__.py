"""A model on several ranks: tensor parallelism on torch.distributed.

    plan        what each module's weight is cut by, and `parallelize`
    shares      what one rank loads or draws: its part of each weight, and no more
    groups      quantised weights, whose groups ranks must leave whole
    seats       processors of a rank's own, and threads that do not stand in each other's way
    manners     one rank speaks, a lost rank ends all, nothing stays behind
    launch      ranks of this machine through torch's elastic launcher
    models      the model of a run that a team shares
    team        one rank leads, the others repeat its passes
    counted     the collectives that really run, by kind, calls and bytes
    views       taps that see the whole of what ranks hold parts of

Belongs here: how ranks are started, share a model and talk. Does not belong here: what a collective should cost
(analytic.parallel), clocks and measurements of links (measure.ranks), options and text (cli).
"""

from llamalab.parallel.plan import parallelize

__all__ = ["parallelize"]
