"""Tests of deleting runs and experiments: rows, folders and source code go together, and nothing else does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from grid import Run, get_experiment_by_id, get_experiment_by_name, list_runs, models, pause_cluster, resume_cluster
from grid.errors import ExperimentNotFound, NotEnded, RunNotFound, RunNotStarted, SourceError
from grid.experiment import Experiment
from grid.service.system.workspace import remove_tree
from grid.session import session as sessions
from grid.session.session import Session
from tests.support.experiments import database_of, folder_of, grow_run, only, output_of, starter
from tests.support.people import add_user
from tests.support.requests import ask, code_of
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]

DELETE_RUN = "mutation($id: ID!) { deleteRun(id: $id) { deleted } }"
DELETE_EXPERIMENT = "mutation($id: ID!) { deleteExperiment(id: $id) { deleted } }"
CANCEL_RUN = "mutation($name: String!, $id: ID) { cancelRun(name: $name, id: $id, waitSeconds: 0) { ended } }"

# Fails, and leaves files behind, one of them in a folder.
LEAVE = """
import os, sys
os.makedirs('made/deep')
open('made/deep/file', 'w').write(sys.argv[-1])
sys.exit(1)
"""
HOLD = "import os, sys, time\nprint('ready', flush=True)\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.01)\n"


def content_of(service: ServiceProcess) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that the database holds about runs, by table."""
    tables = ("runs", "experiments", "events", "attempts", "retries", "snapshots", "uploads", "removals")
    with database_of(service) as connection:
        return {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall() for name in tables}  # noqa: S608


def rows(service: ServiceProcess, table: str) -> list[dict[str, Any]]:
    """The rows of a table, by column."""
    with database_of(service) as connection:
        found = connection.execute(f"SELECT * FROM {table}")  # noqa: S608
        names = [column for column, *_ in found.description]
        return [dict(zip(names, row, strict=True)) for row in found]


def files_of(service: ServiceProcess) -> set[str]:
    """The folders of experiments and snapshots, and what is being removed."""
    return {
        str(path.relative_to(service.home))
        for name in ("experiments", "snapshots", "trash")
        for path in (service.home / name).glob("*")
    }


def delete(service: ServiceProcess, mutation: str, id_: str | None) -> bool:
    """Ask for a deletion, past the client; return whether there was something to delete."""
    (answer,) = ask(service.endpoint, mutation, id=id_)["data"].values()
    return answer["deleted"]


def first_of(run: Run) -> Experiment:
    """The first experiment of a run."""
    return next(iter(run))


@pytest.fixture
def failed(start: Start) -> Run:
    """A run of three experiments that have failed."""
    run = start(LEAVE, "--n '[0, 1, 2]'")
    wait_for_run(run)
    return run


@contextmanager
def paused() -> Iterator[None]:
    """Let nothing new start during the test."""
    pause_cluster("local")
    try:
        yield
    finally:
        resume_cluster("local")


# Runs


def test_nothing_of_a_run_is_left(service: ServiceProcess, start: Start) -> None:
    """With a run its rows of every table, its folders and its source code are removed; nothing of other runs is."""
    other = start("print('another')")
    wait_for_run(other)
    content, files = content_of(service), files_of(service)
    run = start(LEAVE + "# of its own", "--n '[0, 1, 2]'")
    wait_for_run(run)
    run.retry()
    wait_for_run(run)
    assert all(len(rows) > len(content[name]) for name, rows in content_of(service).items() if name != "removals")
    assert len(files_of(service)) == len(files) + 4
    experiments = list(run)

    assert run.delete() is None

    assert content_of(service) == content
    assert files_of(service) == files
    assert run.name not in list_runs()
    for look in (run.status, run.failures, run.retry, run.cancel, lambda: Run(run.name)):
        with pytest.raises(RunNotFound):
            look()
    for look in (
        experiments[0].status,
        experiments[0].cancel,
        lambda: experiments[0].failure,
        lambda: experiments[0].attempt,
        lambda: get_experiment_by_id(experiments[0].id),
        lambda: get_experiment_by_name(experiments[0].name),
    ):
        with pytest.raises(ExperimentNotFound):
            look()
    assert run.name in repr(run)
    assert len(repr(run.experiments)) > 2
    assert list(other.status()) == ["SUCCEEDED"]


