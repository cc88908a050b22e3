"""Trains nothing, in the style of nanoGPT: settings are globals, overridden by a file and then by `--key=value`."""

import ast
import json
import sys
from pathlib import Path

dataset = "shakespeare"
learning_rate = 6e-4
n_layer = 12
device = "cpu"
compile_model = True

for argument in sys.argv[1:]:
    if "=" not in argument:
        lines = Path(argument).read_text(encoding="utf-8").splitlines()
        overrides = [line.split("=", 1) for line in lines if "=" in line]
    else:
        overrides = [argument.removeprefix("--").split("=", 1)]
    for name, text in overrides:
        key = name.strip()
        assert key in globals(), f"there is no setting {key}"
        try:
            value = ast.literal_eval(text.strip())
        except (SyntaxError, ValueError):
            value = text.strip()
        assert type(value) is type(globals()[key]), f"{key} must not be {value!r}"
        globals()[key] = value

tokens = Path("data", dataset, "train.bin").read_bytes()
print(json.dumps({"learning_rate": learning_rate, "n_layer": n_layer, "device": device, "tokens": len(tokens)}))
