"""Where time and memory of a model go, operation by operation.

Belongs here: `run` (a profile), `rows` (its rows), `observations` (kernels and memory of one pass),
`kernel_times`, `attention_kernel`, `allocations`, `trace`.
Does not belong here: clean timing (timing), pages and tables (report).
"""
