"""How the values of a sweep are combined: strategies, repeats, names, and what is said of the sweep as a whole."""

from __future__ import annotations

import itertools
import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.service.domain.sweeps import Expansion, SweepError, count, expand
from grid.service.domain.sweeps._parts import Choice, Choices, Texts
from grid.service.domain.sweeps._trials import Trials


def sweep(script_args: str = "", *, strategy: str = "grid_search", num_trials: int = 0, **others: object) -> Expansion:
    """Expand, after holding the count to what comes out."""
    expansion = expand(script_args, strategy=strategy, num_trials=num_trials, seed=1, **others)  # type: ignore[arg-type]
    counted = count(script_args, strategy=strategy, num_trials=num_trials, **others)  # type: ignore[arg-type]
    assert counted == len(expansion.trials)
    return expansion


def lines(expansion: Expansion) -> list[str]:
    """The command line of each experiment."""
    return [shlex.join(trial.arguments) for trial in expansion.trials]


# zip


def test_zip_takes_the_nth_values_together() -> None:
    """The n-th values of all lists go together, in the order of the lists; a single value goes with all."""
    expansion = sweep("--lr [1,2,3] --fixed 7 --batch 'range(10, 40, 10)' --one 'range(5, 6)' --flag", strategy="zip")
    assert lines(expansion) == [
        "--lr 1 --fixed 7 --batch 10 --one 5 --flag",
        "--lr 2 --fixed 7 --batch 20 --one 5 --flag",
        "--lr 3 --fixed 7 --batch 30 --one 5 --flag",
    ]
    assert expansion.trials[2].parameters == {"lr": "3", "fixed": "7", "batch": "30", "one": "5", "flag": "True"}
    assert expansion.warnings == ()


def test_zip_of_draws() -> None:
    """The draws of a distribution are a list as any other, and are those that a grid search draws."""
    zipped = sweep("--a [1,2,3] --b 'uniform(0, 1, 3)'", strategy="zip")
    drawn = [trial.parameters["b"] for trial in sweep("--b 'uniform(0, 1, 3)'").trials]
    assert [tuple(trial.parameters.values()) for trial in zipped.trials] == list(zip("123", drawn, strict=True))


def test_zip_without_a_list() -> None:
    """Where nothing is swept, zip gives one experiment."""
    assert lines(sweep("--a 1 --b [2] x", strategy="zip")) == ["--a 1 --b 2 x"]
    assert lines(sweep("", strategy="zip")) == [""]


def test_zip_of_different_lengths() -> None:
    """Lists of different lengths are an error that names each of them with its length."""
    with pytest.raises(SweepError) as caught:
        sweep("--lr [1,2,3] --n 5 --batch [4,5]", strategy="zip")
    message = str(caught.value)
    assert "--lr '[1,2,3]' has 3" in message
    assert "--batch '[4,5]' has 2" in message
    assert "--n" not in message
    assert "grid_search" in message


def test_zip_with_a_list_of_dicts() -> None:
    """A list of dicts is one of the lists that go together, and is named where its length is another."""
    params = '[{"lr": 0.1, "n": 1}, {"lr": 0.2, "n": 2}]'
    expansion = sweep("--seed [7,8]", strategy="zip", params=params)
    assert lines(expansion) == ["--seed 7 --lr 0.1 --n 1", "--seed 8 --lr 0.2 --n 2"]
    with pytest.raises(SweepError, match=r"--seed '\[7,8,9\]' has 3, params \(lr, n\) has 2"):
        sweep("--seed [7,8,9]", strategy="zip", params=params)


def test_zip_of_long_ranges() -> None:
    """Ranges of any length are counted, and refused over the limit, without being made."""
    huge = "--a 'range(1000000000000000000000)' --b 'range(0, 2000000000000000000000, 2)'"
    assert count(huge, strategy="zip", num_trials=0) == 10**21
    with pytest.raises(SweepError, match="1,000,000,000,000,000,000,000 experiments"):
        expand(huge, strategy="zip", num_trials=0, seed=0)


