"""Homes that a service cannot use: each is refused with a message that names it, by the service and by `login()`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import grid
from grid import errors
from grid.shared import homes
from grid.shared.holder import Holder
from tests.faults.sizes import size
from tests.support.environments import clean_environment
from tests.support.processes import processes_of
from tests.support.services import service_process
from tests.support.waiting import wait_until

ROUNDS = size(1, 20)

SERVE = "import sys; {} from grid.service.command.main import main; sys.exit(main(['serve', '--embedded']))"
LOGIN = "import sys; {} from grid import login; login()"

Told = subprocess.CompletedProcess[str]


def run(code: str, home: Path, before: str = "", **how: object) -> Told:
    """Run a program for a home until it ends."""
    return subprocess.run(
        [sys.executable, "-c", code.format(before)],
        env=clean_environment(home.parent, GRID_HOME=str(home)),
        capture_output=True,
        text=True,
        cwd="/",
        timeout=90,
        check=False,
        **how,
    )


def refusal(code: str, told: Told, exit_code: int = 78) -> str:
    """Return the message with which a home was refused: an error of the service's command, or of `login()`.

    With the code that says not to try again it names what else may be done.
    """
    if code == SERVE:
        assert told.returncode == exit_code, told.stderr
        assert told.stderr.startswith("error: "), told.stderr
        assert "Traceback" not in told.stderr
    last = told.stderr.splitlines()[-1]
    assert code == SERVE or last.startswith("grid.errors.EmbeddedServiceFailed: "), told.stderr
    assert exit_code != 78 or "GRID_HOME=/folder/on/this/machine" in last
    return last


both = pytest.mark.parametrize("code", [SERVE, LOGIN], ids=["serve", "login"])


@both
def test_home_on_a_network_file_system(tmp_path: Path, code: str) -> None:
    """A home on a network file system is refused before anything of it is made."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"30 27 0:40 / {tmp_path}/net rw,relatime - nfs4 server:/export rw\n")
    home = tmp_path / "net" / ".grid"
    told = run(code, home, f"from grid.shared import file_systems; file_systems.MOUNTS = {str(mounts)!r};")
    assert f"GRID_HOME {home} is on a network file system (nfs4)" in refusal(code, told)
    assert not home.exists()


# Another machine


def write_owner(home: Path, **changes: str) -> Path:
    """Record a process that has, or had, a home."""
    (home / "service").mkdir(parents=True, exist_ok=True)
    replace(Holder.of(os.getpid()), **changes).write(home / "service" / "owner")
    return home / "service" / "owner"


ELSEWHERE = {"boot": "of-another", "machine": "another", "host": "gpu7"}


@both
def test_home_of_another_machine(tmp_path: Path, code: str) -> None:
    """A home that a service on another machine has is refused with its host, its process and what may be done."""
    home = tmp_path / ".grid"
    owner = write_owner(home, **ELSEWHERE)
    words = refusal(code, run(code, home))
    assert f"GRID_HOME {home} is in use by a service of another machine: host gpu7, process {os.getpid()}" in words
    assert f"remove {owner}" in words
    assert owner.is_symlink()
    assert sorted(path.name for path in home.rglob("*")) == ["owner", "service"]


@pytest.mark.parametrize("command", ["stop", "status", "credentials"])
def test_commands_on_a_home_of_another_machine(tmp_path: Path, command: str) -> None:
    """If there is a service on another machine, no command says that there is none, and none signals its pid here."""
    home = tmp_path / ".grid"
    with subprocess.Popen(["sleep", "1000"]) as bystander:
        try:
            write_owner(home, **ELSEWHERE)
            for name in ("owner", "keeper"):
                replace(Holder.of(bystander.pid), **ELSEWHERE).write(home / "service" / name)
            code = f"import sys; {{}} from grid.service.command.main import main; sys.exit(main([{command!r}]))"
            told = run(code, home)
            assert told.returncode == 78
            assert "in use by a service of another machine: host gpu7" in told.stderr
            assert bystander.poll() is None
        finally:
            bystander.kill()


