"""The choice of a prediction's constants: the fraction of the data sheet that a device reaches, in three tiers.

Per class of operation: a fixed time t0, the efficiencies e_c and e_m against peak and bandwidth, and
the exponent q of the soft maximum (llamalab.analytic.roofline). In rising trust:

    bound       the data sheet without losses (llamalab.analytic.data_sheet)
    shipped     fitted on single kernels (llamalab.analytic.shipped_constants)
    calibrated  rates measured on the machine at hand (llamalab.analytic.calibration_files)

Shipped constants are fractions, so that a device without kernel data uses those of the fitted device
whose peak and bandwidth are nearest, which its prediction states.
"""

from functools import lru_cache

from llamalab.analytic.calibration_files import default_path, read_constants
from llamalab.analytic.data_sheet import WEIGHT_ONLY, data_sheet, nominal_peaks, product_dtype
from llamalab.analytic.rate_constants import Constants
from llamalab.analytic.shipped_constants import FP8_SHARE, SHIPPED, SHIPPED_HOST, nearest_fitted, with_losses
from llamalab.errors import InputError, MissingError, UnavailableError
from llamalab.hardware import HardwareSpec, is_listed
from llamalab.startup.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TIERS = ("bound", "shipped", "calibrated")
# Half-widths: 9 of 10 published points of fitted devices lie within the first (docs/accuracy.md); twice
# that where constants were transferred to another chip.
SPREAD, TRANSFERRED_SPREAD = 0.15, 0.30


def choose(
    spec: HardwareSpec, tier: str, dtype: str, weight_dtype: str | None = None, *, file: "Path | None" = None
) -> Constants:
    """The constants of a tier for `spec`; `file` holds calibrated ones (default: default_path).

    Raises MissingError where there is no calibration, UnavailableError where the device has no such peak.
    """
    if tier == "calibrated":
        if file is None and not (spec.measured or is_listed(spec)):
            raise MissingError(f"{spec.name} must be a device of this machine to be calibrated; it is your own file's")
        return read_constants(file or default_path(spec.name, dtype), dtype)
    if spec.measured and tier in TIERS:
        if tier == "shipped":
            raise UnavailableError(
                f"{spec.name} must be calibrated: no constants are shipped for it", hint="leave {basis} out"
            )
        found = read_constants(file or default_path(spec.name, dtype), dtype)
        return Constants({name: rates.bound() for name, rates in found.rates.items()}, "bound (measured roofs)", None)
    return _of_data_sheet(spec, tier, dtype, weight_dtype)


@lru_cache(maxsize=1024)  # of a sweep, each for thousands of predictions
def _of_data_sheet(spec: HardwareSpec, tier: str, dtype: str, weight_dtype: str | None) -> Constants:
    bounds = data_sheet(spec, dtype, weight_dtype or dtype, packed=(weight_dtype or dtype) in WEIGHT_ONLY)
    if tier == "bound":
        return Constants(bounds, "bound (data sheet)", None)
    if tier != "shipped":
        raise InputError(f"basis must be one of {', '.join(TIERS)}; got {tier!r}")
    fitted = nearest_fitted(spec)
    nominal = nominal_peaks(spec, dtype, weight_dtype or dtype)
    rates = {name: with_losses(rates, SHIPPED[fitted][name], nominal, name) for name, rates in bounds.items()}
    if product_dtype(spec, dtype, weight_dtype or dtype) == "fp8":
        rates["gemm"] = rates["gemm"]._replace(compute_efficiency=FP8_SHARE * rates["gemm"].compute_efficiency)
    listed = is_listed(spec)  # a reader's own device may be named like any chip
    if listed and fitted == spec.name:
        return Constants(rates, "shipped", SPREAD, SHIPPED_HOST)
    sibling = listed and fitted.partition("-")[0] == spec.name.partition("-")[0]  # the same chip with other memory
    spread = SPREAD if sibling else TRANSFERRED_SPREAD
    return Constants(rates, f"shipped (transferred from {fitted})", spread, SHIPPED_HOST)
