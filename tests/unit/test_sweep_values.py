"""The values of flags form by form, and the messages for what is wrong: lists, ranges, distributions, plain text."""

from __future__ import annotations

import inspect
from ast import literal_eval

import numpy as np
import pytest

from grid.service.domain.sweeps import SweepError
from grid.service.domain.sweeps._distributions import DISTRIBUTIONS, example
from tests.support.sweeping import grid, refusal, search, values


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
        ("[adam, sgd]", ["adam", "sgd"]),
        ("[adam,]", ["adam"]),
        ("[true, resnet-18, 3, -x]", ["true", "resnet-18", "3", "-x"]),
        ("[ a.b/c , s3://d/e:1+2 ,'f g',[1, 'h'], None ]", ["a.b/c", "s3://d/e:1+2", "f g", "[1, 'h']", "None"]),
        (
            "[12:30:45, 010, 1.10, 1_0, 1__0, 0x1F, 0b12, 1e3, inf, -inf, 1j, +5, --5, 1-2, 0777.5]",
            [
                "12:30:45",
                "010",
                "1.1",
                "10",
                "1__0",
                "31",
                "0b12",
                "1000.0",
                "inf",
                "-inf",
                "1j",
                "5",
                "--5",
                "1-2",
                "777.5",
            ],
        ),
        ("[True, true, Nones, -True, 1.2.3, .5, ., é]", ["True", "true", "Nones", "-True", "1.2.3", "0.5", ".", "é"]),
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
        "[INFO]",
        "[ a-z ]",
        "[1-2]",
        "[-True]",
        "[1j]",
        "[010]",
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
    """What has none of the forms reaches the script as it was typed."""
    assert values(text) == [text]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2", "not closed with ]"),
        ("[", "not closed with ]"),
        ("['a", "not closed with ]"),
        ("[a, b", "not closed with ]"),
        ("[1, 2)", "not closed with ]"),
        ("[]", "one empty list is [[]]. For example: --x '[[]]'"),
        ("[1e999]", "1e999 is larger than a number of Python can be, and would become inf"),
        ("[a, -1e999]", "For example: --x \"[a, '-1e999']\""),
        ("[1, 2e-400]", "2e-400 is closer to 0 than a number of Python can be, and would become 0.0"),
        ("uniform(0.00e-5, 1e-999, 3)", "would become 0.0"),
        ("linspace(0, 1e400, 3)", "would become inf"),
        ("[adam sgd]", "check the commas"),
        ("[adam sgd, lion]", "For example: --x \"['adam sgd', lion]\""),
        ("[@a, b]", "For example: --x \"['@a', b]\""),
        ("[a,,b]", "check the commas"),
        ("[[a, b], [c, d]]", "a is a word without quotes"),
        ("[a, [b]]", "b is a word without quotes"),
        ("choice([a], 1)", "a is a word without quotes"),
        ("choice(a, 1)", "a is a word without quotes"),
        ("[1 2]", "commas"),
        ("[,]", "commas"),
        ("[1, 2]]", "commas"),
        ("[1], [2]", "more than one list"),
        ("['a' 'b']", "a comma is missing"),
        ("['a]", "a quote is not closed"),
        ("[1, 2] + [3]", '"+" is not allowed'),
        ("[10**12]", '"*" is not allowed'),
        ("[{1: 2}]", '"{" is not allowed'),
        ("[b'a']", "numbers, strings in quotes"),
        ("[x for x in y]", "numbers, strings in quotes"),
        ("[range(3)]", "numbers, strings in quotes"),
        ("[-'a']", "numbers, strings in quotes"),
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
        ("range(0, 10**12)", '"*" is not allowed'),
        ("range(stop=3)", "in order, not by name"),
        ("range(*[3])", '"*" is not allowed'),
        ("range(3", "not closed with )"),
        ("range(3)(4)", "more than one call"),
        ("normal(0, 1)", "'normal(0, 1, 10)'"),
        ("uniform(1e-3)", "uniform(low, high, samples) takes 3 arguments"),
        ("uniform(0, 1, 3, 4)", "but has 4"),
        ("rand()", "'rand(10)'"),
        ("exponential(2.0,)", "'exponential(2.0, 10)'"),
        ("randint(10, 5)", "'randint(1, 100, 10)'"),
        ("uniform(0, 1, 0)", "positive whole number, not 0"),
        ("uniform(0, 1, -3)", "positive whole number, not -3"),
        ("uniform(0, 1, 2.0)", "positive whole number, not 2.0"),
        ("uniform(0, 1, True)", "positive whole number, not True"),
        ("uniform(0, 1, size=3)", "in order, not by name"),
        ("uniform(a, 1, 3)", "a is a word without quotes"),
        ("uniform('0', 1, 3)", "not '0'"),
        ("uniform([0], 1, 3)", "not [0]"),
        ("uniform(None, 1, 3)", "not None"),
        ("uniform(False, 1, 3)", "not False"),
        ("uniform(0, 1e999, 3)", "1e999 is larger than a number of Python can be, and would become inf"),
        ("uniform(-1e308, 1e308, 3)", "high - low must be a finite number"),
        ("normal(0, -1, 3)", "scale must be 0 or more, not -1"),
        ("binomial(1.5, 0.5, 3)", "n must be a whole number"),
        ("randint(5, 5, 3)", "low must be below high"),
        ("random_integers(5, 4, 3)", "low must not be above high"),
        ("triangular(0, 2, 1, 3)", "mode must not be above right"),
        ("hypergeometric(1, 1, 3, 3)", "nsample must not be above"),
        ("choice([], 3)", "the list is empty, so there is nothing to choose from"),
        ("choice((1, 2), 1)", "choice takes a list, or a whole number, and the number of samples, not (1, 2)"),
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


