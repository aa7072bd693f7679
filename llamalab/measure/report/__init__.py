"""Everything that `llamalab report` measures, joined to one Record.

Belongs here: `run` (roofs, prefill, decode, flash against naive), `passes` (one forward pass measured from all sides),
`notes` (what a reader should know that the numbers alone do not say).
Does not belong here: rendering (llamalab.report).
"""
