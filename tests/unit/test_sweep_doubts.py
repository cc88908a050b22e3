"""Where values stand, and what is said where they may be meant differently: errors that name a place, and warnings."""

from __future__ import annotations

import shlex

import pytest

from grid.service.domain.sweeps import SweepError, expand
from grid.service.domain.sweeps._names import near
from tests.support.sweeping import grid


def lines(script_args: str) -> list[str]:
    """Return the command line of each experiment."""
    return [" ".join(trial.arguments) for trial in grid(script_args).trials]


def said(script_args: str) -> str:
    """Return the one warning."""
    (line,) = grid(script_args).warnings
    assert line.isprintable()
    return line


def refused(script_args: str) -> SweepError:
    """Return the error."""
    with pytest.raises(SweepError) as caught:
        grid(script_args)
    assert str(caught.value).isprintable()
    return caught.value


# Where values stand


@pytest.mark.parametrize(
    ("script_args", "expected", "parameters"),
    [
        ("lr='range(2)'", ["lr=0", "lr=1"], {"lr": "1"}),
        ("+model.opt='range(2)'", ["+model.opt=0", "+model.opt=1"], {"model.opt": "1"}),
        ("++a/b@c-d.e='range(2)'", ["++a/b@c-d.e=0", "++a/b@c-d.e=1"], {"a/b@c-d.e": "1"}),
        ("~x='range(2)'", ["~x=0", "~x=1"], {"x": "1"}),
        ("_x=0.1", ["_x=0.1"], {"_x": "0.1"}),
        ("x=", ["x="], {"x": ""}),
        ("x=y=z", ["x=y=z"], {"x": "y=z"}),
        ("1x=0.1 http://a/b=c =d", ["1x=0.1 http://a/b=c =d"],
         {"arg0": "1x=0.1", "arg1": "http://a/b=c", "arg2": "=d"}),
        ("1x='range(2)'", ["1x=range(2)"], {"arg0": "1x=range(2)"}),
        ("in.csv 'range(2)'", ["in.csv 0", "in.csv 1"], {"arg0": "in.csv", "arg1": "1"}),
        ("--a 'range(2)' 'range(1)'", ["--a 0 0", "--a 1 0"], {"a": "1", "arg0": "0"}),
        ("--verbose lr='range(2)'", ["--verbose lr=0", "--verbose lr=1"], {"verbose": "True", "lr": "1"}),
        ("-m lr='range(2)' -x lr=3", ["-m lr=0 -x lr=3", "-m lr=1 -x lr=3"], {"m": "True", "lr": "1", "x": "lr=3"}),
        ("--define lr=0.1", ["--define lr=0.1"], {"define": "lr=0.1"}),
        ("-m 1x='range(2)'", ["-m 1x=range(2)"], {"m": "1x=range(2)"}),
        ("--a 'range(2)' -- 'range(2)' --b [1,2] c=[1,2]", ["--a 0 -- range(2) --b [1,2] c=[1,2]",
          "--a 1 -- range(2) --b [1,2] c=[1,2]"],
         {"a": "1", "arg0": "--", "arg1": "range(2)", "arg2": "--b", "arg3": "[1,2]", "arg4": "c=[1,2]"}),
        ("-- 'uniform(' ['' '' --", ["-- uniform( [  --"],
         {"arg0": "--", "arg1": "uniform(", "arg2": "[", "arg3": "", "arg4": "--"}),
        ("--x -5 -y -1e-3 --z -inf", ["--x -5 -y -1e-3 --z -inf"], {"x": "-5", "y": "-1e-3", "z": "-inf"}),
    ],
)  # fmt: skip
def test_where_values_stand(script_args: str, expected: list[str], parameters: dict[str, str]) -> None:
    """Behind flags, after a key, and as words of their own; after `--` nothing is looked at. The words stay."""
    assert lines(script_args) == expected
    assert grid(script_args).trials[-1].parameters == parameters
    assert grid(script_args).warnings == ()


