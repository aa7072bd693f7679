"""Upper limits of all rates: peaks and bandwidth of a data sheet, by class of operation."""

from llamalab.analytic.roofline import Rates
from llamalab.errors import UnavailableError
from llamalab.hardware import HardwareSpec

# A multiprocessor issues this many lanes a clock: four schedulers x a warp of 32, four SIMDs x 16.
ISSUE_LANES = {"NVIDIA": 128, "AMD": 64}
# Storage types that are multiplied in the dtype of the activations.
WEIGHT_ONLY = ("int8", "int4", "q4_0", "q8_0", "q4_k_m", "q5_k_m", "q6_k")


def data_sheet(spec: HardwareSpec, dtype: str, weight_dtype: str, *, packed: bool = False) -> dict[str, Rates]:
    """Upper limits by class: the peaks of the data sheet at the highest clock, without any loss.

    fp16 may be accumulated in fp16 where that is faster; `packed` weights may be multiplied in any narrow type.
    """
    bandwidth, link = spec.bandwidth_bytes_per_s, spec.interconnect_bytes_per_s
    if bandwidth is None:
        raise UnavailableError(f"{spec.name} must have a known bandwidth to predict with; its data sheet has none")
    attention = Rates(_highest(spec, dtype), bandwidth)
    rates = {
        "gather": Rates(None, bandwidth),
        "gemm": Rates(_highest(spec, product_dtype(spec, dtype, weight_dtype), packed=packed), bandwidth),
        "elementwise": Rates(None, bandwidth),
        "attention_prefill": attention,
        "attention_decode": attention,
    }
    # The figure of a data sheet counts both directions; a ring sends in one while it receives in the other.
    return rates | (dict.fromkeys(("collective", "collective_one_shot"), Rates(None, link / 2)) if link else {})


def _highest(spec: HardwareSpec, dtype: str, *, packed: bool = False) -> float:
    """The fastest products in a type at the highest clock."""
    peaks = [peak_of(spec, dtype)]
    if dtype == "fp16" or packed:
        peaks.append(spec.fp16_in_fp16_flops_per_s or 0.0)
    if packed:
        peaks += [spec.peak_flops_per_s.get(name) or 0.0 for name in ("int8", "fp8")]
    return spec.boost * max(peaks)


def product_dtype(spec: HardwareSpec, dtype: str, weight_dtype: str) -> str:
    """The dtype of matrix products: that of the weights where the device multiplies it, else that of activations.

    >>> from llamalab.hardware import find_hardware
    >>> product_dtype(find_hardware("h200"), "bf16", "int4"), product_dtype(find_hardware("h200"), "bf16", "fp8")
    ('bf16', 'fp8')
    """
    if weight_dtype == dtype:
        return dtype
    storage_only = weight_dtype in WEIGHT_ONLY or spec.peak_flops_per_s.get(weight_dtype) is None
    return dtype if storage_only else weight_dtype


def nominal_peaks(spec: HardwareSpec, dtype: str, weight_dtype: str) -> dict[str, float]:
    """The peaks to which efficiencies refer, by class: with fp32 accumulation, at the clock of the data sheet."""
    attention = peak_of(spec, dtype)
    gemm = peak_of(spec, product_dtype(spec, dtype, weight_dtype))
    return {"gemm": gemm, "attention_prefill": attention, "attention_decode": attention}


def peak_of(spec: HardwareSpec, dtype: str) -> float:
    """The peak of a type. Raises UnavailableError where the data sheet has none."""
    peak = spec.peak_flops_per_s.get(dtype)
    if peak is None:
        known = ", ".join(name for name, value in spec.peak_flops_per_s.items() if value and name != "tf32")
        if not known:
            raise UnavailableError(f"{spec.name} must have a known peak to predict with; its data sheet has none")
        raise UnavailableError(f"{spec.name} must have a {dtype} peak to predict with; it has {known}; choose one")
    return peak


def issue_peak(spec: HardwareSpec) -> float | None:
    """Multiply-adds of the vector units that a device's schedulers start a second, times 2.

    A kernel that loads, converts and adds for each of them is bound by what is issued, not by lanes of one type: a
    multiprocessor of GA100 has half as many fp32 lanes as it issues to, and the data sheets of CDNA 3 and RDNA 3
    count two operations an instruction. Where the multiprocessors are not known, the fp32 peak of the data sheet.

    >>> from llamalab.hardware import find_hardware
    >>> [round(issue_peak(find_hardware(name)) / 1e12, 1) for name in ("a100-80gb-sxm", "h100-80gb-sxm", "mi300x")]
    [39.0, 61.8, 81.7]
    """
    lanes = ISSUE_LANES.get(spec.vendor or "")
    if lanes is None or spec.multiprocessors is None or spec.clocking is None:
        return spec.peak_flops_per_s["fp32"]
    return 2.0 * lanes * spec.multiprocessors * spec.clocking.clock_hz


def matrix_peak(spec: HardwareSpec) -> float:
    """The peak of matrix products in 16 bits, else of the vector units in 32."""
    return spec.peak_flops_per_s.get("bf16") or spec.peak_flops_per_s.get("fp16") or peak_of(spec, "fp32")
