"""Which file the registry returns for which service. Whether the files fit the schema is tested under `contract`."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from grid.chain.registry import MissingFragment, Registry
from grid.errors import ServiceTooOld
from grid.shared import wire

TWO_VERSIONS = Path(__file__).parents[1] / "contract" / "fixtures" / "two_versions"


def folder(where: Path, **files: str) -> Path:
    """Write query files, named as `v1__GetRun` or `v1__fragments__RunFields`, and return their folder."""
    for name, text in files.items():
        path = where.joinpath(*name.split("__")).with_suffix(".graphql")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return where


def test_latest_version_is_the_one_that_the_wire_names() -> None:
    """The newest folder of queries and the version that client and service announce are the same."""
    assert Registry().latest == wire.API_VERSION


def test_every_operation_of_the_client_can_be_read() -> None:
    """The shipped package gives each operation under its own name, with its kind at the beginning of its text."""
    registry = Registry()

    queries = [registry.get(name) for name in registry.names]

    assert {"Login", "GetRun", "StartRun", "RunStatusChanged"} <= {query.name for query in queries}
    assert all(query.text.startswith(f"{query.kind} {query.name}") for query in queries)
    assert {query.name: query.kind for query in queries}["CancelRun"] == "mutation"


def test_fragments_are_appended_once_and_comments_are_not_sent() -> None:
    """A text holds each fragment that is needed, directly or by another fragment, exactly once, and no comment."""
    text = Registry().get("GetRun").text

    names = [line.split()[1] for line in text.splitlines() if line.startswith("fragment ")]
    assert sorted(names) == ["ExperimentFields", "ExperimentPageFields", "PageFields", "RunFields"]
    assert "#" not in text


@pytest.mark.parametrize(
    ("service", "name", "version", "has", "has_not"),
    [
        (1, "Login", 1, "apiVersion", "clusters"),
        (2, "Login", 1, "apiVersion", "clusters"),
        (9, "Login", 1, "apiVersion", "clusters"),
        (1, "GetRun", 1, "id", "description"),
        (2, "GetRun", 2, "description", "apiVersion"),
        (9, "GetRun", 2, "description", "apiVersion"),
        (1, "RunNames", 1, "fragment RunBrief on Run {\n  name\n}", "username"),
        (2, "RunNames", 1, "fragment UserBrief on User {\n  username\n}", "NoFragment"),
        (2, "Clusters", 2, "clusters", "apiVersion"),
    ],
)
def test_newest_version_that_the_service_understands(
    service: int, name: str, version: int, has: str, has_not: str
) -> None:
    """Operations and fragments are each the newest that is not newer than the service's version."""
    query = Registry(TWO_VERSIONS, version=service).get(name)

    assert (query.name, query.version) == (name, version)
    assert query.path == str(TWO_VERSIONS / f"v{version}" / f"{name}.graphql")
    assert has in query.text
    assert has_not not in query.text


def test_service_too_old() -> None:
    """An operation that came later is refused with its name, the version that is spoken and the one that is needed."""
    with pytest.raises(
        ServiceTooOld, match=r"Clusters needs a service of version 2, but this one speaks version 1: up"
    ):
        Registry(TWO_VERSIONS, version=1).get("Clusters")
    with pytest.raises(ServiceTooOld, match=r"Login needs a service of version 1, but this one speaks version 0"):
        Registry(version=0).get("Login")


def test_the_same_files_for_another_service() -> None:
    """A registry returns one for a service of another version, and does not change itself."""
    newest = Registry(TWO_VERSIONS, version=2)

    older = newest.at(1)

    assert (older.version, older.latest) == (1, 2)
    assert [registry.get("GetRun").version for registry in (newest, older)] == [2, 1]


def test_unknown_name_is_a_mistake_of_the_caller() -> None:
    """A name in no version is a ValueError that names the closest operations, or all if none is close."""
    with pytest.raises(ValueError, match="there is no query 'GetRuns'; did you mean GetRun"):
        Registry(TWO_VERSIONS, version=1).get("GetRuns")
    with pytest.raises(ValueError, match="known names: Clusters, GetRun, Login, RunNames"):
        Registry(TWO_VERSIONS, version=1).get("xyzzy")


def test_texts_are_read_once() -> None:
    """The same object comes back for the same name."""
    registry = Registry()

    assert registry.get("Login") is registry.get("Login")


def test_package_by_name_from_an_archive(tmp_path: Path) -> None:
    """Queries are found in an imported package, even if that is not a folder but inside an archive."""
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in TWO_VERSIONS.rglob("*"):
            file.write(path, Path("zipped_queries") / path.relative_to(TWO_VERSIONS))
    code = (
        "from grid.chain.registry import Registry; query = Registry('zipped_queries', version=2).get('RunNames'); "
        "print(query.version, 'UserBrief' in query.text)"
    )

    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(archive)!r}); {code}"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.stdout == "1 True\n", result.stderr


def test_spreads_in_strings_and_comments_do_not_count(tmp_path: Path) -> None:
    """Only what GraphQL reads as the spread of a fragment counts as one."""
    text = """
    # ...Commented
    query Odd {
      run(name: "...Quoted \\" ...Escaped # no comment") { ... on Run { id } ...@include(if: true) { name } ... Real }
      experiment(id: \"\"\"...Block # kept \\\"\"\" ...Still\"\"\") { id }
    }"""
    queries = folder(tmp_path, v1__Odd=text, v1__fragments__Real="fragment Real on Run { user { id } }")
    registry = Registry(queries)

    assert [part.name for part in registry.parts("Odd")] == ["Odd", "Real"]
    assert "# no comment" in registry.get("Odd").text
    assert "# kept" in registry.get("Odd").text
    assert "Commented" not in registry.get("Odd").text


def test_missing_fragment_names_file_and_line(tmp_path: Path) -> None:
    """A fragment that no version has is an error at the line that uses it."""
    queries = folder(tmp_path, v1__Odd='query Odd {\n  experiment(id: """\n""") {\n    ...Nowhere\n  }\n}\n')

    with pytest.raises(MissingFragment, match=r"Odd\.graphql:4: no version up to 1 has a fragment 'Nowhere'"):
        Registry(queries, version=1).get("Odd")


def test_file_that_holds_another_operation(tmp_path: Path) -> None:
    """A file whose operation has another name than the file is refused when it is used."""
    with pytest.raises(ValueError, match="holds no operation Right"):
        Registry(folder(tmp_path, v1__Right="query Wrong { apiVersion }")).get("Right")


def test_nothing_to_read(tmp_path: Path) -> None:
    """A package that does not exist and a folder without versions are refused by name."""
    with pytest.raises(ValueError, match="there is no package 'no_such_package'"):
        Registry("no_such_package")
    with pytest.raises(ValueError, match=r"there are no queries in .*: they are expected in folders v1, v2, …"):
        Registry(tmp_path)


def test_reading_queries_needs_no_graphql_library() -> None:
    """The registry works on text: nothing of graphql, gql or aiohttp is imported for it."""
    code = "import sys; from grid.chain.registry import Registry; Registry().get('GetRun'); print(*sys.modules)"

    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "grid.chain.registry" in modules
    assert not {"graphql", "gql", "aiohttp"} & set(modules)
