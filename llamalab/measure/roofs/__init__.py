"""The most that this machine reaches: products, streams, copies, caches, attention, launches.

Belongs here: `probes` (work whose rate is a roof's candidate, and the choice of the best), `quick` (the same probes in
seconds). Every probe stays inside one memory budget.
Does not belong here: the model's passes, predictions.
"""
