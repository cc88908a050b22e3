"""Schema, queries, models, recorded answers and released files fit together; and each check sees what it is there for.

Every check is shown a copy of the real files, or of the package in two versions, in which one thing is broken.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from graphql import GraphQLSchema, build_schema, get_introspection_query, graphql_sync, introspection_from_schema

from grid import models, schema_tools
from grid.chain.registry import Registry
from grid.schema_tools import (
    check_cassettes,
    check_descriptions,
    check_models,
    check_queries,
    check_released,
    check_wire,
    diff_introspection,
    load_schema,
    release,
)
from grid.shared.wire import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from grid.schema_tools import Problem

    LoadModels = Callable[[str], ModuleType]

ROOT = Path(__file__).parents[2]
QUERIES = ROOT / "grid" / "queries"
TWO_VERSIONS = Path(__file__).parent / "fixtures" / "two_versions"


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    """Return the schema that is shipped."""
    return load_schema()


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    """Return a copy of the client's queries."""
    return Path(shutil.copytree(QUERIES, tmp_path / "queries", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture
def two_versions(tmp_path: Path) -> Path:
    """Return a copy of the package of queries in two versions."""
    return Path(shutil.copytree(TWO_VERSIONS, tmp_path / "two", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture
def load_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoadModels]:
    """Return a function that makes a module of models from its source."""

    def load(source: str) -> ModuleType:
        path = tmp_path / "changed_models.py"
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("changed_models", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "changed_models", module)
        spec.loader.exec_module(module)
        return module

    return load


def replace(path: Path, old: str, new: str) -> int:
    """Replace the first occurrence of a piece of a file, which must be there, and return its line."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return text[: text.index(old)].count("\n") + 1


def said(problems: list[Problem]) -> list[tuple[str, int, str]]:
    """Return problems with the file's name alone."""
    return [(Path(problem.file).name, problem.line, problem.message) for problem in problems]


def test_everything_fits(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that `python -m grid.schema_tools check` checks holds in this checkout."""
    code = schema_tools.main(["check", "--cassettes", str(ROOT / "tests" / "cassettes")])

    assert capsys.readouterr().out == "schema, queries and models fit\n"
    assert code == 0


def test_two_versions_fit(schema: GraphQLSchema, load_models: LoadModels) -> None:
    """Queries in two versions fit one set of models, in which what is new has a default."""
    two = load_models((TWO_VERSIONS / "models.py").read_text(encoding="utf-8"))

    assert check_queries(TWO_VERSIONS, schema) == []
    assert check_models(TWO_VERSIONS, two, schema) == []
    assert check_released(TWO_VERSIONS) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("v1/Login.graphql", "apiVersion", "apiVersions", "Cannot query field 'apiVersions' on type 'Query'"),
        ("v1/Login.graphql", "}\n}", "}\n", "Syntax Error: Expected Name, found <EOF>."),
        ("v1/Login.graphql", "query Login", "query Signin", "the file is named Login, but the operation in it Signin"),
        ("v1/Login.graphql", "query Login", "query", "the file is named Login, but the operation in it no name"),
        ("v1/GetRun.graphql", "...RunFields", "...RunField", "no version up to 1 has a fragment 'RunField'"),
        ("v1/GetRun.graphql", "$name: String!", "$name: Int!", "Variable '$name' of type 'Int!' used in position"),
        ("v1/fragments/PageFields.graphql", "endCursor", "cursor", "Cannot query field 'cursor' on type 'PageInfo'"),
        ("v1/fragments/PageFields.graphql", "on PageInfo", "on Page", "Unknown type 'Page'"),
        ("v1/fragments/RunFields.graphql", "  id", "  ...Nothing", "no version up to 1 has a fragment 'Nothing'"),
    ],
)
def test_broken_query(queries: Path, schema: GraphQLSchema, file: str, old: str, new: str, message: str) -> None:
    """A query that does not fit is reported with the file and the line at fault."""
    line = replace(queries / file, old, new)

    problems = said(check_queries(queries, schema))

    assert any((found[0], found[2][: len(message)]) == (Path(file).name, message) for found in problems), problems
    if not new.endswith("}\n"):  # a missing brace is seen at the end of the file
        assert line in {found[1] for found in problems}


def test_more_than_one_operation_a_file(queries: Path, schema: GraphQLSchema) -> None:
    """A second definition in a file is reported where it begins."""
    path = queries / "v1" / "Login.graphql"
    lines = path.read_text(encoding="utf-8").count("\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("query Again { apiVersion }\n")

    assert said(check_queries(queries, schema)) == [
        ("Login.graphql", lines + 1, "one operation per file: this belongs in another")
    ]


def test_operation_among_fragments(queries: Path, schema: GraphQLSchema) -> None:
    """An operation among the fragments is reported, and so is a fragment that no operation uses."""
    fragments = queries / "v1" / "fragments"
    (fragments / "Stray.graphql").write_text("query Stray { apiVersion }\n", encoding="utf-8")
    (fragments / "Unused.graphql").write_text("fragment Unused on Run { id }\n", encoding="utf-8")

    problems = said(check_queries(queries, schema))

    assert [(name, line) for name, line, _ in problems] == [("Stray.graphql", 1), ("Unused.graphql", 1)]
    assert problems[0][2].startswith("expected one fragment here")
    assert problems[1][2] == "no operation of any version uses the fragment Unused"


@pytest.mark.parametrize("file", ["v1/GetRun.graphql", "v2/GetRun.graphql"])
def test_every_version_is_checked(two_versions: Path, schema: GraphQLSchema, file: str) -> None:
    """A fault is found in the newest version, and in older ones that only an older service gets."""
    replace(two_versions / file, "    id", "    identity")

    (problem,) = check_queries(two_versions, schema)

    assert problem.file == str(two_versions / file)


def test_newer_fragment_must_fit_older_operations(two_versions: Path, schema: GraphQLSchema) -> None:
    """An operation is checked with the fragments that a newer version brings, as the registry composes it."""
    path = two_versions / "v2" / "fragments" / "RunBrief.graphql"
    path.write_text("fragment RunBrief on Experiment {\n  name\n}\n", encoding="utf-8")

    problems = said(check_queries(two_versions, schema))

    assert ("RunNames.graphql", 5) in [(name, line) for name, line, _ in problems]


def test_registry_that_composes_otherwise(schema: GraphQLSchema, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the registry sends is compared with what the files say."""
    compose = Registry.get

    def less(registry: Registry, name: str) -> Any:
        query = compose(registry, name)
        text = query.text.replace("  username\n", "  id\n")
        return type(query)(query.name, query.version, query.kind, text, query.path)

    monkeypatch.setattr(Registry, "get", less)

    assert ("Login.graphql", 1, "the registry does not compose what the files say") in said(
        check_queries(QUERIES, schema)
    )


def test_deprecated_field_is_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Using what is deprecated is worth a note, with its place, and no failure."""
    path = tmp_path / "schema.graphql"
    path.write_text((ROOT / "schema.graphql").read_text(encoding="utf-8"), encoding="utf-8")
    replace(path, "apiVersion: Int!", 'apiVersion: Int! @deprecated(reason: "Ask /health.")')

    code = schema_tools.main(["check", "--schema", str(path)])

    assert (
        "v1/Login.graphql:3: note: The field Query.apiVersion is deprecated. Ask /health.\n" in capsys.readouterr().out
    )
    assert code == 0


_RUN_STATUS = "    groups: tuple[StatusNames, ...]"

_MISFITS = {
    "missing": ("    finished_at: datetime | None = field(metadata=_TIME)\n", "", "no such field"),
    "added": (_RUN_STATUS, f"    when: int\n{_RUN_STATUS}", "is not selected by"),
    "added with a default": (_RUN_STATUS, f"{_RUN_STATUS}\n    when: int = 0", "is not selected by"),
    "null not expected": ("    end_cursor: str | None", "    end_cursor: str", "String: expected str | None"),
    "null expected": ("    hourly_cost: float", "    hourly_cost: float | None", "Float!: expected float"),
    "scalar": ("    total_count: int", "    total_count: str", "Int!: expected int"),
    "number": ("    hourly_cost: float", "    hourly_cost: int", "Float!: expected float"),
    "no list": ("    names: tuple[str, ...]", "    names: str", "[String!]!: expected tuple[str, ...]"),
    "pair": ("    names: tuple[str, ...]", "    names: tuple[str, str]", "[String!]!: expected tuple[str, ...]"),
    "items": ("    names: tuple[str, ...]", "    names: tuple[str | None, ...]", "expected tuple[str, ...]"),
    "map": ("    parameters: dict[str, str]", "    parameters: dict[str, int]", "expected dict[str, str]"),
    "enum": ("    status: ExperimentStatus", "    status: int", "expected str or an enum of ExperimentStatus"),
    "model": ("    viewer: Viewer", "    viewer: str", "User!: expected a model of User"),
    "model or null": ("    run: LoadedRun | None", "    run: LoadedRun", "Run: expected a model of Run | None"),
}


@pytest.mark.parametrize(("old", "new", "message"), _MISFITS.values(), ids=_MISFITS)
def test_model_that_does_not_fit(
    schema: GraphQLSchema, load_models: LoadModels, old: str, new: str, message: str
) -> None:
    """A field that is superfluous, missing or of another type is reported with what would fit, at model or query."""
    source = Path(models.__file__).read_text(encoding="utf-8")
    assert old in source

    problems = check_models(QUERIES, load_models(source.replace(old, new, 1)), schema)

    text, place = (source.replace(old, new, 1), "    when: int") if "when" in new else (source, old)
    if not new:
        text, place = (
            (QUERIES / "v1" / "fragments" / "ExperimentFields.graphql").read_text(encoding="utf-8"),
            "finished",
        )
    line = text[: text.index(place)].count("\n") + 1
    assert any(message in problem.message and problem.line == line for problem in problems), problems


def test_enum_with_other_words(schema: GraphQLSchema, load_models: LoadModels) -> None:
    """An enum of a model has exactly the words of the schema's."""
    source = Path(models.__file__).read_text(encoding="utf-8")

    changed = source.replace("import ExperimentStatus", "import Reason as ExperimentStatus")
    problems = check_models(QUERIES, load_models(changed), schema)

    assert "expected str or an enum of ExperimentStatus" in problems[0].message


def test_operation_without_model(queries: Path, schema: GraphQLSchema) -> None:
    """An operation without a class of its name is reported, and so is a class that no operation selects."""
    text = (queries / "v1" / "Login.graphql").read_text(encoding="utf-8")
    (queries / "v1" / "Signin.graphql").write_text(text.replace("query Login", "query Signin"), encoding="utf-8")
    (queries / "v1" / "Estimate.graphql").unlink()

    problems = said(check_models(queries, models, schema))

    assert ("Signin.graphql", 1, "grid.models has no model Signin for this operation") in problems
    reported = {message.split()[4].rstrip(",") for _, _, message in problems if message.startswith("no operation")}
    assert reported == {"Estimate", "CostEstimate"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "    description: str | None = None\n",
            "    description: str | None\n",
            "GetRun (v1): what an older version lacks",
        ),
        ('    user: User = User(username="")\n', "    user: User\n", "RunNames (v1): what an older version lacks"),
    ],
)
def test_older_version_needs_defaults(
    schema: GraphQLSchema, load_models: LoadModels, old: str, new: str, message: str
) -> None:
    """What an older operation, or an older fragment of it, does not select needs a default in the model."""
    source = (TWO_VERSIONS / "models.py").read_text(encoding="utf-8")
    assert old in source

    problems = check_models(TWO_VERSIONS, load_models(source.replace(old, new)), schema)

    assert any(f"is not selected by {message}" in problem.message for problem in problems), problems
    line = source[: source.index(old)].count("\n") + 1
    assert {(Path(problem.file).name, problem.line) for problem in problems} == {("changed_models.py", line)}


def test_field_that_only_an_older_version_selects(
    two_versions: Path, schema: GraphQLSchema, load_models: LoadModels
) -> None:
    """A model has the fields of the newest selection: one that only an older version selects is reported."""
    two = load_models((TWO_VERSIONS / "models.py").read_text(encoding="utf-8"))
    line = replace(two_versions / "v1" / "GetRun.graphql", "    id\n", "    id\n    cluster\n") + 1

    (problem,) = check_models(two_versions, two, schema)

    assert (problem.file, problem.line) == (str(two_versions / "v1" / "GetRun.graphql"), line)
    assert problem.message == "GetRun (v1) selects cluster, but Run has no such field"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  LOST\n", "  GONE\n", f"Reason is {', '.join(Reason)}, but the schema"),
        ("enum ErrorCode", "enum FaultCode", "the schema has no enum ErrorCode"),
    ],
)
def test_words_of_the_wire(old: str, new: str, message: str) -> None:
    """The words that the code uses are those of the schema."""
    text = (ROOT / "schema.graphql").read_text(encoding="utf-8")
    assert old in text

    (problem,) = check_wire(build_schema(text.replace(old, new)))

    assert Path(problem.file).name == "wire.py"
    assert problem.line > 1
    assert problem.message.startswith(message)


