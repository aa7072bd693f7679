"""Everything that `llamalab report` measures, joined to one Record.

Belongs here: `run` (all of it in order), `budget` (how much), `roofs`, `phases` (prefill and decode), `passes` (one
forward pass by every instrument), `patterns` (attention shares of heads), `command` (the recorded command line),
`notes` (conditions that limit the validity of the numbers).
Does not belong here: rendering (llamalab.report).
"""