def test_the_words_stay_with_none() -> None:
    """The strategy `none` evaluates no value, and says nothing of values, but of words."""
    text = "--a [1,2] b=[1,2] [1,2] -m c=[INFO] --d 'switch()' {1,2} -- --e"
    expansion = expand(text, strategy="none", num_trials=0, seed=0)
    (trial,) = expansion.trials
    assert trial.arguments == tuple(shlex.split(text))
    assert expansion.warnings == ()
    assert (
        expand("--a $HOME [1]", strategy="none", num_trials=0, seed=0).warnings[0].startswith("script_args: $HOME is")
    )


def test_draws_of_other_words() -> None:
    """Keys and positional words have draws of their own, which stay when others come."""
    drawn = grid("lr='rand(1)' +lr='rand(1)' 'rand(1)' 'rand(1)'").trials[0].arguments
    assert len({word.rpartition("=")[2] for word in drawn}) == 4
    assert grid("--x 1 lr='rand(1)'").trials[0].arguments[2] == drawn[0]


# Errors


@pytest.mark.parametrize(
    ("script_args", "message", "flag"),
    [
        ("--lr [1e-3, 3e-3]", ("--lr '[1e-3,': the list is not closed with ]; a space outside of quotes "
          "separates words. For example: --lr '[1e-3, 3e-3]'"), "--lr"),
        ("--lr=[1e-3, 3e-3]", "For example: --lr='[1e-3, 3e-3]'", "--lr"),
        ("lr=[1e-3, 3e-3] --x", "For example: 'lr=[1e-3, 3e-3]'", "lr"),
        ("[1e-3, [3e-3, 4], 5] b]", "For example: '[1e-3, [3e-3, 4], 5]'", ""),
        ("--lr [1, 2 --x 3]", "For example: --lr '[32, 64, 128]'", "--lr"),
        ("--lr [1,", "--lr '[1,': the list is not closed with ]. For example: --lr '[32, 64, 128]'", "--lr"),
        ("--lr uniform(0, 1, 3)", ("--lr 'uniform(0,': uniform is not closed with ); a space outside of quotes "
          "separates words. For example: --lr 'uniform(0, 1, 3)'"), "--lr"),
        ("--lr uniform(0, 1)", "For example: --lr 'uniform(0, 1, 10)'", "--lr"),
        ("lr=unifrom(0, 1, 3)", ("unifrom is no form of the grammar; the nearest is uniform; a space outside of "
          "quotes separates words. For example: 'lr=uniform(0, 1, 3)'"), "lr"),
        ("lr=[]", ("'lr=[]': the list is empty, so there would be no experiments; one empty list is [[]]. For "
          "example: 'lr=[[]]'"), "lr"),
        ("'range(0)'", "'range(0)': the range is empty", ""),
        ("--x='normal(0, 1)'", "--x='normal(0, 1)': normal(loc, scale, samples) takes", "--x"),
        ("-m lr='uniform(1e-3)'", "'lr=uniform(1e-3)': uniform(low, high, samples) takes 3 arguments", "lr"),
        ("lr='switch()'", "'lr=switch()': a switch is a flag that is there or not, so it stands behind a flag", "lr"),
        ("'switch(--no-x)'", "For example: '[True, False]'", ""),
        ("x='switch(no-x)'", "stands behind a flag; to sweep over a value that is on or off, write a list", "x"),
        ("'switch('", "For example: '[True, False]'", ""),
        ("--x 'switch(no-x)'", "switch takes nothing, or the one flag that stands in its place", "--x"),
        ("--x 'switch(--a --b)'", "For example: --x 'switch(--no-x)'", "--x"),
        ("--x 'switch(--a=1)'", "For example: --x 'switch(--no-x)'", "--x"),
        ("--x 'switch(-1)'", "For example: --x 'switch(--no-x)'", "--x"),
        ("--x 'switch(--a'", "switch is not closed with )", "--x"),
        ("--x 'switch(--a))'", "switch takes nothing, or the one flag", "--x"),
        ("--x 'switch()()'", "switch takes nothing, or the one flag", "--x"),
    ],
)  # fmt: skip
def test_errors_say_where_and_what_to_write(script_args: str, message: str, flag: str) -> None:
    """The value is quoted with its flag or key, as it is typed, and so is what to write."""
    error = refused(script_args)
    assert message in str(error)
    assert error.flag == flag


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("log_uniform", ["loguniform"]),
        ("np.random.uniform", ["uniform"]),
        ("numpy.random.standard_normal", ["standard_normal"]),
        ("numpy.linspace", ["linspace"]),
        ("np.arange", ["arange"]),
        ("np.random.f", ["f"]),
        ("unifrom", ["uniform"]),
        ("Uniform", ["uniform"]),
        ("quniform", ["uniform"]),
        ("tune.loguniform", ["loguniform"]),
        ("rand_int", ["randint"]),
        ("random.choice", ["choice"]),
        ("choices", ["choice"]),
        ("log_normal", ["lognormal"]),
        ("Beta", ["beta"]),
        ("logspce", ["logspace"]),
        ("swtich", ["switch"]),
        ("LeakyReLU", []),
        ("Adam", []),
        ("Linear", []),
        ("Dropout", []),
        ("F", []),
        ("g", []),
        ("nn.f", []),
        ("list", []),
        ("torch.device", []),
        ("x" * 100_000, []),
    ],
)
def test_near_names(name: str, nearest: list[str]) -> None:
    """A call of a name that is nearly a known one is refused with it; one of another name is text, with a warning."""
    assert near(name)[:1] == nearest
    for text in (f"{name}(1e-5, 1e-1, 3)", f"{name}([1, 2], 1)", f"{name}()"):
        if nearest:
            message = str(refused(f"--lr '{text}'"))
            assert f"{name} is no form of the grammar; the nearest is" in message
            assert f"For example: --lr '{nearest[0]}(" in message
            assert len(text) > 40 or f"--lr \"['{text}']\")" in message
        else:
            assert "is no form of the grammar" in said(f"--lr '{text}'")