@pytest.mark.parametrize(
    ("description", "coordinate"),
    [
        ('"""Somebody with a key."""\n', "User"),
        ('  """The user\'s id."""\n', "User.id"),
        ('    """The experiment\'s id."""\n', "Query.experiment(id:)"),
        ('  """PyTorch Lightning."""\n', "Framework.LIGHTNING"),
        ('  """The SHA-256 of the archive, 64 lower-case hexadecimal digits."""\n', "SnapshotInput.digest"),
        ('"""How far a cancellation has come."""\n', "Cancellation"),
    ],
)
def test_missing_description(tmp_path: Path, description: str, coordinate: str) -> None:
    """Each kind of thing in the schema needs a description."""
    path = tmp_path / "schema.graphql"
    path.write_text((ROOT / "schema.graphql").read_text(encoding="utf-8"), encoding="utf-8")
    line = replace(path, description, "")

    assert said(check_descriptions(load_schema(path))) == [("schema.graphql", line, f"{coordinate} has no description")]


def test_released_files_do_not_change(queries: Path) -> None:
    """After a release, a changed or removed file and an unreadable line are reported; a new file comes next time."""
    first = release(queries, "v0.1.0")
    assert "v1/Login.graphql" in first
    assert "v1/fragments/PageFields.graphql" in first
    assert check_released(queries) == []
    assert release(queries, "v0.1.1") == []

    login = queries / "v1" / "Login.graphql"
    text = login.read_text(encoding="utf-8")
    (queries / "v2").mkdir()
    (queries / "v2" / "Login.graphql").write_text(text, encoding="utf-8")
    assert release(queries, "v0.2.0") == ["v2/Login.graphql"]
    assert "\n# v0.2.0\n" in (queries / "released.sha256").read_text(encoding="utf-8")

    login.write_bytes(text.replace("\n", "\r\n").encode())
    assert check_released(queries) == []  # as a checkout on Windows may have it

    login.write_text(text + "# one more word\n", encoding="utf-8")
    (queries / "v1" / "GetRun.graphql").unlink()
    with (queries / "released.sha256").open("a", encoding="utf-8") as file:
        file.write("nonsense\n")
    problems = said(check_released(queries))
    assert [name for name, _, _ in problems] == ["released.sha256", "Login.graphql", "released.sha256"]
    assert problems[0][2] == "v1/GetRun.graphql was released and is gone: put it back"
    assert problems[1][2].startswith("this file was released and must not change")
    assert problems[2][2] == "expected a digest, two spaces and a path"
    with pytest.raises(ValueError, match="must not change"):
        release(queries, "v0.3.0")


