"""The most that this machine reaches: products, streams, copies, caches, attention, launches.

Belongs here: `machine` (where roofs are measured), `best` (the best of several probes, checked), `probes` (products,
streams, attention, launches), `moves` (copies and sums), `again` (roofs that a pass exceeded), `quick` (fewer shapes),
`dtype_rates` (products by element type). Every probe stays inside one memory budget.
Does not belong here: the model's passes, predictions.
"""
