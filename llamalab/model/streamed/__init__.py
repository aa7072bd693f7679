"""Products of a few rows by loops of our own, compiled on the machine: weights at the rate of its memory.

Belongs here: the loops, how they are compiled and loaded, and their operations. Who runs them, and up to how many rows,
is said by llamalab.model.wide and llamalab.model.quantised.

    rows.cpp    the loops: plain weights, codes of 8 and 4 bits
    library     compiled, kept, loaded; None where it cannot be
    products    the operations, and whether they can be had
"""
