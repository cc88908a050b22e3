"""Tests of what the local cluster can do for a run: what it refuses, warns about, and passes to a script."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from grid.service.domain.catalogue import Catalogue
from grid.service.domain.cluster import Cluster, Resources
from grid.service.domain.errors import TooLittleSpace, Unsupported
from grid.service.domain.local_cluster import LocalCluster
from grid.service.system.machine import cpu_count, gpu_count
from grid.service.system.workspace import Workspace
from grid.shared.wire import RESERVED_VARIABLES

HOME = Path("/home/somebody/.grid")


def cluster(cpus: int = 4, gpus: int = 0, home: Path = HOME) -> Cluster:
    """Return the cluster of a machine of that size."""
    return LocalCluster(Catalogue.read(), Resources(cpus, gpus), Workspace(home))


def settings(**others: Any) -> dict[str, Any]:
    """Return the settings of a run, with the service's defaults."""
    return {
        "entrypoint": "run.py",
        "instanceType": "t2.medium",
        "framework": "LIGHTNING",
        "cpus": 0,
        "gpus": 0,
        "memory": "",
        "useSpot": False,
        "dependencyFile": "",
        "datastoreName": "",
        "datastoreVersion": "",
        "datastoreMountDir": "",
        "scratchSize": "",
        "scratchMountPath": "/tmp/scratch",
        "dockerfile": "",
        "autoResume": False,
        "actions": None,
        "environment": {},
        **others,
    }


def row(**others: Any) -> Any:
    """Return the parts of an experiment on which its environment depends."""
    given = {"interpreter": None, "cluster": "local", "id": "e", "run_name": "r", "index": 3, "user_id": "u", **others}
    return SimpleNamespace(**given)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"dockerfile": "Dockerfile"}, "dockerfile"),
        ({"datastoreName": "mnist"}, "datastore_name"),
        ({"datastoreVersion": "2"}, "datastore_version"),
        ({"datastoreMountDir": "/data"}, "datastore_mount_dir"),
        ({"actions": {"onBuildStart": [], "onExperimentEnd": ["rm -rf /"]}}, "actions"),
        ({"gpus": 1}, "asks for 1 GPUs"),
        ({"instanceType": "g4dn.xlarge"}, "asks for 1 GPUs"),
    ],
)
def test_refused(given: dict[str, Any], word: str) -> None:
    """What the cluster cannot do is refused with the name of the setting."""
    with pytest.raises(Unsupported, match=word):
        cluster().check(settings(**given))


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"dependencyFile": "requirements.txt"}, "requirements.txt"),
        ({"useSpot": True}, "use_spot"),
        ({"memory": "16G"}, "memory"),
        ({"scratchSize": "1G"}, "scratch"),
        ({"scratchMountPath": "/scratch"}, "scratch"),
        ({"framework": "TORCHELASTIC"}, "torchelastic"),
        ({"cpus": 5}, "asks for 5 CPUs; this machine has 4"),
    ],
)
def test_warned_of(given: dict[str, Any], word: str) -> None:
    """A warning says what is done differently from what was asked for, and nothing else."""
    _, _, warnings = cluster().check(settings(**given))
    assert len(warnings) == 1
    assert word in warnings[0]


def test_nothing_to_say() -> None:
    """A plain run is done as asked for, without a warning; so is one that is run again. Empty actions do not count."""
    again = {"autoResume": True, "maxRetries": 3, "timeout": 1.5}
    instance, resources, warnings = cluster().check(settings(actions={"onBuildStart": []}, **again))
    assert (instance.name, resources, warnings) == ("t2.medium", Resources(2, 0), [])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Resources(2, 0)),
        ({"cpus": 3}, Resources(3, 0)),
        ({"cpus": 64}, Resources(4, 0)),
        ({"instanceType": "t2.2xlarge"}, Resources(4, 0)),
        ({"gpus": 2}, Resources(2, 2)),
        ({"instanceType": "g4dn.xlarge", "cpus": 1}, Resources(1, 1)),
    ],
)
def test_resources(given: dict[str, Any], expected: Resources) -> None:
    """What was asked for wins over the instance type; there are never more CPUs than the machine has."""
    assert cluster(gpus=2).check(settings(**given))[1] == expected


def test_gpus_that_were_not_asked_for() -> None:
    """On a machine with GPUs a run that asks for no GPUs is warned that it sees none."""
    assert any("CUDA_VISIBLE_DEVICES" in warning for warning in cluster(gpus=1).check(settings())[2])


@pytest.mark.parametrize(("size", "words"), [(2**62, "4,294,967,296.0 GiB"), (10**15 + 1, "931,322.6 GiB")])
def test_not_enough_space_for_the_working_copies(tmp_path: Path, size: int, words: str) -> None:
    """The space that is needed and the space that is free are printed in units that tell the two apart."""
    Workspace(tmp_path).prepare()
    with pytest.raises(TooLittleSpace, match=rf"1 working copies of the source code need {words} .* free"):
        cluster(home=tmp_path).check_space(size, 1)


def test_space_for_every_working_copy(tmp_path: Path) -> None:
    """Space for one working copy is not enough if several may exist at once."""
    Workspace(tmp_path).prepare()
    most = shutil.disk_usage(tmp_path).free // 2
    cluster(home=tmp_path).check_space(most, 1)
    with pytest.raises(TooLittleSpace, match="^8 working copies"):
        cluster(home=tmp_path).check_space(most, 8)


def test_what_this_machine_has() -> None:
    """A cluster has what the machine has, unless options say otherwise; they can also say that there are no GPUs."""
    make, catalogue, workspace = LocalCluster.of_this_machine, Catalogue.read(), Workspace(HOME)
    assert make(catalogue, workspace).resources == Resources(cpu_count(), gpu_count())
    assert make(catalogue, workspace, cpus=3, gpus=2).resources == Resources(3, 2)
    assert make(catalogue, workspace, gpus=0).resources == Resources(cpu_count(), 0)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's own variables override what is inherited, and Grid's override both."""
    monkeypatch.setenv("LANG", "C")
    monkeypatch.setenv("SECRET", "secret")
    monkeypatch.setenv("PATH", "/usr/bin")
    own = {"LANG": "de_DE.UTF-8", "MINE": "1", "GRID_RUN_NAME": "another", "CUDA_VISIBLE_DEVICES": "7"}
    given = cluster(gpus=2).environment(row(interpreter="/opt/env/bin/python"), settings(environment=own), (0, 1))
    assert given["LANG"] == "de_DE.UTF-8"
    assert given["MINE"] == "1"
    assert given["PATH"] == os.pathsep.join(("/opt/env/bin", "/usr/bin"))
    assert given["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert {name: value for name, value in given.items() if name.startswith("GRID_")} == {
        "GRID_HOME": str(HOME),
        "GRID_CLUSTER_ID": "local",
        "GRID_EXPERIMENT_ID": "e",
        "GRID_EXPERIMENT_NAME": "r-exp3",
        "GRID_INSTANCE_TYPE": "t2.medium",
        "GRID_RUN_NAME": "r",
        "GRID_USER_ID": "u",
    }
    assert "SECRET" not in given


def test_reserved_variables() -> None:
    """The variables that a run may not set are exactly those that Grid sets last."""
    names = cluster(gpus=2).environment(row(), settings(), (0, 1))
    given = cluster(gpus=2).environment(row(), settings(environment=dict.fromkeys(names, "own")), (0, 1))
    assert {name for name, value in given.items() if value != "own"} == RESERVED_VARIABLES
