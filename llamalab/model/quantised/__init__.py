"""Weights in 8 and 4 bits that the built-in model multiplies as they are stored.

Read in this order: codes (the stored numbers), products (the fastest product on this machine), linear (the layer),
weights (a whole model). A kernel is a file: streamed_codes, int8_rows, int4_groups, int8_groups,
kleidi, plain.

    storage   group      a weight is                 named as in llamalab.units.DTYPES
    int8      its row    code * scale
    q8_0      32         code * scale
    int4      128        code * scale + offset
    q4_0      32         code * scale + offset

Belongs here: coding, arranging for a kernel, multiplying, and the trial whether a kernel runs here and is right.
Does not belong here: files, bytes by formula, and which of two correct products is faster
(llamalab.measure.roofs.kernel_rows).
"""
