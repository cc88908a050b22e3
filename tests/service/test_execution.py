"""Tests of what a script meets when it runs, and of what is known of it afterwards: real processes, a real service."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from grid import Run
from grid.errors import Unsupported
from grid.session import session
from grid.session.session import Session
from grid.shared.environment import of_script
from tests.support.experiments import events_of, facts_of, folder_of, only, output_of, starter, work_of
from tests.support.processes import is_alive
from tests.support.services import ServiceProcess, service_process
from tests.support.waiting import wait_for_run, wait_until

Start = Callable[..., Run]

PRINT_ENVIRONMENT = "import json, os\nprint(json.dumps(dict(os.environ)))\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service whose own environment holds things that scripts must not see."""
    carried = {"A_SECRET": "mellon", "LC_NAME": os.fsdecode(b"caf\xe9"), "CUDA_HOME": "/opt/cuda"}
    with service_process(tmp_path_factory.mktemp("service"), "--grace", "1", "--cpus", "2", **carried) as running:
        yield running


def test_success(service: ServiceProcess, start: Start) -> None:
    """A script that ends with 0 has succeeded and gone through every status, and its times are in order."""
    run = start("print('done')")
    assert wait_for_run(run) == {"SUCCEEDED": [f"{run.name}-exp0"]}
    experiment = only(run)
    assert facts_of(service, experiment) | {"startedRunningAt": None} == {
        "status": "SUCCEEDED",
        "reason": "EXIT_CODE",
        "exitCode": 0,
        "signal": None,
        "startedRunningAt": None,
    }
    assert experiment.created_at < experiment.started_running_at < experiment.finished_at
    assert events_of(service, experiment) == ["PENDING", "RUNNING", "SUCCEEDED"]


@pytest.mark.parametrize(
    ("text", "code", "signal", "reason"),
    [
        ("raise SystemExit(3)", 3, None, "EXIT_CODE"),
        ("raise SystemExit(137)", 137, None, "EXIT_CODE"),
        ("1 / 0", 1, None, "EXIT_CODE"),
        ("import os; os.kill(os.getpid(), 9)", None, 9, "SIGNAL"),
        ("import os; os.kill(os.getpid(), 15)", None, 15, "SIGNAL"),
    ],
)
def test_failure(
    service: ServiceProcess, start: Start, text: str, code: int | None, signal: int | None, reason: str
) -> None:
    """A script that ends otherwise has failed, with its exit code or its signal, never one converted into the other."""
    run = start(text)
    assert list(wait_for_run(run)) == ["FAILED"]
    facts = facts_of(service, only(run))
    assert (facts["exitCode"], facts["signal"], facts["reason"]) == (code, signal, reason)
    assert facts["startedRunningAt"] is not None


def test_output_holds_both_streams_in_order(service: ServiceProcess, start: Start) -> None:
    """Output is the script's bytes from the first to the last, stdout and stderr as they came, a traceback included."""
    run = start("printf first\nprintf second >&2\nprintf 'third\\377'\nno-such-command\n", script="run.sh")
    wait_for_run(run)
    output = (folder_of(service, only(run)) / "output").read_bytes()
    assert output.startswith(b"firstsecondthird\xff")
    assert b"no-such-command" in output

    run = start("print('before')\n1 / 0")
    wait_for_run(run)
    assert output_of(service, only(run)).startswith("before\nTraceback")