# none


def test_none_evaluates_nothing() -> None:
    """With `none` the arguments are passed on as they are, once."""
    (trial,) = sweep("--a [1,2] --b 'range(0)'", strategy="none", params='{"c": "[1,2]"}').trials
    assert trial.arguments == ("--a", "[1,2]", "--b", "range(0)", "--c", "[1,2]")


def test_none_can_be_repeated() -> None:
    """With `none` the arguments can be run several times."""
    expansion = sweep("--a [1,2]", strategy="none", repeats=3)
    assert [tuple(trial.parameters.items()) for trial in expansion.trials] == [
        (("a", "[1,2]"), ("repeat", str(repeat))) for repeat in range(3)
    ]
    assert expansion.warnings == ()


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ('{"lr": [1]}', "--lr"),
        ('{"a": 1, "lr": {"sweep": "uniform(0, 1, 1)"}}', "--lr"),
        ('[{"lr": 1}]', "list of 1 combination:"),
        ('[{"lr": 1}, {"lr": 2}]', "list of 2 combinations:"),
    ],
)
def test_none_refuses_what_is_meant_to_be_swept(params: str, named: str) -> None:
    """A list or an object of `grid.sweep` in `params` is an error with `none`."""
    with pytest.raises(SweepError, match="'none' sweeps nothing") as caught:
        sweep("", strategy="none", params=params)
    assert named in str(caught.value)


# repeats


def test_repeats_are_in_a_row() -> None:
    """Each combination is there k times in a row, and `repeat` is the last of the parameters."""
    expansion = sweep("--a [1,2] x", repeats=2)
    assert lines(expansion) == ["--a 1 x", "--a 1 x", "--a 2 x", "--a 2 x"]
    assert [list(trial.parameters.items()) for trial in expansion.trials] == [
        [("a", "1"), ("arg0", "x"), ("repeat", "0")],
        [("a", "1"), ("arg0", "x"), ("repeat", "1")],
        [("a", "2"), ("arg0", "x"), ("repeat", "0")],
        [("a", "2"), ("arg0", "x"), ("repeat", "1")],
    ]
    assert expansion.trials[3] == list(expansion.trials)[3] == expansion.trials[-1] == expansion.trials[2:][1]
    assert expansion.warnings == ()


def test_one_repeat_is_no_repeat() -> None:
    """Without repeats the parameters do not mention them."""
    assert sweep("--a [1,2]", repeats=1).trials[0].parameters == {"a": "1"}


@pytest.mark.parametrize("own", ["--repeat 5", "--repeat", "--repeat=[5]"])
def test_a_repeat_of_the_scripts_own(own: str) -> None:
    """A script that has a `repeat` itself keeps it."""
    expansion = sweep(f"{own} --a 1", repeats=2)
    assert len(expansion.trials) == 2
    assert all(list(trial.parameters) == ["repeat", "a"] for trial in expansion.trials)
    assert {trial.parameters["repeat"] for trial in expansion.trials} <= {"5", "True"}


def test_a_repeat_of_the_scripts_own_in_params() -> None:
    """It is the script's own in `params` as well, even if one combination alone has it."""
    expansion = sweep(params='[{"repeat": 9}, {"a": 1}]', repeats=2)
    assert [trial.parameters for trial in expansion.trials] == [{"repeat": "9"}] * 2 + [{"a": "1"}] * 2


def test_a_search_picks_and_then_repeats() -> None:
    """A random search picks `num_trials` combinations, and repeats each of them."""
    few = [trial.arguments for trial in sweep("--a 'range(100)'", strategy="random_search", num_trials=3).trials]
    repeated = sweep("--a 'range(100)'", strategy="random_search", num_trials=3, repeats=4).trials
    assert [trial.arguments for trial in repeated] == [each for each in few for _ in range(4)]