@pytest.mark.parametrize("changes", [{"boot": "earlier", "host": "renamed"}, {"start": "1"}, {"host": "renamed"}])
def test_home_that_a_dead_service_had(grid_home: Path, changes: dict[str, str]) -> None:
    """What a killed service left behind, before a reboot or under another name, keeps no service away."""
    owner = write_owner(grid_home, **changes)
    grid.login()
    assert grid.list_runs() == []
    assert Holder.read(owner) != replace(Holder.of(os.getpid()), **changes)


@pytest.mark.parametrize("content", ["", "nonsense", "link"])
def test_owner_that_cannot_be_read(grid_home: Path, content: str) -> None:
    """A record that cannot be read, such as a plain file that a backup made of it, keeps no service away."""
    owner = grid_home / "service" / "owner"
    owner.parent.mkdir()
    if content == "link":
        owner.symlink_to("somewhere")
    else:
        owner.write_text(content)
    grid.login()
    assert grid.list_runs() == []


def test_owner_goes_with_its_service(tmp_path: Path) -> None:
    """A service is recorded for as long as it lives; one that was killed leaves its record behind."""
    with service_process(tmp_path, "--cpus", "1") as running:
        owner = running.home / "service" / "owner"
        assert Holder.read(owner) == Holder.of(running.process.pid)
        running.kill()
        assert owner.is_symlink()
        running.start()
        assert Holder.read(owner) == Holder.of(running.process.pid)
        running.stop()
        assert not owner.is_symlink()


# Folders that cannot be used


@both
@pytest.mark.parametrize("below", ["", "folder"])
def test_home_that_is_a_file(tmp_path: Path, code: str, below: str) -> None:
    """A home that is a file, or below one, is refused, and the file is as it was."""
    file = tmp_path / ".grid"
    file.write_text("mine")
    words = refusal(code, run(code, file / below))
    assert str(file) in words
    assert ("is a file" if not below else "Not a directory") in words
    assert file.read_text() == "mine"


@both
def test_home_whose_path_is_not_utf_8(tmp_path: Path, code: str) -> None:
    """A home whose path could be written neither into JSON nor into a message is refused before anything is made."""
    home = tmp_path / os.fsdecode(b"caf\xe9")
    words = refusal(code, run(code, home))
    assert f"the path of GRID_HOME is not UTF-8: {os.fsencode(home)!r}" in words
    assert not home.exists()


@pytest.mark.parametrize("command", ["stop", "status", "credentials"])
def test_commands_on_a_home_whose_path_is_not_utf_8(tmp_path: Path, command: str) -> None:
    """Every command says so, instead of failing when it names the home."""
    code = f"import sys; {{}} from grid.service.command.main import main; sys.exit(main([{command!r}]))"
    told = run(code, tmp_path / os.fsdecode(b"caf\xe9"))
    assert (told.returncode, told.stdout) == (78, "")
    assert told.stderr.startswith("error: the path of GRID_HOME is not UTF-8")


def test_home_whose_path_has_letters_spaces_and_newlines(tmp_path: Path) -> None:
    """Any other path can be a home."""
    home = tmp_path / "a café\tat\nnight"
    assert run(LOGIN, home).returncode == 0
    assert json.loads((home / "service" / "service.json").read_text())["url"]
    stop = "import sys; {} from grid.service.command.main import main; sys.exit(main(['stop']))"
    told = run(stop, home)
    assert (told.returncode, told.stdout) == (0, f"stopped the service of {home}\n")


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")


@needs_root
@both
def test_home_of_another_user(tmp_path: Path, code: str) -> None:
    """A home that belongs to another user is refused, even for root, and nothing is put into it."""
    home = tmp_path / ".grid"
    home.mkdir()
    os.chown(home, 65534, -1)
    words = refusal(code, run(code, home))
    assert f"GRID_HOME {home} belongs to the user" in words
    assert [path.name for path in home.iterdir() if path.name != "service"] == []


