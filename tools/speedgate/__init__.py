"""The A/B gate: whether this tree is slower than another revision of it.

Belongs here: exact counters, the workers that time two revisions in turns, and the rule that decides, with its recorded
samples. The harness is the same for both revisions, so it uses nothing of llamalab's own measuring.
Does not belong here: benchmarks of the product (tests/benchmarks), experiments.
"""
