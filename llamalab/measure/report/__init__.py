"""Everything that `llamalab report` measures, joined to one Record.

Belongs here: `run` (roofs, prefill, decode, flash against naive), `passes` (one forward pass measured from all sides),
`notes` (conditions that change how the numbers are to be read).
Does not belong here: rendering (llamalab.report).
"""
