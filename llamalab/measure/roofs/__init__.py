"""The highest rates of this machine: products, streams, copies, caches, attention, launches.

Belongs here: `machine` (device, dtype and time of a measurement), `best` (the best of several probes, checked),
`probes` (products, streams, attention, launches), `moves` (copies and sums), `again` (roofs that a pass exceeded),
`quick` (fewer shapes), `dtype_rates` (products by dtype). Every probe stays within one memory budget.
Does not belong here: the model's passes, predictions.
"""
