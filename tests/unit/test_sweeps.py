"""The sweep grammar form by form, with the messages for what is wrong. Arbitrary text is in `test_sweeps_fuzz.py`."""

from __future__ import annotations

import inspect
import shlex
import subprocess
import sys
from ast import literal_eval

import numpy as np
import pytest

from grid.service.sweeps import Expansion, SweepError, count, expand
from grid.service.sweeps._distributions import DISTRIBUTIONS, example

WALK_THROUGH = '--max_epochs "[10, 20]" --learning_rate "uniform(1e-3, 1e-5, 1)"'


def grid(script_args: str, seed: int = 1) -> Expansion:
    """Expand as a grid search."""
    return expand(script_args, strategy="grid_search", num_trials=0, seed=seed)


def search(script_args: str, num_trials: int, seed: int = 1) -> Expansion:
    """Expand as a random search."""
    return expand(script_args, strategy="random_search", num_trials=num_trials, seed=seed)


def values(text: str, seed: int = 1) -> list[str]:
    """Expand one flag with this value, and return what the script gets."""
    return [trial.arguments[1] for trial in grid(f"--x {shlex.quote(text)}", seed).trials]


def refusal(text: str, flag: str = "--x") -> str:
    """Return the message that refuses this value, by expanding and by counting."""
    script_args = f"{flag} {shlex.quote(text)}"
    with pytest.raises(SweepError) as expanding:
        grid(script_args)
    with pytest.raises(SweepError) as counting:
        count(script_args, strategy="grid_search", num_trials=0, limit=10_000)
    assert str(counting.value) == str(expanding.value)
    assert expanding.value.flag == counting.value.flag == flag
    assert flag in str(expanding.value)
    assert text[:60] in str(expanding.value)
    return str(expanding.value)


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[32, 64, 128]", ["32", "64", "128"]),
        ("['resnet18', 'vit']", ["resnet18", "vit"]),
        ("[True, False, None]", ["True", "False", "None"]),
        ("[-1, +2, 1e-5, .5, 0x10, 1_000, -0.0]", ["-1", "2", "1e-05", "0.5", "16", "1000", "-0.0"]),
        ("[[64, 64], [128, 128]]", ["[64, 64]", "[128, 128]"]),
        ("[(1, 'a'), []]", ["(1, 'a')", "[]"]),
        ("['']", [""]),
        ("[1,]", ["1"]),
        ("  [1,\n 2] ", ["1", "2"]),
        (r"""['C:\data', r'\d', 'a\tb', '\101', "it's"]""", [r"C:\data", r"\d", "a\tb", "A", "it's"]),
        ("['[1, 2']", ["[1, 2"]),
        ("range(3)", ["0", "1", "2"]),
        ("range(1, 10, 2)", ["1", "3", "5", "7", "9"]),
        ("range(3, -2, -2)", ["3", "1", "-1"]),
    ],
)
def test_lists_and_ranges(text: str, expected: list[str]) -> None:
    """Each element in turn, strings without quotes and everything else as Python prints it."""
    assert values(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "32",
        "-1e-3",
        "resnet18",
        "range",
        "uniform",
        "uniform alone",
        "uniform (0, 1, 3)",
        "Uniform(0, 1, 3)",
        "numpy.random.uniform(0, 1, 3)",
        "foo(1, 2)",
        "__import__('os').system('true')",
        "9**9**9**9",
        "(1, 2)",
        "{'a': 1}",
        "'[1, 2]'",
        "[abc",
        "[WIP] first try",
        "[a-z]+",
        "['] is', 1].txt",
        "range(3).txt",
        "f(x) = 2",
        "1, 2",
        " spaces ",
        "λ",
    ],
)
def test_anything_else_is_text(text: str) -> None:
    """What is none of the forms reaches the script as it was typed."""
    assert values(text) == [text]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2", "not closed with ]"),
        ("[", "not closed with ]"),
        ("['a", "not closed with ]"),
        ("[a, b", "not closed with ]"),
        ("[1, 2)", "not closed with ]"),
        ("[]", "empty"),
        ("[1 2]", "commas"),
        ("[,]", "commas"),
        ("[1, 2]]", "commas"),
        ("[1], [2]", "more than one list"),
        ("['a' 'b']", "a comma is missing"),
        ("['a]", "a quote is not closed"),
        ("[1, 2] + [3]", '"+" has no place'),
        ("[10**12]", '"*" has no place'),
        ("[1-2]", '"-" has no place'),
        ("[1j]", "has no place"),
        ("[{1: 2}]", '"{" has no place'),
        ("[b'a']", "numbers, strings in quotes"),
        ("[x for x in y]", "numbers, strings in quotes"),
        ("[range(3)]", "numbers, strings in quotes"),
        ("[-'a']", "numbers, strings in quotes"),
        ("[-True]", "numbers, strings in quotes"),
        ("[a=1]", "commas"),
        ("[" * 30 + "]" * 30, "nested more than 20"),
        ("[" + "9" * 5000 + "]", "a number has 5,000 characters"),
        (r"['a\0']", "null character"),
        (r"[['\ud800']]", "surrogate"),
        ("range(0)", "empty"),
        ("range(5, 1)", "empty"),
        ("range(1, 2, 0)", "cannot be 0"),
        ("range()", "1 to 3 whole numbers"),
        ("range(1, 2, 3, 4)", "1 to 3 whole numbers"),
        ("range(0, 1, 0.1)", "not 0.1"),
        ("range(True)", "not True"),
        ("range('a')", "not 'a'"),
        ("range(0, 10**12)", '"*" has no place'),
        ("range(stop=3)", "in order and not by name"),
        ("range(*[3])", '"*" has no place'),
        ("range(3", "not closed with )"),
        ("range(3)(4)", "more than one call"),
        ("normal(0, 1)", '"normal(0, 1, 10)"'),
        ("uniform(1e-3)", "uniform(low, high, samples) takes 3 arguments"),
        ("uniform(0, 1, 3, 4)", "and has 4"),
        ("rand()", '"rand(10)"'),
        ("exponential(2.0,)", '"exponential(2.0, 10)"'),
        ("randint(10, 5)", '"randint(1, 100, 10)"'),
        ("uniform(0, 1, 0)", "positive whole number, and not 0"),
        ("uniform(0, 1, -3)", "positive whole number, and not -3"),
        ("uniform(0, 1, 2.0)", "positive whole number, and not 2.0"),
        ("uniform(0, 1, True)", "positive whole number, and not True"),
        ("uniform(0, 1, size=3)", "in order and not by name"),
        ("uniform(a, 1, 3)", "a is a bare word"),
        ("uniform('0', 1, 3)", "not '0'"),
        ("uniform([0], 1, 3)", "not [0]"),
        ("uniform(None, 1, 3)", "not None"),
        ("uniform(False, 1, 3)", "not False"),
        ("uniform(0, 1e999, 3)", "a finite number, and not inf"),
        ("uniform(-1e308, 1e308, 3)", "high - low is a finite number"),
        ("normal(0, -1, 3)", "scale is 0 or more, and not -1"),
        ("binomial(1.5, 0.5, 3)", "n is a whole number"),
        ("randint(5, 5, 3)", "low is below high"),
        ("random_integers(5, 4, 3)", "low is not above high"),
        ("triangular(0, 2, 1, 3)", "mode is not above right"),
        ("hypergeometric(1, 1, 3, 3)", "nsample is not above"),
        ("choice([], 3)", "a list, or a whole number of 1 or more"),
        ("choice(0, 3)", "a list, or a whole number of 1 or more"),
        ("choice('abc', 3)", "not 'abc'"),
        (r"choice(['\0'], 3)", "null character"),
        ("f(x", "not closed with )"),
    ],
)
def test_known_but_wrong(text: str, said: str) -> None:
    """A form that is known but wrong is refused with the flag, the value, what is expected and an example."""
    message = refusal(text)
    assert said in message
    assert "For example: --x " in message


