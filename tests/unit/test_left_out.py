"""What is not part of a run: found beside the source code, collapsed by folder, sized in the time there is."""

from __future__ import annotations

import itertools
import os
import sys

import pytest

from grid.source.finding import find_source
from grid.source.left_out import LeftOut, left_out, size_text
from tests.support.source_trees import git, write

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="modes, links and sockets are POSIX"),
    pytest.mark.usefixtures("plain_git"),
]


@pytest.fixture(params=[False, True], ids=["commit", "localdir"])
def found(request, tmp_path):
    """Return a function that commits or excludes, and then finds the source code of a script in the root."""
    root = tmp_path / "project"
    write(root, train_dot_py="", data__prepare_dot_py="")

    def find():
        ignored = ["*.bin", "outputs/", "notes.txt", "link", "dangling", "many/*", "!many/.keep", "web/", "env/"]
        name = ".gridignore" if request.param else ".gitignore"
        (root / name).write_text("\n".join(ignored) + "\n")
        if not request.param:
            git(root, "init", "-q")
            git(root, "add", "train.py", "data/prepare.py", name, *(["many/.keep"] if (root / "many").exists() else []))
            git(root, "commit", "-q", "--allow-empty", "-m", "first")
        return find_source(str(root / "train.py"), localdir=request.param)

    find.root = root
    return find


def fill(path, size):
    """Write a file of a size that takes no space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)


def test_data_that_git_does_not_hold(found):
    """What is ignored is told with its size, the largest first; a folder of which nothing is sent is one line."""
    fill(found.root / "data" / "train.bin", 3_000_000)
    fill(found.root / "data" / "val.bin", 30_000)
    fill(found.root / "outputs" / "a" / "1.pt", 5_000_000)
    fill(found.root / "outputs" / "2.pt", 7)
    fill(found.root / "notes.txt", 12)
    assert left_out(found()) == [
        LeftOut("outputs/", 5_000_007),
        LeftOut("data/train.bin", 3_000_000),
        LeftOut("data/val.bin", 30_000),
        LeftOut("notes.txt", 12),
    ]


def test_untracked_files(repository):
    """Of a commit, what is not tracked is not part of the run, whether or not it is ignored."""
    fill(repository / "code" / "helper.py", 10)
    fill(repository / "new" / "x.py", 20)
    assert left_out(find_source(str(repository / "code" / "train.py"), localdir=False)) == [
        LeftOut("new/", 20),
        LeftOut("code/helper.py", 10),
    ]


def test_what_is_staged_and_not_committed(repository):
    """What is in git's index, but not in the commit, is not part of the run either."""
    write(repository, staged="x")
    git(repository, "add", "staged")
    assert left_out(find_source(str(repository / "code" / "train.py"), localdir=False)) == [LeftOut("staged", 1)]


def test_a_complete_run_leaves_nothing_out(found):
    """Where everything is part of the run there is nothing to tell; an empty folder is nothing."""
    (found.root / "outputs").mkdir()
    assert left_out(found()) == []


@pytest.mark.parametrize(
    "paths",
    [
        "web/node_modules/x.js",
        "web/__pycache__/x.pyc web/x.pyc",
        ".git/objects/x",
        "data/__pycache__/x.bin",
        "outputs/.ipynb_checkpoints/x",
        "outputs/.mypy_cache/x outputs/.venv/x",
        "env/pyvenv.cfg env/lib/x.bin",
        "env/conda-meta/history env/lib/x.bin",
        "outputs/CACHEDIR.TAG outputs/x.bin",
    ],
)
def test_caches_and_environments(found, paths):
    """They are neither told nor counted, whatever they are called, if they say what they are."""
    source = found()
    for path in paths.split():
        fill(found.root / path, 1_000)
    assert left_out(source) == []


