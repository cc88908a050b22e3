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
from grid.service.domain.launching import Launch
from grid.service.domain.local_cluster import LocalCluster
from grid.service.system.gpus import Gpu
from grid.service.system.machine import Machine
from grid.service.system.settings import OptionError, Options
from grid.service.system.workspace import Workspace
from grid.shared.wire import RESERVED_VARIABLES

GIB = 1024**3
HOME = Path("/home/somebody/.grid")


def of(machine: Machine, home: Path = HOME, *, limits_memory: bool = False, **options: Any) -> LocalCluster:
    """Return the cluster of a machine."""
    given = Options(home=home, **options)
    return LocalCluster.of(machine, given, Catalogue.read(), Workspace(home), limits_memory=limits_memory)


def cluster(cpus: int = 4, gpus: int = 0, home: Path = HOME) -> Cluster:
    """Return the cluster of a machine of that size."""
    return of(Machine(cpus, 24 * GIB, tuple(Gpu(f"GPU-{number}", number) for number in range(gpus))), home)


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
    given = {"interpreter": None, "cluster": "local", "id": "e", "run_name": "r", "index": 3, "user_id": "u"}
    given |= {"attempt": 1, "layout": 2, "cpus": 2, "gpus": 0, "arguments": "[]"}
    return SimpleNamespace(**{**given, **others})


PLAIN = Launch(("run.py",))


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
        ({"memory": "16G"}, "nothing keeps it from using more"),
        ({"scratchSize": "1G"}, "scratch"),
        ({"scratchMountPath": "/scratch"}, "scratch"),
        ({"framework": "TORCHELASTIC", "launcher": "accelerate launch"}, "torchelastic"),
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
        ({"memory": "1.5G"}, Resources(2, 0, 3 * GIB // 2)),
        ({"memory": "24G"}, Resources(2, 0, 24 * GIB)),
        ({"memory": "1T"}, Resources(2, 0, 24 * GIB)),
        ({"instanceType": "t2.2xlarge"}, Resources(4, 0)),
        ({"gpus": 2}, Resources(2, 2)),
        ({"instanceType": "g4dn.xlarge", "cpus": 1}, Resources(1, 1)),
    ],
)
def test_resources(given: dict[str, Any], expected: Resources) -> None:
    """What was asked for wins over the instance type; there is never more than the machine has, except of GPUs."""
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
    machine = Machine(8, 24 * GIB, (Gpu("GPU-a", 0), Gpu("GPU-b", 1)))
    assert of(machine).resources == Resources(8, 2, 24 * GIB)
    assert of(machine, cpus=3, gpus=1, memory_bytes=GIB).resources == Resources(3, 1, GIB)
    assert of(machine, gpus=0).resources == Resources(8, 0, 24 * GIB)
    with pytest.raises(OptionError, match="--gpus=3: experiments are to share 3 GPUs, but 2 can be used"):
        of(machine, gpus=3)


def test_gpus_that_the_service_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those of the list that the service was started with are shared; a refusal says why there are no more."""
    machine = Machine(8, 24 * GIB, (Gpu("GPU-a", 0), Gpu("GPU-b", 1)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert of(machine).gpu_ids == ["GPU-b"]
    with pytest.raises(
        Unsupported, match=r"asks for 2 GPUs; this machine has 1 \(the service .*CUDA_VISIBLE_DEVICES='1'\)"
    ):
        of(machine).check(settings(gpus=2))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert of(machine).resources.gpus == 0


def test_more_than_one_part_of_a_gpu() -> None:
    """A run whose experiments get several parts of a GPU is warned that CUDA uses only one."""
    machine = Machine(8, 24 * GIB, (Gpu("MIG-a", 0, "", "GPU-a"), Gpu("MIG-b", 0, "", "GPU-a")))
    assert not any("MIG" in warning for warning in of(machine).check(settings(gpus=1))[2])
    assert any("CUDA uses only one" in warning for warning in of(machine).check(settings(gpus=2))[2])


def test_gpus_of_several_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is in doubt which GPUs the service was given, a run that gets some is warned."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    mixed = of(Machine(8, 24 * GIB, (Gpu("GPU-a", 0, "T4"), Gpu("GPU-b", 1, "H100"))))
    assert any("several models" in warning for warning in mixed.check(settings(gpus=1))[2])
    assert not any("several models" in warning for warning in mixed.check(settings())[2])


def test_memory_that_is_limited() -> None:
    """Where an experiment cannot use more memory than it asked for, there is nothing to warn of."""
    machine = Machine(4, 24 * GIB)
    assert of(machine, limits_memory=True).check(settings(memory="16G"))[2] == []
    assert len(of(machine).check(settings(memory="16G"))[2]) == 1
    words = "each experiment asks for 32G of memory; this machine has 24G, so it gets that"
    assert of(machine, limits_memory=True).check(settings(memory="32G"))[2] == [words]


@pytest.mark.parametrize(
    ("each", "at_once"),
    [
        (Resources(1, 0), 20),
        (Resources(3, 0), 6),
        (Resources(1, 0, 8 * GIB), 3),
        (Resources(1, 1, GIB), 2),
        (Resources(20, 2, 24 * GIB), 1),
        (Resources(99, 0), 1),
    ],
)
def test_how_many_at_once(each: Resources, at_once: int) -> None:
    """As many experiments can run at once as the scarcest of what they need allows."""
    assert Resources(20, 2, 24 * GIB).holds(each) == at_once


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's own variables override what is inherited, and Grid's override both."""
    monkeypatch.setenv("LANG", "C")
    monkeypatch.setenv("SECRET", "secret")
    monkeypatch.setenv("PATH", "/usr/bin")
    own = {
        "LANG": "de_DE.UTF-8",
        "MINE": "1",
        "GRID_RUN_NAME": "another",
        "CUDA_VISIBLE_DEVICES": "7",
        "CUDA_DEVICE_ORDER": "x",
    }
    ids = ("GPU-1", "GPU-0")
    given = cluster(gpus=2).environment(row(interpreter="/opt/env/bin/python"), settings(environment=own), PLAIN, ids)
    assert given["LANG"] == "de_DE.UTF-8"
    assert given["MINE"] == "1"
    assert given["PATH"] == os.pathsep.join(("/opt/env/bin", "/usr/bin"))
    assert given["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert given["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert {name: value for name, value in given.items() if name.startswith("GRID_")} == {
        "GRID_HOME": str(HOME),
        "GRID_CLUSTER_ID": "local",
        "GRID_EXPERIMENT_ID": "e",
        "GRID_EXPERIMENT_NAME": "r-exp3",
        "GRID_INSTANCE_TYPE": "t2.medium",
        "GRID_REPEAT": "0",
        "GRID_RUN_NAME": "r",
        "GRID_USER_ID": "u",
    }
    assert "SECRET" not in given


def test_reserved_variables() -> None:
    """The variables that a run may not set are exactly those that Grid sets last."""
    names = cluster(gpus=2).environment(row(), settings(), PLAIN, ("GPU-0",))
    given = cluster(gpus=2).environment(row(), settings(environment=dict.fromkeys(names, "own")), PLAIN, ("GPU-0",))
    assert {name for name, value in given.items() if value != "own"} == RESERVED_VARIABLES
