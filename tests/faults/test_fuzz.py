"""The sweep parser and the snapshot reader, with texts and archives that no user would write."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from grid.service.domain.errors import SnapshotRefused
from grid.service.domain.unpacking import unpack
from tests.faults import sizes
from tests.faults.archives import END, REFUSED, altered, extended, file, header, link, padded, record
from tests.unit import test_sweeps_fuzz as sweeps

pytestmark = pytest.mark.timeout(sizes.size(180, 3_600))

DRAWN = settings(
    database=None,
    deadline=None,
    print_blob=False,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@seed(sizes.seed())
@settings(DRAWN, max_examples=sizes.size(150, 20_000))
@given(sweeps.commands, sweeps.STRATEGIES, st.integers(-1, 40), sweeps.SEEDS)
def test_any_sweep(script_args: str, strategy: str, num_trials: int, seed: int) -> None:
    """Any script arguments are expanded or refused with a readable message, and nothing else is raised."""
    sweeps.test_any_text_is_expanded_or_refused.hypothesis.inner_test(script_args, strategy, num_trials, seed)


# A few forms, nested and in a row, as deep and as long as they happen to become.
pieces = st.sampled_from(
    [
        "[", "]", "(", ")", "range(", "uniform(", "loguniform(", "choice(", ",", ", ", "1", "-1", "1e3", "'a'", '"',
        "'", "\\", "*", "**", "--x", "--x=", " ", "\n", "\0", "\u20ac", "0x", "1_0", "j", "None", "True", "lambda:",
        "{", "}", ":", "=", "@", "#", "a=", "+b.c=", "-m ", "-l", "-- ", "a", "sgd", "[a, b]", "[INFO]", "linspace(",
        "geomspace(", "arange(", "switch(", "--no-x", "choice([", "replace=True", "unifrom(", "np.random.normal(",
        "1e999", "1e-999", "&&", "|", ">", ";", "\u201c", "\u2013", "$HOME", "`", "~/", "?", "0.1,0.2", "{1,2}",
        "\u00a0",
    ]
)  # fmt: skip


@seed(sizes.seed())
@settings(DRAWN, max_examples=sizes.size(150, 20_000))
@given(st.lists(pieces, max_size=60).map("".join), sweeps.STRATEGIES, st.integers(-1, 40), sweeps.SEEDS)
def test_any_pieces_of_a_sweep(script_args: str, strategy: str, num_trials: int, seed: int) -> None:
    """The same for texts that are made of what the grammar is made of."""
    sweeps.test_any_text_is_expanded_or_refused.hypothesis.inner_test(script_args, strategy, num_trials, seed)


names = st.lists(
    st.sampled_from(["a", "b", "c", "..", ".", "", "d" * 300, "\xff", "\n", "tree"]), min_size=1, max_size=5
).map("/".join)
kinds = st.sampled_from(
    [b"0", b"\0", b"1", b"2", b"2", b"3", b"4", b"5", b"5", b"6", b"7", b"g", b"x", b"K", b"L", b"S", b"D", b"Z"]
)
lengths = st.sampled_from([0, 0, 0, 1, 511, 512, 513, 10_000, -1, -512, 1 << 33, 1 << 62])
keys = st.sampled_from(
    ["path", "linkpath", "size", "mtime", "uid", "hdrcharset", "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.major",
     "GNU.sparse.minor", "GNU.sparse.name", "GNU.sparse.realsize", "GNU.sparse.numblocks", "GNU.sparse.offset", "x"]
)  # fmt: skip
texts = names | st.sampled_from(["0", "1", "-1", "9" * 30, "1e400", "nan", "0,1", "BINARY", "/etc", "../..", "a\0b"])
members = st.one_of(
    st.builds(file, names, st.binary(max_size=600)),
    st.builds(link, names, names | st.sampled_from(["/etc", "../../..", "../tree/a"])),
    st.builds(
        lambda name, kind, length, content: header(name, kind, length) + padded(content),
        names, kinds, lengths, st.binary(max_size=100),
    ),
    st.builds(lambda pairs, kind: extended(*(record(*pair) for pair in pairs), kind=kind),
              st.lists(st.tuples(keys, texts), max_size=4), st.sampled_from([b"x", b"g", b"X"])),
    st.builds(lambda content: header("x", b"x", len(content)) + padded(content), st.binary(max_size=80)),
    st.builds(lambda at, value: altered(header("a"), at, bytes([value])), st.integers(0, 511), st.integers(0, 255)),
    st.sampled_from([content for content in REFUSED.values() if len(content) < 20_000]),
    st.binary(max_size=600),
)  # fmt: skip
archives = st.tuples(st.lists(members, max_size=6).map(b"".join), st.booleans()).map(
    lambda parts: parts[0] + END if parts[1] else parts[0]
)


@seed(sizes.seed())
@settings(DRAWN, max_examples=sizes.size(300, 20_000))
@given(archives, st.integers(0, 3_000), st.binary(max_size=2), st.booleans())
def test_any_archive(content: bytes, place: int, value: bytes, is_cut: bool) -> None:
    """Whatever an archive says, it is refused as a whole, or unpacked as files, folders and links inside its folder."""
    if is_cut:
        content = content[:place]
    elif value and place < len(content):
        content = content[:place] + value + content[place + len(value) :]
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "archive").write_bytes(content)
        (folder / "beside").write_text("kept")
        try:
            unpack(folder / "archive", folder / "tree")
        except SnapshotRefused as error:
            assert str(folder) not in str(error)
        else:
            check_tree(folder / "tree", len(content))
        assert sorted(os.listdir(folder)) == ["archive", "beside", "tree"]
        assert (folder / "beside").read_text() == "kept"
    finally:
        shutil.rmtree(folder)


def check_tree(tree: Path, size: int) -> None:
    """Require plain files that together are no larger than their archive, folders, and links that lead nowhere else."""
    root, total = os.path.realpath(tree), 0
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            path = Path(folder, name)
            found = path.lstat()
            assert stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode)
            assert found.st_nlink == 1 or stat.S_ISDIR(found.st_mode)
            assert not found.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX)
            if stat.S_ISREG(found.st_mode):
                total += found.st_size
            if stat.S_ISLNK(found.st_mode) and not leads_nowhere(path):
                assert f"{os.path.realpath(path)}/".startswith(f"{root}/")
    assert total <= size


def leads_nowhere(path: Path) -> bool:
    """Whether a link leads in circles: for such links `realpath` returns arbitrary paths."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def test_what_is_whole_is_taken(tmp_path: Path) -> None:
    """Each archive of the table is refused for its own fault: without that it would be unpacked."""
    whole = b"".join([
        header("d", tarfile.DIRTYPE), file("d/a", b"text"), extended(record("path", "b" * 150), record("mtime", "1.5")),
        file("b"), extended(record("comment", "x"), kind=tarfile.XGLTYPE), link("l", "d/a"),
        header("././@LongLink", tarfile.GNUTYPE_LONGNAME, 121), padded(b"c" * 120 + b"\0"), file("c"), END,
    ])  # fmt: skip
    (tmp_path / "archive").write_bytes(whole)
    unpack(tmp_path / "archive", tmp_path / "tree")
    assert sorted(os.listdir(tmp_path / "tree")) == ["b" * 150, "c" * 120, "d", "l"]
    assert (tmp_path / "tree" / "l").read_text() == "text"
    assert (tmp_path / "tree" / ("b" * 150)).stat().st_mtime == 1.5
