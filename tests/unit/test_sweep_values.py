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
        ("[]", "empty"),
        ("[1 2]", "commas"),
        ("[,]", "commas"),
        ("[1, 2]]", "commas"),
        ("[1], [2]", "more than one list"),
        ("['a' 'b']", "a comma is missing"),
        ("['a]", "a quote is not closed"),
        ("[1, 2] + [3]", '"+" is not allowed'),
        ("[10**12]", '"*" is not allowed'),
        ("[1-2]", '"-" is not allowed'),
        ("[1j]", "is not allowed"),
        ("[{1: 2}]", '"{" is not allowed'),
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
        ("range(0, 10**12)", '"*" is not allowed'),
        ("range(stop=3)", "in order, not by name"),
        ("range(*[3])", '"*" is not allowed'),
        ("range(3", "not closed with )"),
        ("range(3)(4)", "more than one call"),
        ("normal(0, 1)", '"normal(0, 1, 10)"'),
        ("uniform(1e-3)", "uniform(low, high, samples) takes 3 arguments"),
        ("uniform(0, 1, 3, 4)", "but has 4"),
        ("rand()", '"rand(10)"'),
        ("exponential(2.0,)", '"exponential(2.0, 10)"'),
        ("randint(10, 5)", '"randint(1, 100, 10)"'),
        ("uniform(0, 1, 0)", "positive whole number, not 0"),
        ("uniform(0, 1, -3)", "positive whole number, not -3"),
        ("uniform(0, 1, 2.0)", "positive whole number, not 2.0"),
        ("uniform(0, 1, True)", "positive whole number, not True"),
        ("uniform(0, 1, size=3)", "in order, not by name"),
        ("uniform(a, 1, 3)", "a is a bare word"),
        ("uniform('0', 1, 3)", "not '0'"),
        ("uniform([0], 1, 3)", "not [0]"),
        ("uniform(None, 1, 3)", "not None"),
        ("uniform(False, 1, 3)", "not False"),
        ("uniform(0, 1e999, 3)", "must be a finite number, not inf"),
        ("uniform(-1e308, 1e308, 3)", "high - low must be a finite number"),
        ("normal(0, -1, 3)", "scale must be 0 or more, not -1"),
        ("binomial(1.5, 0.5, 3)", "n must be a whole number"),
        ("randint(5, 5, 3)", "low must be below high"),
        ("random_integers(5, 4, 3)", "low must not be above high"),
        ("triangular(0, 2, 1, 3)", "mode must not be above right"),
        ("hypergeometric(1, 1, 3, 3)", "nsample must not be above"),
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
    """What passes the checks is drawn quickly, even at the extremes."""
    assert len(values(text)) in (3, 100)


@pytest.mark.parametrize("text", ["zipf(1.0000001, 3)", "zipf(1e5, 3)", "vonmises(0, 1e17, 3)"])
def test_arguments_that_would_draw_forever(text: str) -> None:
    """Arguments with which NumPy would never finish are refused before it is called."""
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
