"""Snapshots of source code, taken of real repositories and folders."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grid.errors import SourceError
from grid.ignore import walk
from grid.source import _project_of_remote, snapshot

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes, links and sockets are POSIX")


@pytest.fixture(autouse=True)
def _plain_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the machine's git configuration out, and the temporary archives inside of the test's folder."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


def git(folder: Path, *arguments: str) -> str:
    """Run git as somebody and return what it prints."""
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "protocol.file.allow=always")
    command = ["git", *who, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def write(root: Path, **files: str) -> None:
    """Write files by path, with `__` for each slash and `_dot_` for a dot."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Make a repository with one commit, that holds a script in a folder."""
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init", "-q")
    write(root, code__train_dot_py="print(1)\n", README="read me\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder that holds a script and is no repository."""
    root = tmp_path / "folder"
    root.mkdir()
    write(root, train_dot_py="print(1)\n")
    return root


def members(archive: Path) -> dict[str, tarfile.TarInfo]:
    """Read what an archive holds."""
    with tarfile.open(archive) as tar:
        return {member.name: member for member in tar.getmembers()}


def paths(entrypoint: Path | str, *, localdir: bool) -> list[str]:
    """Take a snapshot and return the paths in it, in the archive's order."""
    with snapshot(str(entrypoint), localdir=localdir) as taken:
        return list(members(taken.archive))


def content(entrypoint: Path, name: str, *, localdir: bool = False) -> bytes:
    """Take a snapshot and return the content of one file in it."""
    with snapshot(str(entrypoint), localdir=localdir) as taken, tarfile.open(taken.archive) as tar:
        return tar.extractfile(name).read()


# --- a commit --------------------------------------------------------------------------------------------------------


def test_a_commit_is_packed_from_its_root(repository, tmp_path):
    """The whole tree at HEAD is packed, and the script is known by its path in it."""
    head = git(repository, "rev-parse", "HEAD").strip()
    with snapshot(str(repository / "code" / "train.py"), localdir=False) as taken:
        assert list(members(taken.archive)) == ["README", "code", "code/train.py"]
        assert (taken.script, taken.commit_sha, taken.project) == ("code/train.py", head, "project")
        assert taken.digest == hashlib.sha256(taken.archive.read_bytes()).hexdigest()
        assert taken.size_bytes == taken.archive.stat().st_size
        assert taken.warnings == ()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_relative_entrypoint_in_a_subfolder(repository, monkeypatch):
    """The script is found from the folder that the session stands in."""
    monkeypatch.chdir(repository / "code")
    with snapshot("train.py", localdir=False) as taken:
        assert taken.script == "code/train.py"
    monkeypatch.chdir(repository)
    with snapshot("./code/../code/train.py", localdir=False) as taken:
        assert taken.script == "code/train.py"


def test_only_what_is_committed_is_packed(repository):
    """Changes of tracked files are left out with a warning that lists them, untracked files without one."""
    train = repository / "code" / "train.py"
    write(repository, code__train_dot_py="print(2)\n", untracked="x", staged="x")
    git(repository, "add", "staged")
    with snapshot(str(train), localdir=False) as taken:
        assert list(members(taken.archive)) == ["README", "code", "code/train.py"]
        assert taken.warnings == ("uncommitted changes are not part of the run: code/train.py, staged",)
    assert content(train, "code/train.py") == b"print(1)\n"
    assert train.read_text() == "print(2)\n"
    assert git(repository, "status", "--porcelain") == " M code/train.py\nA  staged\n?? untracked\n"


def test_a_warning_lists_at_most_ten_names(repository):
    """A long list of changes is cut, and says by how much."""
    for number in range(14):
        write(repository, **{f"f{number:02}": "x"})
    git(repository, "add", "-A")
    with snapshot(str(repository / "code" / "train.py"), localdir=False) as taken:
        (warning,) = taken.warnings
    assert warning.endswith(": f00, f01, f02, f03, f04, f05, f06, f07, f08, f09 and 4 more")


def test_the_committed_tree_in_its_working_form(repository):
    """`export-ignore` hides nothing, line ends are the work tree's, and attributes are the committed ones."""
    write(repository, _dot_gitattributes="README export-ignore\n*.txt text eol=crlf\n", a_dot_txt="one\ntwo\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "attributes")
    write(repository, _dot_gitattributes="*.txt text eol=lf\n")
    train = repository / "code" / "train.py"
    assert "README" in paths(train, localdir=False)
    assert content(train, "a.txt") == b"one\r\ntwo\r\n"


def test_the_callers_git_environment_does_not_matter(repository, folder, monkeypatch, tmp_path):
    """A session inside a git hook, with variables that name another repository, gets the script's own."""
    train = repository / "code" / "train.py"
    expected = snapshot(str(train), localdir=False)
    git(folder, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(folder / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(folder))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "no-index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "no-objects"))
    with expected, snapshot(str(train), localdir=False) as taken:
        assert (taken.digest, taken.commit_sha) == (expected.digest, expected.commit_sha)
    assert not (tmp_path / "no-index").exists()


def test_hooks_and_monitors_of_the_repository_are_not_run(repository, tmp_path):
    """Taking a snapshot runs nothing that the repository configures."""
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for hook in ("post-index-change", "post-checkout"):
        shutil.copy(trap, repository / ".git" / "hooks" / hook)
    git(repository, "config", "core.fsmonitor", str(trap))
    write(repository, README="changed")
    with snapshot(str(repository / "code" / "train.py"), localdir=False) as taken:
        assert taken.warnings
    assert not (tmp_path / "sprung").exists()


def test_a_linked_work_tree_has_its_own_head(repository, tmp_path):
    """The commit is the one that the work tree of the script has checked out."""
    linked = tmp_path / "linked"
    git(repository, "worktree", "add", "-q", "-b", "other", str(linked))
    write(linked, more="x")
    git(linked, "add", "-A")
    git(linked, "commit", "-q", "-m", "more")
    assert "more" in paths(linked / "code" / "train.py", localdir=False)
    assert "more" not in paths(repository / "code" / "train.py", localdir=False)


def test_a_sparse_work_tree_is_sent_whole(repository):
    """What is committed counts, not what is checked out."""
    write(repository, other__file="x")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "other")
    git(repository, "sparse-checkout", "set", "code")
    assert not (repository / "other").exists()
    assert "other/file" in paths(repository / "code" / "train.py", localdir=False)


def test_submodules_are_left_out_with_a_warning(repository, folder):
    """The content of a submodule belongs to another repository."""
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "theirs")
    git(repository, "submodule", "--quiet", "add", str(folder), "theirs")
    git(repository, "commit", "-q", "-m", "submodule")
    with snapshot(str(repository / "code" / "train.py"), localdir=False) as taken:
        assert "theirs/train.py" not in members(taken.archive)
        assert taken.warnings == ("the content of submodules is not part of the run: theirs",)


def test_a_commit_that_git_cannot_write_out_is_refused(repository):
    """Where a filter that the repository requires fails, git's own words are in the message."""
    write(repository, _dot_gitattributes="README filter=absent\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "filter")
    git(repository, "config", "filter.absent.clean", "cat")
    git(repository, "config", "filter.absent.smudge", "false")
    git(repository, "config", "filter.absent.required", "true")
    with pytest.raises(SourceError, match=r"git cannot read the commit: .*smudge filter absent failed.*localdir=True"):
        snapshot(str(repository / "code" / "train.py"), localdir=False)


def test_difficult_names_are_packed(repository):
    """Names with spaces, line ends, other scripts, and beyond a hundred characters come through."""
    names = ["a b", "line\nend", "größe-模型.txt", "-rf", "x" * 150, "q\"uo'te"]
    for name in names:
        (repository / name).write_text("x")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "names")
    assert set(names) <= set(paths(repository / "code" / "train.py", localdir=False))


@pytest.mark.parametrize("prepare", ["nothing", "init", "uncommitted", "no git"])
def test_what_is_not_committed_is_refused_with_the_way_out(folder, monkeypatch, tmp_path, prepare):
    """Without a repository, a commit, the script in it, or git itself, the message names localdir=True."""
    words = {
        "nothing": ["no git repository", "not a git repository"],
        "init": ["no commit yet", "git add", "git commit"],
        "uncommitted": ["not in the commit at HEAD", "git add", "git commit"],
        "no git": ["git cannot be run"],
    }[prepare]
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    if prepare in {"init", "uncommitted"}:
        git(folder, "init", "-q")
    if prepare == "uncommitted":
        git(folder, "commit", "-q", "--allow-empty", "-m", "empty")
        git(folder, "add", "-A")
    if prepare == "no git":
        monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(SourceError) as refusal:
        snapshot(str(folder / "train.py"), localdir=False)
    for word in [*words, "train.py", "localdir=True"]:
        assert word in str(refusal.value)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("localdir", [True, False])
@pytest.mark.parametrize(
    "target", ["/etc/passwd", "{root}/README", "../../outside", "../../project-2/x", "hop/../outside"]
)
def test_a_link_out_of_the_tree_is_refused(repository, tmp_path, target, localdir):
    """A link that leads out of what is sent is named, for a commit as for a folder, and no archive is left."""
    shutil.copy(repository / "code" / "train.py", repository / "train.py")
    os.symlink("..", repository / "code" / "hop")
    os.symlink(target.format(root=repository), repository / "code" / "link")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "link")
    with pytest.raises(SourceError, match=r"the link 'code/link' leads to .* out of the source code"):
        snapshot(str(repository / "train.py"), localdir=localdir)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("localdir", [True, False])
