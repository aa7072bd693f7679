"""Properties of the machine: name, memory, caches, allocator, power, clocks, versions.

Belongs here: everything that asks the operating system, CUDA or a driver about the machine, each result None with a
reason where it is unknown. `base` is the interface of a device, `cpu` and `cuda` implement it, `kinds` lists them,
`machine` finds the one behind a torch device. A new kind of device is a file here and its row in `kinds`.
Does not belong here: running a model, predicted figures, data sheets (llamalab.hardware).
"""
