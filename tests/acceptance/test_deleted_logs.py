"""Logs that somebody follows while what has printed them is deleted: who follows hears of it, and waits for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from grid import errors
from grid.session import streams
from tests.faults.proxy import Proxy
from tests.support.experiments import only, starter
from tests.support.followers import Follower
from tests.support.logs import FOLLOW, following, logs_of
from tests.support.requests import code_of
from tests.support.services import ServiceProcess
from tests.support.subscriptions import watching
from tests.support.waiting import wait_for_run, wait_until

# Its last argument is its number. The first ends at once; the others do when there is a file.
TWO = """
import os, sys, time
path, number = sys.argv[1], sys.argv[-1]
print("ready", number, flush=True)
while number != "1" and not os.path.exists(path): time.sleep(0.01)
print("over", number, flush=True)
"""
# So much that it does not fit into what the connection holds for a reader that does not read.
MUCH = "for number in range(400_000): print('line', number, 'x' * 100)"
TALKATIVE = f"""
import os, sys, time
path, which = sys.argv[1], sys.argv[-1]
print("ready", which, flush=True)
if which == "2":
    {MUCH}
    open(path + "printed", "w").close()
while not os.path.exists(path + which): time.sleep(0.01)
print("over", which, flush=True)
"""


@pytest.mark.usefixtures("session")
def test_one_of_several(service: ServiceProcess, tmp_path: Path) -> None:
    """Where one is deleted whose end the reader has not heard, the others are told to theirs, and it is over."""
    run = starter(tmp_path)(TALKATIVE, f"{tmp_path / 'go'} --n '[1, 2]'")
    first, second = run
    lines = run.logs(follow=True)
    with following(service.endpoint, run.id) as pages:
        begun = [next(lines), next(pages)]
        wait_until((tmp_path / "goprinted").exists, "what nobody reads")
        (tmp_path / "go1").touch()
        first.wait()
        first.delete()
        (tmp_path / "go2").touch()
        second.wait()
        assert Follower(lines).all(60)[-1].endswith("over 2")
        rest = Follower(pages).all(60)
    assert begun
    assert "".join(page["text"] for page in rest if page["experimentId"] == second.id).endswith("over 2\n")
    assert logs_of(service.endpoint, run.name, {second.id: "2:1"}) == {"isEnd": True, "pages": []}


@pytest.mark.usefixtures("session")
def test_the_one_that_is_followed(service: ServiceProcess, tmp_path: Path) -> None:
    """In the middle of its text there is an error, and no end as if that had been all."""
    run = starter(tmp_path)(MUCH)
    experiment = only(run)
    lines = experiment.logs(follow=True, since=1)
    assert "line 0" in next(lines)
    with watching(service.endpoint, FOLLOW, id=run.id, experiment=experiment.id, after={}) as answers:
        assert "errors" not in next(answers)
        wait_for_run(run)
        experiment.delete()
        assert code_of(Follower(answers).all(60)[-1]) == "EXPERIMENT_NOT_FOUND"
    with pytest.raises(errors.ExperimentNotFound, match="no longer exists"):
        Follower(lines).all(60)


@pytest.mark.usefixtures("session")
def test_after_its_end(service: ServiceProcess, tmp_path: Path) -> None:
    """Who was told everything before the deletion has nothing to complain of."""
    run = starter(tmp_path)("print('one')")
    with watching(service.endpoint, FOLLOW, id=run.id, experiment=only(run).id, after={}) as answers:
        follower = Follower(answers)
        wait_until(lambda: any(each["data"]["runLogs"]["isEnd"] for each in follower.seen), "the end")
        only(run).delete()
        assert not [answer for answer in follower.all(30) if "errors" in answer]


@pytest.mark.parametrize("whose", ["experiment", "run"])
def test_polled(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str) -> None:
    """Where no WebSocket can be had, the same is found out by asking."""
    monkeypatch.setattr(streams, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(streams, "_LONGEST_PAUSE", 0.05)
    proxy.upgrades = 503
    run = starter(tmp_path)(TWO, f"{tmp_path / 'go'} --n '[1, 2]'")
    first, second = run
    gone = second if whose == "experiment" else first
    lines = Follower((second if whose == "experiment" else run).logs(follow=True))
    wait_until(lambda: lines.seen, "the first lines")
    if gone is second:
        second.cancel()
    gone.wait()
    gone.delete()
    (tmp_path / "go").touch()
    if whose == "run":
        assert "over 2" in lines.all(30)[-1]
    else:
        try:
            lines.all(30)  # all was told before
        except errors.ExperimentNotFound as error:
            assert "no longer exists" in str(error)
