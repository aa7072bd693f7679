"""matplotlib, imported with any backend in the environment: figures here are drawn and saved without one."""

import os
from contextlib import suppress

from llamalab.startup.hints import Any


def import_matplotlib() -> Any:
    """The module. A valid backend in MPLBACKEND stays set for other plots of this process."""
    wished = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if wished is not None:
            os.environ["MPLBACKEND"] = wished
    if wished:
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = wished
    return matplotlib
