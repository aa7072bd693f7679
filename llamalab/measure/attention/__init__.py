"""One attention call, backend by backend: time, peak memory, and the kernel that ran.

Belongs here: `calls` (one measured call), `unit_costs` (its predicted time), `lab` (all backends at all shapes),
`sweep` (flash against naive over the sequence length, for the report).
Does not belong here: the backends themselves (llamalab.attention).
"""
