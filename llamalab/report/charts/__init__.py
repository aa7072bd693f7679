"""The plots of the report: one file a plot, from compared data to a matplotlib figure.

A chart is a function from compared data to a `Plot`; `layout.figure` calls it and puts the panels on the page.

Belongs here: functions that draw given figures, with what all charts share in `base`.
Does not belong here: computing a displayed figure, captions (report.captions), reading files.
"""

from llamalab.startup.plotting import import_matplotlib

import_matplotlib()  # before any module below imports a part of it
