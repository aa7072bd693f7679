"""One attention call, backend by backend: time, peak memory, and the kernel that ran.

Belongs here: `calls` (one measured call), `unit_costs` (the time that it should take here), `lab` (all backends at all
shapes), `sweep` (flash against naive as the sequence grows, for the report).
Does not belong here: the backends themselves (llamalab.attention).
"""
