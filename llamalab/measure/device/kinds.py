"""The kinds of devices that can be measured, by torch's name of the kind, and the class of each.

`auto` takes the last kind that is present, so the CPU comes first. A kind's module is imported when it is asked for.
"""

DEVICE_KINDS = {
    "cpu": "llamalab.measure.device.cpu.Cpu",
    "cuda": "llamalab.measure.device.cuda.Cuda",
}
DEVICES = ("auto", *DEVICE_KINDS)  # the words that name one
