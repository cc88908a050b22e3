"""The sweep grammar on arbitrary text: what holds for all of it. Single forms are in `test_sweep_values.py`."""

from __future__ import annotations

import ast
import itertools
import math
import shlex
import sys
import warnings

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grid.service.domain.sweeps import SweepError, count, expand
from grid.service.domain.sweeps._command import parse
from grid.service.domain.sweeps._distributions import DISTRIBUTIONS
from grid.service.domain.sweeps._names import KNOWN as NAMES
from grid.service.domain.sweeps._spacings import SIGNATURES

LIMIT = 500
STRATEGIES = st.sampled_from(["grid_search", "random_search", "zip", "none"])
SEEDS = st.integers(-(2**64), 2**64)

numbers = st.one_of(
    st.integers(-10, 10),
    st.integers(),
    st.floats(),
    st.sampled_from([0.5, 1e-300, 1e300, 10**400, 2**63, -(2**63), True]),
).map(repr)
names = st.sampled_from(["switch", *sorted(NAMES), "foo", "np.uniform", "log_uniform", "Uniform", "__import__"])
calls = st.builds(lambda name, arguments: f"{name}({', '.join(arguments)})", names, st.lists(numbers, max_size=5))
draws = st.sampled_from(sorted(DISTRIBUTIONS)).flatmap(
    lambda name: st.tuples(*[numbers] * len(DISTRIBUTIONS[name].parameters)).map(
        lambda arguments: f"{name}({', '.join((*arguments, '3'))})"
    )
)
literals = st.recursive(
    st.one_of(numbers, st.text(max_size=5).map(repr), st.sampled_from(["None", "abc", "-x", "r'\\d'", "b''", "{}"])),
    lambda inner: st.lists(inner, max_size=4).map(lambda parts: f"[{', '.join(parts)}]"),
    max_leaves=8,
)
scraps = st.text(alphabet="[](){},'\"\\=+-*:# \n\tax01e.\0\ud800λrfb_", max_size=25)
mutilated = st.tuples(st.one_of(calls, literals), st.integers(0, 40), scraps).map(
    lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + 1 :]
)
words_in_lists = st.lists(st.one_of(st.text("ab01.:/+-_", max_size=5), numbers), max_size=4).map(
    lambda elements: f"[{', '.join(elements)}]"
)
switches = st.sampled_from(
    ["switch()", "switch(--no-x)", "switch( -x )", "switch(x)", "choice([a, b], 1, replace=True)"]
)
texts = st.one_of(calls, draws, literals, words_in_lists, switches, scraps, mutilated, st.text(max_size=20))
flags = st.sampled_from(["--x ", "--x=", "-n ", "--lr ", "", "-- ", "a=", "+b.c=", "-m a=", "--y=a=", "-l", "~x="])
commands = st.one_of(
    st.lists(st.tuples(flags, texts.map(shlex.quote)).map("".join), max_size=4).map(" ".join),
    st.lists(st.tuples(flags, texts).map("".join), max_size=4).map(" ".join),
    st.text(),
)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(commands, STRATEGIES, st.integers(-1, 40), SEEDS)
@settings(max_examples=400, deadline=None)
@example("--x '[9**9**9]'", "grid_search", 0, 0)
@example("--x 'f(" + "(" * 5000 + ")'", "grid_search", 0, 0)
@example("--x '" + "[" * 100_000 + "]'", "grid_search", 0, 0)
@example("--x '[" + "-" * 100_000 + "1]'", "grid_search", 0, 0)
@example("--x '[" + "1," * 3000 + "]'", "grid_search", 0, 0)
@example("--x '[1if 2else 3]' --y \"['\\8', '\\N{x}', '\\777']\"", "grid_search", 0, 0)
def test_any_text_is_expanded_or_refused(script_args: str, strategy: str, num_trials: int, seed: int) -> None:
    """Any text is expanded or refused with a `SweepError`; nothing else is raised, and Python never warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            number = count(script_args, strategy=strategy, num_trials=num_trials, limit=LIMIT)
        except SweepError as error:
            refusal = error
        else:
            refusal = None
        if refusal is not None:
            # What refuses to be counted refuses to be expanded, with the same words.
            with pytest.raises(SweepError) as caught:
                expand(script_args, strategy=strategy, num_trials=num_trials, seed=seed, limit=LIMIT)
            assert (str(caught.value), caught.value.flag) == (str(refusal), refusal.flag)
            assert refusal.flag in script_args
            assert str(refusal).isprintable()
            return
        expansion = expand(script_args, strategy=strategy, num_trials=num_trials, seed=seed, limit=LIMIT)
    assert 1 <= number == len(expansion.trials) <= LIMIT
    assert all(line.isprintable() and len(line) < 2_000 for line in expansion.warnings)
    assert number == count(script_args, strategy=strategy, num_trials=num_trials)
    shape = [len(argument.words("")) for argument in parse(script_args).arguments]
    for trial in expansion.trials:
        assert len(trial.arguments) == sum(shape) or "switch" in script_args
        assert len(trial.parameters) <= len(shape)
        for text in (*trial.arguments, *trial.parameters.values()):
            assert "\0" not in text
            text.encode()
    assert expand(script_args, strategy=strategy, num_trials=num_trials, seed=seed, limit=LIMIT) == expansion


@given(draws, SEEDS)
@settings(max_examples=300, deadline=None)
def test_whatever_is_counted_can_be_drawn(text: str, seed: int) -> None:
    """The checks of a distribution's arguments leave nothing for NumPy to refuse."""
    script_args = f"--x={shlex.quote(text)}"
    try:
        number = count(script_args, strategy="grid_search", num_trials=0)
    except SweepError:
        return
    assert len(expand(script_args, strategy="grid_search", num_trials=0, seed=seed).trials) == number == 3


