"""What did it cost on this machine? Clocks, memory, kernels, roofs, and the record that joins them.

Clean timing, the op-by-op pass, memory and the profiler are separate passes, never mixed: each
instrument costs something, and the cost of the op-by-op one is part of the record.
"""
