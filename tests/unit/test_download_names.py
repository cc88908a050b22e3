"""Where artifacts go below the target folder, and the paths that lead elsewhere."""

from __future__ import annotations

import pytest

from grid.downloads.names import PARTS, Place, Places, place_of
from grid.errors import DownloadFailed


@pytest.mark.parametrize(
    ("path", "goes_to"),
    [
        ("best.pt", "exp0/best.pt"),
        ("ckpt/epoch=3/best.pt", "exp0/ckpt/epoch=3/best.pt"),
        ("../x", "exp0/_beside/x"),
        ("../data/x", "exp0/_beside/data/x"),
        ("...", "exp0/..."),
        ("..x/y..", "exp0/..x/y.."),
        ("2026-01-01T10:00:00.log", "exp0/2026-01-01T10:00:00.log"),
        ("a:b/c", "exp0/a:b/c"),
        ("C:/x", "exp0/C:/x"),
        (f"{PARTS}/x", f"exp0/{PARTS}/x"),
        (r"\xff.bin", r"exp0/\xff.bin"),
        (" ", "exp0/ "),
        ("line\nbreak", "exp0/line\nbreak"),
    ],
)
def test_place_of_an_artifact(path: str, goes_to: str) -> None:
    """An artifact goes to its path in the folder of its experiment, and what lay beside to `_beside`."""
    assert place_of("exp0", path).path == goes_to


@pytest.mark.parametrize(
    "path",
    [
        *("", ".", "..", "/", "/etc/passwd", "//etc/passwd", "a//b", "a/", "a/.", "./a"),
        *("a/../b", "a/..", "../..", "../../x", "../a/../../../x", "../", "..//x"),
        *("a\0b", "a/\0", "\ud800"),
    ],
)
def test_path_that_leads_elsewhere_is_refused(path: str) -> None:
    """A path that leads out of the folder, or that no file can have, is refused by name."""
    with pytest.raises(DownloadFailed) as caught:
        place_of("exp0", path)

    assert repr(path) in str(caught.value)
    assert "exp0" in str(caught.value)


@pytest.mark.parametrize("experiment", ["", ".", "..", "../up", "/etc", "a/b", "a\0b", PARTS, ".GRID-Parts"])
def test_experiment_whose_name_leads_elsewhere_is_refused(experiment: str) -> None:
    """The name of an experiment comes from the service, too."""
    with pytest.raises(DownloadFailed):
        place_of(experiment, "best.pt")


def test_two_artifacts_of_one_place() -> None:
    """What lies beside the working copy is told from a folder `_beside` in it, and neither overwrites the other."""
    places = Places(is_case_sensitive=True)
    assert places.take("exp0", "_beside/x") == place_of("exp0", "_beside/x")
    assert places.take("exp0", "_beside/x") is None

    with pytest.raises(DownloadFailed, match="same place as '_beside/x'"):
        places.take("exp0", "../x")
    places.take("exp1", "../x")


@pytest.mark.parametrize(("one", "other"), [("A/x", "a/x"), ("stra\u00dfe", "STRASSE"), ("caf\u00e9", "cafe\u0301")])
def test_names_that_differ_by_case_alone(one: str, other: str) -> None:
    """Where the file system takes two names for one, the second is refused; elsewhere both are kept."""
    Places(is_case_sensitive=True).take("exp0", one)
    kept = Places(is_case_sensitive=True)
    assert kept.take("exp0", one) != kept.take("exp0", other)

    places = Places(is_case_sensitive=False)
    places.take("exp0", one)
    places.take("exp0", one)
    with pytest.raises(DownloadFailed, match="same place"):
        places.take("exp0", other)
    with pytest.raises(DownloadFailed, match="same place"):
        places.take("EXP0", one)


def test_incomplete_file_has_a_name_of_its_own() -> None:
    """The name of an incomplete file is no artifact's, can be as long as any, and ends with `.part`."""
    place = Place(("exp0",), "best.pt")
    assert place.part.startswith("best.pt.")
    for name in ("x", "y" * 255, "\u00e4" * 127, "x.part"):
        here, there = Place(("exp0",), name), Place(("exp1",), name)
        names = {name, here.part, here.note, there.part, there.note}
        assert len(names) == 5
        assert all(len(each.encode()) <= 255 for each in names)
        assert all(each.endswith(".part") for each in names - {name})
