"""Reading logs over GraphQL, without any of the client's own code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from grid.chain.endpoint import Endpoint
from tests.support.requests import ask
from tests.support.subscriptions import watching

PAGE = "experimentId name attempt number count text times { number at isApproximate } isEnd"
_ARGUMENTS = {
    "attempt": "Int",
    "number": "Int",
    "since": "DateTime",
    "secondsAgo": "Float",
    "last": "Int",
    "first": "Int",
}
FOLLOW = (
    "subscription($id: ID!, $experiment: ID, $after: StringMap!, $last: Int)"
    f"{{ runLogs(id: $id, experiment: $experiment, after: $after, last: $last) {{ {PAGE} }} }}"
)


def answer_of(endpoint: Endpoint, experiment_id: str, **arguments: Any) -> dict[str, Any]:
    """Ask for a page of an experiment's log; return the answer, errors and all."""
    declared = ", ".join(f"${name}: {_ARGUMENTS[name]}{'!' * (name == 'first')}" for name in arguments)
    given = ", ".join(f"{name}: ${name}" for name in arguments)
    query = f"query($id: ID!, {declared}) {{ experiment(id: $id) {{ log{f'({given})' * bool(given)} {{ {PAGE} }} }} }}"
    return ask(endpoint, query, id=experiment_id, **arguments)


def page_of(endpoint: Endpoint, experiment_id: str, **arguments: Any) -> dict[str, Any]:
    """A page of an experiment's log."""
    answer = answer_of(endpoint, experiment_id, **arguments)
    assert "errors" not in answer, answer
    page = answer["data"]["experiment"]["log"]
    assert page["text"].count("\n") == page["count"]
    return page


def pages_of(endpoint: Endpoint, experiment_id: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    """Yield the pages of an experiment's log until it is at its end, or at what there is so far."""
    number = 1
    while True:
        page = page_of(endpoint, experiment_id, number=number, **arguments)
        yield page
        number = page["number"] + page["count"]
        if page["isEnd"] or not page["count"]:
            return


def text_of(endpoint: Endpoint, experiment_id: str, **arguments: Any) -> str:
    """The whole text of an experiment's log."""
    return "".join(page["text"] for page in pages_of(endpoint, experiment_id, **arguments))


@contextmanager
def following(endpoint: Endpoint, run_id: str, **more: Any) -> Iterator[Iterator[dict[str, Any]]]:
    """Follow the logs of a run; yield its pages."""
    with watching(endpoint, FOLLOW, **{"id": run_id, "after": {}, **more}) as answers:
        yield (_page_in(answer) for answer in answers)


def _page_in(answer: dict[str, Any]) -> dict[str, Any]:
    assert "errors" not in answer, answer
    return answer["data"]["runLogs"]


class Told:
    """What somebody who follows a run has heard: nothing twice, and nothing left out."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, int], str] = {}
        self.numbers: dict[str, tuple[int, int]] = {}

    def hear(self, page: dict[str, Any]) -> None:
        """Take a page, which must go on where the one before it ended."""
        experiment, attempt = page["experimentId"], page["attempt"]
        before = self.numbers.get(experiment, (attempt, 1))
        assert before[0] <= attempt
        assert page["number"] == (before[1] if before[0] == attempt else 1), (before, page)
        assert page["text"].count("\n") == page["count"]
        assert page["count"] or page["isEnd"]
        if page["count"]:
            self.texts[experiment, attempt] = self.texts.get((experiment, attempt), "") + page["text"]
        self.numbers[experiment] = (attempt + 1, 1) if page["isEnd"] else (attempt, page["number"] + page["count"])

    @property
    def cursors(self) -> dict[str, str]:
        """Where to go on."""
        return {experiment: f"{attempt}:{number}" for experiment, (attempt, number) in self.numbers.items()}


LOGS = (
    "query($name: String!, $after: StringMap!, $last: Int) { run(name: $name) {"
    f" logs(after: $after, last: $last) {{ isEnd pages {{ {PAGE} }} }} }} }}"
)


def logs_of(endpoint: Endpoint, name: str, after: dict[str, str], last: int | None = None) -> dict[str, Any]:
    """Ask once for what the scripts of a run have printed."""
    answer = ask(endpoint, LOGS, name=name, after=after, last=last)
    assert "errors" not in answer, answer
    return answer["data"]["run"]["logs"]