def test_the_nearest_name_with_the_arguments_given() -> None:
    """What to write has the arguments as they were written, where they fit."""
    assert "For example: --lr 'loguniform(1e-5, 1e-1, 3)'" in str(refused("--lr 'log_uniform(1e-5, 1e-1, 3)'"))
    assert "For example: --lr 'loguniform(1e-5, 1e-1, 10)'" in str(refused("--lr 'log_uniform(1e-5, 1e-1)'"))
    assert near("lnspace") == ["linspace", "logspace"]
    assert "the nearest is linspace or logspace" in str(refused("--lr 'lnspace(1, 2, 3)'"))


# Warnings


@pytest.mark.parametrize(
    ("script_args", "expected"),
    [
        ("--x 'LeakyReLU(0.1)'", ("--x 'LeakyReLU(0.1)' is passed on as it is: LeakyReLU is no form of the "
          "grammar; without this warning, --x \"['LeakyReLU(0.1)']\"")),
        ("--x 'nn.GELU()'", "nn.GELU is no form of the grammar"),
        ("act='LeakyReLU(0.1)'", "'act=LeakyReLU(0.1)' is passed on as it is"),
        ("'LeakyReLU(0.1)'", "'LeakyReLU(0.1)' is passed on as it is"),
        ("--x 'uniform (0, 1, 3)'", ("a space before the parenthesis makes it a text; to sweep, write --x "
          "'uniform(0, 1, 3)'; without this warning")),
        ("--x 'uniform (0, 1)'", "a space before the parenthesis makes it a text; without this warning"),
        ("--x 1,2]", "commas alone make no list; without this warning, --x \"['1,2]']\""),
        ("--x=GELU(0, 1)", "a space outside of quotes separates words; as one it is --x=\"['GELU(0, 1)']\""),
        ("--x {0.1,0.2}", ("--x '{0.1,0.2}' is passed on as it is: braces are no form of the grammar; a list is "
          "written in brackets; without this warning, --x \"['{0.1,0.2}']\"")),
        ("--x '{\"a\": 1}'", "--x '{\"a\": 1}' is passed on as it is: braces are no form"),
        ("--x model_{a,b}.pt", "braces are no form"),
        ("--x {1..5}", "braces are no form"),
        ("--x 0.1,0.2", ("--x '0.1,0.2' is passed on as it is: commas alone make no list; to sweep, write --x "
          "'[0.1,0.2]'; without this warning, --x \"['0.1,0.2']\"")),
        ("lr=0.1,0.2", "to sweep, write 'lr=[0.1,0.2]'; without this warning, \"lr=['0.1,0.2']\""),
        ("a,b,c", "to sweep, write '[a,b,c]'"),
        ("--x=a,b", "to sweep, write --x='[a,b]'"),
        ("--x a%b,b@c", "to sweep, write --x \"['a%b', 'b@c']\""),
        ("--betas '0.9, 0.999'", "to sweep, write --betas '[0.9, 0.999]'"),
        ("model.layers=[8,16]", "model.layers=[8,16] is swept as 2 values; one list is [[8,16]]"),
        ("+x='[[1], [2]]'", "+x=[[1], [2]] is swept as 2 values; one list is '+x=[[[1], [2]]]'"),
        ("-m x=[a,b]", "x=[a,b] is swept as 2 values; one list is \"x=[['a', 'b']]\""),
        ("x=[8]", "x=[8] is swept as 1 value; one list is [[8]]"),
        ("--x [5]", "--x '[5]' is swept as 1 value, without the brackets; one list is --x '[[5]]'"),
        ("--x=[True]", "--x='[True]' is swept as 1 value"),
        ("[a,]", "'[a,]' is swept as 1 value, without the brackets; one list is \"[['a']]\""),
        ("--x [INFO]", ("--x '[INFO]' is passed on as it is: one word in brackets is no list; a list of it is "
          "--x \"['INFO']\"; without this warning, --x \"['[INFO]']\"")),
        ("x=[resnet-18]", "'x=[resnet-18]' is passed on as it is"),
        ("--note [WIP first try]", ("a space outside of quotes separates words; as one it is --note "
          "\"['[WIP first try]']\"; without this warning, --note \"['[WIP']\"")),
        ("-l[1,2]", ("-l[1,2] is passed on as it is: a value that is swept stands apart from its flag; to sweep, "
          "write -l '[1,2]'")),
        ("-l[1, 2]", "to sweep, write -l '[1, 2]'"),
        ("-l[1,2] file", "to sweep, write -l '[1,2]'"),
        ("--lr[1,2]", "to sweep, write --lr '[1,2]'"),
        ("-l'uniform(0, 1, 3)'", "to sweep, write -l 'uniform(0, 1, 3)'"),
        ("-lloguniform(1,2,3)", "to sweep, write -l 'loguniform(1,2,3)'"),
        ("--x=lr=[1,2]", "only the whole value of a flag is swept; as a word of its own it is 'lr=[1,2]'"),
        ("--x a b={1,2}", "'b={1,2}' is passed on as it is"),
    ],
)  # fmt: skip
def test_warnings(script_args: str, expected: str) -> None:
    """One line, with the value as it is typed, and what to write: for what may be meant, and for what is there."""
    assert expected in said(script_args)


