"""How models and JSON become each other. Whether models fit the queries is tested under `contract`."""

from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from dataclasses_json.stringcase import camelcase
from hypothesis import given, settings
from hypothesis import strategies as st

from grid import models
from grid.chain.decoding import Model, camel_case, decode, read_time, write_time
from grid.errors import InvalidArgument, InvalidResponse
from grid.models import ExperimentRecord, Failure, FailureGroup, GetRun, InstanceType, RunSettings
from grid.shared.wire import ExperimentStatus, Reason

MODELS = [cls for cls in vars(models).values() if isinstance(cls, type) and issubclass(cls, Model) and cls is not Model]

EXPERIMENT: dict[str, Any] = {
    "id": "e1",
    "name": "calm-otter-7-exp0",
    "status": "RUNNING",
    "attempt": 1,
    "project": "team/demo",
    "commitSha": "570cd62aa05579e599609f3178344d5d208799dd",
    "parameters": {"Script": "run.py", "max_epochs": "10", "a": "1"},
    "invocationCommand": "python run.py --max_epochs 10 --a 1",
    "user": {"username": "ada"},
    "createdAt": "2021-08-10T16:59:58.044624+00:00",
    "startedRunningAt": "2021-08-10T17:00:00.000000+00:00",
    "finishedAt": None,
}


def payloads(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the JSON of a type."""
    options = get_args(hint)
    if NoneType in options:
        return st.none() | payloads(next(option for option in options if option is not NoneType))
    if get_origin(hint) is tuple:
        return st.lists(payloads(options[0]), max_size=2)
    if dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        return st.fixed_dictionaries({camelcase(f.name): payloads(hints[f.name]) for f in dataclasses.fields(hint)})
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from([member.value for member in hint])
    return {
        str: st.text(max_size=8),
        int: st.integers(-(2**31), 2**31 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 9),
        bool: st.booleans(),
        dict[str, str]: st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
        datetime: st.datetimes(timezones=st.just(UTC)).map(lambda it: it.isoformat(timespec="microseconds")),
    }[hint]


@pytest.mark.parametrize("cls", MODELS, ids=lambda cls: cls.__name__)
@settings(max_examples=15, deadline=None, database=None)
@given(drawn=st.data())
def test_converter_and_dataclasses_json_agree(cls: type[Model], drawn: st.DataObject) -> None:
    """Any answer of a model's shape decodes the same on both ways, and encodes back to itself."""
    payload = drawn.draw(payloads(cls))

    decoded = decode(cls, payload)

    assert decoded == cls.from_dict(payload)
    assert type(decoded) is cls
    assert decoded.to_dict() == payload
    assert json.loads(decoded.to_json()) == payload
    assert cls.from_json(decoded.to_json()) == decoded


@pytest.mark.parametrize("cls", MODELS, ids=lambda cls: cls.__name__)
def test_models_are_frozen_slotted_and_keyword_only(cls: type[Model]) -> None:
    """No model can be changed, carries a dictionary, or takes its fields by position."""
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(field.kw_only for field in dataclasses.fields(cls))  # type: ignore[arg-type]
    assert "__dict__" not in dir(cls)
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{cls.__name__}(")


@pytest.mark.parametrize("cls", MODELS, ids=lambda cls: cls.__name__)
def test_names_of_the_wire(cls: type[Model]) -> None:
    """Both ways of decoding agree on camel case."""
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]

    assert [camel_case(name) for name in names] == [camelcase(name) for name in names]


def test_experiment_is_what_it_says() -> None:
    """Each kind of value becomes its Python type, and parameters keep their order."""
    record = decode(ExperimentRecord, EXPERIMENT)

    assert record.status is ExperimentStatus.RUNNING
    assert record.created_at == datetime(2021, 8, 10, 16, 59, 58, 44624, tzinfo=UTC)
    assert record.created_at.tzinfo is UTC
    assert record.finished_at is None
    assert list(record.parameters) == ["Script", "max_epochs", "a"]
    assert record.user.username == "ada"
    assert type(record.to_dict()["status"]) is str
    assert pickle.loads(pickle.dumps(record)) == record  # noqa: S301


def test_unknown_fields_are_ignored() -> None:
    """Fields that a newer service adds are ignored by both ways of decoding."""
    newer = {**EXPERIMENT, "colour": "green", "user": {"username": "ada", "shoeSize": 38}}

    assert decode(ExperimentRecord, newer) == decode(ExperimentRecord, EXPERIMENT)
    assert ExperimentRecord.from_dict(newer) == ExperimentRecord.from_dict(EXPERIMENT)


def test_decoded_maps_are_not_those_of_the_payload() -> None:
    """Changing the payload afterwards does not change the model."""
    payload = {**EXPERIMENT, "parameters": {"Script": "run.py"}}
    record = decode(ExperimentRecord, payload)

    payload["parameters"]["Script"] = "other.py"

    assert record.parameters == {"Script": "run.py"}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2021-08-10T16:59:58.044624+00:00", datetime(2021, 8, 10, 16, 59, 58, 44624, tzinfo=UTC)),
        ("2021-08-10T16:59:58.044624Z", datetime(2021, 8, 10, 16, 59, 58, 44624, tzinfo=UTC)),
        ("2021-08-10T18:59:58+02:00", datetime(2021, 8, 10, 16, 59, 58, tzinfo=UTC)),
    ],
)
def test_times_are_utc(text: str, moment: datetime) -> None:
    """Any offset is read, the letter Z too; the result is in UTC and written with microseconds."""
    read = read_time(text)

    assert (read, read.tzinfo) == (moment, UTC)
    assert decode(ExperimentRecord, {**EXPERIMENT, "createdAt": text}).created_at == moment
    assert ExperimentRecord.from_dict({**EXPERIMENT, "createdAt": text}).created_at.tzinfo is UTC
    assert write_time(read) == moment.isoformat(timespec="microseconds")


