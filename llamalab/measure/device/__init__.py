"""The machine as it is: its name, memory, caches, allocator, power, clocks, versions.

Belongs here: everything that asks the operating system, CUDA or a driver about the machine, each answer with a reason
where there is none. A new kind of device starts here.
Does not belong here: running a model, predicted figures, data sheets (llamalab.hardware).
"""
