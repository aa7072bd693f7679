"""The share of a CPU that the threads of a run use: cores, and bandwidth of the dies on which they run.

A second thread on a core adds nothing, and threads fill one die (or cluster) after the other: those of one die share
its link to the memory, which is narrower than all channels together.
"""

from llamalab.hardware import HardwareSpec
from llamalab.startup.hints import NamedTuple


class Reach(NamedTuple):
    """Shares of a device that a run can use: of its cores, and of its bandwidth."""

    cores: float
    bandwidth: float


def reach(spec: HardwareSpec, threads: int | None, die_bytes_per_s: float | None) -> Reach:
    """The shares used by so many threads (default: one a core) where a die reads so many byte/s; all of a GPU.

    >>> from llamalab.hardware import find_hardware
    >>> reach(find_hardware("threadripper-5975wx"), 8, 51.2e9)
    Reach(cores=0.25, bandwidth=0.25)
    """
    if spec.kind != "cpu" or spec.clocking is None:
        return Reach(1.0, 1.0)
    cores = spec.clocking.matrix_units
    working = min(threads or cores, cores)
    if spec.cores_per_die is None or die_bytes_per_s is None:
        return Reach(working / cores, 1.0)
    dies = -(-working // spec.cores_per_die)
    return Reach(working / cores, min(1.0, dies * die_bytes_per_s / spec.bandwidth_bytes_per_s))