@pytest.mark.parametrize("text", ["f(x)", "[1, 2", "[a][b]", "power(dBm)"])
def test_the_message_tells_how_to_pass_text(text: str) -> None:
    """A text that looks like a form can be passed all the same, as the message says."""
    assert f"""--x "['{text}']\"""" in refusal(text)
    assert values(f"['{text}']") == [text]


def test_an_error_shows_on_any_terminal() -> None:
    """A message is one line of reasonable length without control characters, whatever the value holds."""
    with pytest.raises(SweepError) as caught:
        grid(f"--x '[\x1b[31m\n{'a' * 10_000}]'")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_every_distribution_draws(name: str) -> None:
    """Each example draws as many numbers as it says, printed as Python prints its own numbers."""
    drawn = values(example(name))
    assert len(drawn) == (2 if name == "choice" else 10)
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
    assert {name for name in DISTRIBUTIONS if not hasattr(np.random, name)} == {"loguniform"}


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
        "choice(9223372036854775807, 3, replace=True)",
        "choice(100, 100)",
        "loguniform(5e-324, 1.7976931348623157e308, 100)",
        "loguniform(1.7976931348623157e308, 1.7976931348623157e308, 3)",
        "standard_gamma(-0.0, 3)",
    ],
)
def test_extreme_arguments_draw(text: str) -> None:
    """What passes the checks is drawn quickly, even at the extremes."""
    assert len(values(text)) in (3, 100)


@pytest.mark.parametrize("text", ["zipf(1.0000001, 3)", "zipf(1e5, 3)", "vonmises(0, 1e17, 3)"])
def test_arguments_that_would_draw_forever(text: str) -> None:
    """Arguments with which NumPy would never finish are refused before it is called."""
    refusal(text)


def test_choice_takes_each_element_once() -> None:
    """Without `replace=True` no element is taken twice, and all of them are an order of the list."""
    for seed in range(20):
        drawn = values("choice([1, 2.5, 'a', None, [1, 2], adam], 4)", seed)
        assert len(set(drawn)) == 4
        assert set(drawn) < {"1", "2.5", "a", "None", "[1, 2]", "adam"}
        assert sorted(values("choice(30, 30)", seed), key=int) == [str(number) for number in range(30)]
    assert values("choice(30, 30)") == values("choice(30, 30, replace=False)") != values("choice(30, 30)", seed=2)
    assert values("choice(30, 30)")[:5] == values("choice(30, 5)")


