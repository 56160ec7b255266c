"""`python -m build_engines`."""

import sys

from build_engines.cli import main

if __name__ == "__main__":
    sys.exit(main())
