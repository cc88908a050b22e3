"""A command line of absl."""

import json

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_float("learning_rate", 0.1, "Step size.")
flags.DEFINE_enum("optimizer", "adam", ["adam", "sgd"], "Optimizer.")
flags.DEFINE_bool("use_bias", True, "Whether layers have a bias.")
flags.DEFINE_list("layers", ["64"], "Sizes of the layers.")


def main(_: list[str]) -> None:
    """Print what was given."""
    names = ("learning_rate", "optimizer", "use_bias", "layers")
    print(json.dumps({name: getattr(FLAGS, name) for name in names}))


if __name__ == "__main__":
    app.run(main)