def test_output_is_there_while_the_script_runs(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """What a script prints can be read at once, though it neither flushes nor ends."""
    run = start(
        "import os, sys\nprint('here')\nwhile not os.path.exists(sys.argv[1]): pass\n", str(tmp_path / "release")
    )
    wait_until(lambda: output_of(service, only(run)) == "here\n", "the line that was printed")
    assert only(run).status() == "RUNNING"
    (tmp_path / "release").touch()
    assert list(wait_for_run(run)) == ["SUCCEEDED"]


def test_interpreter_is_the_one_of_the_client(
    service: ServiceProcess, session: Session, start: Start, tmp_path: Path
) -> None:
    """`python` is the client's interpreter, not the service's, and its folder comes first on PATH."""
    session.interpreter = str(tmp_path / "environment" / "bin" / "python")
    Path(session.interpreter).parent.mkdir(parents=True)
    Path(session.interpreter).symlink_to(sys.executable)
    run = start("import os, sys\nprint(sys.executable, os.environ['PATH'].split(os.pathsep)[0])")
    wait_for_run(run)
    assert output_of(service, only(run)).split() == [session.interpreter, str(Path(session.interpreter).parent)]


def test_shell_scripts_run_under_bash(service: ServiceProcess, session: Session, start: Start, tmp_path: Path) -> None:
    """A `.sh` is run by bash, gets its arguments as they are, and finds the client's interpreter as `python`."""
    session.interpreter = str(tmp_path / "python")
    Path(session.interpreter).symlink_to(sys.executable)
    text = '[[ -n $BASH_VERSION ]] && printf "%s|" "$@"\npython -c "import sys; print(sys.executable)"\n'
    run = start(text, """--name 'two words' --glob '*' --quote "it's" --variable '$HOME'""", script="run.sh")
    wait_for_run(run)
    expected = f"--name|two words|--glob|*|--quote|it's|--variable|$HOME|{session.interpreter}\n"
    assert output_of(service, only(run)) == expected
    assert only(run).invocation_commands.startswith("bash run.sh --name 'two words'")


@pytest.mark.skipif(shutil.which("julia") is not None, reason="this machine has julia")
def test_julia_where_it_is_missing(start: Start) -> None:
    """A `.jl` is refused at once if there is no julia, with a message that says so."""
    with pytest.raises(Unsupported, match="julia, which is not on the service's PATH"):
        start("println(1)", script="run.jl")


def test_julia_where_it_is_there(tmp_path: Path) -> None:
    """A `.jl` is run by the first julia on the service's PATH."""
    julia = tmp_path / "bin" / "julia"
    julia.parent.mkdir()
    julia.write_text('#!/bin/sh\necho "julia $@"\n')
    julia.chmod(0o755)
    path = os.pathsep.join((str(julia.parent), os.environ["PATH"]))
    (tmp_path / "service").mkdir()
    with service_process(tmp_path / "service", "--cpus", "1", PATH=path) as running:
        session.use(running.session())
        run = starter(tmp_path)("println(1)", "--n 1", script="run.jl", framework="julia")
        wait_for_run(run)
        assert output_of(running, only(run)) == "julia run.jl --n 1\n"


def test_interpreter_that_is_not_there(service: ServiceProcess, session: Session, start: Start) -> None:
    """An experiment whose process cannot be started has failed for that reason, and never ran."""
    session.interpreter = "/no/such/python"
    run = start("print(1)")
    assert list(wait_for_run(run)) == ["FAILED"]
    assert facts_of(service, only(run)) == {
        "status": "FAILED",
        "reason": "ENVIRONMENT",
        "exitCode": None,
        "signal": None,
        "startedRunningAt": None,
    }
    assert only(run).started_running_at is None
    assert only(run).finished_at is not None


def test_stdin_is_empty_and_umask_is_ours(service: ServiceProcess, start: Start) -> None:
    """A script that reads stdin finds it empty, and the files it makes have the mode they would have at home."""
    umask = os.umask(0o022)
    os.umask(umask)
    run = start("import os, sys\nprint(repr(sys.stdin.read()), os.umask(0))")
    wait_for_run(run)
    assert output_of(service, only(run)) == f"'' {umask}\n"


def test_environment_is_an_allow_list(service: ServiceProcess, start: Start) -> None:
    """A script gets what the allow-list names and what Grid sets, even a locale that is not UTF-8, and no secret."""
    run = start(PRINT_ENVIRONMENT, instance_type="2_cpu_4gb")
    wait_for_run(run)
    experiment = only(run)
    environment = json.loads(output_of(service, experiment))
    assert "A_SECRET" not in environment
    assert "mellon" not in environment.values()
    ours = {
        "GRID_EXPERIMENT_ID": experiment.id,
        "GRID_EXPERIMENT_NAME": experiment.name,
        "GRID_RUN_NAME": run.name,
        "GRID_USER_ID": service.endpoint.user_id,
        "GRID_CLUSTER_ID": "local",
        "GRID_INSTANCE_TYPE": "t2.medium",
        "GRID_HOME": str(service.home),
        "CUDA_VISIBLE_DEVICES": "",
        "CUDA_HOME": "/opt/cuda",
        "HOME": str(service.home.parent),
        "LC_NAME": os.fsdecode(b"caf\xe9"),
        "PYTHONUNBUFFERED": "1",
        "MPLBACKEND": "Agg",
        "GRID_REPEAT": "0",
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_MAX_THREADS"), "1"),
    }
    assert {name: environment.get(name) for name in ours} == ours
    others = environment.keys() - ours.keys() - {"PATH", "TMPDIR"}
    assert of_script(dict.fromkeys(others, "")).keys() == others


def test_processes_of_the_service_have_no_secrets(service: ServiceProcess, start: Start) -> None:
    """What an operator's shell has in its environment is not passed on to spawner and supervisors, for all to read."""
    run = start("import time\ntime.sleep(1000)\n")
    wait_until(lambda: run.status().keys() == {"RUNNING"}, "a script")
    spawner, supervisor, script = psutil.Process(service.process.pid).children(recursive=True)
    for each in (spawner, supervisor, script):
        assert "A_SECRET" not in each.environ()
        assert each.environ()["CUDA_HOME"] == "/opt/cuda"
    run.cancel()


def test_environment_of_the_configuration(service: ServiceProcess, start: Start, tmp_path: Path) -> None:
    """A run's own variables reach its script as they are written."""
    configuration = tmp_path / "grid.yml"
    configuration.write_text("compute: {train: {environment: {MY_NAME: ' é=1 ', EMPTY: ''}}}\n", encoding="utf-8")
    run = start(PRINT_ENVIRONMENT, config_file=str(configuration))
    wait_for_run(run)
    environment = json.loads(output_of(service, only(run)))
    assert (environment["MY_NAME"], environment["EMPTY"]) == (" é=1 ", "")


def test_each_experiment_has_a_working_copy(service: ServiceProcess, start: Start) -> None:
    """Two experiments that change the same files never see each other's, and the snapshot stays as it was."""
    text = (
        "import os, sys\n"
        "assert not os.path.exists('result'), os.listdir()\n"
        "open('result', 'w').write(sys.argv[2])\n"
        "open(__file__, 'a').write('# changed by ' + sys.argv[2])\n"
    )
    run = start(text, "--n '[1, 2]'")
    again = start(text, "--n 3")
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    assert list(wait_for_run(again)) == ["SUCCEEDED"]
    for experiment in (*run, *again):
        work = work_of(service, experiment)
        number = experiment.parameters["n"]
        assert {path.name: path.read_text() for path in work.iterdir()} == {
            "result": number,
            "run.py": f"{text}# changed by {number}",
        }


def test_what_stays_is_what_the_script_made(service: ServiceProcess, session: Session, tmp_path: Path) -> None:
    """After the end the files that equal the snapshot are removed; what was changed, made or replaced stays."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    files = {
        "same": "same",
        "touched": "same",
        "changed": "old",
        "disguised": "old",
        "replaced": "file",
        "folder/same": "same",
        "folder/changed": "old",
        "moved/inner/same": "same",
        "only/same": "same",
    }
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    (project / "link").symlink_to("same")
    (project / "relinked").symlink_to("same")
    # The very same file as in the snapshot, but linked to by the script: it is not ours to remove.
    shutil.copytree(project / "moved", elsewhere)
    (project / "run.py").write_text(
        "import os, shutil, sys\n"
        "os.utime('touched')\n"
        "for name in ('changed', 'folder/changed'): open(name, 'w').write('new')\n"
        "before = os.stat('disguised')\n"
        "open('disguised', 'w').write('new')\n"
        "os.utime('disguised', ns=(before.st_atime_ns, before.st_mtime_ns))\n"
        "os.remove('replaced'); os.mkdir('replaced'); os.mkdir('empty'); open('folder/made', 'w').write('made')\n"
        "shutil.rmtree('moved'); os.symlink(sys.argv[1], 'moved')\n"
        "os.remove('relinked'); os.symlink('changed', 'relinked')\n"
    )
    run = Run(entrypoint=str(project / "run.py"), script_args=str(elsewhere), localdir=True, cpus=1)
    run.start()
    assert list(wait_for_run(run)) == ["SUCCEEDED"], output_of(service, only(run))
    work = work_of(service, only(run))
    left = {str(path.relative_to(work)) for path in work.rglob("*")}
    assert left == {
        "changed", "disguised", "replaced", "empty", "folder", "folder/changed", "folder/made", "moved", "relinked",
    }  # fmt: skip
    assert (work / "disguised").read_text() == "new"
    assert (elsewhere / "inner" / "same").read_text() == "same"


def test_what_a_script_leaves_running_is_ended(service: ServiceProcess, start: Start) -> None:
    """An experiment has ended when its script, and everything that it left running in the background, has ended."""
    run = start(
        "import subprocess, sys\n"
        'leave = \'import subprocess; print(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid)\'\n'
        "subprocess.run([sys.executable, '-c', leave])\n"
        "quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}\n"
        "print(subprocess.Popen(['nohup', 'sleep', '1000'], **quiet).pid)\n"
    )
    assert list(wait_for_run(run)) == ["SUCCEEDED"]
    pids = [int(line) for line in output_of(service, only(run)).split()]
    assert len(pids) == 2
    assert not any(map(is_alive, pids))


def test_folders_and_files_are_private(service: ServiceProcess, start: Start) -> None:
    """Only their user can read what the service keeps."""
    run = start("open(__file__, 'a').write('#')")
    wait_for_run(run)
    attempt = folder_of(service, only(run))
    assert (attempt / "room" / "work" / "run.py").exists()
    folders = [attempt, *(service.home / name for name in ("snapshots", "incoming", "service"))]
    inside = [path for folder in folders for path in folder.rglob("*") if not path.is_symlink()]
    for path in [*folders, *inside, attempt.parent, service.home / "experiments", *service.home.glob("grid.sqlite3*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
