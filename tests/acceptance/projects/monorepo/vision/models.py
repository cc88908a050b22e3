"""Models of the script beside it."""


def describe() -> str:
    """Say which one it is."""
    return "resnet"