def served(schema: GraphQLSchema) -> dict[str, Any]:
    """Return what a service over a schema answers to introspection."""
    return {"data": graphql_sync(schema, get_introspection_query()).data}


def test_introspection_that_equals_the_file(schema: GraphQLSchema) -> None:
    """A service over the same schema differs in nothing, whichever way its answer is handed over."""
    assert diff_introspection(served(schema), schema) == []
    assert diff_introspection(introspection_from_schema(schema), schema) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  apiVersion: Int!\n", "  api: Int!\n", "the service has no Query.apiVersion"),
        ("type User {\n", 'type User {\n  "More."\n  more: Int\n', "the service has User.more, the file does not"),
        ("username: String!", "username: String", "type of User.username is 'String' in the service, 'String!' in the"),
        ("first: Int! = 100", "first: Int! = 10", "default of Query.runs(first:) is '10' in the service, '100' in the"),
        (
            "The user's id.",
            "An id.",
            "description of User.id is 'An id.' in the service, \"The user's id.\" in the file",
        ),
        ("  NONE\n", "  NOTHING\n", "the service has no Strategy.NONE"),
        ("seed: Int\n", "seed: Int @deprecated\n", "deprecation of RunSettingsInput.seed is 'No longer supported' in"),
        ("type User {", "type User implements Node {", "interfaces of User is ['Node'] in the service, [] in the file"),
    ],
)
def test_introspection_that_differs(schema: GraphQLSchema, old: str, new: str, message: str) -> None:
    """Each difference between a service and the file is reported at the file's line."""
    text = (ROOT / "schema.graphql").read_text(encoding="utf-8")
    assert old in text
    other = build_schema(text.replace(old, new, 1) + ("interface Node { id: ID! }" if "Node" in new else ""))

    problems = diff_introspection(introspection_from_schema(other), schema)

    found = [problem for problem in problems if problem.message.startswith(message)]
    assert found, problems
    assert Path(found[0].file).name == "schema.graphql"
    assert found[0].line > 1