def test_a_link_inside_the_tree_stays_a_link(repository, localdir):
    """Relative links are kept as they are, dangling ones too."""
    shutil.copy(repository / "code" / "train.py", repository / "train.py")
    os.symlink("../README", repository / "code" / "readme")
    os.symlink("code", repository / "folder-link")
    os.symlink("missing", repository / "dangling")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "links")
    with snapshot(str(repository / "train.py"), localdir=localdir) as taken:
        links = {name: member.linkname for name, member in members(taken.archive).items() if member.issym()}
    assert links == {"code/readme": "../README", "dangling": "missing", "folder-link": "code"}


# --- the name of the project -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remote", "project"),
    [
        ("https://github.com/gridai/Demo_Project.git", "gridai/Demo_Project"),
        ("https://github.com/gridai/Demo_Project", "gridai/Demo_Project"),
        ("https://github.com/gridai/Demo_Project/", "gridai/Demo_Project"),
        ("https://ada:s3cret@github.com/gridai/Demo_Project.git", "gridai/Demo_Project"),
        ("https://s3cret@host/Demo.git", "Demo"),
        ("https://host/o/n.git?token=s3cret#s3cret", "o/n"),
        ("https://gitlab.com/group/part/name.git", "part/name"),
        ("https://host/own%20er/name", "own er/name"),
        ("git@github.com:gridai/Demo_Project.git", "gridai/Demo_Project"),
        ("github.com:gridai/Demo_Project", "gridai/Demo_Project"),
        ("ada:s3cret@host:o/n.git", "o/n"),
        ("git@host:name.git", "name"),
        ("ssh://git@host:2222/o/n.git", "o/n"),
        ("ssh://git@[::1]:2222/~ada/n.git", "~ada/n"),
        ("file:///srv/git/o/n.git", "o/n"),
        ("/srv/git/o/n.git", "o/n"),
        ("/srv/o/n/.git", "o/n"),
        ("../n.git", "o/n"),
        ("C:\\code\\o\\n", "o/n"),
        ("https://s3cret@host", ""),
        ("https://[s3cret/o/n", ""),
        ("", ""),
    ],
)
def test_the_project_is_the_end_of_the_remotes_path(remote, project):
    """Every form of a remote gives owner and name, and never a user or a password."""
    assert _project_of_remote(remote, "/home/ada/o/here") == project