@pytest.mark.parametrize(
    ("text", "suggested"),
    [
        ("[resnet18, vit]", """--x "['resnet18', 'vit']\""""),
        ("[true, resnet-18, 3, -x]", """--x "['true', 'resnet-18', 3, '-x']\""""),
        ("[01, 02]", """--x "['01', '02']\""""),
    ],
)
def test_bare_words_in_a_list(text: str, suggested: str) -> None:
    """A list of words without quotes is refused with the list that was meant, quoted for the shell."""
    assert suggested in refusal(text)


@pytest.mark.parametrize("text", ["f(x)", "[1, 2", "[a][b]", "power(dBm)"])
def test_the_message_tells_how_to_pass_text(text: str) -> None:
    """A text that is mistaken for a form can be passed all the same, as the message says."""
    assert f"""--x "['{text}']\"""" in refusal(text)
    assert values(f"['{text}']") == [text]


def test_an_error_shows_on_any_terminal() -> None:
    """A message has one line of a bearable length and no control characters, whatever the value holds."""
    with pytest.raises(SweepError) as caught:
        grid(f"--x '[\x1b[31m\n{'a' * 10_000}]'")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_every_distribution_draws(name: str) -> None:
    """Each example draws as many numbers as it says, printed as Python prints its own numbers."""
    drawn = values(example(name))
    assert len(drawn) == 10
    assert [repr(literal_eval(text)) for text in drawn] == drawn
    assert values(example(name)) == drawn
    assert values(example(name), seed=2) != drawn