def test_source_code_that_others_have(service: ServiceProcess, start: Start) -> None:
    """Source code stays for as long as a run has it, and can be sent again when it is gone."""
    first, second = (start("print('shared by two')") for _ in range(2))
    (snapshot,) = {each["snapshot"] for each in rows(service, "runs") if each["id"] in (first.id, second.id)}
    for run in (first, second):
        wait_for_run(run)
    first.delete()
    assert (service.home / "snapshots" / snapshot / "run.py").exists()
    assert snapshot in {each["digest"] for each in rows(service, "snapshots")}
    third = start("print('shared by two')")
    assert list(wait_for_run(third)) == ["SUCCEEDED"]
    second.delete()
    third.delete()
    assert not (service.home / "snapshots" / snapshot).exists()
    assert snapshot not in {each["digest"] for each in rows(service, "snapshots")}
    again = start("print('shared by two')")
    assert list(wait_for_run(again)) == ["SUCCEEDED"]
    assert (service.home / "snapshots" / snapshot / "run.py").exists()


def test_refused_while_something_is_unfinished(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """While an experiment waits or runs neither it nor its run can be deleted, and nothing of them is removed."""
    run = start(HOLD, f"{tmp_path / 'release'} --n '[0, 1, 2]'")
    first, second, third = run
    for each in (first, second):
        wait_until(lambda each=each: "ready" in output_of(service, each), "two that run")
    wait_until(lambda: list(run.status().items())[1:] == [("RUNNING", [first.name, second.name])], "two that run")
    content, files = content_of(service), files_of(service)
    with pytest.raises(NotEnded, match=f"3 experiments of the run '{run.name}' are waiting or running: cancel"):
        run.delete()
    with pytest.raises(NotEnded, match=f"'{first.name}' is RUNNING: cancel it first"):
        first.delete()
    with pytest.raises(NotEnded, match=f"'{third.name}' is QUEUED"):
        third.delete()
    assert code_of(ask(service.endpoint, DELETE_RUN, id=run.id)) == "NOT_ENDED"
    assert content_of(service) == content
    assert files_of(service) == files
    third.cancel()
    first.cancel()
    with pytest.raises(NotEnded, match="1 experiments"):
        run.delete()
    first.delete()
    assert not folder_of(service, first).parent.exists()
    assert second.status() == "RUNNING"
    assert list(run.experiments) == [second.name, third.name]
    assert run.cancel() == [second.name, third.name]
    run.delete()
    assert not folder_of(service, second).parent.exists()


def test_what_waits_to_be_run_again(service: ServiceProcess, failed: Run) -> None:
    """An experiment whose next attempt is queued has not ended."""
    with paused():
        failed.retry()
        with pytest.raises(NotEnded):
            failed.delete()
        failed.cancel()
        failed.delete()
    assert failed.name not in list_runs()


def test_deleting_twice(service: ServiceProcess, failed: Run, start: Start) -> None:
    """What is deleted is deleted once, however often and from wherever the request comes."""
    for mutation, id_ in ((DELETE_EXPERIMENT, first_of(failed).id), (DELETE_RUN, failed.id)):
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: delete(service, mutation, id_), range(8)))  # noqa: B023
        assert sorted(answers) == [False] * 7 + [True]
        assert not delete(service, mutation, id_)
    failed.delete()
    failed.delete()
    assert not delete(service, DELETE_RUN, "no-such-run")
    assert not delete(service, DELETE_EXPERIMENT, "no-such-experiment")


def test_what_another_has(service: ServiceProcess, failed: Run) -> None:
    """To a stranger there is nothing to delete, and it stays."""
    stranger = add_user(service, "stranger")
    content = content_of(service)
    for mutation, id_ in ((DELETE_RUN, failed.id), (DELETE_EXPERIMENT, first_of(failed).id)):
        (answer,) = ask(stranger, mutation, id=id_)["data"].values()
        assert answer == {"deleted": False}
    assert content_of(service) == content