def test_the_project_of_a_repository_with_an_origin(repository):
    """The name comes from the remote called origin, for a commit and for a folder."""
    git(repository, "remote", "add", "origin", "https://ada:s3cret@github.com/gridai/Demo_Project.git")
    for localdir in (True, False):
        with snapshot(str(repository / "code" / "train.py"), localdir=localdir) as taken:
            assert taken.project == "gridai/Demo_Project"
            assert "s3cret" not in repr(taken)


# --- a folder as it is -----------------------------------------------------------------------------------------------


def test_a_folder_is_packed_as_it_is(folder, monkeypatch, tmp_path):
    """Everything in the script's folder is packed, empty folders too; the commit is the digest."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    write(folder, lib__a_dot_py="a")
    (folder / "empty").mkdir()
    with snapshot(str(folder / "train.py"), localdir=True) as taken:
        assert list(members(taken.archive)) == ["empty", "lib", "lib/a.py", "train.py"]
        assert (taken.script, taken.project, taken.commit_sha) == ("train.py", "folder", taken.digest)


def test_a_folder_behind_a_link(folder, tmp_path):
    """It does not matter by which way the script's folder was reached."""
    os.symlink("train.py", folder / "again.py")
    os.symlink(folder, tmp_path / "way")
    with snapshot(str(tmp_path / "way" / "again.py"), localdir=True) as taken:
        assert (list(members(taken.archive)), taken.script) == (["again.py", "train.py"], "again.py")


