"""`grid.sweep`: the forms of the grammar as Python objects, held against the grammar itself."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid import sweep
from grid.errors import InvalidArgument
from grid.service.domain.sweeps import count
from grid.service.domain.sweeps._distributions import DISTRIBUTIONS
from tests.support.sweeping import values

OTHERS = {"arange", "choice", "geomspace", "linspace", "logspace", "loguniform", "switch"}
NUMPY = sorted(DISTRIBUTIONS.keys() - OTHERS)


def function(name: str) -> Any:
    """Return the function that makes a form."""
    return getattr(sweep, name)


def test_every_form_has_its_function() -> None:
    """There is a function for each distribution and for each other form, and nothing else."""
    assert set(sweep.__all__) == {"Sweep", *NUMPY, *OTHERS}
    for name in sweep.__all__:
        assert function(name).__name__ == name


@pytest.mark.parametrize("name", NUMPY)
def test_distributions_are_the_grammars(name: str) -> None:
    """Each distribution takes the parameters of the grammar in their order, and is a form with its example."""
    assert list(inspect.signature(function(name)).parameters) == [*DISTRIBUTIONS[name].parameters, "samples"]
    made = function(name)(*DISTRIBUTIONS[name].example, 3)
    assert count(f"--x '{made}'", strategy="grid_search", num_trials=0) == 3
    assert len(values(str(made))) == 3
    named = dict(zip(DISTRIBUTIONS[name].parameters, DISTRIBUTIONS[name].example, strict=True))
    assert function(name)(**named, samples=3) == made


@pytest.mark.parametrize(
    ("made", "text", "written"),
    [
        (sweep.uniform(1e-5, 1e-1, 3), "uniform(1e-05, 0.1, 3)", "sweep.uniform(1e-05, 0.1, 3)"),
        (sweep.uniform(low=1, high=0, samples=3), "uniform(1, 0, 3)", "sweep.uniform(1, 0, 3)"),
        (sweep.normal(np.float32(0.5), np.int64(1), np.int32(2)), "normal(0.5, 1, 2)", "sweep.normal(0.5, 1, 2)"),
        (sweep.uniform(np.float64(0.1), 1, 2), "uniform(0.1, 1, 2)", "sweep.uniform(0.1, 1, 2)"),
        (sweep.rand(2), "rand(2)", "sweep.rand(2)"),
        (sweep.loguniform(1e-1, 1e-5, 3), "loguniform(0.1, 1e-05, 3)", "sweep.loguniform(0.1, 1e-05, 3)"),
        (
            sweep.choice(["a", 1, None, [2]], 2),
            "choice(['a', 1, None, [2]], 2)",
            "sweep.choice(['a', 1, None, [2]], 2)",
        ),
        (
            sweep.choice(["it's"], 2, replace=True),
            'choice(["it\'s"], 2, replace=True)',
            'sweep.choice(["it\'s"], 2, replace=True)',
        ),
        (sweep.choice(("a", "b"), 1), "choice(['a', 'b'], 1)", "sweep.choice(['a', 'b'], 1)"),
        (sweep.choice(10, 3), "choice(10, 3)", "sweep.choice(10, 3)"),
        (sweep.linspace(0, 1, 5), "linspace(0, 1, 5)", "sweep.linspace(0, 1, 5)"),
        (sweep.logspace(-5, -1, 5), "logspace(-5, -1, 5)", "sweep.logspace(-5, -1, 5)"),
        (sweep.geomspace(1e-5, 1e-1, 5), "geomspace(1e-05, 0.1, 5)", "sweep.geomspace(1e-05, 0.1, 5)"),
        (sweep.arange(3), "arange(3)", "sweep.arange(3)"),
        (sweep.arange(0, 1, 0.25), "arange(0, 1, 0.25)", "sweep.arange(0, 1, 0.25)"),
        (sweep.switch(), "switch()", "sweep.switch()"),
        (sweep.switch("--no-x"), "switch(--no-x)", "sweep.switch('--no-x')"),
    ],
)
def test_text_and_repr(made: sweep.Sweep, text: str, written: str) -> None:
    """The text is the grammar's, the repr is how one writes it, and what is written so is equal."""
    assert (str(made), repr(made)) == (text, written)
    again = eval(written, {"sweep": sweep})  # noqa: S307 - a test of the repr
    assert again == made
    assert hash(again) == hash(made)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (sweep.linspace(0, 1, 3), ["0.0", "0.5", "1.0"]),
        (sweep.logspace(-5, -1, 5), ["1e-05", "0.0001", "0.001", "0.01", "0.1"]),
        (sweep.geomspace(1e-5, 1e-1, 5), ["1e-05", "0.0001", "0.001", "0.01", "0.1"]),
        (sweep.arange(3), ["0", "1", "2"]),
        (sweep.arange(0, 1, 0.5), ["0.0", "0.5"]),
        (sweep.choice(["a"], 1), ["a"]),
        (sweep.choice([[2, "b"]], 2, replace=True), ["[2, 'b']", "[2, 'b']"]),
    ],
)
def test_other_forms_are_the_grammars(made: sweep.Sweep, expected: list[str]) -> None:
    """Spacings and choices are forms of the grammar, with the values that one expects."""
    assert values(str(made)) == expected


