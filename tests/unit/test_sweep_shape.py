"""Tests of the shape of a sweep: what differs between its trials, and what is combined with what."""

from __future__ import annotations

import itertools
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.service.domain.sweeps import Trial, expand, shape


def trials(*parameters: dict[str, str]) -> list[Trial]:
    """Trials with these parameters."""
    return [Trial((), each) for each in parameters]


def told(trials: object) -> tuple[list[tuple[str, int, int]], int]:
    """The shape of trials: names with how many values they have and their axes, and how many are constant."""
    found = shape(trials)  # type: ignore[arg-type]
    return [(each.name, each.count, each.axis) for each in found.swept], found.constant_count


@pytest.mark.parametrize(
    ("arguments", "swept", "constant"),
    [
        ("", [], 0),
        ("--a 1 x", [], 2),
        ("--a '[1, 2]' --flag", [("a", 2, 0)], 1),
        ("--a '[1, 2]' --b x --c 'range(3)'", [("a", 2, 0), ("c", 3, 1)], 1),
        ("--b '[1, 2]' --c '[1, 2]' --a '[1, 2]'", [("b", 2, 0), ("c", 2, 1), ("a", 2, 2)], 0),
        ("--a '[3, 3]' --b '[1, 2]'", [("b", 2, 0)], 1),
        ("--a '[3, 3, 4]'", [("a", 2, 0)], 0),
    ],
)
def test_shape_of_a_grid(arguments: str, swept: list[tuple[str, int, int]], constant: int) -> None:
    """Each name that has different values is an axis of its own, in the order of the command line."""
    assert told(expand(arguments, strategy="grid_search", num_trials=0, seed=1).trials) == (swept, constant)


def test_values_that_go_together_share_an_axis() -> None:
    """As in a zip, or in a list of combinations, also where that is multiplied with something else."""
    zipped = [{"a": str(n), "b": str(n % 2)} for n in range(4)]
    assert told(trials(*zipped)) == ([("a", 4, 0), ("b", 2, 0)], 0)
    times = [{"x": x, **each, "y": y} for x, each, y in itertools.product("pq", zipped, "uvw")]
    assert told(trials(*times)) == ([("x", 2, 0), ("a", 4, 1), ("b", 2, 1), ("y", 3, 2)], 0)


def test_a_list_that_is_a_product_is_one() -> None:
    """What matters is what would run, and not how it was written."""
    every = [{"a": a, "b": b} for b, a in itertools.product("12", "345")]
    assert told(trials(*every)) == ([("a", 3, 0), ("b", 2, 1)], 0)
    assert told(trials(*every[:-1])) == ([("a", 3, 0), ("b", 2, 0)], 0)


def test_what_only_some_have() -> None:
    """That a trial lacks a parameter is a value of its own."""
    assert told(trials({"a": "1"}, {"a": "1", "b": "2"}, {"a": "1"})) == ([("b", 2, 0)], 1)
    assert told(trials({"a": "1"}, {"b": "2"})) == ([("a", 2, 0), ("b", 2, 0)], 0)


def test_any_two_combined_but_not_all() -> None:
    """Three names of which each two are combined are one axis where the third says nothing new."""
    odd = [{"a": str(a), "b": str(b), "c": str(a ^ b)} for a, b in itertools.product((0, 1), repeat=2)]
    assert told(trials(*odd)) == ([("a", 2, 0), ("b", 2, 0), ("c", 2, 0)], 0)


def test_some_combinations_are_one_axis() -> None:
    """A random search has no axes; one that takes everything has."""
    arguments = "--a 'range(4)' --b 'range(4)'"
    some = expand(arguments, strategy="random_search", num_trials=5, seed=1).trials
    assert {axis for _, _, axis in told(some)[0]} == {0}
    all_of_them = expand(arguments, strategy="random_search", num_trials=16, seed=1).trials
    assert told(all_of_them)[0] == [("a", 4, 0), ("b", 4, 1)]


def test_more_names_than_a_call_can_be_deep() -> None:
    """Thousands of parameters that go together are told as well."""
    names = [f"n{number}" for number in range(3_000)]
    swept, constant = told(trials(dict.fromkeys(names, "1"), dict.fromkeys(names, "2")))
    assert (len(swept), constant) == (3_000, 0)
    assert {axis for _, _, axis in swept} == {0}


@given(st.lists(st.lists(st.sampled_from("012"), min_size=3, max_size=3), min_size=1, max_size=12))
def test_axes_multiply_to_what_there_is(rows: list[list[str]]) -> None:
    """Whatever the trials are: the combinations of each axis, multiplied with each other, are the different trials."""
    made = trials(*(dict(zip("abc", row, strict=True)) for row in rows))
    whole = shape(made)
    found = whole.swept
    axes: dict[int, list[str]] = {}
    for each in found:
        axes.setdefault(each.axis, []).append(each.name)
        assert each.count == len({trial.parameters[each.name] for trial in made}) > 1
    assert list(axes) == sorted(axes) == list(range(len(axes)))
    lengths = [len({tuple(trial.parameters[name] for name in names) for trial in made}) for names in axes.values()]
    assert list(whole.axes) == lengths
    assert prod(lengths) == len({tuple(trial.parameters.items()) for trial in made})
