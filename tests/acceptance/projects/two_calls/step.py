"""One step of a script of the shell."""

import json
import sys

print(json.dumps(sys.argv[1:]))
