"""Snapshots of commits, taken of real repositories. Folders are in `test_snapshot_folders.py`, git in `test_git.py`."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys

import pytest

from grid.errors import SourceError
from grid.source.snapshot import snapshot
from tests.support.source_trees import content, git, members, paths, write
from tests.support.trees import make_deep, nothing_left

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="modes, links and sockets are POSIX"),
    pytest.mark.usefixtures("plain_git"),
]


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
    """A relative path is relative to the current folder of the session."""
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
    """If a filter that the repository requires fails, git's own words are in the message."""
    write(repository, _dot_gitattributes="README filter=absent\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "filter")
    git(repository, "config", "filter.absent.clean", "cat")
    git(repository, "config", "filter.absent.smudge", "false")
    git(repository, "config", "filter.absent.required", "true")
    with pytest.raises(SourceError, match=r"git cannot read the commit: .*smudge filter absent failed.*localdir=True"):
        snapshot(str(repository / "code" / "train.py"), localdir=False)


def test_a_commit_of_many_nested_folders_is_refused(repository):
    """Folders that lie too deep to be sent are named, and nothing is written out to find that."""
    with nothing_left(repository):
        make_deep(repository / "made", depth=1_200, name="d")
        git(repository, "add", "-A")
        git(repository, "commit", "-q", "-m", "deep")
        with pytest.raises(SourceError, match=r"/made/d/d/… lies more than 200 folders deep"):
            snapshot(str(repository / "code" / "train.py"), localdir=False)


def test_difficult_names_are_packed(repository):
    """Names with spaces, line ends, other alphabets, and more than a hundred characters come through."""
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
        "nothing": ["not in a git repository", "not a git repository"],
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
    """A link that leads out of what is sent is refused by name, for commits and folders, and no archive is left."""
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
