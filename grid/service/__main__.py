"""The operator's commands: `python -m grid.service serve | stop | status | credentials | users | teams`."""

from __future__ import annotations

import sys

from grid.service.command.main import main

if __name__ == "__main__":
    sys.exit(main())
