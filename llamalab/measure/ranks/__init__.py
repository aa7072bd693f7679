"""What several ranks of one run cost: their links, their constants beside each other, their passes.

Every measurement here is made by all ranks at once with the same number of repetitions, and gathered on the first.

Belongs here: times of collectives over size, constants of ranks that work side by side, passes split into compute,
communication and waiting. Does not belong here: how ranks start and share a model (parallel), what a collective should
cost (analytic), pages (report).
"""
