"""Every Triton kernel compiled for GPUs that are not here: what `make kernels` runs.

Belongs here: what a compiler can be asked without a GPU, and results that Triton's interpreter takes long for: whole
decode steps. Does not belong here: results of attention, which tests/attention checks in the interpreter and, where
there is a GPU, on it.
"""
