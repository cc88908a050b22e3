"""Learns whether a point lies inside a circle: a logistic regression, trained with the standard library alone."""

from __future__ import annotations

import argparse
import json
import math
import random

POINTS = 30_000
RADIUS_SQUARED = 0.6


class Point:
    """A point in the square from -1 to 1: its features, and its label, 1.0 if it lies inside the circle."""

    def __init__(self, x: float, y: float) -> None:
        self.features = (1.0, x, y, x * x, y * y)
        self.label = float(x * x + y * y < RADIUS_SQUARED)


def train_epoch(points: list[Point], weights: list[float], rate: float) -> tuple[float, float]:
    """Take one step down the gradient for each point; return the mean loss and the accuracy."""
    loss, right = 0.0, 0
    for point in points:
        score = sum(map(float.__mul__, weights, point.features))
        chance = 1 / (1 + math.exp(-score))
        right += (score > 0) == (point.label > 0)
        loss -= math.log(max(chance if point.label else 1 - chance, 1e-12))
        step = rate * (point.label - chance)
        for index, feature in enumerate(point.features):
            weights[index] += step * feature
    return loss / len(points), right / len(points)


def main() -> None:
    """Train, print the progress, and write the result to the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max_epochs", type=int, default=10)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    draw = random.Random(given.seed).uniform
    points = [Point(draw(-1, 1), draw(-1, 1)) for _ in range(POINTS)]
    weights = [0.0] * len(points[0].features)
    result = {}
    for epoch in range(1, given.max_epochs + 1):
        loss, accuracy = train_epoch(points, weights, given.learning_rate)
        result = {"loss": loss, "accuracy": accuracy}
        print(f"epoch {epoch}/{given.max_epochs}: loss {loss:.4f}, accuracy {accuracy:.4f}")
    with open("result.json", "w") as file:
        json.dump({**vars(given), **result, "weights": weights}, file, indent=2)


if __name__ == "__main__":
    main()
