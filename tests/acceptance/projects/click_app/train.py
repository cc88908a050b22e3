"""A command line of Click."""

import json

import click


@click.command()
@click.argument("dataset")
@click.option("--lr", type=float, default=0.1)
@click.option("--optimizer", type=click.Choice(["adam", "sgd"]), default="adam")
@click.option("--augment/--no-augment", default=True)
@click.option("--layer", type=int, multiple=True)
def train(dataset: str, lr: float, optimizer: str, layer: tuple[int, ...], *, augment: bool) -> None:
    """Print what was given."""
    print(json.dumps({"dataset": dataset, "lr": lr, "optimizer": optimizer, "augment": augment, "layer": layer}))


if __name__ == "__main__":
    train()
