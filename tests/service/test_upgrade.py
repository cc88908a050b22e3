"""Tests of a database's versions: older ones are upgraded with a copy beside them, newer ones are refused."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine

from grid.service.store.database import Database
from grid.service.store.migrations import versions
from grid.service.store.sqlite import make_engine
from grid.service.store.tables import metadata
from grid.service.store.upgrade import HEAD, MIGRATIONS, upgrade
from grid.service.system.settings import OptionError
from tests.support.environments import clean_environment

OLDEST, NEXT = "0001", f"{int(HEAD) + 1:04}"

MIGRATION = f"""
import sqlalchemy as sa
from alembic import op
revision, down_revision = "{NEXT}", "{HEAD}"
def upgrade():
    op.create_table("more", sa.Column("text", sa.Text))
    op.execute(sa.update(sa.table("users", sa.column("name"))).values(name="half"))
    with op.batch_alter_table("api_keys") as batch:
        batch.add_column(sa.Column("half", sa.Text))
"""
"""Changes tables and rows in every way that there is; what is appended decides how it ends."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a database is, or will be."""
    return tmp_path / "grid.sqlite3"


@contextmanager
def engine_of(file: Path) -> Iterator[Engine]:
    """Yield the engine of a file."""
    engine = make_engine(sa.make_url(f"sqlite:///{file}"), connections=1)
    try:
        yield engine
    finally:
        engine.dispose()


def make(file: Path, version: str) -> list[str]:
    """Make a database of a version, with a user and a key in it; return what it holds."""
    with engine_of(file) as engine:
        upgrade(engine, str(file), file, head=version)
        with engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO users (id, name, created_at) VALUES ('u', 'ada', 1)")
            connection.exec_driver_sql("INSERT INTO api_keys (digest, user_id, created_at) VALUES ('d', 'u', 1)")
    return content(file)


def content(file: Path) -> list[str]:
    """Everything that a database holds, as statements that would make it."""
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return list(connection.iterdump())


def copies(file: Path) -> list[Path]:
    """The files beside a database, but for those that SQLite uses while it is open."""
    beside = {f"{file.name}-wal", f"{file.name}-shm", file.name}
    return sorted(path for path in file.parent.iterdir() if path.name not in beside and path.is_file())


def migrations(folder: Path, ending: str) -> Path:
    """Copy the migrations, and add one that changes much and has this ending."""
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / f"{NEXT}_more.py").write_text(MIGRATION + ending)
    return folder


def test_head_is_the_newest_migration() -> None:
    """The version that a service expects is that of the newest migration, and each migration follows the one before."""
    modules = [
        importlib.import_module(f"{versions.__name__}.{each.name}") for each in pkgutil.iter_modules(versions.__path__)
    ]
    found = {module.revision: module.down_revision for module in modules}
    chain = [HEAD]
    while (before := found[chain[-1]]) is not None:
        chain.append(before)
    assert sorted(chain) == sorted(found)
    assert all(re.fullmatch(r"\d{4}", revision) for revision in found)


@pytest.mark.parametrize("first", [None, OLDEST])
def test_migrations_make_the_tables(file: Path, first: str | None) -> None:
    """A new database, and one that has gone through all versions, is as the tables describe."""
    if first is not None:
        make(file, first)
    Database(f"sqlite:///{file}").close()
    with engine_of(file) as engine, engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_an_older_database_is_copied_first(file: Path) -> None:
    """A database of an older version keeps its content; beside it is a copy, readable by its user only."""
    before = make(file, OLDEST)
    Database(f"sqlite:///{file}").close()
    (copy,) = copies(file)
    assert re.fullmatch(rf"grid\.sqlite3\.before-{HEAD}-\d{{8}}T\d{{6}}Z", copy.name)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert content(copy) == before
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT id, name FROM users").fetchall() == [("u", "ada")]
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
    Database(f"sqlite:///{file}").close()
    assert copies(file) == [copy]


def test_copying_while_it_is_read(file: Path) -> None:
    """What was committed but is still in SQLite's log is in the copy, and readers do not prevent it."""
    make(file, OLDEST)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("PRAGMA wal_autocheckpoint=0")
        other.execute("UPDATE users SET name = 'eve'")
        other.execute("BEGIN")
        other.execute("SELECT * FROM users").fetchall()
        assert Path(f"{file}-wal").stat().st_size > 0
        Database(f"sqlite:///{file}").close()
    (copy,) = copies(file)
    assert any("'eve'" in statement for statement in content(copy))


