"""The cost of several ranks of one run: their links, their constants side by side, their passes.

Every measurement here is made by all ranks at once with the same number of repetitions, and gathered on the first.

Belongs here: times of collectives over size, constants of ranks that work side by side, passes split into compute,
communication and waiting. Does not belong here: how ranks start and share a model (parallel), the predicted cost of a
collective (analytic), pages (report).
"""
