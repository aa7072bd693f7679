"""The constants of this machine: kernels timed, rates fitted, and checked on passes that were not fitted.

Belongs here: `run` (under a minute from blocks to constants), `blocks` (what is fitted and what is checked), `fit` (few
bounded constants), `constants_here` (which constants a prediction for this machine takes when nobody names any).
Does not belong here: the formulas of a prediction (analytic), constants of other machines.
"""