def test_every_distribution_of_numpy_is_known() -> None:
    """The names and the order of the parameters are those of NumPy's legacy generator."""
    several = {"dirichlet", "multinomial", "multivariate_normal"}  # draw vectors
    state = np.random.RandomState()
    for name in dir(state):
        head = (inspect.getdoc(getattr(state, name)) or "").partition("\n")[0]
        if name.startswith("_") or "size=None" not in head or name in several or not hasattr(np.random, name):
            continue
        before_size = head.partition("(")[2].partition("size=None")[0]
        parameters = [part.partition("=")[0].strip() for part in before_size.split(",") if part.strip()]
        assert list(DISTRIBUTIONS[name].parameters) == parameters, name
    assert all(hasattr(np.random, name) for name in DISTRIBUTIONS)


@pytest.mark.parametrize(
    "text",
    [
        "zipf(1.001, 100)",
        "zipf(1000, 100)",
        "vonmises(1e300, 1e12, 100)",
        "hypergeometric(1000000, 1000000, 1000000, 3)",
        "poisson(1e18, 3)",
        "logseries(1e-300, 3)",
        "negative_binomial(1e300, 1e-300, 3)",
        "noncentral_f(1e-300, 1e300, 1e300, 3)",
        "randint(-9223372036854775808, 9223372036854775807, 3)",
        "random_integers(-9223372036854775808, 9223372036854775807, 3)",
        "choice(9223372036854775807, 3)",
        "standard_gamma(-0.0, 3)",
    ],
)
def test_extreme_arguments_draw(text: str) -> None:
    """What the checks let through is drawn at once, at the far ends too."""
    assert len(values(text)) in (3, 100)


@pytest.mark.parametrize("text", ["zipf(1.0000001, 3)", "zipf(1e5, 3)", "vonmises(0, 1e17, 3)"])
def test_arguments_that_would_draw_forever(text: str) -> None:
    """Arguments with which NumPy does not come to an end are refused before it is asked."""
    refusal(text)


def test_choice_keeps_the_elements() -> None:
    """Elements of a choice stay what they are in the list: one array would make strings of them all."""
    drawn = values("choice([1, 2.5, 'a', None, [1, 2]], 200)")
    assert set(drawn) == {"1", "2.5", "a", "None", "[1, 2]"}


def test_random_integers_includes_its_upper_bound() -> None:
    """`random_integers` draws from both bounds, `randint` never the upper one."""
    assert set(values("random_integers(1, 2, 50)")) == {"1", "2"}
    assert set(values("randint(1, 2, 50)")) == {"1"}


def test_flags_draw_apart() -> None:
    """Flags with the same distribution get different draws, and keep theirs when others come, go or move."""

    def draws(script_args: str) -> dict[str, str]:
        return grid(script_args).trials[0].parameters

    both = draws("--a 'rand(1)' --b 'rand(1)'")
    assert both["a"] != both["b"]
    assert draws("--b 'rand(1)'")["b"] == both["b"]
    assert draws("--b 'rand(1)' --c 'rand(1)' --a 'rand(1)'").items() > both.items()
    repeated = grid("--a 'rand(1)' --a 'rand(1)'").trials[0].arguments
    assert repeated[1] != repeated[3]


def test_the_seed_decides() -> None:
    """The same seed gives the same draws and choice, another seed others; any whole number is one."""
    text = "--a 'uniform(0, 1, 50)' --b 'range(50)'"
    runs = {seed: [trial.arguments for trial in search(text, 20, seed).trials] for seed in (0, 1, -1, 2**70)}
    assert len({str(run) for run in runs.values()}) == 4
    assert search(text, 20, -1) == search(text, 20, -1)


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
        ("f", "-inf"),
        ("flag", "True"),
        ("arg5", "--"),
        ("arg6", "end"),
    ]


def test_a_quoted_value_with_dashes_is_a_value() -> None:
    """A word with a space in its would-be name is no flag, so it can be the value of one."""
    (trial,) = grid("--note '--not a flag' --a --b '-c d'").trials
    assert trial.parameters == {"note": "--not a flag", "a": "True", "b": "-c d"}