@given(st.sampled_from(sorted(SIGNATURES)), st.lists(numbers, max_size=3), st.integers(1, 50))
@settings(max_examples=300, deadline=None)
def test_whatever_is_counted_is_spaced(name: str, arguments: list[str], samples: int) -> None:
    """What a spacing's checks let pass are finite numbers, as many as were counted."""
    given_numbers = arguments if name == "arange" else [*arguments[:2], str(samples)]
    text = f"{name}({', '.join(given_numbers)})"
    script_args = f"--x={shlex.quote(text)}"
    try:
        number = count(script_args, strategy="grid_search", num_trials=0, limit=LIMIT)
    except SweepError:
        return
    trials = expand(script_args, strategy="grid_search", num_trials=0, seed=0).trials
    assert len(trials) == number
    for trial in trials:
        assert math.isfinite(float(trial.parameters["x"]))
        assert trial.parameters["x"] == repr(ast.literal_eval(trial.parameters["x"]))


@given(commands)
@settings(max_examples=100, deadline=None)
def test_nothing_is_executed(script_args: str) -> None:
    """No text makes the interpreter compile to code, execute, import or open anything."""
    expand("--x 'rand(1)'", strategy="grid_search", num_trials=0, seed=0)  # imports NumPy, which is not the point here
    seen: list[str] = []
    _listeners.append(seen)
    try:
        expand(script_args, strategy="grid_search", num_trials=0, seed=0, limit=LIMIT)
    except SweepError:
        pass
    finally:
        _listeners.remove(seen)
    assert not seen


_listeners: list[list[str]] = []


def _listen(event: str, _: object) -> None:
    # A hook cannot be removed again, so there is one, which is inactive outside its test.
    if _listeners and event in ("exec", "import", "open", "os.system", "subprocess.Popen"):
        _listeners[-1].append(event)


sys.addaudithook(_listen)


@given(st.lists(words, max_size=8))
def test_plain_words_are_passed_on(arguments: list[str]) -> None:
    """Words that hold no form reach the script as they are, in their order, with every strategy."""
    plain = [word for word in arguments if not any(char in word for char in "[(")]
    for strategy in ("grid_search", "random_search", "none"):
        expansion = expand(shlex.join(plain), strategy=strategy, num_trials=1, seed=0)
        assert [trial.arguments for trial in expansion.trials] == [tuple(plain)]


@given(st.lists(words, max_size=8))
def test_no_strategy_leaves_every_word(arguments: list[str]) -> None:
    """With `none` any words at all reach the script as they are."""
    (trial,) = expand(shlex.join(arguments), strategy="none", num_trials=0, seed=0).trials
    assert trial.arguments == tuple(arguments)


elements = st.one_of(st.integers(-(10**30), 10**30), st.floats(allow_nan=False, allow_infinity=False), words, st.none())


@given(st.lists(st.one_of(elements, st.lists(elements, max_size=3)), min_size=1, max_size=6))
def test_lists_round_trip(values: list[object]) -> None:
    """A list as Python prints it gives each element: strings as they are, others as Python prints them."""
    expansion = expand(f"--x={shlex.quote(repr(values))}", strategy="grid_search", num_trials=0, seed=0)
    expected = [value if isinstance(value, str) else repr(value) for value in values]
    assert [trial.parameters["x"] for trial in expansion.trials] == expected


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 30), SEEDS)
def test_a_search_is_part_of_the_grid(sizes: list[int], num_trials: int, seed: int) -> None:
    """The grid is the product in order, and a random search takes different combinations of it."""
    script_args = " ".join(f"--f{place} 'range({size})'" for place, size in enumerate(sizes))
    product = list(itertools.product(*(map(str, range(size)) for size in sizes)))
    grid = expand(script_args, strategy="grid_search", num_trials=0, seed=seed)
    assert [tuple(trial.parameters.values()) for trial in grid.trials] == product
    taken = expand(script_args, strategy="random_search", num_trials=num_trials, seed=seed)
    picked = [tuple(trial.parameters.values()) for trial in taken.trials]
    assert len(set(picked)) == len(picked) == min(num_trials, len(product))
    assert set(picked) <= set(product)
    assert bool(taken.warnings) == (num_trials > len(product))


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-9, 9).filter(bool))
def test_ranges_are_those_of_python(start: int, stop: int, step: int) -> None:
    """A range has the values and the length of Python's, and an empty one is refused."""
    script_args = f"--x 'range({start}, {stop}, {step})'"
    expected = [str(value) for value in range(start, stop, step)]
    if not expected:
        with pytest.raises(SweepError, match="empty"):
            count(script_args, strategy="grid_search", num_trials=0)
        return
    expansion = expand(script_args, strategy="grid_search", num_trials=0, seed=0)
    assert [trial.arguments[1] for trial in expansion.trials] == expected
