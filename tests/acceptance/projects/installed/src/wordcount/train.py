"""A module that is run with `python -m`."""

import json
import sys

from wordcount import VERSION

print(json.dumps({"version": VERSION, "arguments": sys.argv[1:]}))
