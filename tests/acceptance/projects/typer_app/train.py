"""A command line of Typer."""

import json

import typer


def train(dataset: str, lr: float = 0.1, *, dropout: bool = False) -> None:
    """Print what was given."""
    print(json.dumps({"dataset": dataset, "lr": lr, "dropout": dropout}))


if __name__ == "__main__":
    typer.run(train)
