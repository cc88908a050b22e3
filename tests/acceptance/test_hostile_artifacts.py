"""Downloads from a service that lies: nothing is written elsewhere, and nothing is kept that is not what it says."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from grid.errors import ArtifactNotFound, ConnectionFailed, DownloadFailed, ExperimentNotFound, PermissionDenied
from tests.support.artifact_service import LARGE, Offer, archive, artifact_service, sha256

EXP0 = "clever-noether-1882-exp0"
GOOD = Offer("good.txt", b"good")
ALSO_GOOD = Offer("also/good.txt", b"good, too")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    files = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "path",
    [
        *("../../evil", "/etc/evil", "a/../../evil", "..", "a//b", "./evil", "evil\0.txt", ""),
        *("../", "../../../../../../../../tmp/evil"),
    ],
)
@pytest.mark.parametrize("size", [4, LARGE])
def test_path_that_leads_out(tmp_path: Path, path: str, size: int) -> None:
    """An artifact whose path leads out of the folder is an error that names it; only the others are written."""
    with artifact_service(GOOD, Offer(path, b"x" * size)) as service:
        experiment = service.experiment()
        with pytest.raises(DownloadFailed) as caught:
            experiment.download_artifacts(tmp_path / "out")

        assert repr(path) in str(caught.value)
        assert tree(tmp_path) == {f"out/{EXP0}/good.txt": b"good"}
        with pytest.raises(DownloadFailed):
            next(each for each in experiment.artifacts.values() if each.path == path).download(tmp_path / "out")


@pytest.mark.parametrize("name", ["../evil", "..", "/tmp/evil", "a/b", ""])
def test_experiment_whose_name_leads_out(tmp_path: Path, name: str) -> None:
    """The name of an experiment is not believed either."""
    with artifact_service(GOOD, name=name) as service, pytest.raises(DownloadFailed):
        service.experiment().download_artifacts(tmp_path / "out")
    assert tree(tmp_path) == {}


def test_two_artifacts_of_one_place(tmp_path: Path) -> None:
    """Two artifacts that would be written to one file are an error; the same one listed twice is fetched once."""
    says = r"'../x'.*same place as '_beside/x'"
    with (
        artifact_service(Offer("_beside/x", b"1"), Offer("../x", b"2")) as service,
        pytest.raises(DownloadFailed, match=says),
    ):
        service.experiment().download_artifacts(tmp_path / "out")
    with artifact_service(GOOD, GOOD, page=1) as service:
        (path,) = set(service.experiment().download_artifacts(tmp_path / "out"))
        assert path.read_bytes() == b"good"


def test_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    """A file and a folder of one name cannot both be written: the error names the path."""
    for size in (4, LARGE):
        with (
            artifact_service(Offer("a", b"x" * size), Offer("a/b", b"y" * size)) as service,
            pytest.raises(DownloadFailed, match="out/.*/a"),
        ):
            service.experiment().download_artifacts(tmp_path / "out")
        shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize("place", [EXP0, f"{EXP0}/ckpt"])
def test_links_in_the_target(tmp_path: Path, place: str) -> None:
    """A link in the target folder that leads out of it is not followed."""
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "out" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "elsewhere")
    for size in (4, LARGE):
        with (
            artifact_service(Offer("ckpt/x", b"x" * size), Offer("ckpt/y", b"y" * size)) as service,
            pytest.raises(DownloadFailed, match=rf"{place} is a link"),
        ):
            service.experiment().download_artifacts(tmp_path / "out")
    assert tree(tmp_path / "elsewhere") == {}


def test_archive_with_other_files(tmp_path: Path) -> None:
    """An archive that has other files than were asked for, or the same twice, is refused by name."""
    for extra in (Offer("../../evil", b"x"), Offer("good.txt", b"x"), Offer("unasked", b"x")):
        with artifact_service(GOOD, ALSO_GOOD) as service:
            service.bundle = lambda offers, extra=extra: archive([*offers, extra])  # type: ignore[misc]
            with pytest.raises(DownloadFailed, match=extra.path):
                service.experiment().download_artifacts(tmp_path / "out")
        assert set(tree(tmp_path)) == {f"out/{EXP0}/good.txt", f"out/{EXP0}/also/good.txt"}
        assert tree(tmp_path / "out" / EXP0)["good.txt"] == b"good"
        shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize("size", [7, LARGE])
@pytest.mark.parametrize(
    "lie",
    [
        {"size": 6},
        {"size": LARGE * 2},
        {"sha256": "0" * 64},
        {"sha256": None, "known_later": "0" * 64},
    ],
)
def test_content_that_is_not_what_it_should_be(tmp_path: Path, size: int, lie: dict[str, object]) -> None:
    """A file whose size or digest is not what the service says does not take its place; what is right does."""
    bad = Offer("bad.bin", b"x" * size, **lie)  # type: ignore[arg-type]
    with artifact_service(GOOD, ALSO_GOOD, bad) as service:
        if size < LARGE and lie.get("known_later"):
            service.bundle = lambda offers: archive(offers, **{"GRID.sha256": "1" * 64})
        with pytest.raises(DownloadFailed, match=rf"out/{EXP0}/bad.bin is not downloaded"):
            service.experiment().download_artifacts(tmp_path / "out")
    assert f"out/{EXP0}/bad.bin" not in tree(tmp_path)
    assert all(not path.endswith(".part") for path in tree(tmp_path))


def test_archive_without_digests(tmp_path: Path) -> None:
    """Files that come in an archive without their digests are fetched alone, and checked."""
    offers = [Offer("a", b"1", sha256=None, known_later=sha256(b"1")), Offer("b", b"2")]
    with artifact_service(*offers) as service:
        service.bundle = lambda offers: archive(offers).replace(b"GRID.sha256", b"GRID.sha255")
        service.experiment().download_artifacts(tmp_path)
        assert service.asked["GET"] == 1
    assert tree(tmp_path / EXP0) == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda offers: b"",
        lambda offers: b"<html>",
        lambda offers: archive(offers)[:1_600],
        lambda offers: archive(offers)[:-10_240],
        lambda offers: archive(offers)[:1_500] + b"\xff" * 5_000,
    ],
)
def test_archive_that_is_spoiled(tmp_path: Path, spoiled: Callable[[list[Offer]], bytes]) -> None:
    """Of an archive that breaks off, the files that were whole are kept, and the others are asked for again."""
    with artifact_service(*(Offer(f"f{number}", bytes([number]) * 100) for number in range(5))) as service:
        answers = [spoiled, spoiled, archive]
        service.bundle = lambda offers: answers.pop(0)(offers)  # noqa: PLW0108 - it takes another one each time
        service.experiment().download_artifacts(tmp_path)
    assert tree(tmp_path / EXP0) == {f"f{number}": bytes([number]) * 100 for number in range(5)}


def test_addresses_that_expire(tmp_path: Path) -> None:
    """Where an address has expired, a new one is asked for; where that is refused as well, it is an error."""
    offers = [GOOD, ALSO_GOOD, Offer("large", b"x" * LARGE)]
    with artifact_service(*offers, expired=1) as service:
        assert len(service.experiment().download_artifacts(tmp_path)) == 3
        assert service.asked["GetBundle"] + service.asked["GetArtifact"] >= 2
    with artifact_service(*offers, expired=100) as service:
        with pytest.raises(PermissionDenied) as caught:
            service.experiment().download_artifacts(tmp_path / "other")
        assert "s3cret" not in str(caught.value)
        with pytest.raises(PermissionDenied):
            service.experiment().artifacts["large"].read_bytes()


def test_files_that_vanish(tmp_path: Path) -> None:
    """What a script removes between listing and fetching is left out; once it has ended, it is missed by name."""
    offers = [GOOD, ALSO_GOOD, Offer("large", b"x" * LARGE), Offer("gone", b"y" * LARGE)]
    with artifact_service(*offers, status="RUNNING") as service:
        experiment = service.experiment()
        gone = experiment.artifacts["gone"]
        listed = service.artifacts

        def list_and_remove(first: int, after: str | None) -> dict[str, Any]:
            answer = listed(first, after)
            service.offers[:] = offers[:1] + offers[2:3]
            return answer

        service.artifacts = list_and_remove  # type: ignore[method-assign]

        service.status = "SUCCEEDED"
        with pytest.raises(DownloadFailed) as caught:
            experiment.download_artifacts(tmp_path)
        assert len(caught.value.reasons) == 2
        for path in ("also/good.txt", "gone"):
            assert any(f"{path!r} of {EXP0} is gone" in reason for reason in caught.value.reasons)
            assert repr(path) in str(caught.value)
        assert set(tree(tmp_path / EXP0)) == {"good.txt", "large"}

        service.status, service.offers[:] = "RUNNING", offers
        shutil.rmtree(tmp_path / EXP0)
        assert [path.name for path in experiment.download_artifacts(tmp_path)] == ["good.txt", "large"]
        for ask in (gone.read_bytes, gone.open, lambda: gone.download(tmp_path)):
            with pytest.raises(ArtifactNotFound, match="'gone'"):
                ask()
        service.is_gone = True
        with pytest.raises(ExperimentNotFound):
            experiment.download_artifacts(tmp_path)
    assert set(tree(tmp_path / EXP0)) == {"good.txt", "large"}


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    """Files that are there and equal are not fetched again; those that differ are replaced, and links are no files."""
    offers = [GOOD, ALSO_GOOD, Offer("large", b"x" * LARGE), Offer("later", b"y" * LARGE)]
    offers[3] = Offer("later", b"y" * LARGE, sha256=None, known_later=sha256(b"y" * LARGE))
    with artifact_service(*offers) as service:
        experiment = service.experiment()
        paths = experiment.download_artifacts(tmp_path)
        service.asked.clear()

        assert experiment.download_artifacts(tmp_path) == paths
        assert service.asked["GET"] == service.asked["POST"] == 0

        paths[0].write_bytes(b"bad!")
        paths[2].write_bytes(b"z" * LARGE)
        (tmp_path / "copy").write_bytes(b"y" * LARGE)
        paths[3].unlink()
        paths[3].symlink_to(tmp_path / "copy")
        assert experiment.download_artifacts(tmp_path) == paths
        assert service.asked["GET"] == 3
    assert tree(tmp_path / EXP0) == {offer.path: offer.content for offer in offers}
    assert not paths[3].is_symlink()


def test_small_file_that_never_comes_whole(tmp_path: Path) -> None:
    """One that a bundle leaves out, and that becomes another whenever it is sent, stops no other and is named."""
    restless = Offer("a.bin", b"restless", sha256=None)
    tags = itertools.count()
    with artifact_service(restless, GOOD, ALSO_GOOD, status="RUNNING") as service:
        service.bundle = lambda offers: archive([offer for offer in offers if offer.path != restless.path])
        broken = {"Content-Length": "9"}
        service.send = lambda _request, _offer: Response(b"restless", headers={"ETag": f'"{next(tags)}"', **broken})
        with pytest.raises(DownloadFailed, match=r"'a.bin'.*overwritten each time.*rename") as caught:
            service.experiment().download_artifacts(tmp_path)
    assert len(caught.value.reasons) == 1
    assert tree(tmp_path / EXP0) == {"good.txt": b"good", "also/good.txt": b"good, too"}


def test_file_that_a_service_never_sends(tmp_path: Path) -> None:
    """A service that answers what else it is asked is not away: a file that it fails to send is not waited for."""
    with artifact_service(GOOD, ALSO_GOOD, Offer("large.bin", b"x" * LARGE)) as service:
        service.send = lambda _request, _offer: Response(status_code=503)
        with pytest.raises(ConnectionFailed, match="the download of 'large.bin'.*6 tries"):
            service.experiment().download_artifacts(tmp_path)
    assert service.asked["GET"] == 24
