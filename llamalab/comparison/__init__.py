"""Predicted against measured: the join on operation names, the rates it rests on, and its wording.

Belongs here: `comparison` (the join and every figure derived from a record), `basis` (which rates a prediction takes
from which roofs), `what_if` (other devices, other settings), `sentences` (the same figures in words).
Does not belong here: torch, plots, HTML, files, measuring; figures that only one page shows formatted differently.
May import: records, analytic and what these import.
"""
