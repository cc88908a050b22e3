"""`params` as the service reads them: values, styles, names, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.service.domain.sweeps import Expansion, SweepError, count, expand
from grid.shared.wire import PARAMS_STYLES


def sweep(params: Any, script_args: str = "", *, style: str = "--k v", **others: Any) -> Expansion:
    """Expand a grid search with `params`, which are text or become JSON."""
    text = params if isinstance(params, str) else json.dumps(params)
    options = {"strategy": "grid_search", "num_trials": 0, **others}
    expansion = expand(script_args, params=text, params_style=style, seed=1, **options)
    assert count(script_args, params=text, params_style=style, **options) == len(expansion.trials)
    return expansion


def words(params: Any, script_args: str = "", *, style: str = "--k v") -> list[tuple[str, ...]]:
    """What the script gets, experiment by experiment."""
    return [trial.arguments for trial in sweep(params, script_args, style=style).trials]


@pytest.mark.parametrize(
    ("value", "flag", "joined", "keyed", "parameter"),
    [
        (None, (), (), (), None),
        (True, ("--a",), ("--a",), ("a=True",), "True"),
        (False, (), (), ("a=False",), "False"),
        (3, ("--a", "3"), ("--a=3",), ("a=3",), "3"),
        (-1.5, ("--a", "-1.5"), ("--a=-1.5",), ("a=-1.5",), "-1.5"),
        (1e-05, ("--a", "1e-05"), ("--a=1e-05",), ("a=1e-05",), "1e-05"),
        ("b c", ("--a", "b c"), ("--a=b c",), ("a=b c",), "b c"),
        ("", ("--a", ""), ("--a=",), ("a=",), ""),
        ({"words": [64, 64]}, ("--a", "64", "64"), ("--a", "64", "64"), None, "64 64"),
        ({"words": ["x", 1.5, True]}, ("--a", "x", "1.5", "True"), ("--a", "x", "1.5", "True"), None, "x 1.5 True"),
    ],
)
def test_values(value: Any, flag: tuple[str, ...], joined: tuple[str, ...], keyed: Any, parameter: str | None) -> None:
    """Each kind of value in each style, alone and as one of a list."""
    expected_parameters = {} if parameter is None else {"a": parameter}
    for style, expected in zip(PARAMS_STYLES, (flag, joined, keyed), strict=True):
        if expected is None:
            with pytest.raises(SweepError, match=r"a tuple is several words.*k=v.*\[\[64, 64\]\]"):
                sweep({"a": value}, style=style)
            continue
        (trial,) = sweep({"a": value}, style=style).trials
        assert (trial.arguments, trial.parameters) == (expected, expected_parameters)
        first, second = sweep({"a": [value, 77]}, style=style).trials
        assert (first.arguments, first.parameters) == (expected, expected_parameters)
        assert second.parameters == {"a": "77"}


def test_numbers_arrive_as_they_are_written() -> None:
    """The digits of a number are those that travelled, whatever Python would make of them."""
    assert words('{"a": [1.10, 1E+400, 010, 0.0007056001691752508]}'.replace("010", "10")) == [
        ("--a", "1.10"),
        ("--a", "1E+400"),
        ("--a", "10"),
        ("--a", "0.0007056001691752508"),
    ]


def test_a_list_is_swept() -> None:
    """A list gives its elements in turn, multiplied out with all others, the last varying fastest."""
    assert words({"lr": [0.1, 0.2], "n": 5, "opt": ["adam", "sgd"]}) == [
        ("--lr", lr, "--n", "5", "--opt", opt) for lr in ("0.1", "0.2") for opt in ("adam", "sgd")
    ]


def test_a_list_in_a_list_is_its_text() -> None:
    """A list in a list is passed on as Python prints it, and so is what is nested in it."""
    assert words({"hidden": [[64, 64], [], ["a'b", None, True, [1.5]]]}) == [
        ("--hidden", "[64, 64]"),
        ("--hidden", "[]"),
        ("--hidden", '["a\'b", None, True, [1.5]]'),
    ]
    assert words({"hidden": [[64, 64]]}, style="k=v") == [("hidden=[64, 64]",)]
    assert sweep({"hidden": [[64, 64]]}).warnings == ()


def test_a_flag_that_is_there_or_not() -> None:
    """A list of booleans sweeps a flag that is there, then is not."""
    there, absent = sweep({"tied": [True, False], "n": 1}).trials
    assert (there.arguments, there.parameters) == (("--tied", "--n", "1"), {"tied": "True", "n": "1"})
    assert (absent.arguments, absent.parameters) == (("--n", "1"), {"tied": "False", "n": "1"})


def test_forms() -> None:
    """An object of `grid.sweep` is read by the grammar, and draws what the same flag draws in `script_args`."""
    assert words({"n": {"sweep": "range(2)"}}) == [("--n", "0"), ("--n", "1")]
    drawn = words({"lr": {"sweep": "uniform(0.1, 1, 2)"}})
    assert drawn == words("", "--lr 'uniform(0.1, 1, 2)'")
    assert words({"lr": {"sweep": "uniform(0.1, 1, 2)"}}, style="--k=v") == [(f"--lr={value}",) for _, value in drawn]


@pytest.mark.parametrize("style", ["--k v", "--k=v"])
def test_switches(style: str) -> None:
    """A switch is a flag that is there or not, or another flag in its place; as a key and value it is an error."""
    there, absent = sweep({"tied": {"sweep": "switch()"}}, style=style).trials
    assert (there.arguments, there.parameters) == (("--tied",), {"tied": "True"})
    assert (absent.arguments, absent.parameters) == ((), {"tied": "False"})
    assert words({"tied": {"sweep": "switch(--no-tied)"}}, style=style) == [("--tied",), ("--no-tied",)]
    with pytest.raises(SweepError, match=r'a switch is a flag.*params_style="k=v".*\[True, False\]'):
        sweep({"tied": {"sweep": "switch()"}}, style="k=v")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("uniform(1e-3)", r"params: --lr uniform\(1e-3\): .*takes 3 arguments.*sweep\.uniform\("),
        ("range(0)", "empty"),
        ("hello", "no form of the grammar"),
        ("", "no form"),
        (5, "a sweep is a text"),
        (None, "a sweep is a text"),
    ],
)
def test_wrong_forms(form: object, said: str) -> None:
    """A wrong form names its argument, and shows how it is written."""
    with pytest.raises(SweepError, match=said) as caught:
        sweep({"lr": {"sweep": form}})
    assert caught.value.flag == "--lr"


def test_params_stand_behind_script_args() -> None:
    """They are appended to `script_args`, before a bare ``--``."""
    assert words({"b": [2, 3]}, "train --a 1 -- --c x") == [
        ("train", "--a", "1", "--b", value, "--", "--c", "x") for value in "23"
    ]
    assert words({"b": 2}, "--a 1") == [("--a", "1", "--b", "2")]
    assert words({"b": 2}) == [("--b", "2")]
    assert words({"b": 2}, "--flag -- --") == [("--flag", "--b", "2", "--", "--")]
    (trial,) = sweep({"b": 2}, "x -- y").trials
    assert trial.parameters == {"arg0": "x", "b": "2", "arg1": "--", "arg2": "y"}


def test_a_list_of_dicts_is_multiplied_with_script_args() -> None:
    """Each dict is one combination; all of them are multiplied with what `script_args` sweeps."""
    rows = [{"lr": 0.1, "n": 1}, {"n": 2, "fast": True}, {}]
    assert words(rows, "--seed [1,2]") == [
        ("--seed", seed, *row) for seed in "12" for row in (("--lr", "0.1", "--n", "1"), ("--n", "2", "--fast"), ())
    ]
    assert [trial.parameters for trial in sweep(rows).trials] == [
        {"lr": "0.1", "n": "1"},
        {"n": "2", "fast": "True"},
        {},
    ]


def test_one_value_for_each_name_in_a_list_of_dicts() -> None:
    """In a list of dicts each name has one value: a list of several is refused, and one list is written inside one."""
    assert words([{"hidden": [[64, 64]]}, {"hidden": {"words": [8, 8]}}]) == [
        ("--hidden", "[64, 64]"),
        ("--hidden", "8", "8"),
    ]
    with pytest.raises(SweepError, match=r"params\[1\]: --lr .* has 2 values.*one combination.*\[\[64, 64\]\]"):
        sweep([{"lr": 1}, {"lr": [1, 2]}])
    first, second = words([{"lr": {"sweep": "uniform(0, 1, 1)"}}] * 2)
    assert first != second


def test_strategies_see_params() -> None:
    """A random search takes from all combinations, those of `params` among them."""
    trials = sweep({"b": [1, 2, 3]}, "--a [1,2]", strategy="random_search", num_trials=4).trials
    assert len({trial.arguments for trial in trials}) == 4


def test_text_is_never_evaluated() -> None:
    """A text is passed on as it is; one that is wholly a form is warned of, once, with what sweeps."""
    for text in ("[1,2]", "uniform(0, 1, 3)", "range(3)", " [1, 2] "):
        for params in ({"a": text}, {"a": [text, "x"]}, [{"a": text}], {"a": {"words": [text]}}):
            expansion = sweep(params)
            assert expansion.trials[0].arguments == ("--a", text)
            (warning,) = expansion.warnings
            assert "--a" in warning
            assert text in warning
            assert "grid.sweep" in warning
    few = sweep({f"a{number}": ["[1,2]", "[3,4]"] for number in range(9)}, strategy="random_search", num_trials=1)
    assert ["--a3 is the text" in warning for warning in few.warnings[3:]] == [True, False]
    assert "5 more names" in few.warnings[4]
    for text in ("abc", "LeakyReLU(0.1)", "uniform(1)", "[a b", "(1)"):
        assert sweep({"a": text}).warnings == ()


@pytest.mark.parametrize(
    ("name", "style", "expected"),
    [
        ("lr", "--k v", ("--lr", "5")),
        ("--lr", "--k v", ("--lr", "5")),
        ("-n", "--k v", ("-n", "5")),
        ("n", "--k=v", ("--n=5",)),
        ("-n", "--k=v", ("-n=5",)),
        ("model.lr-max/x", "--k=v", ("--model.lr-max/x=5",)),
        ("lr", "k=v", ("lr=5",)),
        ("+model.lr@x/y", "k=v", ("+model.lr@x/y=5",)),
    ],
)
def test_names(name: str, style: str, expected: tuple[str, ...]) -> None:
    """A name may have its dashes; the parameter never has them, nor ``+`` and ``~``."""
    (trial,) = sweep({name: 5}, style=style).trials
    assert trial.arguments == expected
    assert trial.parameters == {name.lstrip("-+~"): "5"}


@pytest.mark.parametrize("name", ["", "a b", "a=b", "-", "--", "---a", "a\n", "a\0b", "\ud800"])
@pytest.mark.parametrize("style", PARAMS_STYLES)
def test_wrong_names(name: str, style: str) -> None:
    """What is no name in any style is refused in each."""
    with pytest.raises(SweepError, match="params: .* is not a (name|key)"):
        sweep({name: 5}, style=style)


@pytest.mark.parametrize("name", ["--lr", "1a", "a$"])
def test_wrong_keys(name: str) -> None:
    """A key is what the grammar takes for one in a word without dashes."""
    with pytest.raises(SweepError, match=r'is not a key of letters.*params_style="k=v"'):
        sweep({name: 5}, style="k=v")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("{", "not JSON: .* at character 1.*params="),
        ("nonsense", "not JSON"),
        ("5", "must be an object"),
        ('"text"', "must be an object"),
        ("null", "must be an object"),
        ("[1]", "must be an object"),
        ("[]", "empty list"),
        ('[{"a": 1}, []]', "must be an object"),
        ('{"a": 1, "a": 2}', 'has "a" twice'),
        ('{"a": {"words": [1], "words": [2]}}', 'has "words" twice'),
        ('{"a": 1, "--a": 2}', 'one argument twice, as "a" and "--a"'),
        ('{"a": NaN}', "NaN, which is not JSON"),
        ('{"a": [-Infinity]}', "-Infinity"),
        ('{"a": []}', r"--a: the list is empty.*\[\[\]\]"),
        ('{"a": {"b": 1}}', "a value must be"),
        ('{"a": {"words": 5}}', "a value must be"),
        ('{"a": {"words": [1], "sweep": "range(2)"}}', "a value must be"),
        ('{"a": {"words": [null]}}', "a tuple holds"),
        ('{"a": {"words": [[1]]}}', "a tuple holds"),
        ('{"a": [{"sweep": "range(2)"}]}', "cannot stand in a list"),
        ('{"a": [[{"words": [1]}]]}', "a list in a list holds"),
        ('{"a": "b\\u0000"}', "null character"),
        ('{"a": ["b\\ud800"]}', "surrogate"),
        ('{"a": [["b\\u0000"]]}', "null character"),
        ('{"a": {"words": ["b\\u0000"]}}', "null character"),
        ('{"a": ' + "[" * 25 + "]" * 25 + "}", "more than 20 levels"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"a": "' + "x" * 1_000_000 + '"}', "1,000,009 characters"),
    ],
)
def test_what_is_refused(params: str, said: str) -> None:
    """Whatever is not of the described shape is refused, in words that any terminal can show."""
    for strategy in ("grid_search", "none"):
        if strategy == "none" and "sweep" in params:
            continue
        with pytest.raises(SweepError, match=said) as caught:
            sweep(params, strategy=strategy)
        assert str(caught.value).isprintable()


def test_unknown_style() -> None:
    """An unknown style is refused with those that exist."""
    with pytest.raises(SweepError, match='"-k v", but must be one of "--k v", "--k=v", "k=v"'):
        sweep({"a": 1}, style="-k v")


def test_over_the_limit() -> None:
    """The values of `params` count as all others do, and are named where they are too many."""
    with pytest.raises(SweepError, match=r"20,000 experiments.*--b in params has 10,000"):
        sweep({"b": [*range(9_999), None]}, "--a [1,2]")
    with pytest.raises(SweepError, match="10,001 values"):
        sweep({"b": list(range(10_001))}, strategy="random_search", num_trials=1)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
documents = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3))
)
shaped = st.dictionaries(
    st.one_of(st.sampled_from("abc"), st.text(max_size=3)),
    st.one_of(
        scalars,
        st.lists(st.one_of(scalars, st.lists(scalars, max_size=2)), max_size=3),
        st.builds(lambda values: {"words": values}, st.lists(scalars, max_size=3)),
        st.builds(
            lambda text: {"sweep": text}, st.sampled_from(["range(2)", "uniform(0, 1, 2)", "rand()", "[1]", "x"])
        ),
    ),
    max_size=3,
)


@given(
    st.one_of(documents, shaped, st.lists(shaped, max_size=3)).map(json.dumps) | st.text(),
    st.sampled_from(sorted(PARAMS_STYLES)),
    st.sampled_from(["grid_search", "zip", "random_search", "none"]),
)
@settings(max_examples=300, deadline=None)
def test_any_params_are_expanded_or_refused(params: str, style: str, strategy: str) -> None:
    """Any text is expanded or refused with a `SweepError`, and counted as it is expanded; no argument is impossible."""
    options = {"strategy": strategy, "num_trials": 2, "params": params, "params_style": style, "repeats": 2}
    try:
        number = count("--a 1", **options, limit=50)  # type: ignore[arg-type]
    except SweepError as error:
        assert str(error).isprintable()
        return
    expansion = expand("--a 1", **options, seed=3, limit=50)  # type: ignore[arg-type]
    assert len(expansion.trials) == number
    for trial in expansion.trials:
        for text in (*trial.arguments, *trial.parameters, *trial.parameters.values()):
            assert "\0" not in text
            text.encode()
