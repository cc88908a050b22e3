"""Tests of the table that gives every error of the domain and of the store a code."""

from __future__ import annotations

import errno
import importlib
import pkgutil
from collections.abc import Iterator
from inspect import getmodule
from typing import Any

import pytest
from graphql import GraphQLError, build_schema, graphql_sync

from grid.service import domain
from grid.service.api.errors import TABLE, ApiError, format_error, translated
from grid.service.domain import errors
from grid.service.domain.errors import DomainError
from grid.service.domain.sweeps import SweepError
from grid.service.results.pages import StillReading
from grid.service.store.faults import DAMAGED, DatabaseUnavailable
from grid.service.system.addresses import AddressExpired, AddressRefused
from grid.shared.wire import ErrorCode


def all_below(kind: type[DomainError]) -> Iterator[type[DomainError]]:
    """Walk the tree below a class."""
    for child in kind.__subclasses__():
        yield child
        yield from all_below(child)


def tree() -> set[type[DomainError]]:
    """Return every error of the domain, wherever in it the error is defined."""
    for module in pkgutil.walk_packages(domain.__path__, f"{domain.__name__}."):
        importlib.import_module(module.name)
    return set(all_below(DomainError))


def test_every_error_has_a_row() -> None:
    """The table has a row for every error of the domain, of the store, results and addresses, and no other row."""
    assert set(TABLE) == {*tree(), DatabaseUnavailable, StillReading, AddressRefused, AddressExpired}


def test_rows_fit_the_wire() -> None:
    """Every row has a code that clients know."""
    assert {type(row.code) for row in TABLE.values()} == {ErrorCode}


def test_tree_is_drawn() -> None:
    """The drawing at the head of the module has every error of the tree, each below its parent, and no others."""
    parents, path = {}, []
    for line in (getmodule(DomainError).__doc__ or "").splitlines():
        name = line.strip("│├└─ ").split(" ")[0]
        if line.startswith("    ") and name:
            depth = len(line) - len(line.lstrip("│├└─ ")) - 4
            path[depth // 4 :] = [name]
            parents[name] = path[-2] if depth else "Exception"
    assert parents == {each.__name__: each.__bases__[0].__name__ for each in (DomainError, *tree())}


@pytest.mark.parametrize(
    ("error", "extensions"),
    [
        (errors.Unauthenticated(), {"code": "UNAUTHENTICATED"}),
        (errors.NotOwner("run", "r", "you"), {"code": "FORBIDDEN"}),
        (errors.PauseRefused("local", "it is not yours"), {"code": "FORBIDDEN"}),
        (errors.SnapshotTooLarge(3, 2), {"code": "LIMIT_EXCEEDED"}),
        (errors.InvalidSize(0, 2), {"code": "INVALID_ARGUMENT"}),
        (SweepError("--lr is wrong", "--lr"), {"flag": "--lr", "code": "INVALID_SWEEP"}),
        (DatabaseUnavailable(DAMAGED), {"code": "UNAVAILABLE"}),
    ],
)
def test_answer(error: Exception, extensions: dict[str, Any]) -> None:
    """An error that a resolver raises is answered with its message, place and code, and so is one that HTTP raises."""
    schema = build_schema("type Query { field: Int }")

    def fail(*_: object) -> None:
        raise error

    (located,) = graphql_sync(schema, "{ field }", {"field": fail}).errors or []
    expected = {"message": str(error), "locations": [{"line": 1, "column": 3}], "path": ["field"]}
    assert format_error(located) == {**expected, "extensions": extensions}
    refusal = translated(error)
    assert refusal is not None
    assert refusal.formatted == {"message": str(error), "extensions": extensions}


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_descriptors(number: int, caplog: pytest.LogCaptureFixture) -> None:
    """That no file can be opened passes: clients are told to come again, and the log where it was."""
    fault = OSError(number, "a fault", "/etc/secret")
    answer = format_error(GraphQLError(str(fault), original_error=fault))
    assert (answer["message"], answer["extensions"]) == (
        "the service has too many files open; try again later",
        {"code": "UNAVAILABLE"},
    )
    assert "/etc/secret" in caplog.text
    assert translated(OSError(errno.ENOENT, "a fault")) is None


def test_what_is_not_translated() -> None:
    """An error of the API stays as it is; anything unexpected is a fault, whose message is not shown."""
    error = ApiError(ErrorCode.FORBIDDEN, "not you")
    assert translated(error) is error
    fault = RuntimeError("the password is /etc/secret")
    assert translated(fault) is None
    answer = format_error(GraphQLError(str(fault), original_error=fault))
    assert answer["extensions"]["code"] == "INTERNAL"
    assert "secret" not in str(answer)
