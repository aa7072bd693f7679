"""Links between devices and between machines: bytes a second of one device, both directions together, with a source.

A ring sends in one direction while it receives in the other: half of a row's figure is what a collective may take.
Switched links (NVSwitch, a fat tree) give every device its whole rate to any other; without a switch it is shared.
"""

from llamalab.errors import UnknownNameError
from llamalab.startup.hints import NamedTuple


class LinkSpec(NamedTuple):
    """One kind of link as its data sheet has it; `between` says what it joins."""

    name: str
    title: str
    bytes_per_s: float
    between: str
    source: str


_A100, _H100 = "NVIDIA A100 Tensor Core GPU data sheet", "NVIDIA H100 Tensor Core GPU data sheet"
_IB, _ETHERNET = "InfiniBand Trade Association roadmap, four lanes", "IEEE 802.3"
_PCI, _ROUNDED = "PCI-SIG, PCI Express base specification, 16 lanes", "rounded as data sheets do"
_IN, _OUT = "devices of a machine", "machines"
LINKS = {
    link.name: link
    for link in (
        LinkSpec("nvlink1", "NVLink 1 (P100)", 160e9, _IN, "NVIDIA Tesla P100 white paper, NVLink: 4 links of 40 GB/s"),
        LinkSpec("nvlink2", "NVLink 2 (V100)", 300e9, _IN, "NVIDIA Tesla V100 white paper, NVLink: 6 links of 50 GB/s"),
        LinkSpec("nvlink3", "NVLink 3 through NVSwitch (A100)", 600e9, _IN, f"{_A100}: 600 GB/s"),
        LinkSpec("nvlink4", "NVLink 4 through NVSwitch (H100, H200)", 900e9, _IN, f"{_H100}: 900 GB/s"),
        LinkSpec(
            "nvlink5", "NVLink 5 through NVSwitch (B200)", 1800e9, _IN, "NVIDIA DGX B200 data sheet: 1.8 TB/s a GPU"
        ),
        LinkSpec("nvbridge4", "NVLink 4 bridge between two H100 PCIe", 600e9, _IN, f"{_H100}, PCIe form: 600 GB/s"),
        LinkSpec(
            "xgmi3", "Infinity Fabric (MI250X)", 800e9, _IN, "AMD Instinct MI250X data sheet: 8 links of 100 GB/s"
        ),
        LinkSpec(
            "xgmi4",
            "Infinity Fabric (MI300X, MI325X)",
            896e9,
            _IN,
            "AMD Instinct MI300X data sheet: 7 links of 128 GB/s",
        ),
        LinkSpec("pcie3", "PCIe 3.0 x16", 32e9, _IN, f"{_PCI}: 8 GT/s a lane, {_ROUNDED}"),
        LinkSpec("pcie4", "PCIe 4.0 x16", 64e9, _IN, f"{_A100}: 64 GB/s"),
        LinkSpec("pcie5", "PCIe 5.0 x16", 128e9, _IN, f"{_H100}: 128 GB/s"),
        LinkSpec("pcie6", "PCIe 6.0 x16", 256e9, _IN, f"{_PCI}: 64 GT/s a lane, {_ROUNDED}"),
        LinkSpec("edr", "InfiniBand EDR, a port a device", 25e9, _OUT, f"{_IB}: 100 Gbit/s a direction"),
        LinkSpec("hdr", "InfiniBand HDR, a port a device", 50e9, _OUT, f"{_IB}: 200 Gbit/s a direction"),
        LinkSpec("ndr", "InfiniBand NDR, a port a device", 100e9, _OUT, f"{_IB}: 400 Gbit/s a direction"),
        LinkSpec("xdr", "InfiniBand XDR, a port a device", 200e9, _OUT, f"{_IB}: 800 Gbit/s a direction"),
        *(
            LinkSpec(
                f"{rate}gbe",
                f"{rate} Gbit Ethernet, RoCE or TCP, a port a device",
                rate / 4 * 1e9,
                _OUT,
                f"{_ETHERNET}: {rate} Gbit/s a direction",
            )
            for rate in (800, 400, 200, 100, 25, 10)
        ),
    )
}


def find_link(name: str) -> LinkSpec:
    """The link of that name. Raises UnknownNameError.

    >>> find_link("nvlink4").bytes_per_s
    900000000000.0
    """
    if name.lower() not in LINKS:
        raise UnknownNameError("link", name, LINKS)
    return LINKS[name.lower()]
