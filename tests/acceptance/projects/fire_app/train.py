"""A command line of Python Fire."""

import json

import fire


def train(name: str, lr: float = 0.1, layers: object = (64, 64), *, verbose: bool = False) -> None:
    """Print what was given."""
    print(json.dumps({"name": name, "lr": lr, "layers": layers, "verbose": verbose}))


if __name__ == "__main__":
    fire.Fire(train)