def test_repeats_count_towards_the_limit() -> None:
    """A sweep is over the limit with its repeats, and the message says so."""
    with pytest.raises(SweepError) as caught:
        expand("--a [1,2,3]", strategy="grid_search", num_trials=0, seed=0, repeats=5, limit=14)
    assert "15 experiments, but may have at most 14: --a '[1,2,3]' has 3" in str(caught.value)
    assert "repeated 5 times" in str(caught.value)
    with pytest.raises(SweepError, match="20,000 experiments.*repeated 20,000 times"):
        sweep("--a 1", repeats=20_000)
    assert count("--a [1,2]", strategy="grid_search", num_trials=0, repeats=10**12) == 2 * 10**12


@pytest.mark.parametrize("repeats", [0, -1])
def test_repeats_are_one_or_more(repeats: int) -> None:
    """Fewer than one repeat is refused."""
    with pytest.raises(SweepError, match=f"repeats must be 1 or more, not {repeats}"):
        sweep("--a 1", repeats=repeats)


# switch


@pytest.mark.parametrize("typed", ["--tied 'switch()'", "--tied='switch()'", "--tied switch()"])
def test_a_switch_is_there_and_then_not(typed: str) -> None:
    """A flag is there, then is not; its parameter is `True`, then `False`, at its place."""
    expansion = sweep(f"--a 1 {typed} --b [3,4]")
    assert lines(expansion) == ["--a 1 --tied --b 3", "--a 1 --tied --b 4", "--a 1 --b 3", "--a 1 --b 4"]
    assert [list(trial.parameters.items()) for trial in expansion.trials[1:3]] == [
        [("a", "1"), ("tied", "True"), ("b", "4")],
        [("a", "1"), ("tied", "False"), ("b", "3")],
    ]
    assert expansion.warnings == ()


def test_a_switch_between_two_flags() -> None:
    """A switch with another flag has that one in its place; the parameter is still the first one's."""
    expansion = sweep("--anneal-lr 'switch(--no-anneal-lr)' x")
    assert lines(expansion) == ["--anneal-lr x", "--no-anneal-lr x"]
    assert [trial.parameters for trial in expansion.trials] == [
        {"anneal-lr": "True", "arg0": "x"},
        {"anneal-lr": "False", "arg0": "x"},
    ]


def test_a_switch_among_others() -> None:
    """A switch is two values for every strategy, and none where nothing is evaluated."""
    assert lines(sweep("--x 'switch()' --n [1,2]", strategy="zip")) == ["--x --n 1", "--n 2"]
    with pytest.raises(SweepError, match=r"--x .*switch\(\).* has 2, --n .*\[1,2,3\].* has 3"):
        sweep("--x 'switch()' --n [1,2,3]", strategy="zip")
    assert lines(sweep("--x 'switch()'", strategy="none")) == ["--x 'switch()'"]
    assert len(sweep("--x 'switch()' --y 'switch()'", strategy="random_search", num_trials=3).trials) == 3
    with pytest.raises(SweepError, match=r"4 experiments, but may have at most 3: --x .*switch\(\).* has 2"):
        expand("--x 'switch()' --y 'switch()'", strategy="grid_search", num_trials=0, seed=0, limit=3)


def test_a_repeated_switch() -> None:
    """A switch of a name that is given again is warned of, and so are experiments that it makes the same."""
    expansion = sweep("--x 'switch()' --x 'switch()'")
    assert lines(expansion) == ["--x --x", "--x", "--x", ""]
    assert len(expansion.warnings) == 2
    assert expansion.warnings[0].startswith("x: given more than once")
    assert "1 of the 4 experiments is the same" in expansion.warnings[1]


# What is said of the sweep as a whole


@pytest.mark.parametrize("strategy", ["grid_search", "zip", "none"])
def test_num_trials_without_random_search(strategy: str) -> None:
    """A number of trials that no random search takes is warned of."""
    (warning,) = sweep("--a [1,2]", strategy=strategy, num_trials=5).warnings
    assert "num_trials=5 has no effect" in warning
    assert strategy in warning
    assert "random_search" in warning
    assert sweep("--a [1,2]", strategy=strategy).warnings == ()


