"""The kinds of devices that can be measured, by torch's name of the kind, and the class of each.

`auto` takes the last kind that is present, so the CPU comes first. A kind's module is imported when it is asked for.
"""

import os
import sys

from llamalab.errors import MissingError

DEVICE_KINDS = {
    "cpu": "llamalab.measure.device.cpu.Cpu",
    "cuda": "llamalab.measure.device.cuda.Cuda",
}
DEVICES = ("auto", *DEVICE_KINDS)  # the words that name one
DRIVERS = {"cuda": ("libcuda.so.1", "nvcuda.dll")}  # libraries of a kind's driver, of which one loads where it is there
ROCM = "/dev/kfd"  # of AMD's driver, whose devices torch calls cuda too


def check_driver(name: str) -> None:
    """Raise MissingError for a device whose driver is not on this machine, which needs no torch to be seen.

    Where torch is loaded already it is not looked for: torch reports the devices that it sees.
    """
    libraries = DRIVERS.get(name.partition(":")[0])
    if libraries is None or "torch" in sys.modules or os.path.exists(ROCM):
        return
    if not any(map(_loads, libraries)):
        raise MissingError(
            f"device {name} must be there; none of its driver's libraries ({', '.join(libraries)}) is on this machine; "
            "try cpu, or llamalab doctor"
        )


def _loads(library: str) -> bool:
    from ctypes import CDLL  # imported here: who asks for no accelerator need not wait for it

    try:
        CDLL(library)
    except OSError:
        return False
    return True
