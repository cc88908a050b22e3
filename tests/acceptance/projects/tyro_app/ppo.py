"""A command line of tyro, in the style of CleanRL: every boolean is a pair of flags."""

import json
from dataclasses import asdict, dataclass

import tyro


@dataclass
class Args:
    """Arguments of the script."""

    env_id: str = "CartPole-v1"
    learning_rate: float = 2.5e-4
    anneal_lr: bool = True
    num_envs: int = 4


if __name__ == "__main__":
    print(json.dumps(asdict(tyro.cli(Args))))
