"""Products of a few rows by our own loops in C++, compiled on the machine, bound by its memory bandwidth.

Belongs here: the loops, how they are compiled and loaded, and their operations.
Does not belong here: the choice of rows and layers that use them (llamalab.model.wide and llamalab.model.quantised).

    rows.cpp    the loops: plain weights, codes of 8 and 4 bits
        library     compilation, storage and loading; None where unavailable
        products    the operations, and whether they are available
"""