def test_times_of_other_zones_are_written_in_utc() -> None:
    """A model that a user builds with a local time is written in UTC; one without a zone cannot be written."""
    local = datetime(2021, 8, 10, 18, 59, 58, tzinfo=timezone(timedelta(hours=2)))

    assert write_time(local) == "2021-08-10T16:59:58.000000+00:00"
    with pytest.raises(ValueError, match="it needs an offset"):
        write_time(local.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"id": 7}, r"data\.id: expected a string, got a whole number"),
        ({"name": None}, r"data\.name: expected a string, got null"),
        ({"status": "DREAMING"}, r"data\.status is 'DREAMING', but the known values are QUEUED, PENDING"),
        ({"status": []}, r"data\.status is \[\], but the known values are"),
        ({"user": None}, r"data\.user: expected an object, got null"),
        ({"user": {}}, r"data\.user\.username is missing"),
        ({"createdAt": "yesterday"}, r"data\.createdAt: .*yesterday"),
        ({"createdAt": "2021-08-10T16:59:58"}, r"data\.createdAt: .*it needs an offset"),
        ({"createdAt": 1628614798}, r"data\.createdAt: expected a moment in time, got a whole number"),
        ({"finishedAt": False}, r"data\.finishedAt: expected a moment in time, got a boolean"),
        ({"parameters": {"a": 1}}, r"data\.parameters: expected a string, got a whole number"),
        ({"parameters": []}, r"data\.parameters: expected an object, got a list"),
    ],
)
def test_wrong_answer_names_class_and_place(change: dict[str, Any], fault: str) -> None:
    """An answer of another shape is refused with the class, the place and what was there."""
    with pytest.raises(InvalidResponse, match=rf"does not fit ExperimentRecord: {fault}"):
        decode(ExperimentRecord, {**EXPERIMENT, **change})


@pytest.mark.parametrize("payload", [None, [], "text", {}, 3])
def test_wrong_answer_as_a_whole(payload: Any) -> None:
    """Anything but the expected object is an InvalidResponse too, never another exception."""
    with pytest.raises(InvalidResponse, match="does not fit GetRun: data"):
        decode(GetRun, payload)


def test_wrong_answer_deep_inside() -> None:
    """The place of a fault is given with its index in a list."""
    cluster = {"name": "a", "paused": False, "cpus": 2, "gpus": 0}
    payload = {"clusters": [cluster, {**cluster, "paused": 0}]}

    with pytest.raises(InvalidResponse, match=r"data\.clusters\[1\]\.paused: expected a boolean, got a whole number"):
        decode(models.Clusters, payload)
    with pytest.raises(InvalidResponse, match=r"data\.clusters: expected a list, got a string"):
        decode(models.Clusters, {"clusters": "ab"})