def test_equals_sign_stays_one_word() -> None:
    """`--name=value` is swept and stays one word."""
    assert [trial.arguments for trial in grid("-n=[1,2] --m='range(1)'").trials] == [
        ("-n=1", "--m=0"),
        ("-n=2", "--m=0"),
    ]
    assert grid("-n=[1,2]").trials[1].parameters == {"n": "2"}


def test_positionals_are_not_swept() -> None:
    """Only the values of flags are swept: a positional argument is passed on as it is."""
    (trial,) = grid("[1,2] --x 1 'range(3)' '[1,'").trials
    assert trial.arguments == ("[1,2]", "--x", "1", "range(3)", "[1,")


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
    """Trials are found by index, from the end and by slice, without making the others."""
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
    """A random search takes so many different combinations of the grid, and says nothing."""
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
    """A smaller `num_trials` takes the beginning of what a larger one takes."""
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
    """A few of more combinations than could be held are taken, from ranges longer than a machine word counts."""
    huge = "--a 'range(1000000000000000)' --b 'range(-5, 1000000000000000000000000000000, 7)'"
    trials = search(huge, 50).trials
    assert len(set(map(str, trials))) == 50
    for trial in trials:
        assert int(trial.parameters["a"]) in range(10**15)
        assert int(trial.parameters["b"]) in range(-5, 10**30, 7)


def test_random_search_needs_trials() -> None:
    """A random search without a number of trials is refused, and says what it takes."""
    for num_trials in (0, -5):
        with pytest.raises(SweepError, match=r"num_trials of 1 or more, and not .*num_trials=10") as caught:
            search("--a [1,2]", num_trials)
        assert caught.value.flag == ""


def test_unknown_strategy() -> None:
    """A strategy that does not exist is refused with those that do."""
    with pytest.raises(SweepError, match="grid_search, random_search, none"):
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
    """A sweep over the limit is refused with the count, before anything is made of it."""
    with pytest.raises(SweepError) as caught:
        grid(script_args)
    assert number in str(caught.value)
    assert caught.value.flag == flag
    with pytest.raises(SweepError):
        count(script_args, strategy="grid_search", num_trials=0, limit=10_000)


def test_the_limit_is_a_parameter() -> None:
    """The limit itself is allowed, and one below it refuses."""
    assert len(expand("--a 'range(5)'", strategy="grid_search", num_trials=0, seed=0, limit=5).trials) == 5
    with pytest.raises(SweepError, match="5 experiments, and may have 4"):
        expand("--a 'range(5)'", strategy="grid_search", num_trials=0, seed=0, limit=4)


def test_count_without_a_limit() -> None:
    """Counting alone answers for sweeps that nobody could run."""
    assert count("--a 'range(1000000000000)' --b [1,2]", strategy="grid_search", num_trials=0) == 2 * 10**12
    assert count("--a 'uniform(0, 1, 1000000000)'", strategy="grid_search", num_trials=0) == 10**9
    with pytest.raises(SweepError, match="more than 10"):
        count(" ".join(["--a 'range(1000000)'"] * 50), strategy="grid_search", num_trials=0)


def test_limit_of_a_random_search() -> None:
    """The limit is for the trials taken, and for what has to be held to take them."""
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
        ("--x abc\\", "ends with a backslash"),
        ("--x a\0b", "null character"),
        ("--x \ud800", "surrogate"),
        ("x" * 1_000_001, "1,000,001 characters"),
    ],
)
def test_arguments_that_cannot_be_split(script_args: str, said: str) -> None:
    """Text that is no command line is refused for every strategy."""
    for strategy in ("grid_search", "none"):
        with pytest.raises(SweepError, match=said) as caught:
            expand(script_args, strategy=strategy, num_trials=0, seed=0)
        assert caught.value.flag == ""
        assert str(caught.value).encode()


def test_numpy_is_imported_by_the_first_draw() -> None:
    """Counting a distribution and expanding a sweep without one leave NumPy alone."""
    program = f"""
import sys
from grid.service.sweeps import count, expand
assert count({WALK_THROUGH!r}, strategy="grid_search", num_trials=0) == 2
assert len(expand("--a [1,2]", strategy="grid_search", num_trials=0, seed=0).trials) == 2
assert "numpy" not in sys.modules
expand({WALK_THROUGH!r}, strategy="grid_search", num_trials=0, seed=0)
assert "numpy" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
