"""What the client itself costs: loading a run, decoding an experiment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import aiohttp

import grid
from benchmarks.report import beside, line, milliseconds, timed
from grid.chain.decoding import camel_case, decode
from grid.chain.endpoint import Endpoint
from grid.chain.registry import Query
from grid.models import ExperimentRecord
from grid.session import session as sessions
from grid.views import EXPERIMENTS_PAGE
from tests.support.projects import make_project
from tests.support.services import service_process

_SMALL = 100
"""A run of so many experiments has a target of its own."""


def loading(folder: Path, sizes: Sequence[int] = (100, 1_000), pairs: int = 9) -> None:
    """Measure `Run(name)` and all of its experiments, beside the same answers fetched with aiohttp and `json.loads`."""
    script = make_project(folder / "project", "print()")
    with service_process(folder) as service:
        sessions.use(service.session())
        grid.pause_cluster("local")
        for experiments in sizes:
            run = grid.Run(entrypoint=str(script), script_args=f"--n 'range({experiments})' --lr 0.1", cpus=1)
            run.start()
            _loading(service.endpoint, run.name, experiments, pairs)


def _loading(endpoint: Endpoint, name: str, experiments: int, pairs: int) -> None:
    def load() -> None:
        assert len(list(grid.Run(name))) == experiments

    registry = sessions.current().registry
    first = registry.get("GetRun")
    more = registry.get("GetExperiments")

    async def raw() -> None:
        async with aiohttp.ClientSession(headers={"authorization": endpoint.authorization}) as http:

            async def ask(query: Query, **variables: object) -> Any:
                payload = {"query": query.text, "operationName": query.name, "variables": variables}
                async with http.post(endpoint.graphql_url, json=payload) as answer:
                    content = json.loads(await answer.read())
                    assert "errors" not in content, content["errors"]
                    return content["data"]["run"]["experiments"]

            page = await ask(first, name=name, first=EXPERIMENTS_PAGE)
            loaded = len(page["nodes"])
            while page["pageInfo"]["hasNextPage"]:
                page = await ask(more, run=name, first=EXPERIMENTS_PAGE, after=page["pageInfo"]["endCursor"])
                loaded += len(page["nodes"])
            assert loaded == experiments

    load()
    asyncio.run(raw())
    measured = beside(timed(load), timed(lambda: asyncio.run(raw())), pairs)
    line(
        f"loading a run of {experiments:,} experiments",
        milliseconds(measured.our_median),
        f"aiohttp + json.loads {milliseconds(measured.their_median)}",
        measured,
        "8 ms" if experiments == _SMALL else "1.5 x",
    )


def decoding(_: Path, number: int = 20_000, pairs: int = 9) -> None:
    """Measure decoding one experiment, beside a call of its constructor as one would write it by hand."""
    payload = _sample(ExperimentRecord)
    by_hand = _by_hand(ExperimentRecord)
    ours, theirs = decode(ExperimentRecord, payload), by_hand(payload)
    assert ours == theirs, f"decoded {ours}, but by hand {theirs}"
    measured = beside(
        timed(lambda: [decode(ExperimentRecord, payload) for _ in range(number)]),
        timed(lambda: [by_hand(payload) for _ in range(number)]),
        pairs,
    )
    line(
        "decoding one experiment",
        f"{measured.our_median / number * 1e6:.1f} us",
        f"constructor by hand {measured.their_median / number * 1e6:.1f} us",
        measured,
        "1.5 x",
    )


# A value as it is on the wire, and what one would write by hand to read it. Payload and constructor call are both
# derived from the model, so that a field that is added later is in both.
_KINDS: dict[Any, tuple[Any, str]] = {
    int: (1, "{}"),
    float: (0.5, "{}"),
    bool: (True, "{}"),
    str: ("clever-noether-1882-exp0", "{}"),
    datetime: ("2021-08-10T16:59:58.058882+00:00", "datetime.fromisoformat({})"),
    dict[str, str]: ({"Script": "run.py", "max_epochs": "10", "learning_rate": "0.0007056001691752508"}, "dict({})"),
}


def _sample(hint: Any) -> Any:
    """Return a value as it is on the wire, for the type hint of a field or a whole model."""
    if hint in _KINDS:
        return _KINDS[hint][0]
    if NoneType in get_args(hint):
        return _sample(_inner(hint))
    if is_dataclass(hint):
        return {camel_case(name): _sample(inner) for name, inner in _fields(hint).items()}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return next(iter(hint)).value
    message = f"there is no sample for {hint}: add one to _KINDS"
    raise NotImplementedError(message)


def _by_hand(model: type[Any]) -> Callable[[Any], Any]:
    """Return what one would write by hand: `lambda given: ExperimentRecord(id=given["id"], …)`."""
    names: dict[str, Any] = {"datetime": datetime}

    def read(hint: Any, value: str) -> str:
        if hint in _KINDS:
            return _KINDS[hint][1].format(value)
        if NoneType in get_args(hint):
            return f"None if {value} is None else {read(_inner(hint), value)}"
        names[hint.__name__] = hint
        if not is_dataclass(hint):
            return f"{hint.__name__}({value})"
        values = [f"{name}={read(inner, f'{value}[{camel_case(name)!r}]')}" for name, inner in _fields(hint).items()]
        return f"{hint.__name__}({', '.join(values)})"

    return eval(f"lambda given: {read(model, 'given')}", names)  # noqa: S307  # made of our own names only


def _fields(model: Any) -> dict[str, Any]:
    hints = get_type_hints(model)
    return {field.name: hints[field.name] for field in fields(model)}


def _inner(optional: Any) -> Any:
    return next(option for option in get_args(optional) if option is not NoneType)
