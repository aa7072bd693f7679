"""Imported before any module that draws: see plotting."""

from llamalab.plotting import import_matplotlib

import_matplotlib()