def test_numbers() -> None:
    """A price may come as a whole number, but a count never as a fraction or a boolean."""
    machine = {"name": "m", "nickname": "n", "cpus": 2, "gpus": 0, "memoryGib": 4, "accelerator": None}
    machine |= {"onDemandUsdPerHour": 1, "spotUsdPerHour": 0.5}

    assert type(decode(InstanceType, machine).memory_gib) is float
    for wrong in (2.5, True, "2"):
        with pytest.raises(InvalidResponse, match=r"data\.cpus: expected a whole number"):
            decode(InstanceType, {**machine, "cpus": wrong})
    with pytest.raises(InvalidResponse, match=r"data\.memoryGib: expected a number, got a string"):
        decode(InstanceType, {**machine, "memoryGib": "4"})


def failure(reason: Reason, **others: Any) -> Failure:
    """Return a failure with nothing but what is given."""
    unknown = {"exit_code": None, "signal": None, "error": None, "last_lines": "", "final_line": None}
    return Failure(reason=reason, **{**unknown, **others})


TRACEBACK = "Traceback (most recent call last):\n  ...\nValueError: no"
RAISED = failure(Reason.EXIT_CODE, exit_code=1, last_lines=TRACEBACK, final_line="ValueError: no")


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (RAISED, f"EXIT_CODE: exit code 1\n{TRACEBACK}"),
        (failure(Reason.EXIT_CODE, exit_code=0), "EXIT_CODE: exit code 0"),
        (failure(Reason.SIGNAL, signal=9, last_lines="epoch 3\n\n"), "SIGNAL: signal 9\nepoch 3"),
        (failure(Reason.ENVIRONMENT, error="there is no julia"), "ENVIRONMENT: there is no julia"),
        (failure(Reason.LOST), "LOST"),
        (failure(Reason.CANCELLED_BY_USER, signal=15), "CANCELLED_BY_USER: signal 15"),
    ],
)
def test_failure_as_text(shown: Failure, text: str) -> None:
    """A failure is printed as its reason, the details, and then the end of the output."""
    assert str(shown) == text


@pytest.mark.parametrize(
    ("example", "number", "text"),
    [
        (RAISED, 1, "1 x EXIT_CODE: ValueError: no (r-exp0)"),
        (RAISED, 3, "3 x EXIT_CODE: ValueError: no (r-exp0, r-exp1, r-exp2)"),
        (RAISED, 4, "4 x EXIT_CODE: ValueError: no (r-exp0, r-exp1, r-exp2, …)"),
        (failure(Reason.EXIT_CODE, exit_code=3, last_lines="bye"), 1, "1 x EXIT_CODE: exit code 3 (r-exp0)"),
        (failure(Reason.SIGNAL, signal=9), 2, "2 x SIGNAL, the first: signal 9 (r-exp0, r-exp1)"),
        (failure(Reason.START_FAILED, error="no space"), 1, "1 x START_FAILED: no space (r-exp0)"),
        (failure(Reason.LOST), 2, "2 x LOST (r-exp0, r-exp1)"),
    ],
)
def test_failure_group_as_text(example: Failure, number: int, text: str) -> None:
    """A group is printed as how many failed, why, and the names of the first."""
    names = tuple(f"r-exp{index}" for index in range(number))
    group = FailureGroup(reason=example.reason, final_line=example.final_line, names=names, example=example)
    assert str(group) == text


def test_failures_are_values() -> None:
    """A failure is immutable, equals one of the same content, and its reason compares equal to its text."""
    assert failure(Reason.LOST) == failure(Reason.LOST)
    assert hash(RAISED) == hash(dataclasses.replace(RAISED))
    assert (RAISED.reason, str(RAISED.reason)) == ("EXIT_CODE", "EXIT_CODE")
    with pytest.raises(dataclasses.FrozenInstanceError):
        RAISED.exit_code = 0  # type: ignore[misc]


def test_users_json_is_refused_with_its_fault() -> None:
    """What users pass is refused as an argument: not JSON, a missing field, not an object."""
    with pytest.raises(InvalidArgument, match="this does not fit RunSettings: it is not JSON"):
        RunSettings.from_json("{")
    with pytest.raises(InvalidArgument, match="this does not fit RunSettings: the field 'entrypoint' is missing"):
        RunSettings.from_json("{}")
    with pytest.raises(InvalidArgument, match="this does not fit RunSettings"):
        RunSettings.from_json("[]")


def test_importing_models_is_cheap() -> None:
    """The converters are imported by the first use, not with the models."""
    code = "import sys; import grid.models; print(*sys.modules)"

    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "grid.models" in modules
    assert not {"dataclasses_json", "marshmallow", "cattrs", "attrs", "graphql", "gql", "aiohttp"} & set(modules)
