"""The needs of a training step on this machine: rates that predict its time, and its peak memory.

Read in this order: rates, step.

Belongs here: probes of the kernels that training runs forward and backward, the resulting prediction, the measured
peak of a step. Does not belong here: the formulas (analytic.training_time, analytic.fine_tuning), the steps
themselves (train), roofs for other work (measure.roofs).
"""