def test_copies_do_not_replace_each_other(file: Path) -> None:
    """Each copy has a name of its own, however soon one follows the other, and half a copy does not count."""
    before = make(file, OLDEST)
    aside = file.with_name("aside")
    shutil.copy(file, aside)
    file.with_name("grid.sqlite3.copying").write_bytes(b"half")  # of a service that was killed meanwhile
    for _ in range(3):
        shutil.copy(aside, file)
        Database(f"sqlite:///{file}").close()
    aside.unlink()
    found = copies(file)
    assert [content(copy) for copy in found] == [before] * 3


def test_a_new_database_is_not_copied(file: Path) -> None:
    """A new database is not copied."""
    Database(f"sqlite:///{file}").close()
    assert copies(file) == []


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("    raise ArithmeticError('in the middle')", "in the middle"),
        ("    op.execute('INSERT INTO nowhere VALUES (1)')", "no such table: nowhere"),
        ("    op.execute('DELETE FROM users')", "api_keys refers to nothing"),
        ("    import no_such_module", "no_such_module"),
    ],
)
def test_a_migration_that_fails_changes_nothing(file: Path, tmp_path: Path, ending: str, words: str) -> None:
    """If a migration fails the database is as it was, and the message names the migration, the reason, and the copy."""
    before = make(file, HEAD)
    folder = migrations(tmp_path / "migrations", ending)
    with engine_of(file) as engine, pytest.raises(OptionError) as caught:
        upgrade(engine, str(file), file, head=NEXT, migrations=folder)
    (copy,) = copies(file)
    for each in (f"the database {file} ", f"from version {HEAD} to {NEXT}", words, "is unchanged", str(copy)):
        assert each in str(caught.value)
    assert content(file) == content(copy) == before
    Database(f"sqlite:///{file}").close()


def test_a_migration_that_succeeds(file: Path, tmp_path: Path) -> None:
    """A table that others refer to can be rebuilt, and the references are checked afterwards."""
    make(file, HEAD)
    folder = migrations(
        tmp_path / "migrations", "    with op.batch_alter_table('users') as b: b.drop_column('disabled_at')"
    )
    with engine_of(file) as engine:
        copy = upgrade(engine, str(file), file, head=NEXT, migrations=folder)
        assert copies(file) == [copy]
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT name, half FROM users, api_keys").all() == [("half", None)]
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_no_copy_no_migration(file: Path) -> None:
    """If the copy cannot be made nothing is changed, and the message says why."""
    before = make(file, OLDEST)
    file.with_name("grid.sqlite3.copying").mkdir()
    with pytest.raises(OptionError, match=rf"{file} has version {OLDEST}.* no copy of it .*nothing was changed"):
        Database(f"sqlite:///{file}")
    assert content(file) == before
    assert copies(file) == []


@pytest.mark.parametrize("point", ["database.copied", "database.upgrade.before", "database.upgrade.commit.before"])
def test_killed_while_it_is_brought_up_to_date(file: Path, tmp_path: Path, point: str) -> None:
    """A service that is killed at whatever moment leaves the older version whole, and the next one goes on from it."""
    before = make(file, OLDEST)
    code = f"from grid.service.store.database import Database; Database({f'sqlite:///{file}'!r})"
    log = str(tmp_path / "failpoints")
    environment = clean_environment(tmp_path, GRID_FAILPOINTS=f"{point}:1:kill", GRID_FAILPOINTS_LOG=log)
    killed = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    Path(log).unlink()
    assert content(file) == before
    Database(f"sqlite:///{file}").close()
    assert content(copies(file)[-1]) == before
    assert not file.with_name("grid.sqlite3.copying").exists()


@pytest.mark.parametrize("version", ["9999", "abc", "0003a"])
def test_database_of_a_newer_version(file: Path, version: str) -> None:
    """A database that a newer service has changed is refused with its name, and left as it is."""
    make(file, HEAD)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [version])
    before = content(file)
    with pytest.raises(OptionError, match=rf"{file} has version '{version}'.* up to {HEAD}"):
        Database(f"sqlite:///{file}")
    assert content(file) == before
    assert copies(file) == []
