"""A model on several ranks: tensor parallelism on torch.distributed.

        plan        the cut of each module's weight, and `parallelize`
        shares      the part of each weight that one rank loads or draws
        groups      groups of quantised weights, which a cut must not split
        affinity    CPU affinity of ranks, and priorities of their threads
        rank_watch  the end of a rank soon after a signal, or after the loss of another one
        launch      ranks of this machine through torch's elastic launcher
        models      the model of a run that a team shares
        team        one rank leads, the others repeat its passes
        counted     the collectives that run, by kind, calls and bytes
        views       taps on whole tensors of which each rank holds a part

Belongs here: how ranks are started, share a model and communicate. Does not belong here: the predicted cost of a
collective (analytic.parallel), clocks and measurements of links (measure.ranks), options and text (cli).
"""

from llamalab.parallel.plan import parallelize

__all__ = ["parallelize"]
