"""`python -m llamalab` is the command `llamalab`."""

import sys

from llamalab.cli import main

if __name__ == "__main__":
    sys.exit(main())