def test_a_folder_needs_no_git(folder, monkeypatch):
    """A machine without git can send a folder."""
    monkeypatch.setenv("PATH", "")
    assert paths(folder / "train.py", localdir=True) == ["train.py"]


def test_the_same_tree_gives_the_same_bytes(folder, tmp_path):
    """Neither the place, times, owners, nor the order of making change the archive; content and the x bit do."""
    write(folder, b="b", a="a", **{"größe": "x", "n" * 120: "x"})
    (folder / "a").chmod(0o600)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in sorted(os.listdir(folder), reverse=True):
        shutil.copyfile(folder / name, copy / name)
        os.utime(copy / name, (1, 1))
    with (
        snapshot(str(folder / "train.py"), localdir=True) as first,
        snapshot(str(copy / "train.py"), localdir=True) as second,
    ):
        assert first.archive.read_bytes() == second.archive.read_bytes()
        for member in members(first.archive).values():
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (315532800, 0, 0, "", "")
            assert member.mode == 0o644
    (copy / "a").chmod(0o711)
    with snapshot(str(copy / "train.py"), localdir=True) as third:
        assert third.digest != first.digest
        assert members(third.archive)["a"].mode == 0o755


def test_a_commit_and_a_copy_of_it_are_the_same_archive(repository):
    """Both ways of packing are one, so the same code is stored once."""
    shutil.move(repository / "code" / "train.py", repository / "train.py")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "moved")
    os.rmdir(repository / "code")
    train = str(repository / "train.py")
    with snapshot(train, localdir=True) as first, snapshot(train, localdir=False) as second:
        assert first.digest == second.digest


def test_gridignore_excludes_and_gitignore_stands_in_for_it(folder):
    """`.gitignore` counts only where there is no `.gridignore`, and `.git` is never part of it."""
    write(folder, _dot_gitignore="*.bin\n", a_dot_bin="x", b_dot_log="x", _dot_git__config="x", sub___dot_git="x")
    assert paths(folder / "train.py", localdir=True) == [".gitignore", "b.log", "sub", "train.py"]
    write(folder, _dot_gridignore="# logs\n*.log\n")
    assert paths(folder / "train.py", localdir=True) == [".gitignore", ".gridignore", "a.bin", "sub", "train.py"]


def test_an_excluded_folder_is_not_descended_into(folder):
    """What an excluded folder holds does not matter: a link out of the tree in it is not looked at."""
    write(folder, _dot_gridignore=".venv/\n!.venv/keep\n", _dot_venv__keep="x")
    os.symlink("/", folder / ".venv" / "out")
    assert paths(folder / "train.py", localdir=True) == [".gridignore", "train.py"]


def test_an_excluded_entrypoint_is_refused(folder):
    """A script that would not be part of the snapshot cannot be run."""
    write(folder, _dot_gridignore="*.py\n")
    with pytest.raises(SourceError, match=r"'train\.py' is excluded by \.gridignore.*`!train\.py`"):
        snapshot(str(folder / "train.py"), localdir=True)


PLAIN = "a b ab src x.py * ** *.py ? a* #a"
BRACKETS = r"[ab] [!a] [^b]* [a-b] []a] [[:alpha:]] [a [z-a] [a-] [\a-\b] [[:x:]]"
SEGMENTS = st.sampled_from([*PLAIN.split(), *BRACKETS.split(), "\\a", "a\\", "\\#a", "a\\ ", "a "])
PATTERNS = st.builds(
    lambda negated, start, segments, end: negated + start + "/".join(segments) + end,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(SEGMENTS, min_size=1, max_size=3),
    st.sampled_from(["", "", "/", "\r"]),
)