@pytest.mark.parametrize(
    ("script_args", "said"),
    [
        ("--a [1,2,1]", "1 of the 3 experiments is the same as an earlier one: experiment 2 .* experiment 0"),
        ("--a [1,1] --b [3,4]", "2 of the 4 experiments are .* experiment 2 has the arguments of experiment 0"),
        ("--a 'randint(5, 6, 3)'", "2 of the 3 experiments are"),
        ("--a \"['1', 1]\"", "1 of the 2"),
    ],
)
def test_experiments_that_are_the_same(script_args: str, said: str) -> None:
    """Experiments with the same arguments are warned of, in one line that shows how to mean it."""
    (warning,) = sweep(script_args).warnings
    assert re.search(said, warning)
    assert "repeats=" in warning


def test_the_same_in_a_zip() -> None:
    """Together the same, and not only each for itself."""
    assert sweep("--a [1,1,2] --b [1,2,2]", strategy="zip").warnings == ()
    (warning,) = sweep("--a [1,2,1] --b [5,6,5]", strategy="zip").warnings
    assert "1 of the 3" in warning
    assert "experiment 2 has the arguments of experiment 0" in warning


def test_the_same_without_a_flag() -> None:
    """A flag that is not there is the same as one that is left out."""
    (warning,) = sweep("--a", params='{"x": [true, null, false]}').warnings
    assert "1 of the 3" in warning
    assert "experiment 2 has the arguments of experiment 1" in warning


def test_repeats_are_not_the_same() -> None:
    """Repeats are meant; what is the same besides is warned of by the experiments' own numbers."""
    assert sweep("--a [1,2]", repeats=3).warnings == ()
    (warning,) = sweep("--a [1,2,1]", repeats=3).warnings
    assert "1 of the 3 combinations" in warning
    assert "experiment 6 has the arguments of experiment 0" in warning


@given(
    st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), min_size=1, max_size=3),
    st.sampled_from(["grid_search", "zip", "random_search"]),
    st.integers(1, 3),
)
@settings(deadline=None)
def test_the_same_is_what_is_the_same(axes: list[list[int]], strategy: str, repeats: int) -> None:
    """The warning is there exactly if two combinations have the same arguments, and counts them."""
    if strategy == "zip":
        axes = [axis[: min(map(len, axes))] for axis in axes]
    script_args = " ".join(f"--f{place} {str(axis).replace(' ', '')}" for place, axis in enumerate(axes))
    expansion = expand(script_args, strategy=strategy, num_trials=3, seed=0, repeats=repeats)
    every = [trial.arguments for trial in expansion.trials[::repeats]]
    copies = len(every) - len(set(every))
    said = [warning for warning in expansion.warnings if "same as an earlier" in warning]
    assert [warning.split(" of the ")[0] for warning in said] == ([str(copies)] if copies else [])


def test_the_same_in_another_place() -> None:
    """Two flags that are each there or not make the same words in two ways, though neither repeats itself."""
    either = Choices("--x", "", (Choice(("--x",), {"x": "True"}), Choice((), {"x": "False"})))
    for together, expected in ((False, (1, (1, 2))), (True, None)):
        trials = Trials([either, either], range(2 if together else 4), together=together, repeats=1, counted=False)
        assert trials.same() == expected


class Counting:
    """A part that counts how often one of its values is put into words."""

    def __init__(self, *texts: str) -> None:
        self._texts = Texts("a", ("--a",), "", texts)
        self.length = len(texts)
        self.is_even = self._texts.is_even
        self.differs = self._texts.differs
        self.made = 0

    def add(self, digit: int, words: list[str], parameters: dict[str, str]) -> None:
        """Count, and append the words."""
        self.made += 1
        self._texts.add(digit, words, parameters)


