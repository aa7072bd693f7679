"""The plots of the report: one small function each, from compared data to a matplotlib figure."""
