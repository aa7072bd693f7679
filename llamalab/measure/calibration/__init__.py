"""The constants of this machine: kernels timed, rates fitted, and checked on passes that were not fitted.

Belongs here: `run` (blocks to constants in under a minute), `blocks` (the blocks to fit and to check), `fit` (few
bounded constants), `constants_here` (the default constants of predictions for this machine).
Does not belong here: the formulas of a prediction (analytic), constants of other machines.
"""
