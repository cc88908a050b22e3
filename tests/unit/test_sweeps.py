"""Whole sweeps: flags, strategies, trials and limits. Single values are in `test_sweep_values.py`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from grid.service.domain.sweeps import SweepError, count, expand
from tests.support.sweeping import grid, search, values

WALK_THROUGH = '--max_epochs "[10, 20]" --learning_rate "uniform(1e-3, 1e-5, 1)"'


def test_walk_through() -> None:
    """The document's sweep has two experiments with one draw between its reversed bounds."""
    first, second = grid(WALK_THROUGH).trials
    rate = first.parameters["learning_rate"]
    assert 1e-5 < float(rate) < 1e-3
    assert rate == repr(float(rate))
    assert first.arguments == ("--max_epochs", "10", "--learning_rate", rate)
    assert second.arguments == ("--max_epochs", "20", "--learning_rate", rate)
    assert list(second.parameters.items()) == [("max_epochs", "20"), ("learning_rate", rate)]


def test_draws_never_change() -> None:
    """The streams and the choice stay what they are, whatever the versions of Python and NumPy."""
    assert values("uniform(1e-3, 1e-5, 1)") == ["0.00015680047058155388"]
    assert values("randint(0, 1000, 4)", seed=-7) == ["709", "772", "654", "93"]
    assert [trial.arguments[1] for trial in search("--a 'range(10)'", 6).trials] == ["5", "2", "9", "0", "4", "8"]


def test_flags_and_positionals() -> None:
    """Words are passed on as they were typed, and `parameters` names each of them."""
    (trial,) = grid("in.csv --lr -1e-3 -n 5 --fast --x=y=z -o= -- out -.5 - -f -inf --flag -- end").trials
    words = "in.csv --lr -1e-3 -n 5 --fast --x=y=z -o= -- out -.5 - -f -inf --flag -- end"
    assert trial.arguments == tuple(words.split())
    assert list(trial.parameters.items()) == [
        ("arg0", "in.csv"),
        ("lr", "-1e-3"),
        ("n", "5"),
        ("fast", "True"),
        ("x", "y=z"),
        ("o", ""),
        ("arg1", "--"),
        ("arg2", "out"),
        ("arg3", "-.5"),
        ("arg4", "-"),
        ("arg5", "-f"),
        ("arg6", "-inf"),
        ("arg7", "--flag"),
        ("arg8", "--"),
        ("arg9", "end"),
    ]


def test_a_quoted_value_with_dashes_is_a_value() -> None:
    """A word with a space in its would-be name is not a flag, so it can be the value of one."""
    (trial,) = grid("--note '--not a flag' --a --b '-c d'").trials
    assert trial.parameters == {"note": "--not a flag", "a": "True", "b": "-c d"}


def test_equals_sign_stays_one_word() -> None:
    """`--name=value` is swept and stays one word."""
    assert [trial.arguments for trial in grid("-n=[1,2] --m='range(1)'").trials] == [
        ("-n=1", "--m=0"),
        ("-n=2", "--m=0"),
    ]
    assert grid("-n=[1,2]").trials[1].parameters == {"n": "2"}


def test_positionals_are_swept() -> None:
    """A positional word that is wholly a form is swept, and is a parameter by its place."""
    trials = grid("data [1,2] --x 1 'range(2)'").trials
    assert [trial.arguments for trial in trials] == [
        ("data", first, "--x", "1", second) for first in "12" for second in "01"
    ]
    assert trials[1].parameters == {"arg0": "data", "arg1": "1", "x": "1", "arg2": "1"}


def test_repeated_flags() -> None:
    """A repeated flag is passed on each time and swept each time; the last one is the parameter."""
    trials = grid("--a [1,2] --b x --a [3,4]").trials
    assert [trial.arguments[1::4] for trial in trials] == [("1", "3"), ("1", "4"), ("2", "3"), ("2", "4")]
    assert [trial.parameters for trial in trials[:2]] == [{"a": "3", "b": "x"}, {"a": "4", "b": "x"}]
    assert [trial.parameters["a"] for trial in grid("--a [1,2] --a 9").trials] == ["9", "9"]


def test_the_last_flag_varies_fastest() -> None:
    """Experiment N is the N-th combination of the product in the order of the flags."""
    trials = grid("--a [1,2] --b '[3]' --c \"['x','y','z']\"").trials
    assert ["".join(trial.parameters.values()) for trial in trials] == ["13x", "13y", "13z", "23x", "23y", "23z"]


