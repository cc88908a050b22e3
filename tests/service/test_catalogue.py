"""Tests of the catalogue of instance types: prices, names and nicknames, and a file of the operator's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from grid import Run, get_instance_types
from grid.errors import InvalidArgument
from grid.service.domain.catalogue import Catalogue
from grid.service.domain.errors import InstanceTypeMissing
from grid.session import session as sessions
from tests.support.services import service_process

HEADER = "name,cpus,gpus,memory_gib,accelerator,nickname,on_demand_usd_per_hour,spot_usd_per_hour"


def run_of(folder: Path, **options: object) -> Run:
    """Describe the run of the walk-through, with other options."""
    script = folder / "run.py"
    script.touch()
    arguments = "--max_epochs '[10, 20]' --learning_rate 'uniform(1e-3, 1e-5, 1)'"
    return Run(entrypoint=str(script), script_args=arguments, localdir=True, **options)


@pytest.mark.parametrize(
    ("options", "cost"),
    [
        ({"instance_type": "t2.xlarge", "cpus": 3}, 0.38),
        ({"instance_type": "4_cpu_16gb", "cpus": 3}, 0.38),
        ({"instance_type": "t2.xlarge", "use_spot": True}, 0.12),
        ({}, 0.10),
        ({"strategy": "none"}, 0.05),
        ({"strategy": "random_search", "num_trials": 1}, 0.05),
    ],
)
def test_cost_of_a_run(session: object, tmp_path: Path, options: dict[str, object], cost: float) -> None:
    """A run costs what its instance type costs, for all its experiments together, to the cent."""
    assert run_of(tmp_path, **options).estimated_hourly_cost == cost


def test_settled_name(session: object, tmp_path: Path, start: Callable[..., Run]) -> None:
    """A run that was started with a nickname has the type that the nickname stands for."""
    assert Run(start("", instance_type="2_cpu_4gb").name).instance_type == "t2.medium"


def test_unknown_type(session: object, tmp_path: Path) -> None:
    """An instance type that is not in the catalogue is refused with the names near it."""
    with pytest.raises(InvalidArgument, match=r"'t2\.xlarg' is not in the catalogue; close matches: t2\.xlarge"):
        _ = run_of(tmp_path, instance_type="t2.xlarg").estimated_hourly_cost


def test_very_long_type() -> None:
    """However long an unknown name is, it is refused at once and not repeated in full."""
    with pytest.raises(InstanceTypeMissing, match="is not in the catalogue") as caught:
        Catalogue.read().find("t2." * 1_000_000)
    assert len(str(caught.value)) < 500


def test_types_that_are_shipped(session: object) -> None:
    """Every type has resources, prices and unique names, and a spot machine is never dearer."""
    types = get_instance_types("local")
    names = [name for each in types for name in {each.name, each.nickname}]
    assert len([each.name for each in types]) == len({each.name for each in types})
    assert all(Catalogue.read().find(name) for name in names)
    for each in types:
        assert each.cpus >= 1
        assert each.memory_gib > 0
        assert (each.gpus > 0) == (each.accelerator is not None)
        assert 0 < each.spot_usd_per_hour <= each.on_demand_usd_per_hour


def test_first_of_a_nickname() -> None:
    """If two types share a nickname, it means the first of them; a name always means itself."""
    catalogue = Catalogue.read()
    for each in catalogue.types:
        assert catalogue.find(each.name) is each
        first = next(other for other in catalogue.types if other.nickname == each.nickname)
        assert catalogue.find(each.nickname) is first


def test_a_catalogue_of_the_operator(tmp_path: Path) -> None:
    """A service with another catalogue offers what is in it, and nothing else."""
    file = tmp_path / "types.csv"
    file.write_text(f"{HEADER}\nbig.one,2,0,8,,2_cpu_8gb,1.5,0.25\n")
    (tmp_path / "service").mkdir()
    with service_process(tmp_path / "service", "--cpus", "2", "--instance-types", str(file)) as running:
        sessions.use(running.session())
        assert [each.name for each in get_instance_types("local")] == ["big.one"]
        assert run_of(tmp_path, instance_type="big.one", use_spot=True).estimated_hourly_cost == 0.5
        with pytest.raises(InvalidArgument, match=r"t2\.medium"):
            _ = run_of(tmp_path).estimated_hourly_cost


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        (HEADER + "\n", "is empty"),
        (f"{HEADER}\na,1,0,1,,n,1,1\nb,x,0,1,,n,1,1\n", ":3: .*'x'"),
        (f"{HEADER}\na,0,0,1,,n,1,1\n", "cpus is 0, but must be at least 1"),
        (f"{HEADER}\na,1,-1,1,,n,1,1\n", "gpus is -1"),
        (f"{HEADER}\na,1,0,1,,n,nan,1\n", "on_demand_usd_per_hour is nan"),
        (f"{HEADER}\na,1,0,1,,n,1,inf\n", "spot_usd_per_hour is inf"),
        (f"{HEADER}\na,1,0\n", ":2: "),
        ("name;cpus\na;1\n", "not a line of a catalogue"),
    ],
)
def test_what_is_not_a_catalogue(tmp_path: Path, text: str, why: str) -> None:
    """A file that is not a catalogue is refused with its name and the line."""
    file = tmp_path / "types.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=why) as caught:
        Catalogue.read(file)
    assert str(file) in str(caught.value)
