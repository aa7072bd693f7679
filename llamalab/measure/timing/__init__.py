"""How long something takes: timestamps, rounds of interleaved variants, and taps that note the time.

Belongs here: `clock` (timestamps of a device), `timer` (plans, rounds, raw samples), `op_clock` (a tap that times every
operation), `profiler_ranges` (a tap that names them for the profiler), `doubling_check` (whether a probe's rate holds).
Does not belong here: the work that is timed, and the interpretation of its time.
"""
