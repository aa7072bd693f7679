"""Everything that `llamalab report` measures, joined to one Record.

Belongs here: `run` (all of it in order), `budget` (how much), `roofs`, `phases` (prefill and decode), `passes` (one
forward pass measured from all sides), `patterns` (what heads look at), `command` (the command line that is recorded),
`notes` (conditions that change how the numbers are to be read).
Does not belong here: rendering (llamalab.report).
"""
