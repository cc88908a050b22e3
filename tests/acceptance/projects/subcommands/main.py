"""A command line of argparse: subcommands, flags that are there or not, several values of one flag."""

import argparse
import json

parser = argparse.ArgumentParser()
commands = parser.add_subparsers(dest="command", required=True)
fit = commands.add_parser("fit")
fit.add_argument("data")
fit.add_argument("-l", "--lr", type=float, default=1e-3)
fit.add_argument("--hidden", type=int, nargs="+", default=[64])
fit.add_argument("--optimizer", choices=["adam", "sgd"], default="adam")
fit.add_argument("--amp", action="store_true")
fit.add_argument("--seed", type=int, default=0)
commands.add_parser("test").add_argument("checkpoint")
print(json.dumps(vars(parser.parse_args())))
