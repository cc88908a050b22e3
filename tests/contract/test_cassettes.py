"""Recorded traffic: today's client still sends what it sent then, and understands what it was answered."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from vcr.errors import CannotOverwriteExistingCassetteException

import grid
from grid import errors
from grid.chain.registry import Registry
from grid.session.session import Session
from tests import record
from tests.contract.scenarios import CASSETTES, SCENARIOS, cassette, in_project, open_session

# Over a WebSocket, which vcrpy does not record: tested against a live service.
_SUBSCRIPTIONS = {"RunEvents", "RunLogs", "RunProgress", "RunStatusChanged"}
_WITHOUT_VARIABLES = {"Login", "Clusters"}


def _replay(name: str, cls: type[Session] = Session) -> Any:
    with cassette(CASSETTES / f"{name}.yaml", record=False) as tape, in_project(), warnings.catch_warnings():
        warnings.simplefilter("ignore", grid.GridWarning)
        open_session(cls=cls)
        result = SCENARIOS[name].play()
        assert tape.all_played, "the client sent less than was recorded"
    return result


def test_every_operation_has_a_cassette() -> None:
    """There is a recording of every query and mutation: without one nothing would hold it."""
    operations = set(Registry().names) - _SUBSCRIPTIONS
    assert operations == SCENARIOS.keys() == {path.stem for path in CASSETTES.glob("*.yaml")}
    for name in operations:
        tape = yaml.safe_load((CASSETTES / f"{name}.yaml").read_text())
        bodies = [interaction["request"]["body"] for interaction in tape["interactions"]]
        assert name in {body.get("operationName") for body in bodies if isinstance(body, dict)}


@pytest.mark.parametrize("name", SCENARIOS)
def test_cassette_replays(name: str) -> None:
    """What the client sends is what was recorded, and nothing is left over."""
    _replay(name)


def test_replay_means_what_was_recorded() -> None:
    """A replay returns what the recorded service said."""
    assert _replay("RunNames") == ["second", "first"]
    assert _replay("GetRunStatus") == {"QUEUED": ["first-exp0", "first-exp1"]}
    assert _replay("CancelRun") == ["first-exp0", "first-exp1"]
    assert _replay("CancelExperiment") == "first-exp1"
    assert _replay("GetFailure")["reason"] == "CANCELLED_BY_USER"
    assert _replay("GetLog") == _replay("GetRunLogs") == []
    assert "python3" in _replay("GetBuildLog")[-1]
    assert _replay("GetBuildLog") == _replay("GetRunBuildLog")
    assert _replay("GetFailures") == _replay("RetryRun") == []
    assert _replay("DeleteExperiment") == (["first-exp1"], ["first-exp1"])
    assert _replay("DeleteRun") == []
    assert _replay("Estimate") == 0.38
    assert _replay("PreviewRun").startswith("Preview: 6 experiments, rate × depth: 2 × 3\n")
    assert _replay("Login")["username"] == "ada"
    assert _replay("PauseCluster") == (None, True)
    assert _replay("ResumeCluster") == (None, False)


@pytest.mark.parametrize("name", sorted(SCENARIOS.keys() - _WITHOUT_VARIABLES))
def test_replay_fails_when_variables_change(name: str) -> None:
    """A request that asks for something else must not be answered as if nothing had happened."""

    class Altered(Session):
        async def ask(self, model: Any, *, within: float | None = None, **variables: Any) -> Any:
            if model.__name__ == name:
                variables = _altered(variables)
            return await super().ask(model, within=within, **variables)

    # A repr shows what it knows instead of raising: then it is the result, or what is left unplayed, that differs.
    try:
        assert _replay(name, Altered) != _replay(name)
    except errors.ConnectionFailed as error:
        assert _has_cause(error, CannotOverwriteExistingCassetteException)
    except AssertionError as error:
        assert "less than was recorded" in str(error)


@pytest.mark.parametrize("name", sorted(_WITHOUT_VARIABLES))
def test_replay_fails_when_the_query_changes(name: str, tmp_path: Path) -> None:
    """Without variables it is the text of the query that a replay compares."""
    folder = tmp_path / "queries"
    for source in (Path(grid.__file__).parent / "queries").rglob("*.graphql"):
        text = source.read_text()
        if source.stem == name:
            text = text.replace("{\n", "{\n__typename\n", 1)
            assert "__typename" in text
        target = folder / source.relative_to(Path(grid.__file__).parent / "queries")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    class Altered(Session):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, registry=Registry(folder), **options)

    with pytest.raises(errors.ConnectionFailed) as caught:
        _replay(name, Altered)
    assert _has_cause(caught.value, CannotOverwriteExistingCassetteException)


@pytest.mark.parametrize("name", SCENARIOS)
def test_recording_again_changes_nothing(name: str, tmp_path: Path) -> None:
    """An unchanged client and an unchanged service record the same bytes: a difference is always a change."""
    record.record(name, tmp_path)
    assert (tmp_path / f"{name}.yaml").read_text() == (CASSETTES / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_secret_is_recorded(name: str) -> None:
    """Neither the key nor the header that carries it is in a cassette."""
    text = (CASSETTES / f"{name}.yaml").read_text().lower()
    assert "authorization" not in text
    assert "grid_recording" not in text
    assert "cookie" not in text


def _altered(value: Any) -> Any:
    """The same variables with every text and number in them changed."""
    if isinstance(value, dict):
        return {name: _altered(inner) for name, inner in value.items()}
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value + 1
    return value


def _has_cause(error: BaseException | None, kind: type[BaseException]) -> bool:
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False
