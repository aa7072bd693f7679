"""Links between devices and between machines: byte/s of one device, both directions together, with a source.

A ring sends in one direction while it receives in the other: a collective uses half of a row's figure.
Switched links (NVSwitch, a fat tree) give every device its whole rate to any other; without a switch it is shared.
"""

from llamalab.errors import UnknownNameError
from llamalab.startup.hints import NamedTuple


class LinkSpec(NamedTuple):
    """One kind of link by its data sheet; `between` names the connected parts."""

    name: str
    title: str
    bytes_per_s: float
    between: str
    source: str


_INDEX = "alpha-one-index.github.io/ai-infra-index, networking interconnects"
_CABLES = "atgbics.com, Direct Attach InfiniBand Port Speed Overview: four lanes"
_RATES = "Ethernet Technology Consortium, which began as that of 25, 50 and 100 Gbit/s"
_IN, _OUT = "devices of a machine", "machines"
# Each source was read for the figure of its row; a figure for one direction is doubled.
LINKS = {
    link.name: link
    for link in (
        LinkSpec(
            "nvlink1",
            "NVLink 1 (P100)",
            160e9,
            _IN,
            "Microway, Tesla P100 NVLink Up Close: 80 GB/s, 160 bi-directional",
        ),
        LinkSpec(
            "nvlink2",
            "NVLink 2 (V100)",
            300e9,
            _IN,
            "Alibaba Cloud, topology of V100 (help, 190482): six links of 50 GB/s two-way",
        ),
        LinkSpec("nvlink3", "NVLink 3 through NVSwitch (A100)", 600e9, _IN, f"{_INDEX}: 12 links of 50 GB/s"),
        LinkSpec(
            "nvlink4",
            "NVLink 4 through NVSwitch (H100, H200)",
            900e9,
            _IN,
            "github.com/NVIDIA/nccl, issue 1264: 900 GB/s in theory, 450 in one direction",
        ),
        LinkSpec(
            "nvlink5",
            "NVLink 5 through NVSwitch (B200)",
            1800e9,
            _IN,
            "NVIDIA, NVLink and NVSwitch: 18 links of 100 GB/s",
        ),
        LinkSpec(
            "nvbridge4",
            "NVLink 4 bridge between two H100 PCIe",
            600e9,
            _IN,
            "NVIDIA on H100, as quoted: two PCIe cards are connected at 600 GB/s bidirectional",
        ),
        LinkSpec(
            "xgmi3",
            "Infinity Fabric (MI250X)",
            800e9,
            _IN,
            "ROCm documentation, MI250: links of 100 GB/s bidirectional; of each die's eight, four lead to its sibling",
        ),
        LinkSpec(
            "xgmi4",
            "Infinity Fabric (MI300X, MI325X)",
            896e9,
            _IN,
            "TechInsights, AMD Looks to Infinity for AI Interconnects: 7 links of 128 GB/s bidirectional",
        ),
        LinkSpec("pcie3", "PCIe 3.0 x16", 32e9, _IN, f"{_INDEX}: 16 GB/s a direction"),
        LinkSpec("pcie4", "PCIe 4.0 x16", 64e9, _IN, f"{_INDEX}: 32 GB/s a direction"),
        LinkSpec("pcie5", "PCIe 5.0 x16", 128e9, _IN, f"{_INDEX}: 64 GB/s a direction"),
        LinkSpec("pcie6", "PCIe 6.0 x16", 256e9, _IN, f"{_INDEX}: 128 GB/s a direction"),
        LinkSpec("edr", "InfiniBand EDR, a port a device", 25e9, _OUT, f"{_CABLES}, 100 Gbit/s a direction"),
        LinkSpec("hdr", "InfiniBand HDR, a port a device", 50e9, _OUT, f"{_CABLES}, 200 Gbit/s a direction"),
        LinkSpec("ndr", "InfiniBand NDR, a port a device", 100e9, _OUT, f"{_CABLES}, 400 Gbit/s a direction"),
        LinkSpec("xdr", "InfiniBand XDR, a port a device", 200e9, _OUT, f"{_INDEX}: 800 Gbit/s a direction"),
        *(
            LinkSpec(
                f"{rate}gbe",
                f"{rate} Gbit Ethernet, RoCE or TCP, a port a device",
                rate / 4 * 1e9,
                _OUT,
                f"{source}: {rate} Gbit/s a direction",
            )
            for rate, source in (
                (800, "IEEE 802.3df, approved on 16 February 2024"),
                (400, "ISO/IEC/IEEE 8802-3:2017/Amd 10:2019"),
                (200, "ISO/IEC/IEEE 8802-3:2017/Amd 10:2019"),
                (100, _RATES),
                (25, _RATES),
                (10, "its name"),
            )
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