def test_no_arguments() -> None:
    """A script without arguments is one experiment."""
    (trial,) = grid("").trials
    assert (trial.arguments, trial.parameters) == ((), {})


def test_trials_are_a_sequence() -> None:
    """Trials are found by index, from the end and by slice, without computing the others."""
    trials = grid("--a 'range(100)' --b 'range(100)'").trials
    assert len(trials) == 10_000
    assert trials[4321].parameters == {"a": "43", "b": "21"}
    assert trials[-1].parameters == {"a": "99", "b": "99"}
    assert list(trials[5:7]) == list(trials)[5:7]
    with pytest.raises(IndexError):
        trials[10_000]
    trials[0].parameters["a"] = "changed"
    assert trials[0].parameters["a"] == "0"


def test_strategy_none_evaluates_nothing() -> None:
    """With `none` there is one experiment, with the arguments as they are, right or wrong."""
    text = "--a [1,2] --b 'uniform(1e-3)' --c=[1, --d"
    expansion = expand(text, strategy="none", num_trials=0, seed=0)
    (trial,) = expansion.trials
    assert trial.arguments == ("--a", "[1,2]", "--b", "uniform(1e-3)", "--c=[1,", "--d")
    assert trial.parameters == {"a": "[1,2]", "b": "uniform(1e-3)", "c": "[1,", "d": "True"}
    assert count(text, strategy="none", num_trials=0) == 1


def test_random_search_takes_some() -> None:
    """A random search takes that many different combinations of the grid, without a warning."""
    text = "--a 'range(30)' --b 'range(30)'"
    expansion = search(text, 200)
    taken = {trial.arguments for trial in expansion.trials}
    assert len(expansion.trials) == len(taken) == count(text, strategy="random_search", num_trials=200) == 200
    assert taken < {trial.arguments for trial in grid(text).trials}
    assert expansion.warnings == ()


def test_random_search_is_even() -> None:
    """Over many seeds each combination comes first about as often as any other."""
    first = [search("--a 'range(4)'", 1, seed).trials[0].arguments[1] for seed in range(400)]
    assert all(70 <= first.count(value) <= 130 for value in "0123")


def test_more_trials_begin_with_fewer() -> None:
    """A smaller `num_trials` takes the first of those that a larger one takes."""
    few, many = search("--a 'range(1000)'", 10).trials, search("--a 'range(1000)'", 20).trials
    assert list(few) == list(many)[:10]


def test_random_search_takes_all_where_there_are_fewer() -> None:
    """More trials than combinations take each once, with a warning; exactly as many, without."""
    expansion = search("--a [1,2] --b [3,4]", 10**12)
    assert sorted(trial.arguments[1::2] for trial in expansion.trials) == [
        ("1", "3"),
        ("1", "4"),
        ("2", "3"),
        ("2", "4"),
    ]
    assert len(expansion.warnings) == 1
    assert "4 combinations" in expansion.warnings[0]
    assert search("--a [1,2] --b [3,4]", 4).warnings == ()


def test_random_search_of_a_huge_product() -> None:
    """A few of more combinations than fit into memory are taken, from ranges longer than a machine word can count."""
    huge = "--a 'range(1000000000000000)' --b 'range(-5, 1000000000000000000000000000000, 7)'"
    trials = search(huge, 50).trials
    assert len(set(map(str, trials))) == 50
    for trial in trials:
        assert int(trial.parameters["a"]) in range(10**15)
        assert int(trial.parameters["b"]) in range(-5, 10**30, 7)


def test_random_search_needs_trials() -> None:
    """A random search without a number of trials is refused, and says what it takes."""
    for num_trials in (0, -5):
        with pytest.raises(SweepError, match=r"num_trials of 1 or more, not .*num_trials=10") as caught:
            search("--a [1,2]", num_trials)
        assert caught.value.flag == ""


def test_unknown_strategy() -> None:
    """An unknown strategy is refused with a list of those that exist."""
    with pytest.raises(SweepError, match="grid_search, random_search, zip, none"):
        expand("", strategy="bayes", num_trials=0, seed=0)