def test_run_that_is_not_started(session: object) -> None:
    """Before the start there is nothing to delete."""
    with pytest.raises(RunNotStarted, match="nothing to delete"):
        Run(entrypoint=__file__).delete()


def test_start_and_delete_at_once(service: ServiceProcess, start: Start) -> None:
    """A run whose source code is being removed is refused, or has it: no run is made without."""
    runs = [start("print('in between')") for _ in range(4)]
    for run in runs:
        wait_for_run(run)
    begin = threading.Barrier(2)

    def starting() -> list[Run]:
        made = []
        begin.wait()
        for _ in range(8):
            try:
                made.append(start("print('in between')"))
            except SourceError as error:
                assert "is not stored" in str(error)
        return made

    def deleting() -> None:
        begin.wait()
        for run in runs:
            run.delete()

    with ThreadPoolExecutor(2) as threads:
        made, gone = threads.submit(starting), threads.submit(deleting)
        gone.result()
        for run in made.result():
            assert list(wait_for_run(run)) == ["SUCCEEDED"]


def test_many_experiments(service: ServiceProcess, failed: Run) -> None:
    """A run of thousands of experiments is deleted as a whole."""
    run, copied = grow_run(service, failed, 2_000), first_of(failed).id
    for index in range(10, 2_000, 10):
        (service.home / "experiments" / f"{copied}-{index}" / "attempt-1").mkdir(parents=True)
    run.delete()
    assert not [each for each in rows(service, "experiments") if copied in each["id"]]
    wait_until(lambda: not rows(service, "removals"), "the removal of the files")
    assert not [path for path in files_of(service) if copied in path]


# Experiments


def test_one_of_many(service: ServiceProcess, failed: Run) -> None:
    """With an experiment its attempts, events and folders are removed; the others keep all that is theirs."""
    first, second, third = failed
    failed.retry()
    wait_for_run(failed)
    kept = {each.id: (each.name, each.parameters, each.attempt) for each in (first, third)}
    content = content_of(service)
    assert folder_of(service, second, 2).exists()

    assert second.delete() is None

    assert not folder_of(service, second).parent.exists()
    assert {each.id: (each.name, each.parameters, each.attempt) for each in failed} == kept
    after = content_of(service)
    gone = {name: len(content[name]) - len(after[name]) for name in content}
    # Its events are removed, and one records the deletion.
    assert gone == {
        "runs": 0,
        "experiments": 1,
        "events": 6,
        "attempts": 2,
        "retries": 0,
        "snapshots": 0,
        "uploads": 0,
        "removals": 0,
    }
    assert failed.status() == {"FAILED": [first.name, third.name]}
    assert failed.retry() == [first.name, third.name]


def test_all_of_them(service: ServiceProcess, failed: Run) -> None:
    """A run without experiments is still a run: it can be read and deleted."""
    for each in list(failed):
        each.delete()
    assert (len(failed), list(failed.experiments), failed.status(), failed.failures()) == (0, [], {}, [])
    again = Run(failed.name)
    assert (len(again), dict(again.experiments), again.status(), again.retry()) == (0, {}, {}, [])
    assert again.cancel() == []
    again.delete()
    assert failed.name not in list_runs()


# Names that are used again


