"""Every Triton kernel compiled for GPUs that are not here: what `make kernels` runs.

Belongs here: what a compiler can be asked without a GPU. Does not belong here: results, which tests/attention checks
in Triton's interpreter and, where there is a GPU, on it.
"""