@pytest.mark.parametrize(
    ("script_args", "number", "flag"),
    [
        ("--a 'range(0, 1000000000000)'", "1,000,000,000,000", "--a"),
        ("--a 'uniform(0, 1, 1000000000)'", "1,000,000,000", "--a"),
        ("--a 'range(10001)'", "10,001", "--a"),
        ("--a 'range(101)' --b 'range(100)'", "10,100", ""),
        ("--a [1,2] --b 'uniform(0, 1, 1000000000)'", "2,000,000,000", ""),
        (" ".join(f"--a{index} 'range(1000)'" for index in range(9)), "1,000,000,000,000,000,000,000,000,000", ""),
        (" ".join(f"--a{index} 'range({'9' * 90})'" for index in range(2000)), "more than 10^", ""),
        (f"--a '[{'1,' * 20_000}]'", "20,000", "--a"),
        (f"--a '[{'1,' * 200_000}]'", "200,001", "--a"),
    ],
)
def test_over_the_limit(script_args: str, number: str, flag: str) -> None:
    """A sweep over the limit is refused with the count, before anything is expanded."""
    with pytest.raises(SweepError) as caught:
        grid(script_args)
    assert number in str(caught.value)
    assert caught.value.flag == flag
    with pytest.raises(SweepError):
        count(script_args, strategy="grid_search", num_trials=0, limit=10_000)


def test_the_limit_is_a_parameter() -> None:
    """The limit itself is allowed, and one below it refuses."""
    assert len(expand("--a 'range(5)'", strategy="grid_search", num_trials=0, seed=0, limit=5).trials) == 5
    with pytest.raises(SweepError, match="5 experiments, but may have at most 4"):
        expand("--a 'range(5)'", strategy="grid_search", num_trials=0, seed=0, limit=4)


def test_count_without_a_limit() -> None:
    """Counting alone works for sweeps that are far too large to run."""
    assert count("--a 'range(1000000000000)' --b [1,2]", strategy="grid_search", num_trials=0) == 2 * 10**12
    assert count("--a 'uniform(0, 1, 1000000000)'", strategy="grid_search", num_trials=0) == 10**9
    with pytest.raises(SweepError, match="more than 10"):
        count(" ".join(["--a 'range(1000000)'"] * 50), strategy="grid_search", num_trials=0)


def test_limit_of_a_random_search() -> None:
    """The limit is for the trials taken, and for what must be held to take them."""
    with pytest.raises(SweepError, match="20,000 experiments"):
        search("--a 'range(1000000)'", 20_000)
    with pytest.raises(SweepError, match="1,000,000,000 values") as caught:
        search("--a 'range(3)' --b 'uniform(0, 1, 1000000000)'", 5)
    assert caught.value.flag == "--b"
    with pytest.raises(SweepError, match=r"more than 10\^1"):
        search(" ".join(["--a 'range(1000000)'"] * 50), 5)


def test_long_arguments_in_many_experiments() -> None:
    """Experiments whose arguments would fill the database together are refused."""
    with pytest.raises(SweepError, match="pass its name"):
        grid(f"--a 'range(10000)' --text {'x' * 20_000}")
    assert len(grid(f"--a 'range(10)' --text {'x' * 20_000}").trials) == 10


@pytest.mark.parametrize(
    ("script_args", "said"),
    [
        ("--x 'abc", "quote that is never closed"),
        ('--x "abc', "quote that is never closed"),
        ("--x abc\\", "a backslash at its end"),
        ("--x a\0b", "null character"),
        ("--x \ud800", "surrogate"),
        ("x" * 1_000_001, "1,000,001 characters"),
    ],
)
def test_arguments_that_cannot_be_split(script_args: str, said: str) -> None:
    """Text that is not a command line is refused for every strategy."""
    for strategy in ("grid_search", "none"):
        with pytest.raises(SweepError, match=said) as caught:
            expand(script_args, strategy=strategy, num_trials=0, seed=0)
        assert caught.value.flag == ""
        assert str(caught.value).encode()


def test_numpy_is_imported_by_the_first_draw() -> None:
    """Counting a distribution and expanding a sweep without one leave NumPy alone."""
    program = f"""
import sys
from grid.service.domain.sweeps import count, expand
assert count({WALK_THROUGH!r}, strategy="grid_search", num_trials=0) == 2
assert len(expand("--a [1,2]", strategy="grid_search", num_trials=0, seed=0).trials) == 2
assert "numpy" not in sys.modules
expand({WALK_THROUGH!r}, strategy="grid_search", num_trials=0, seed=0)
assert "numpy" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