def test_another_run_of_the_name(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """A client that holds a deleted run does not reach the one that has its name now, and cannot end it."""
    old = start(LEAVE, "--n '[0, 1]'", name="given-again")
    wait_for_run(old)
    old = grow_run(service, old, 1_200)
    first = old.experiments["given-again-exp0"]
    assert delete(service, DELETE_RUN, old.id)
    new = start(HOLD, f"{tmp_path / 'release'} --n 'range(1200)'", name="given-again")
    wait_until(lambda: "RUNNING" in new.status(), "the other run")
    assert new.id != old.id

    for look in (old.status, old.cancel, old.failures, old.retry, lambda: old.experiments["given-again-exp600"]):
        with pytest.raises(RunNotFound):
            look()
    for look in (
        first.status,
        first.cancel,
        lambda: first.failure,
        # Its page is far away, so that it is requested by its name.
        lambda: old.experiments["given-again-exp1199"],
    ):
        with pytest.raises(ExperimentNotFound):
            look()
    assert "RUNNING" not in repr(old) + repr(old.experiments)
    old.delete()
    assert code_of(ask(service.endpoint, CANCEL_RUN, name="given-again", id=old.id)) == "RUN_NOT_FOUND"
    assert new.status().keys() == {"QUEUED", "RUNNING"}
    assert ask(service.endpoint, CANCEL_RUN, name="given-again", id=new.id)["data"]
    wait_for_run(new)


def test_numbers_are_not_given_again(service: ServiceProcess, start: Start) -> None:
    """The number of a deleted row never leads to another row."""
    seen: dict[str, set[int]] = {"runs": set(), "experiments": set(), "events": set()}
    for _ in range(3):
        run = start("")
        wait_for_run(run)
        for name, numbers in seen.items():
            newest = max(each["seq"] for each in rows(service, name))
            assert newest > max(numbers, default=0)
            numbers.add(newest)
        run.delete()


# Watching


def test_watching_what_is_deleted(service: ServiceProcess, session: Session, start: Start) -> None:
    """A watcher is told that a run no longer exists, whether it began before the deletion or begins now."""
    with paused():
        run = start("")
        watching = session.subscribe(models.RunStatusChanged, name=run.name)
        next(watching)
        run.cancel()
        run.delete()
    try:
        (last,) = watching
        # It was told of the end before the run was deleted.
        assert [group.status.value for group in last.run_status_changed.groups] == ["CANCELLED"]
    except RunNotFound as error:
        assert run.name in str(error)
    with pytest.raises(RunNotFound, match=run.name):
        next(session.subscribe(models.RunStatusChanged, name=run.name))


# Files


@pytest.mark.parametrize("point", ["deletion.remove.before", "deletion.removed"])
@pytest.mark.parametrize("what", ["run", "experiment"])
def test_killed_between_rows_and_files(tmp_path: Path, point: str, what: str) -> None:
    """The files of what was deleted are removed by the next service if the one before was killed too early."""
    with service_process(tmp_path, "--grace", "1", "--cpus", "1") as service:
        sessions.use(service.session())
        run = starter(tmp_path)(LEAVE, "--n '[0, 1]'")
        wait_for_run(run)
        first, second = run
        service.stop()
        ids = {"run": (DELETE_RUN, run.id), "experiment": (DELETE_EXPERIMENT, first.id)}
        log = tmp_path / "points"
        service.set_environment(GRID_FAILPOINTS=f"{point}:1:kill", GRID_FAILPOINTS_LOG=str(log))
        service.start()
        with pytest.raises(OSError, match=r".*"):
            delete(service, *ids[what])
        assert service.process.wait(60) == -9
        assert point in log.read_text()
        assert len(rows(service, "removals")) == {"run": 3, "experiment": 1}[what]
        service.start()
        wait_until(lambda: not rows(service, "removals"), "the removal of the files")
        left = set() if what == "run" else {f"experiments/{second.id}"}
        assert {path for path in files_of(service) if not path.startswith("snapshots/")} == left
        assert any(path.startswith("snapshots/") for path in files_of(service)) == (what == "experiment")
        assert not delete(service, *ids[what])


def test_what_is_left_on_the_list(tmp_path: Path) -> None:
    """At its start a service removes what is on the list, wherever it is; what is no longer there does not matter."""
    with service_process(tmp_path, "--grace", "1") as service:
        service.stop()
        half, whole = service.home / "trash" / ("a" * 32), service.home / "experiments" / ("b" * 32)
        both = service.home / "trash" / ("c" * 64), service.home / "snapshots" / ("c" * 64)
        for folder in (half, whole, *both):
            (folder / "deep").mkdir(parents=True)
            (folder / "deep" / "file").touch()
        with database_of(service) as connection:
            removed = [("experiment", "a" * 32), ("experiment", "b" * 32), ("snapshot", "c" * 64)]
            removed += [("experiment", "d" * 32), ("snapshot", "e" * 64), ("snapshot", "c" * 64)]
            connection.executemany("INSERT INTO removals (kind, name) VALUES (?, ?)", removed)
        service.start()
        wait_until(lambda: not rows(service, "removals"), "the removal of the files")
        assert files_of(service) == set()


def test_disk_that_refuses(tmp_path: Path) -> None:
    """What the disk refuses to remove stays on the list, is in nobody's way, and is tried again."""
    with service_process(tmp_path, "--grace", "1", "--cpus", "1") as service:
        sessions.use(service.session())
        start = starter(tmp_path)
        (service.home / "trash").touch()  # a file where there should be a folder
        first = start("print('the same')")
        wait_for_run(first)
        first.delete()
        assert list_runs() == []
        assert [each["kind"] for each in rows(service, "removals")] == ["experiment", "snapshot"]
        # The same source code comes back meanwhile, and is removed again.
        second = start("print('the same')")
        assert list(wait_for_run(second)) == ["SUCCEEDED"]
        second.delete()
        third = start("print('the same')")
        assert list(wait_for_run(third)) == ["SUCCEEDED"]
        assert len(rows(service, "removals")) == 4
        (service.home / "trash").unlink()
        other = start("print('another')")
        wait_for_run(other)
        other.delete()
        wait_until(lambda: not rows(service, "removals"), "the removal of the files")
        (snapshot,) = [each["snapshot"] for each in rows(service, "runs")]
        assert files_of(service) == {f"experiments/{only(third).id}", f"snapshots/{snapshot}"}
        # Each is said once, however often it is tried.
        said = [line for line in service.log.read_text().splitlines() if "cannot be removed" in line]
        assert len(said) == 4
        assert all("trying again with each deletion" in line for line in said)


def test_one_that_the_disk_refuses(service: ServiceProcess, start: Start) -> None:
    """Of several things to remove, one that stays keeps none of the others."""
    run = start(f"{LEAVE}# of another kind", "--n '[0, 1, 2]'")
    wait_for_run(run)
    files, (_, second, _) = files_of(service), run
    in_the_way = service.home / "trash" / second.id
    in_the_way.parent.mkdir(exist_ok=True)
    in_the_way.touch()  # a file where there should be a folder
    run.delete()
    assert [(each["kind"], each["name"]) for each in rows(service, "removals")] == [("experiment", second.id)]
    assert len(files - files_of(service)) == 3
    assert folder_of(service, second).exists()
    in_the_way.unlink()
    other = start("")
    wait_for_run(other)
    other.delete()
    assert rows(service, "removals") == []
    assert not folder_of(service, second).parent.exists()


def test_thousands_of_nested_folders(service: ServiceProcess, start: Start) -> None:
    """What a script has nested deeper than any path reaches is removed, and is in the way of nobody else's deletion."""
    nest = "import os\nfor _ in range(3000):\n    os.mkdir('folder')\n    os.chdir('folder')\nopen('file', 'w')\n"
    deep, other = start(nest), start(f"{LEAVE}# beside deep ones")
    for run in (deep, other):
        wait_for_run(run)
    assert list(deep.status()) == ["SUCCEEDED"]
    files = files_of(service)
    deep.delete()
    other.delete()
    wait_until(lambda: not rows(service, "removals"), "the removal of the files")
    assert len(files - files_of(service)) == 4
    assert not folder_of(service, only(other)).parent.exists()


def test_folders_that_are_protected(tmp_path: Path) -> None:
    """Folders that a script has made read-only, or even unreadable, are removed; targets of links are left alone."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    tree, aside = tmp_path / "tree", tmp_path / "aside"
    for folder in (tree / "a" / "b", aside / "left" / "over"):
        folder.mkdir(parents=True)
        (folder / "file").touch()
        (folder / "link").symlink_to(outside)
    for folder in (tree / "a" / "b", tree / "a", aside / "left" / "over"):
        folder.chmod(0)
    aside.chmod(0o500)
    remove_tree(tree, aside)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside"]
    assert outside.stat().st_mode & 0o777 == 0o500
    remove_tree(tree, aside)


def test_files_of_an_experiment_that_never_ran(service: ServiceProcess, start: Start) -> None:
    """An experiment that was cancelled before its turn has no folder, and can be deleted all the same."""
    with paused():
        run = start("", "--n '[0, 1]'")
        run.cancel()
        first_of(run).delete()
        assert list(run.experiments) == [f"{run.name}-exp1"]
        run.delete()
    assert rows(service, "removals") == []