def test_introspection_that_is_not_one(schema: GraphQLSchema) -> None:
    """An answer to anything but an introspection query is refused."""
    with pytest.raises(ValueError, match=r"expected __schema, got \['errors'\]"):
        diff_introspection({"errors": []}, schema)


def interaction(name: str, answer: Any, *, package: Path = QUERIES, version: int = 1) -> dict[str, Any]:
    """Return an entry of a cassette as vcrpy writes it."""
    body = {"operationName": name, "query": Registry(package, version=version).get(name).text}
    return {
        "request": {"method": "POST", "uri": "http://service/graphql", "body": json.dumps(body)},
        "response": {"status": {"code": 200}, "body": {"string": json.dumps(answer)}},
    }


def recorded(folder: Path, *entries: Any) -> Path:
    """Write a cassette and return its folder."""
    (folder / "cassettes").mkdir(exist_ok=True)
    content = yaml.safe_dump({"version": 1, "interactions": list(entries)})
    (folder / "cassettes" / "session.yaml").write_text(content, encoding="utf-8")
    return folder / "cassettes"


LOGIN = {"data": {"apiVersion": 1, "viewer": {"id": "u1", "username": "ada"}}}


def test_recorded_answers_that_fit(tmp_path: Path) -> None:
    """Answers that decode and encode back pass; so do errors, other traffic, and a folder that is not there yet."""
    refused = interaction("Login", {"data": None, "errors": [{"message": "no"}]})
    upload = {"request": {"method": "PUT", "body": b"\x00tar"}, "response": {"body": {"string": ""}}}
    nothing = {"request": {"method": "GET", "body": None}, "response": {"body": {"string": "ok"}}}

    assert (
        check_cassettes(recorded(tmp_path, interaction("Login", LOGIN), refused, upload, nothing), QUERIES, models)
        == []
    )
    assert check_cassettes(tmp_path / "none", QUERIES, models) == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("apiVersion",), "1", "data.apiVersion: expected a whole number, got a string"),
        (("viewer", "colour"), "green", "does not encode back to itself: data.viewer.colour is lost"),
    ],
)
def test_recorded_answer_that_does_not_fit(tmp_path: Path, path: tuple[str, ...], value: Any, message: str) -> None:
    """An answer of another shape, or with more than its model has, is reported at the line of its entry."""
    answer: dict[str, Any] = copy.deepcopy(LOGIN)
    place = answer["data"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    folder = recorded(tmp_path, interaction("Login", LOGIN), interaction("Login", answer))

    (problem,) = check_cassettes(folder, QUERIES, models)

    assert message in problem.message
    lines = (folder / "session.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[problem.line - 1].startswith("- request")
    assert problem.line > 2


def test_recorded_times_keep_their_text(tmp_path: Path) -> None:
    """A time that is not written as the wire writes it does not encode back to itself."""
    upload = {"digest": "0" * 64, "stored": False, "uploadPath": "/x", "expiresAt": "2021-08-10T16:59:58Z"}
    folder = recorded(tmp_path, interaction("CreateSnapshot", {"data": {"createSnapshot": upload}}))

    (problem,) = check_cassettes(folder, QUERIES, models)

    assert "data.createSnapshot.expiresAt was '2021-08-10T16:59:58Z' and becomes" in problem.message


def test_recorded_query_of_no_version(tmp_path: Path) -> None:
    """A recording of a query that has changed since is reported, and so is one that is not GraphQL."""
    changed, broken = interaction("Login", LOGIN), interaction("Login", LOGIN)
    body = json.loads(changed["request"]["body"])
    changed["request"]["body"] = json.dumps({**body, "query": body["query"].replace("  apiVersion\n", "")})
    broken["request"]["body"] = json.dumps({**body, "query": "{"}).encode()

    problems = check_cassettes(recorded(tmp_path, changed, broken), QUERIES, models)

    assert problems[0].message == "the recorded query Login is not that of any version: record it again"
    assert problems[1].message.startswith("the recorded query is not GraphQL")


def test_recordings_of_older_versions_stay_valid(tmp_path: Path, load_models: LoadModels) -> None:
    """An answer to an older version passes although its model has more by now; one to the newest version does not."""
    two = load_models((TWO_VERSIONS / "models.py").read_text(encoding="utf-8"))
    answer = {"data": {"run": {"id": "r1", "name": "calm-otter-7"}}}

    old = interaction("GetRun", answer, package=TWO_VERSIONS, version=1)
    assert check_cassettes(recorded(tmp_path, old), TWO_VERSIONS, two) == []

    new = interaction("GetRun", answer, package=TWO_VERSIONS, version=2)
    (problem,) = check_cassettes(recorded(tmp_path, new), TWO_VERSIONS, two)
    assert problem.message == "the recorded answer to GetRun does not encode back to itself: data.run.user is added"


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [", "this cassette is not YAML"), ("a: 1", "this is not a cassette: expected a list of interactions")],
)
def test_file_that_is_not_a_cassette(tmp_path: Path, content: str, message: str) -> None:
    """What cannot be read as a cassette is reported."""
    (tmp_path / "odd.yaml").write_text(content, encoding="utf-8")

    assert [name_and_message[::2] for name_and_message in said(check_cassettes(tmp_path, QUERIES, models))] == [
        ("odd.yaml", message)
    ]


def test_command_line_on_other_queries(two_versions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users check a folder or a package of their own: failures are printed as file:line: message, with exit code 1."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(two_versions.parent), str(ROOT)]))

    def check(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "grid.schema_tools", "check", *arguments]
        done = subprocess.run(command, cwd=two_versions, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert check("--queries", ".") == (0, "schema, queries and models fit\n")
    assert check("--queries", "two", "--models", "two.models") == (0, "schema, queries and models fit\n")
    line = replace(two_versions / "v2" / "Clusters.graphql", "    name\n", "    nam\n")
    code, output = check("--queries", "two")
    assert code == 1
    assert output.startswith(f"v2/Clusters.graphql:{line}: Cannot query field 'nam' on type 'Cluster'.")
    assert output.endswith("1 problem\n")


def test_command_line_with_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What does not exist is named, and a schema that cannot be parsed is reported at its line."""
    (tmp_path / "broken.graphql").write_text("type Query {\n  a: Int\n  }}\n", encoding="utf-8")

    assert schema_tools.main(["check", "--queries", "no_such_package"]) == 1
    assert "there is no package 'no_such_package'" in capsys.readouterr().err
    assert schema_tools.main(["check", "--models", "no_such_module"]) == 1
    assert "there is no module 'no_such_module'" in capsys.readouterr().err
    assert schema_tools.main(["check", "--schema", str(tmp_path / "none.graphql")]) == 1
    assert "the schema cannot be read" in capsys.readouterr().err
    assert schema_tools.main(["check", "--schema", str(tmp_path / "broken.graphql")]) == 1
    assert "broken.graphql:3: Syntax Error" in capsys.readouterr().out


def test_release_command(queries: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`release TAG` prints what it wrote down, and refuses where a released file has changed."""
    assert schema_tools.main(["release", "v0.1.0", "--queries", str(queries)]) == 0
    assert "v1/Login.graphql\n" in capsys.readouterr().out
    assert schema_tools.main(["release", "v0.1.0", "--queries", str(queries)]) == 0
    assert capsys.readouterr().out == "nothing is new\n"
    replace(queries / "v1" / "Login.graphql", "viewer", "viewer: viewer")
    assert schema_tools.main(["release", "v0.2.0", "--queries", str(queries)]) == 1
    assert "must not change" in capsys.readouterr().err


def test_editors_find_schema_and_queries() -> None:
    """The paths for editors in `.graphqlrc.yml` lead to the schema and to every query."""
    paths = yaml.safe_load((ROOT / ".graphqlrc.yml").read_text(encoding="utf-8"))

    assert (ROOT / paths["schema"]).is_file()
    assert {path.name for path in ROOT.glob(paths["documents"])} >= {"Login.graphql", "RunFields.graphql"}
