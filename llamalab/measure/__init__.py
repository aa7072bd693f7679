"""The measured cost of a model on this machine: rooms for clocks, devices, roofs, targets and each kind of run.

From the bottom: `timing`, `device`, `roofs`, `training`, `target`, `calibration`, `ranks`, `profile`, `attention`,
`bench`, `report`; a room imports only rooms named before it. Clean timing, the op-by-op pass, memory and the profiler
are separate passes, never mixed: each instrument costs something, and the cost of the op-by-op one is part of the
record.

Belongs here: whatever runs a model, or a part of one, to learn what it costs.
Does not belong here: rendering, wording, derived figures, command-line options.
"""
