"""Products of a few rows in C of our own, compiled on the machine that runs them, where it has a compiler.

Decode reads every weight once for one row. oneDNN's and torch's products of a row stop short of the rate of memory on
CPUs with AVX-512; these read a weight from its first byte to its last.

Read in this order: products.c, library (compiled once a machine, and opened), calls (on tensors), linear (a layer of
plain weights). Quantised weights use it as one kernel among others: llamalab.model.quantised.native_codes.

Belongs here: what a compiler of C needs, and the calls. Does not belong here: whether a kernel is right or faster than
another, which those try who choose it; anything that must run: without a compiler all works, by torch's products.
"""