@pytest.mark.parametrize(
    ("script_args", "suggestion", "words"),
    [
        ("x=[a,b]", "\"x=[['a', 'b']]\"", [["x=['a', 'b']"]]),
        ("x='[1, 2]'", "'x=[[1, 2]]'", [["x=[1, 2]"]]),
        ("--x [adam,]", "--x \"[['adam']]\"", [["--x", "['adam']"]]),
        ("--x a@b,c", "--x \"['a@b', c]\"", [["--x", "a@b"], ["--x", "c"]]),
        ("--x [WIP it is]", "--x \"['[WIP it is]']\"", [["--x", "[WIP it is]"]]),
        ("-l[1, 2]", "-l '[1, 2]'", [["-l", "1"], ["-l", "2"]]),
        ("-m lr=1,a@b", "-m \"lr=[1, 'a@b']\"", [["-m", "lr=1"], ["-m", "lr=a@b"]]),
        ("--set=lr=1,2", "'lr=[1,2]'", [["lr=1"], ["lr=2"]]),
    ],
)
def test_what_a_warning_says_to_write_is_understood(script_args: str, suggestion: str, words: list[list[str]]) -> None:
    """It is quoted where it must be, and means what the warning says."""
    assert any(suggestion in line for line in grid(script_args).warnings if "script_args" not in line)
    assert [list(trial.arguments) for trial in grid(suggestion).trials] == words


