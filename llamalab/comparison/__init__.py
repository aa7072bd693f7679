"""Predicted against measured: the join on operation names, the rates it rests on, and its wording.

Belongs here: `comparison` (every figure that follows from a record), `passes` (a pass joined operation by operation),
`attention_rows` (attention by itself), `basis` (which rates a prediction takes from which roofs), `what_if` (other
devices, other settings), `claims` (which predictions held), `sentences`, `crossover` and `wording` (figures in words),
`run_deltas` (two runs), `own_runs`, `run_files`, `measured_runs` and `scoring` (runs of ours and of others, and their
errors).
Does not belong here: torch, plots, HTML, files, measuring; figures that only one page shows formatted differently.
May import: records, analytic and what these import.
"""
