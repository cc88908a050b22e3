"""The tables as they are now; `grid/service/migrations` says how a database gets there.

Times are microseconds since the epoch, in UTC: exact, comparable and the same in every database.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

# SQLite numbers its rows by an INTEGER primary key alone.
_Sequence = BigInteger().with_variant(Integer, "sqlite")

users = Table(
    "users",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("user_id", ForeignKey("users.id"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

clusters = Table(
    "clusters",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("paused", Boolean, nullable=False),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("user_id", ForeignKey("users.id"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("key", String(64), nullable=False),
    Column("description", Text),
    Column("cluster", ForeignKey("clusters.name"), nullable=False),
    Column("snapshot", ForeignKey("snapshots.digest"), nullable=False),
    Column("project", Text, nullable=False),
    Column("commit_sha", String(64), nullable=False),
    Column("script", Text, nullable=False),
    Column("script_command", Text, nullable=False),
    Column("interpreter", Text),
    Column("settings", Text, nullable=False),
    Column("warnings", Text, nullable=False),
    Column("experiment_count", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("user_id", "name"),
    UniqueConstraint("user_id", "key"),
)

experiments = Table(
    "experiments",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("run_seq", ForeignKey("runs.seq"), nullable=False),
    Column("index", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("cpus", Integer, nullable=False),
    Column("gpus", Integer, nullable=False),
    Column("gpu_ids", Text),
    Column("reason", String(32)),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("error", Text),
    Column("cancel_requested_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    UniqueConstraint("run_seq", "index"),
    Index(None, "status", "seq"),
    Index(None, "run_seq", "status", "index"),
)

events = Table(
    "events",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("run_seq", ForeignKey("runs.seq"), nullable=False),
    Column("experiment_seq", ForeignKey("experiments.seq"), nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", String(32)),
    Column("at", BigInteger, nullable=False),
    Index(None, "run_seq", "seq"),
)
