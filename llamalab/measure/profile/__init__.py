"""Where time and memory of a model go, operation by operation.

Belongs here: `run` (a profile), `rows` (its rows), `observations` (what one pass shows to those who look closely),
`kernel_times`, `attention_kernel`, `allocations`, `trace`.
Does not belong here: clean timing (timing), pages and tables (report).
"""
