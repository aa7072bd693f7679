"""Products of a few rows by loops of our own, compiled on the machine: weights at the rate of its memory.

Belongs here: the loops, how they are compiled and loaded, and their operations.
Does not belong here: who runs them and up to how many rows, which llamalab.model.wide and llamalab.model.quantised say.

    rows.cpp    the loops: plain weights, codes of 8 and 4 bits
    library     compiled, kept, loaded; None where it cannot be
    products    the operations, and whether they can be had
"""
