"""A command line of jsonargparse, with subcommands and nested names, as Lightning's has."""

import json

from jsonargparse import ArgumentParser

fit = ArgumentParser()
fit.add_argument("--trainer.max_epochs", type=int, default=1)
fit.add_argument("--trainer.precision", default="32")
fit.add_argument("--model.lr", type=float, default=0.1)
fit.add_argument("--model.layers", type=list[int], default=[64])
parser = ArgumentParser()
parser.add_subcommands().add_subcommand("fit", fit)
found = parser.parse_args()
print(json.dumps({"command": found.subcommand, **found.fit.as_dict()}))