def test_choice_is_even() -> None:
    """Over many seeds each element is in each place about as often as any other."""
    drawn = [values("choice([a, b, c, d], 2)", seed) for seed in range(400)]
    for place in (0, 1):
        assert all(70 <= [each[place] for each in drawn].count(element) <= 130 for element in "abcd")


def test_choice_with_replacement() -> None:
    """With `replace=True` elements repeat, and stay what they are in the list: an array would make strings of them."""
    drawn = values("choice([1, 2.5, 'a', None, [1, 2]], 200, replace=True)")
    assert len(drawn) == 200
    assert set(drawn) == {"1", "2.5", "a", "None", "[1, 2]"}
    assert len(values("choice(3, 50, replace=True)")) == 50


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("choice([a, b], 3)", "3 are more than the 2 that there are; replace=True lets it take one several times"),
        ("choice([a, b], 3)", "For example: --x 'choice([a, b], 3, replace=True)'"),
        ("choice(10, 11)", "For example: --x 'choice(10, 11, replace=True)'"),
        ("choice(10, 1_100, replace=False, )", "For example: --x 'choice(10, 1_100, replace=True)'"),
        ("choice([a, b])", "For example: --x 'choice([a, b], 1)'"),
        ("choice([a, b], replace=True)", "takes 2 arguments, the last of them the number of samples, but has 1"),
        ("choice([a, b], 1, replace=1)", "replace must be True or False, not 1"),
        ("choice([a, b], 1, p=[1, 0])", "not by name but for replace=True"),
        ("choice([a, b], 1, **{})", "is not allowed"),
        ("choice([a, b], 1, replace=True, replace=False)", "replace is there twice"),
        ("choice([a, b], 1, True)", "has 3"),
        ("uniform(0, 1, 3, replace=True)", "in order, not by name"),
        ("loguniform(1e-5, 1e-1)", "For example: --x 'loguniform(1e-5, 1e-1, 10)'"),
        ("loguniform(0, 1, 3)", "a must be above 0, not 0"),
        ("loguniform(1, -1, 3)", "b must be above 0, not -1"),
    ],
)
def test_wrong_choices_and_log_distributions(text: str, said: str) -> None:
    """Each is refused with what to write."""
    assert said in refusal(text)


def test_loguniform() -> None:
    """It is e to the power of NumPy's uniform draw between the logarithms, to 15 digits, the bounds in any order."""
    for text, bounds in (("loguniform(1e-5, 1e-1, 500)", (1e-5, 1e-1)), ("loguniform(0.1, 1e-05, 500)", (1e-1, 1e-5))):
        drawn = values(text)
        low, high = (float(np.log(bound)) for bound in bounds)
        uniform = [float(each) for each in values(f"uniform({low!r}, {high!r}, 500)")]
        expected = [float(f"{float(np.exp(each)):.15g}") for each in uniform]
        assert [float(each) for each in drawn] == pytest.approx(expected, rel=2e-15)
        assert all(each == repr(float(f"{float(each):.15g}")) for each in drawn)
        assert all(1e-5 <= float(each) <= 1e-1 for each in drawn)
        assert 200 < sum(float(each) < 1e-3 for each in drawn) < 300
    assert values("loguniform(1e-5, 1e-1, 3)") == ["0.0255191841312694", "0.00738223752912517", "0.0123405220595339"]


def test_random_integers_includes_its_upper_bound() -> None:
    """`random_integers` draws from both bounds, `randint` never the upper one."""
    assert set(values("random_integers(1, 2, 50)")) == {"1", "2"}
    assert set(values("randint(1, 2, 50)")) == {"1"}


def test_flags_draw_apart() -> None:
    """Flags with the same distribution get different draws, and keep them when other flags come, go or move."""

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
