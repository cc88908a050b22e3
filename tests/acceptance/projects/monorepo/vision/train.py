"""A script that expects to be started in its own folder."""

import json
import sys
from pathlib import Path

from models import describe

settings = json.loads(Path("settings.json").read_text(encoding="utf-8"))
print(json.dumps({**settings, "arguments": sys.argv[1:], "model": describe()}))
