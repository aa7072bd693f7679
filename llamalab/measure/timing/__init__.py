"""Time measurement: timestamps, rounds of interleaved variants, and taps that record times.

Belongs here: `clock` (timestamps of a device), `timer` (plans, rounds, raw samples), `op_clock` (a tap that times every
operation), `profiler_ranges` (a tap that names them for the profiler), `doubling_check` (validity of a probe's rate).
Does not belong here: the timed work, and the interpretation of its time.
"""
