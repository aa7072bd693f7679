"""Memory of a run outside its tensors: the runtime's own, kernel libraries, and waste of the allocator.

It does not follow from sizes. Figures of a kind of device are given with their source; a program on the device can
measure its own and pass them in (experiments/fit_contract.py does).
"""

from llamalab.analytic.scratch import CpuBound, NoScratch, Scratch
from llamalab.errors import UnknownNameError
from llamalab.startup.hints import NamedTuple

MIB = 2**20


class Runtime(NamedTuple):
    """Memory held or wasted by a device's runtime and libraries.

    context_bytes: taken before the first tensor: driver, kernels, Python where it shares the memory
    workspace_bytes: kept by libraries for their kernels over the whole run
    rounding_bytes: what an allocation is rounded up to, for each tensor alive
    fragmentation: share of activations that is lost between blocks that are taken and given back
    kernel_bytes: of each kernel that is compiled for a shape and kept: oneDNN's products of half types
    graph_bytes: of one captured graph
    margin: share of the whole that the sum may be off, for what is estimated
    """

    name: str
    context_bytes: int
    workspace_bytes: int
    rounding_bytes: int
    fragmentation: float
    kernel_bytes: int
    graph_bytes: int
    margin: float
    source: str

    def scratch(self, threads: int = 1) -> Scratch:
        """Bound of its kernels' scratch memory in one call."""
        return CpuBound(threads) if self.name == "cpu" else NoScratch()


RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime(
            name="cpu",
            context_bytes=400 * MIB,
            workspace_bytes=8 * MIB,
            rounding_bytes=4096,
            fragmentation=0.05,
            kernel_bytes=MIB,
            graph_bytes=0,
            margin=0.04,
            source="resident set of Python with torch 2.13 after a first pass; pages of 4 KiB; "
            "experiments/fit_contract",
        ),
        Runtime(
            name="cuda",
            context_bytes=550 * MIB,
            workspace_bytes=32 * MIB,
            rounding_bytes=2 * MIB,
            fragmentation=0.05,
            kernel_bytes=0,
            graph_bytes=64 * MIB,
            margin=0.02,
            source="0.4 to 0.6 GiB of context and kernels are reported for Ampere and Hopper; cuBLAS keeps 8 MiB, on "
            "Hopper 32 MiB (PyTorch's default); the caching allocator splits segments of 2 MiB",
        ),
    )
}


def find_runtime(name: str) -> Runtime:
    """The runtime of that name; UnknownNameError for any other."""
    if name not in RUNTIMES:
        raise UnknownNameError("runtime", name, RUNTIMES)
    return RUNTIMES[name]
