"""What git is asked about a script's repository: the name of its project. Commits are in `test_snapshot.py`."""

from __future__ import annotations

import sys

import pytest

from grid.errors import SourceError
from grid.source.git import _project_of_remote, ask, find_repository
from grid.source.snapshot import snapshot
from tests.support.source_trees import git

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="modes, links and sockets are POSIX"),
    pytest.mark.usefixtures("plain_git"),
]


def test_the_repository_is_found_from_a_subfolder(repository):
    """Root, prefix and commit are those of the repository around the folder."""
    found = find_repository(str(repository / "code"), "train.py")
    assert (found.root, found.prefix) == (str(repository), "code/")
    assert found.commit == git(repository, "rev-parse", "HEAD").strip()


def test_what_git_cannot_answer_is_said_in_its_words(repository):
    """The refusal quotes git, and names the way out."""
    with pytest.raises(SourceError, match=r"git cannot read the commit: .*nowhere.*localdir=True"):
        ask("ls-tree", "nowhere", cwd=str(repository))


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