def test_log_uniform_draws() -> None:
    """The bounds are those of the numbers, and not of their logarithms."""
    assert all(1e-5 <= float(value) <= 1e-1 for value in values(str(sweep.loguniform(1e-1, 1e-5, 20))))


def test_frozen() -> None:
    """A form cannot be changed."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        sweep.rand(1).text = "rand(2)"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: sweep.uniform("1e-3", 1, 3), r"sweep\.uniform: low must be a finite number, not '1e-3'"),
        (lambda: sweep.uniform(0, float("inf"), 3), "high must be a finite number, not inf"),
        (lambda: sweep.normal(0, float("nan"), 3), "scale must be a finite number, not nan"),
        (lambda: sweep.normal(True, 1, 3), "loc must be a finite number, not True"),
        (lambda: sweep.uniform(0, 1, 0), "samples must be a positive whole number, not 0"),
        (lambda: sweep.uniform(0, 1, 1.5), "samples must be a positive whole number, not 1.5"),
        (lambda: sweep.uniform(0, 1, True), "samples must be a positive whole number, not True"),
        (lambda: sweep.loguniform(-5, -1, 3), "a must be above 0, not -5; it is the bound"),
        (lambda: sweep.choice([], 1), "empty"),
        (lambda: sweep.choice(["a"], 2), "2 of 1 elements need replace=True"),
        (lambda: sweep.choice("abc", 2), "a, if it is no list"),
        (lambda: sweep.choice(0, 2), "a, if it is no list"),
        (lambda: sweep.choice([(1, 2)], 1), "a tuple"),
        (lambda: sweep.choice([{}], 1), "an element"),
        (lambda: sweep.linspace(0, 1, 0), "num must be a positive whole number"),
        (lambda: sweep.geomspace(0, 1, 3), "start must not be 0"),
        (lambda: sweep.arange(0, 1, 0), "step must not be 0"),
        (lambda: sweep.arange(1, step=2), "needs a stop"),
        (lambda: sweep.switch("no-x"), "with its dashes"),
        (lambda: sweep.switch("--no x"), "with its dashes"),
        (lambda: sweep.switch(5), "with its dashes"),
    ],
)
def test_wrong_arguments(make: Any, said: str) -> None:
    """What can be seen to be wrong is refused at once, by the parameter's name."""
    with pytest.raises(InvalidArgument, match=said):
        make()


def test_missing_arguments() -> None:
    """A distribution without its count is Python's own error, which names what is missing."""
    with pytest.raises(TypeError, match="samples"):
        sweep.uniform(0, 1)  # type: ignore[call-arg]


@given(
    st.floats(-1e100, 1e100),
    st.floats(-1e100, 1e100),
    st.lists(st.one_of(st.integers(), st.booleans(), st.none(), st.text("ab'\"\\ \n", max_size=4)), min_size=1),
)
def test_any_arguments_are_a_form(low: float, high: float, elements: list[Any]) -> None:
    """Whatever an object accepts of numbers and texts, the grammar reads as that form."""
    assert len(values(str(sweep.uniform(low, high, 2)))) == 2
    assert len(values(str(sweep.linspace(low, high, 2)))) == 2
    (chosen,) = values(str(sweep.choice(elements, 1)))
    assert chosen in [each if isinstance(each, str) else repr(each) for each in elements]