@needs_root
@both
def test_home_in_a_folder_of_another_user(tmp_path: Path, code: str) -> None:
    """A home in a folder without write permission is refused with the name of what could not be made."""
    if not may_be_read(Path(sys.executable)):
        pytest.skip("the interpreter is in a folder of root's own")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o5 != 0o5:
            pytest.skip(f"{folder} is root's own")
    home = tmp_path / ".grid"
    words = refusal(code, run(code, home, user=65534))
    assert f"cannot use {home}: Permission denied" in words
    assert not home.exists()


# A command that has imported what it needs before it becomes another user, who may not read the interpreter's folders.
AS_NOBODY = """
import os, pwd, sys
from grid.service.command import logs, main, server, shutdown
from grid.service.domain import accounts
from grid.service.store import database
os.setgid(65534)
os.setuid(65534)
sys.exit(main.main({!r}))
"""


@needs_root
@pytest.mark.parametrize(
    "command", [["status"], ["stop"], ["stop", "--stop-experiments"], ["credentials"], ["users", "list"], ["serve"]]
)
def test_commands_on_a_home_of_another_user(command: list[str]) -> None:
    """What may not be looked into is said in a sentence that names its owner."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        home = Path(folder, ".grid")
        homes.prepare(home)
        (home / "grid.sqlite3").touch()
        told = subprocess.run(
            [sys.executable, "-c", AS_NOBODY.format(command)],
            env=clean_environment(home.parent),
            capture_output=True,
            text=True,
            cwd="/",
            timeout=90,
            check=False,
        )
        assert (told.returncode, told.stdout) == (78, "")
        assert told.stderr.startswith(f"error: GRID_HOME {home} belongs to the user root, but you are ")
        assert len(told.stderr.splitlines()) == 1


def may_be_read(path: Path) -> bool:
    """Whether a user without any rights can run the interpreter."""
    command = [sys.executable, "-c", ""]
    try:
        return subprocess.run(command, user=65534, check=False, capture_output=True).returncode == 0
    except PermissionError:
        return False


# A file system of the test's own, which no other process sees and which goes with its processes.

MOUNTED = """
import json, subprocess, sys, time
from pathlib import Path

mount, home, code, plan = Path(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])

def mounting(*arguments):
    subprocess.run(["mount", *arguments, str(mount)], check=True)

