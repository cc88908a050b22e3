"""`python -m grid.schema_tools`."""

from __future__ import annotations

import sys

from grid.schema_tools.command import main

if __name__ == "__main__":
    sys.exit(main())
