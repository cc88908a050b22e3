"""A command line made of a dataclass, in the style of the Transformers examples: booleans take a value."""

import argparse
import json
from dataclasses import dataclass, fields


@dataclass
class TrainingArguments:
    """Arguments of the script."""

    model_name_or_path: str = "bert-base"
    learning_rate: float = 5e-5
    num_train_epochs: float = 3.0
    fp16: bool = False


def truth(text: str) -> bool:
    """Read a boolean as people write it."""
    if text.lower() not in {"true", "false"}:
        raise argparse.ArgumentTypeError(f"not a truth value: {text}")
    return text.lower() == "true"


parser = argparse.ArgumentParser()
for field in fields(TrainingArguments):
    kind = truth if field.type is bool else field.type
    extra = {"nargs": "?", "const": True} if kind is truth else {}
    parser.add_argument(f"--{field.name}", type=kind, default=field.default, **extra)
print(json.dumps(vars(parser.parse_args())))