def test_a_grid_home_in_the_project(found, monkeypatch):
    """The home of the embedded service is nobody's data."""
    monkeypatch.setenv("GRID_HOME", str(found.root / "outputs"))
    fill(found.root / "outputs" / "grid.db", 1_000)
    assert left_out(found()) == []


def test_many_things_in_a_folder_are_one_line(found):
    """More than a few files of a folder of which something else is sent are told together."""
    for number in range(4):
        fill(found.root / "many" / f"{number}.txt", 1_000)
    for number in range(10):
        fill(found.root / "many" / f"run-{number}" / "x", 100 + number)
    fill(found.root / "many" / ".keep", 0)
    told = left_out(found())
    assert told[0] == LeftOut("many/*", 4_000)
    assert [str(each) for each in told[1:3]] == ["many/run-9/ (109 bytes)", "many/run-8/ (108 bytes)"]
    assert len(told) == 11
    fill(found.root / "many" / "run-10" / "x", 100)
    (everything,) = left_out(found())
    assert everything == LeftOut("many/*", 4_000 + sum(range(100, 110)) + 100)


def test_links_count_as_what_they_lead_to(found, tmp_path):
    """A link to data elsewhere is told with the size of that; a link within is not followed, nor one to nowhere."""
    fill(tmp_path / "elsewhere" / "a", 500)
    os.symlink("..", tmp_path / "elsewhere" / "loop")
    os.symlink(tmp_path / "elsewhere", found.root / "link")
    os.symlink("nowhere", found.root / "dangling")
    assert left_out(found()) == [LeftOut("link/", 500), LeftOut("dangling", 0)]


def test_sizes_are_found_in_turns_while_there_is_time(found):
    """When the time is up, small things have their size, and each of the large ones says how far its own has come."""
    for number in range(60):
        fill(found.root / "outputs" / f"{number}" / "x", 1_000_000_000)
        fill(found.root / "web" / f"{number}" / "x", 1_000_000)
    fill(found.root / "notes.txt", 12)
    ticks = itertools.count()
    told = left_out(found(), seconds=40, clock=lambda: next(ticks))
    assert [each.path for each in told] == ["outputs/", "web/", "notes.txt"]
    assert [each.is_at_least for each in told] == [True, True, False]
    assert 0 < told[0].size < 60_000_000_000
    assert 0 < told[1].size < 60_000_000
    assert str(told[0]) == f"outputs/ (at least {told[0].size // 10**9} GB)"


def test_a_flat_folder_does_not_take_all_the_time(found):
    """The clock is looked at within a folder, too."""
    for number in range(3_000):
        fill(found.root / "outputs" / f"{number}", 1)
    ticks = itertools.count()
    (told,) = left_out(found(), seconds=9, clock=lambda: next(ticks))
    assert (told.path, told.is_at_least) == ("outputs/", True)
    assert 0 < told.size < 3_000


def test_what_was_not_looked_at(found):
    """If even finding takes too long, that is told as well."""
    fill(found.root / "data" / "train.bin", 1_000)
    ticks = itertools.count()
    assert left_out(found(), seconds=1, clock=lambda: next(ticks))[-1] == LeftOut("…", 0, is_at_least=True)


def test_what_cannot_be_read(found):
    """A folder that vanishes or cannot be read stops nothing."""
    source = found()
    fill(found.root / "outputs" / "x", 1)
    fill(found.root / "outputs" / "closed" / "x", 1)
    (found.root / "outputs" / "closed").chmod(0)
    try:
        told = left_out(source)
    finally:
        (found.root / "outputs" / "closed").chmod(0o700)
    assert [each.path for each in told] == ["outputs/"]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1_000, "1 kB"),
        (1_500, "1.5 kB"),
        (15_400, "15 kB"),
        (3_000_000_000, "3 GB"),
        (2_500_000_000_000, "2.5 TB"),
    ],
)
def test_sizes_as_people_read_them(size, text):
    """Two digits are enough."""
    assert size_text(size) == text
