"""Ignore files mean what they mean to git."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grid.source.ignore import walk

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="modes, links and sockets are POSIX"),
    pytest.mark.usefixtures("plain_git"),
]


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
