"""What stands before the lines of a run's experiments."""

from __future__ import annotations

from datetime import UTC, datetime

from grid.logs.labels import labels
from grid.models import ExperimentRecord, User
from grid.shared.wire import ExperimentStatus


def run_of(*parameters: dict[str, str]) -> list[ExperimentRecord]:
    """The experiments of a run with these parameters."""
    return [
        ExperimentRecord(
            id=str(index),
            name=f"calm-otter-7-exp{index}",
            status=ExperimentStatus.RUNNING,
            attempt=1,
            project="",
            commit_sha="",
            parameters={"Script": "run.py", **given},
            invocation_command="",
            user=User(username="ada"),
            created_at=datetime(2021, 8, 10, tzinfo=UTC),
            started_running_at=None,
            finished_at=None,
        )
        for index, given in enumerate(parameters)
    ]


def shown(varying: list[str], *parameters: dict[str, str]) -> list[str]:
    """The labels of such a run's experiments, in order."""
    return list(labels(run_of(*parameters), varying).values())


def test_what_varies() -> None:
    """Each has what varies and nothing else, in the order given, and all are equally long."""
    given = [{"lr": "0.1", "n": "1", "seed": "7"}, {"lr": "0.01", "n": "1", "seed": "8"}]
    assert shown(["lr", "seed"], *given) == ["lr=0.1 seed=7  | ", "lr=0.01 seed=8 | "]


def test_nothing_varies() -> None:
    """Where nothing varies, or there is only one, the index tells them apart."""
    assert shown([], {"lr": "1"}) == ["exp0 | "]
    assert shown([], {}, {}) == ["exp0 | ", "exp1 | "]


def test_same_values() -> None:
    """Those that have the same are told apart by their index as well."""
    assert shown(["lr"], {"lr": "1"}, {"lr": "2"}, {"lr": "1"}) == ["exp0 lr=1 | ", "lr=2      | ", "exp2 lr=1 | "]


def test_odd_values() -> None:
    """A long value is shortened, one that would end the line is quoted, and one that is missing is left out."""
    long, odd, missing = shown(["a", "b"], {"a": "x" * 100, "b": "1"}, {"a": "1\n2", "b": "1"}, {"b": "1"})
    assert long == f"a={'x' * 39}… b=1 | "
    assert odd.rstrip(" |") == r"a='1\n2' b=1"
    assert missing.rstrip(" |") == "b=1"