@pytest.mark.parametrize(("texts", "made"), [(("1", "2"), 0), (("1", "1"), 200)])
def test_nothing_is_made_where_all_must_differ(texts: tuple[str, ...], made: int) -> None:
    """No trial is made to find out that none is the same, where the values themselves say so; else each is, once."""
    part = Counting(*texts)
    others = Texts("b", ("--b",), "", range(100))
    trials = Trials([part, others], range(200), together=False, repeats=1, counted=False)
    assert (trials.same() is None) == (made == 0)
    assert part.made == made


def test_a_repeated_name_where_one_sweeps() -> None:
    """A repeated name is warned of where one of them sweeps, and only there; the last one is the parameter."""
    expansion = sweep("--a [1,2] --b 1 --b 2 --a 9")
    assert [trial.parameters for trial in expansion.trials] == [{"a": "9", "b": "2"}] * 2
    (warning,) = expansion.warnings
    assert warning.startswith("a: given more than once, and swept")
    assert sweep("--b 1 --b 2").warnings == ()
    (warning,) = sweep("--a 1", params='{"a": [1, 2]}').warnings
    assert warning.startswith("a: given more than once")
    (warning,) = sweep(" ".join(f"--a{n} [[1]] --a{n} [[1]]" for n in range(9)) + " --z [1,2] --z 1").warnings
    assert warning.startswith("z:")


@pytest.mark.parametrize(("name", "what"), [("Script", "name of the script"), ("arg0", "positional"), ("arg12", "pos")])
def test_names_of_our_own(name: str, what: str) -> None:
    """`--Script` and `--arg0` take the place of what Grid calls so, which is warned of."""
    for expansion in (
        sweep(f"--{name} 5"),
        sweep(params=f'{{"{name}": 5}}'),
        sweep(params=f'[{{"{name}": 5}}]'),
        sweep(f"--{name}"),
    ):
        (warning,) = expansion.warnings
        assert name in warning
        assert what in warning
    assert sweep("--script 5 --args 3 --arg 1 word").warnings == ()


def test_one_long_argument() -> None:
    """One argument above 128 KiB is refused with its flag, before a process fails on it; just as long is not."""
    most = 128 * 1024 - 1
    assert len(sweep(f"--text {'x' * most}").trials) == 1
    for script_args, flag in (
        (f"--text {'x' * (most + 1)}", "--text"),
        (f"--text={'x' * most}", "--text"),
        (f"--text {'ä' * 65536}", "--text"),
        (f"--text \"['{'x' * 131072}', 'b']\"", "--text"),
        ("y" * 131072, ""),
    ):
        with pytest.raises(SweepError, match=r"131,\d\d\d bytes, but .* at most 131,071 .*file") as caught:
            sweep(script_args)
        assert caught.value.flag == flag
        assert str(caught.value).startswith(f"{flag}: an argument" if flag else "an argument")
    with pytest.raises(SweepError, match="^--text: an argument"):
        sweep(params=f'[{{"a": 1, "text": "{"x" * (most + 1)}"}}]')
    with pytest.raises(SweepError, match=r"--text=xxx.* 131,078 bytes"):
        sweep(strategy="none", params=f'{{"text": "{"x" * most}"}}', params_style="--k=v")


def test_each_warning_once() -> None:
    """What is to be said several times is said once."""
    expansion = sweep(params='{"a": ["[1,2]", "[1,2]"]}')
    assert len(expansion.warnings) == len(set(expansion.warnings)) == 2


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 3))
def test_the_grid_is_the_product_in_order(sizes: list[int], repeats: int) -> None:
    """Experiment N is the N-th combination of the product, the last varying fastest, each `repeats` times."""
    script_args = " ".join(f"--f{place} 'range({size})'" for place, size in enumerate(sizes))
    product = list(itertools.product(*(map(str, range(size)) for size in sizes)))
    trials = expand(script_args, strategy="grid_search", num_trials=0, seed=0, repeats=repeats).trials
    assert [trial.arguments[1::2] for trial in trials] == [each for each in product for _ in range(repeats)]