@pytest.fixture(scope="module")
def tangle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a repository of many small paths for ignore files to tell apart."""
    root = tmp_path_factory.mktemp("tangle")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    for path in (
        "a",
        "b",
        "x.py",
        "#a",
        "a b",
        "src/a",
        "src/]",
        "src/-",
        "src/b/a",
        "src/b/x.py",
        "ab/a/b",
        "ab/src/x.py",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")
    (root / "ab" / "a" / "a ").write_text("")
    os.symlink("src", root / "ab" / "src-link")
    return root


@settings(max_examples=50, deadline=None)
@example(["*", "!*/", "!*.py"], [])
@example(["/*", "!/src", "/src/*", "!/src/b"], [])
@example(["src/", "!src/b"], [])
@example(["a", "!a/"], ["!a", "*.py"])
@example(["**/b", "src/**", "a/**/x.py"], ["]"])
@given(st.lists(PATTERNS, max_size=4), st.lists(PATTERNS, max_size=2))
def test_patterns_mean_what_they_mean_to_git(tangle, patterns, nested):
    """Git itself, asked with the same ignore files, keeps the same paths."""
    (tangle / ".ignore").write_text("\n".join(patterns), newline="")
    (tangle / "src" / ".ignore").write_text("\n".join(nested), newline="")
    command = ["git", "ls-files", "--others", "-z", "--exclude-per-directory=.ignore"]
    kept = subprocess.run(command, cwd=tangle, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\0")[:-1]
    entries = walk(tangle, ignore_name=".ignore").entries
    assert sorted(kept) == sorted(entry.path for entry in entries if entry.kind != stat.S_IFDIR)


def test_sockets_and_fifos_are_left_out_with_a_warning(folder, monkeypatch):
    """What cannot be packed is left out, and the user is told."""
    monkeypatch.chdir(folder)
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with snapshot("train.py", localdir=True) as taken:
            assert list(members(taken.archive)) == ["train.py"]
            assert taken.warnings == ("left out, because only files, folders and links can be sent: fifo, socket",)


def test_more_than_two_gibibytes_are_refused_with_the_largest_paths(folder, tmp_path):
    """Nothing is written, and the message says what to exclude and where."""
    write(folder, data__deep__big_dot_bin="", data__small="", half="")
    os.truncate(folder / "data" / "deep" / "big.bin", 3 * 1024**3)
    os.truncate(folder / "data" / "small", 2048)
    os.truncate(folder / "half", 512 * 1024**2)
    with pytest.raises(SourceError) as refusal:
        snapshot(str(folder / "train.py"), localdir=True)
    message = str(refusal.value)
    assert "3.5 GiB" in message
    assert "at most 2.0 GiB" in message
    assert "data/deep/big.bin (3.0 GiB), half (512 MiB)" in message.replace("data (3.0 GiB), ", "")
    assert "data/deep (" not in message
    assert ".gridignore" in message
    assert list((tmp_path / "tmp").iterdir()) == []


@contextmanager
def _without_privileges(*folders: Path) -> Iterator[None]:
    """Be a user who cannot read everything: root becomes another one for the while."""
    if os.geteuid() != 0:
        yield
        return
    nobody = 65534
    for folder in folders:
        os.chown(folder, nobody, -1)
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_that_cannot_be_read_is_named(monkeypatch):
    """An unreadable file or folder stops the snapshot, with its path, and no archive is left."""
    # Not in tmp_path, which only its owner can enter.
    with tempfile.TemporaryDirectory(dir="/tmp") as place, tempfile.TemporaryDirectory(dir="/tmp") as archives:
        monkeypatch.setattr(tempfile, "tempdir", archives)
        root = Path(place)
        write(root, train_dot_py="print(1)\n")
        snapshot(str(root / "train.py"), localdir=True).archive.unlink()  # loads what it needs while that can be read
        (root / "secret").write_text("x")
        (root / "secret").chmod(0)
        user = (root, Path(archives))
        with _without_privileges(*user), pytest.raises(SourceError, match=r"cannot read /.*/secret: Permission denied"):
            snapshot(str(root / "train.py"), localdir=True)
        (root / "secret").unlink()
        (root / "folder").mkdir(mode=0)
        with _without_privileges(*user), pytest.raises(SourceError, match=r"cannot read /.*/folder: Permission denied"):
            snapshot(str(root / "train.py"), localdir=True)
        assert os.listdir(archives) == []


def test_an_archive_that_cannot_be_written_is_no_fault_of_the_source(folder, monkeypatch, tmp_path):
    """A temporary folder that is not there is named, with the way to choose another."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match=r"cannot write a snapshot into .*nowhere.*TMPDIR"):
        snapshot(str(folder / "train.py"), localdir=True)


@pytest.mark.parametrize("localdir", [True, False])
def test_a_missing_entrypoint_is_refused(folder, localdir):
    """A path that is no file is named."""
    with pytest.raises(SourceError, match=r"nowhere\.py' is not a file"):
        snapshot(str(folder / "nowhere.py"), localdir=localdir)


def test_importing_it_loads_nothing_costly():
    """The modules that pack, parse YAML, or run processes are loaded by the first use."""
    code = (
        "import sys, grid.source, grid.definition; "
        "print({'yaml', 'tarfile', 'subprocess', 'difflib', 'asyncio', 'gql'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout == "set()\n"