def tell(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

mounting("-t", "tmpfs", "-o", f"size={plan['size']}", "none")
if plan["made"]:
    Path(home).mkdir(mode=0o700)
if plan["filled"]:
    with open(mount / "filled", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
mounting("-o", f"remount,{plan['remount']}")
told = tell(code)
print(json.dumps([told.returncode, told.stderr]))
if plan["filled"]:
    (mount / "filled").unlink()
mounting("-o", "remount,rw,size=64m")
again = tell("from grid import login, list_runs; login(); assert list_runs() == []")
stopped = tell("import sys; from grid.service.command.main import main; sys.exit(main(['stop']))")
checked = tell(
    f"import sqlite3; rows = sqlite3.connect({home + '/grid.sqlite3'!r}).execute('PRAGMA integrity_check').fetchall(); "
    "assert rows == [('ok',)], rows"
)
print(json.dumps([again.returncode, stopped.returncode, checked.returncode, again.stderr + checked.stderr]))
"""


def mounted(tmp_path: Path, code: str, **plan: object) -> Told:
    """Start a service on a file system as the plan says, then make it as it should be and start it again."""
    mount = tmp_path / "mount"
    mount.mkdir()
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if (
        shutil.which("unshare") is None
        or subprocess.run(
            [*namespace, "mount", "-t", "tmpfs", "none", mount], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("no file system can be mounted here")
    home = mount / ".grid"
    words = json.dumps({"size": "64m", "made": True, "filled": False, "remount": "rw", **plan})
    done = subprocess.run(
        [*namespace, sys.executable, "-c", MOUNTED, str(mount), str(home), code.format(""), words],
        env=clean_environment(tmp_path, GRID_HOME=str(home)),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, again = map(json.loads, done.stdout.splitlines())
    assert again[:3] == [0, 0, 0], again
    return subprocess.CompletedProcess([], first[0], "", first[1])


@both
@pytest.mark.parametrize("made", [True, False])
def test_home_on_a_read_only_file_system(tmp_path: Path, code: str, made: bool) -> None:
    """A home that cannot be written is refused with the name of what could not be made; later it works."""
    words = refusal(code, mounted(tmp_path, code, remount="ro", made=made))
    assert f"cannot use {tmp_path / 'mount' / '.grid'}" in words
    assert "Read-only file system" in words


@both
def test_home_on_a_full_disk(tmp_path: Path, code: str) -> None:
    """If there is no space at all, the message says so with the path; with space again everything works."""
    words = refusal(code, mounted(tmp_path, code, filled=True), 75)
    assert str(tmp_path / "mount" / ".grid") in words
    assert "no space" in words


@pytest.mark.parametrize("kibibytes", range(8, 400, size(312, 16)))
def test_disk_that_fills_up_while_a_service_starts(tmp_path: Path, kibibytes: int) -> None:
    """Whenever during its start a service finds the disk full, it says so and ends, and leaves nothing half done."""
    serve = SERVE.replace("'--embedded'", "'--embedded', '--idle', '0.2'")
    told = mounted(tmp_path, serve, size=f"{kibibytes}k")
    if told.returncode != 0:  # there was enough for a start
        assert told.returncode == 75, told.stderr
        assert "Traceback" not in told.stderr
        last = told.stderr.splitlines()[-1]
        assert last.startswith("error: ")
        assert str(tmp_path / "mount" / ".grid") in last
        assert "disk" in last


# Two services


def test_second_service_is_refused(tmp_path: Path) -> None:
    """A home that a service has is refused to every other one, and the first does not notice."""
    with service_process(tmp_path, "--cpus", "1") as running:
        for _ in range(ROUNDS):
            told = run(SERVE, running.home)
            assert (told.returncode, told.stderr) == (
                78,
                f"error: another service uses {running.home}: stop it, or choose another GRID_HOME\n",
            )
        assert running.session().viewer.username == running.username
        assert Holder.read(running.home / "service" / "owner") == Holder.of(running.process.pid)


def test_services_started_at_the_same_moment(tmp_path: Path) -> None:
    """Of services that are started at once on one home, one serves, and the others are refused."""
    code = "import sys; sys.stdin.readline(); from grid.service.command.main import main; sys.exit(main(['serve']))"
    for number in range(ROUNDS):
        home = tmp_path / str(number) / ".grid"
        home.mkdir(parents=True)
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code],
                env=clean_environment(home.parent),
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd="/",
            )
            for _ in range(3)
        ]
        try:
            for process in started:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
            refused = lambda started=started: [each for each in started if each.poll() is not None]  # noqa: E731
            wait_until(lambda refused=refused: len(refused()) == 2, "two services to be refused")
            for process in refused():
                assert process.returncode == 78
                assert process.communicate()[1].endswith(
                    f"error: another service uses {home}: stop it, or choose another GRID_HOME\n"
                )
            (serving,) = (each for each in started if each.poll() is None)
            wait_until((home / "service" / "service.json").exists, "the service")
            assert Holder.read(home / "service" / "owner") == Holder.of(serving.pid)
            serving.send_signal(signal.SIGTERM)
            assert serving.wait(60) == 0
        finally:
            for process in started:
                if process.poll() is None:
                    process.kill()
                process.communicate()
        assert not processes_of(home)


def test_refusal_is_an_error_of_the_connection(grid_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`login()` raises what it raises whenever the embedded service cannot be started."""
    write_owner(grid_home, **ELSEWHERE)
    with pytest.raises(errors.ConnectionFailed, match="another machine"):
        grid.login()
    (grid_home / "service" / "owner").unlink()
    grid.login()
