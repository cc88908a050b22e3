"""The small projects below `tests/acceptance/projects`, one for each family of scripts, and how each is swept."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROJECTS = Path(__file__).parents[1] / "acceptance" / "projects"


@dataclass(frozen=True)
class Family:
    """A project, a sweep of it, and what must come of it.

    Attributes
    ----------
    folder
        Its folder.
    entrypoint, script_args
        As its run has them.
    commands
        The command lines of its experiments.
    parameters
        Their parameters, without the script.
    printed
        What each prints, a JSON value a line.
    needs
        The package that it is written for; empty for none but Python's own.
    options
        Further arguments of its run, made of the folder that it was copied to.
    """

    folder: str
    entrypoint: str
    script_args: str
    commands: Sequence[str]
    parameters: Sequence[Mapping[str, str]]
    printed: Sequence[Sequence[Any]]
    needs: str = ""
    options: Callable[[Path], dict[str, Any]] = field(default=lambda _: {})

    def copy(self, folder: Path) -> Path:
        """Make a git repository of it below a folder, and return it."""
        project = folder / self.folder
        shutil.copytree(PROJECTS / self.folder, project)
        identity = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
        for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
            subprocess.run(["git", *command], cwd=project, check=True, capture_output=True)
        return project


def _with_tokens(project: Path) -> dict[str, Any]:
    """Put data where git ignores it, and return what links it in."""
    data = project / "data" / "shakespeare"
    data.mkdir(parents=True)
    (data / "train.bin").write_bytes(b"12345")
    return {"data": {"data/shakespeare": str(data)}}


def _with_words(project: Path) -> dict[str, Any]:
    """Put data beside the repository, and return what links it in."""
    data = project.parent / "data"
    data.mkdir()
    (data / "words.txt").write_text("to be or not to be")
    return {"data": {"../data": str(data)}}


FAMILIES = [
    Family(
        "nanogpt",
        "train.py",
        "config/small.py --n_layer=[2,4] --learning_rate=1e-4",
        [f"python train.py config/small.py --n_layer={n} --learning_rate=1e-4" for n in (2, 4)],
        [{"arg0": "config/small.py", "n_layer": n, "learning_rate": "1e-4"} for n in ("2", "4")],
        [[{"learning_rate": 1e-4, "n_layer": n, "device": "cpu", "tokens": 5}] for n in (2, 4)],
        options=_with_tokens,
    ),
    Family(
        "hydra_app",
        "app.py",
        "lr=[0.1,0.2] model.hidden_layer_sizes=[[8,16]] +opt.name=[adam,sgd]",
        [
            f"python app.py lr={lr} 'model.hidden_layer_sizes=[8, 16]' +opt.name={opt}"
            for lr in (0.1, 0.2)
            for opt in ("adam", "sgd")
        ],
        [
            {"lr": lr, "model.hidden_layer_sizes": "[8, 16]", "opt.name": opt}
            for lr in ("0.1", "0.2")
            for opt in ("adam", "sgd")
        ],
        [
            [{"lr": lr, "model": {"hidden_layer_sizes": [8, 16], "dropout": 0.0}, "opt": {"name": opt}}]
            for lr in (0.1, 0.2)
            for opt in ("adam", "sgd")
        ],
        needs="hydra",
    ),
    Family(
        "subcommands",
        "main.py",
        "fit images -l [0.1,0.01] --amp 'switch()' --optimizer [adam,sgd]",
        [
            f"python main.py fit images -l {lr}{amp} --optimizer {opt}"
            for lr in ("0.1", "0.01")
            for amp in (" --amp", "")
            for opt in ("adam", "sgd")
        ],
        [
            {"arg0": "fit", "arg1": "images", "l": lr, "amp": amp, "optimizer": opt}
            for lr in ("0.1", "0.01")
            for amp in ("True", "False")
            for opt in ("adam", "sgd")
        ],
        [
            [{"command": "fit", "data": "images", "lr": lr, "hidden": [64], "optimizer": opt, "amp": amp, "seed": 0}]
            for lr in (0.1, 0.01)
            for amp in (True, False)
            for opt in ("adam", "sgd")
        ],
    ),
    Family(
        "fire_app",
        "train.py",
        "base --lr=[0.1,0.2] --layers '[[64, 64], [128]]' --verbose",
        [
            f"python train.py base --lr={lr} --layers {layers} --verbose"
            for lr in (0.1, 0.2)
            for layers in ("'[64, 64]'", "'[128]'")
        ],
        [
            {"arg0": "base", "lr": lr, "layers": layers, "verbose": "True"}
            for lr in ("0.1", "0.2")
            for layers in ("[64, 64]", "[128]")
        ],
        [
            [{"name": "base", "lr": lr, "layers": layers, "verbose": True}]
            for lr in (0.1, 0.2)
            for layers in ([64, 64], [128])
        ],
        needs="fire",
    ),
    Family(
        "click_app",
        "train.py",
        "[cifar10,mnist] --augment 'switch(--no-augment)' --layer 64 --layer 32",
        [
            f"python train.py {dataset} --{augment} --layer 64 --layer 32"
            for dataset in ("cifar10", "mnist")
            for augment in ("augment", "no-augment")
        ],
        [
            {"arg0": dataset, "augment": augment, "layer": "32"}
            for dataset in ("cifar10", "mnist")
            for augment in ("True", "False")
        ],
        [
            [{"dataset": dataset, "lr": 0.1, "optimizer": "adam", "augment": augment, "layer": [64, 32]}]
            for dataset in ("cifar10", "mnist")
            for augment in (True, False)
        ],
        needs="click",
    ),
    Family(
        "typer_app",
        "train.py",
        "cifar10 --lr 'geomspace(0.001, 0.1, 3)' --dropout 'switch(--no-dropout)'",
        [
            f"python train.py cifar10 --lr {lr} --{dropout}"
            for lr in ("0.001", "0.01", "0.1")
            for dropout in ("dropout", "no-dropout")
        ],
        [
            {"arg0": "cifar10", "lr": lr, "dropout": dropout}
            for lr in ("0.001", "0.01", "0.1")
            for dropout in ("True", "False")
        ],
        [
            [{"dataset": "cifar10", "lr": lr, "dropout": dropout}]
            for lr in (0.001, 0.01, 0.1)
            for dropout in (True, False)
        ],
        needs="typer",
    ),
    Family(
        "tyro_app",
        "ppo.py",
        "--env-id [CartPole-v1,Acrobot-v1] --anneal-lr 'switch(--no-anneal-lr)'",
        [
            f"python ppo.py --env-id {env} --{anneal}"
            for env in ("CartPole-v1", "Acrobot-v1")
            for anneal in ("anneal-lr", "no-anneal-lr")
        ],
        [{"env-id": env, "anneal-lr": anneal} for env in ("CartPole-v1", "Acrobot-v1") for anneal in ("True", "False")],
        [
            [{"env_id": env, "learning_rate": 2.5e-4, "anneal_lr": anneal, "num_envs": 4}]
            for env in ("CartPole-v1", "Acrobot-v1")
            for anneal in (True, False)
        ],
        needs="tyro",
    ),
    Family(
        "absl_app",
        "train.py",
        "--learning_rate=[0.1,0.2] --use_bias 'switch(--nouse_bias)' --layers \"['64,32']\"",
        [
            f"python train.py --learning_rate={lr} --{bias} --layers 64,32"
            for lr in (0.1, 0.2)
            for bias in ("use_bias", "nouse_bias")
        ],
        [
            {"learning_rate": lr, "use_bias": bias, "layers": "64,32"}
            for lr in ("0.1", "0.2")
            for bias in ("True", "False")
        ],
        [
            [{"learning_rate": lr, "optimizer": "adam", "use_bias": bias, "layers": ["64", "32"]}]
            for lr in (0.1, 0.2)
            for bias in (True, False)
        ],
        needs="absl",
    ),
    Family(
        "jsonargparse_app",
        "main.py",
        "fit --trainer.max_epochs=[2,4] --model.layers '[[64, 64]]'",
        [f"python main.py fit --trainer.max_epochs={n} --model.layers '[64, 64]'" for n in (2, 4)],
        [{"arg0": "fit", "trainer.max_epochs": n, "model.layers": "[64, 64]"} for n in ("2", "4")],
        [
            [
                {
                    "command": "fit",
                    "trainer": {"max_epochs": n, "precision": "32"},
                    "model": {"lr": 0.1, "layers": [64, 64]},
                }
            ]
            for n in (2, 4)
        ],
        needs="jsonargparse",
    ),
    Family(
        "dataclass_app",
        "run_glue.py",
        "--model_name_or_path bert-base --learning_rate [5e-5,3e-5] --fp16 [True,False]",
        [
            f"python run_glue.py --model_name_or_path bert-base --learning_rate {lr} --fp16 {fp16}"
            for lr in ("5e-05", "3e-05")
            for fp16 in (True, False)
        ],
        [
            {"model_name_or_path": "bert-base", "learning_rate": lr, "fp16": fp16}
            for lr in ("5e-05", "3e-05")
            for fp16 in ("True", "False")
        ],
        [
            [{"model_name_or_path": "bert-base", "learning_rate": lr, "num_train_epochs": 3.0, "fp16": fp16}]
            for lr in (5e-5, 3e-5)
            for fp16 in (True, False)
        ],
    ),
    Family(
        "launched",
        "train.py",
        "--lr [0.1,0.2]",
        [f"python launch.py --nproc_per_node=2 train.py --lr {lr}" for lr in (0.1, 0.2)],
        [{"lr": "0.1"}, {"lr": "0.2"}],
        [
            [{"lr": lr, "RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"} for rank in range(2)]
            for lr in (0.1, 0.2)
        ],
        options=lambda _: {"launcher": "python launch.py --nproc_per_node=2", "cpus": 2},
    ),
    Family(
        "monorepo",
        "vision/train.py",
        "lr=[0.1,0.2]",
        [f"python train.py lr={lr}" for lr in (0.1, 0.2)],
        [{"lr": "0.1"}, {"lr": "0.2"}],
        [[{"classes": 10, "arguments": [f"lr={lr}"], "model": "resnet"}] for lr in (0.1, 0.2)],
        options=lambda _: {"working_dir": "script"},
    ),
    Family(
        "relative_data",
        "train.py",
        "--fold 'range(2)'",
        [f"python train.py --fold {fold}" for fold in (0, 1)],
        [{"fold": "0"}, {"fold": "1"}],
        [[{"fold": str(fold), "words": 6}] for fold in (0, 1)],
        options=_with_words,
    ),
    Family(
        "two_calls",
        "all.sh",
        "--depth 'range(1, 3)'",
        [f"bash all.sh --depth {depth}" for depth in (1, 2)],
        [{"depth": "1"}, {"depth": "2"}],
        [[["train", "--depth", str(depth)], ["test", "--depth", str(depth)]] for depth in (1, 2)],
    ),
    Family(
        "installed",
        "-m wordcount.train",
        "--lr [0.1,0.2]",
        [f"python -m wordcount.train --lr {lr}" for lr in (0.1, 0.2)],
        [{"lr": "0.1"}, {"lr": "0.2"}],
        [[{"version": "as committed", "arguments": ["--lr", str(lr)]}] for lr in (0.1, 0.2)],
    ),
]