@pytest.mark.parametrize(
    "script_args",
    [
        "--x \"['LeakyReLU(0.1)']\" --y \"['{0.1,0.2}']\" z=\"['0.1,0.2']\" \"['[INFO]']\" --betas \"['0.9,0.999']\"",
        "--x '[[8, 16]]' y='[[8, 16]]' '[[8]]' z=\"['a']\" --u \"[ r'a']\" --v '[ \"a\" ]'",
        "--x [1,2] [1,2] --y=[a,b] --z 'range(1)'",
        "--x 'hello, world' --y 'a b, c' --z 'f(x) = 2' --u '{epoch:02d}-{loss:.2f}' --w , --a 1, --b ,1",
        "--x [WIP]- --y '[a] b' --z a[0] --u 'x (y)' --v (a) --w [ab",
        "-v -abc --lr-decay 3 -x=5 -l[a --m[a] -n(1) --o=a=b --p=a=[INFO]",
        "-- [5] {1,2} 1,2 -l[1,2] 'LeakyReLU(1)' x=[1,2]",
    ],
)
def test_what_is_silent(script_args: str) -> None:
    """The ways that a warning names are silent, and so is what looks like nothing that is swept."""
    assert grid(script_args).warnings == ()


def test_only_so_many_warnings() -> None:
    """A thousand values of one kind are not a thousand lines."""
    lines_of_all = grid(" ".join(f"--x{number} [INFO]" for number in range(1000))).warnings
    assert len(lines_of_all) == 51
    assert lines_of_all[-1] == "and 950 more warnings about other values"


def test_long_values_make_short_lines() -> None:
    """A warning is a line, however long the value."""
    for text in ("x=[1," + "1," * 5_000 + "]", "--x " + "a," * 5_000 + "a", "--x {" + "a" * 10_000 + "}"):
        assert len(expand(text, strategy="none", num_trials=0, seed=0).trials) == 1
        assert len(grid(text).warnings[0]) < 500


@pytest.mark.parametrize(
    "text",
    [
        "{" * 500_000, "{" + "." * 999_000, "{," * 400_000, "-" + "a" * 999_000, "-l" + "[" * 900_000, "a," * 400_000,
        "1, " * 50_000, "[" + "a" * 999_000, "[a " * 30_000, "f(" * 400_000, "x=" * 400_000, "x=f(1 " * 20_000,
        "'[" + "a " * 400_000 + "]'", "--x " * 50_000, "'" + "1" * 999_000 + "a'", "[" + "1" * 900_000 + "a]",
        "[" + "a," * 90_000 + "]", "uniform" * 140_000 + "(",
    ],
)  # fmt: skip
def test_long_texts(text: str) -> None:
    """The longest text is read, or refused, in a time that grows with its length alone."""
    try:
        expansion = grid(f"--flag {text}")
    except SweepError as error:
        assert len(str(error)) < 1_000
    else:
        assert len(expansion.trials) >= 1
