"""The tables as they are now; `grid/service/store/migrations` brings a database there.

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

# SQLite numbers rows by itself only if the primary key is declared as INTEGER.
_Sequence = BigInteger().with_variant(Integer, "sqlite")

users = Table(
    "users",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("user_id", ForeignKey("users.id"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

teams = Table(
    "teams",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
)

memberships = Table(
    "memberships",
    metadata,
    Column("team_id", ForeignKey("teams.id"), primary_key=True),
    Column("user_id", ForeignKey("users.id"), primary_key=True, index=True),
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
    # The user who has paused it; null if it is not paused, or was by an earlier version.
    Column("paused_by", String(64)),
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

uploads = Table(
    "uploads",
    metadata,
    # Who has sent which snapshot, and so has its content, whoever else has sent the same.
    Column("digest", ForeignKey("snapshots.digest"), primary_key=True),
    Column("user_id", ForeignKey("users.id"), primary_key=True),
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
    # How the script is started: see `grid.service.domain.launching`. Empty for runs of older versions: by its path.
    Column("launch", Text, nullable=False, server_default=""),
    Column("settings", Text, nullable=False),
    Column("warnings", Text, nullable=False),
    Column("experiment_count", Integer, nullable=False),
    # The experiments that were deleted from it: a JSON list of indices.
    Column("deleted_indices", Text, nullable=False, server_default="[]"),
    # The names of the parameters that differ between its experiments, in the order of the command line: a JSON list.
    Column("varying", Text, nullable=False, server_default="[]"),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("user_id", "name"),
    UniqueConstraint("user_id", "key"),
    Index(None, "snapshot"),
    # A user's runs are listed newest first, and counted.
    Index(None, "user_id", "seq"),
    # A client that still holds the number of a deleted run must not get another run by it.
    sqlite_autoincrement=True,
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
    # How the files of that attempt are laid out: see `grid.service.system.workspace.LAYOUT`.
    Column("layout", Integer, nullable=False, server_default="2"),
    Column("arguments", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("cpus", Integer, nullable=False),
    Column("gpus", Integer, nullable=False),
    # What it asked for and the machine has; 0 for no claim to any.
    Column("memory_bytes", BigInteger, nullable=False, server_default="0"),
    # A JSON list of UUIDs; of indices, if a service of an older version has started it.
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
    # As for runs.
    sqlite_autoincrement=True,
)

status_counts = Table(
    "status_counts",
    metadata,
    # How many experiments of a run have a status: a row for each of them from the run's start on, also for none.
    # They are the last rows that a transaction changes, after the run itself if that is deleted.
    Column(
        "run_seq", ForeignKey("runs.seq", deferrable=True, initially="DEFERRED"), primary_key=True, autoincrement=False
    ),
    Column("status", String(16), primary_key=True),
    Column("number", Integer, nullable=False),
    sqlite_with_rowid=False,
)

revisions = Table(
    "revisions",
    metadata,
    # The number of each run's last event: 0 from the run's start on. Not a column of runs, whose rows are long: a sweep
    # of a megabyte would be written again with every change of a status.
    Column(
        "run_seq", ForeignKey("runs.seq", deferrable=True, initially="DEFERRED"), primary_key=True, autoincrement=False
    ),
    Column("number", Integer, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("run_seq", ForeignKey("runs.seq"), nullable=False),
    # By the run's own counter, in the order of commits.
    Column("number", Integer, nullable=False),
    # Null if an experiment was deleted: its own events are gone, but its deletion is still a change of its run.
    Column("experiment_seq", ForeignKey("experiments.seq")),
    # The experiment's.
    Column("index", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    # Or DELETED.
    Column("status", String(16), nullable=False),
    Column("reason", String(32)),
    # Whether the experiment's next attempt was queued in the transaction in which this one has ended.
    Column("is_queued_again", Boolean, nullable=False),
    Column("at", BigInteger, nullable=False),
    # An attempt reaches each status at most once, whoever reports it.
    Index(None, "experiment_seq", "attempt", "status", unique=True),
    Index(None, "run_seq", "number", unique=True),
    sqlite_autoincrement=True,
)

attempts = Table(
    "attempts",
    metadata,
    # Only attempts that have ended. The key makes sure that an attempt ends once.
    Column("experiment_seq", ForeignKey("experiments.seq"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("layout", Integer, nullable=False, server_default="2"),
    Column("status", String(16), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("error", Text),
    Column("last_lines", Text, nullable=False),
    Column("final_line", Text),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger, nullable=False),
)

retries = Table(
    "retries",
    metadata,
    # The key of each request to run a run's failed experiments again: the same request is carried out once.
    Column("run_seq", ForeignKey("runs.seq"), primary_key=True),
    Column("key", String(64), primary_key=True),
    # A JSON list of indices.
    Column("indices", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

removals = Table(
    "removals",
    metadata,
    # What no other row refers to any longer and may still be on the disk: written with the deletion, removed with the
    # files. The same source code may be deleted, sent and deleted again before the first files are gone.
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("kind", String(16), nullable=False),
    Column("name", String(64), nullable=False),
    # How many attempts an experiment had.
    Column("attempts", Integer, nullable=False, server_default="0"),
)
