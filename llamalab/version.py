"""The version of the package: of records, pages, the command line and the wheel."""

__version__ = "0.1.0"
