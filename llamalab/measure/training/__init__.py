"""What a training step needs on this machine: rates that predict its time, and the memory that it held.

Read in this order: rates, step.

Belongs here: probes of the kernels that training runs forward and backward, the prediction that follows from them, the
measured peak of a step. Does not belong here: the formulas (analytic.training_time, analytic.fine_tuning), the steps
themselves (train), roofs that other work is held against (measure.roofs).
"""
