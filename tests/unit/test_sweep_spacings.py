"""NumPy's spacings, against NumPy itself and to the digit where a machine could differ."""

from __future__ import annotations

import math
import subprocess
import sys
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from grid.service.domain.sweeps import SweepError, count
from tests.support.sweeping import grid, refusal, search, values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linspace(0, 1, 5)", "0.0 0.25 0.5 0.75 1.0"),
        ("linspace(0, 1, 4)", "0.0 0.333333333333333 0.666666666666667 1.0"),
        ("linspace(1, 0, 3)", "1.0 0.5 0.0"),
        ("linspace(-1, 1, 1)", "-1.0"),
        ("linspace(3, 3, 2)", "3.0 3.0"),
        ("linspace(0, 0.3, 4)", "0.0 0.1 0.2 0.3"),
        ("logspace(-5, -1, 5)", "1e-05 0.0001 0.001 0.01 0.1"),
        ("logspace(0, 1, 3)", "1.0 3.16227766016838 10.0"),
        ("geomspace(1e-5, 1e-1, 5)", "1e-05 0.0001 0.001 0.01 0.1"),
        ("geomspace(0.1, 1e-05, 5)", "0.1 0.01 0.001 0.0001 1e-05"),
        ("geomspace(1, 256, 9)", "1.0 2.0 4.0 8.0 16.0 32.0 64.0 128.0 256.0"),
        ("geomspace(-1, -1000, 4)", "-1.0 -10.0 -100.0 -1000.0"),
        ("geomspace(1, 1e300, 3)", "1.0 1e+150 1e+300"),
        ("geomspace(7, 9, 1)", "7.0"),
        ("linspace(0, 1.7976931348623157e308, 2)", "0.0 1.7976931348623157e+308"),
        ("logspace(-308, 308, 2)", "1e-308 1e+308"),
        ("arange(3)", "0 1 2"),
        ("arange(1, 10, 4)", "1 5 9"),
        ("arange(3, 0, -1)", "3 2 1"),
        ("arange(2.5)", "0.0 1.0 2.0"),
        ("arange(1, 3.5)", "1.0 2.0 3.0"),
        ("arange(0, 1, 0.25)", "0.0 0.25 0.5 0.75"),
        ("arange(0, 0.5, 0.1)", "0.0 0.1 0.2 0.3 0.4"),
        ("arange(0.3, -0.3, -0.1)", "0.3 0.2 0.1 0.0 -0.1 -0.2"),
        ("arange(1, 1.3, 0.1)", "1.0 1.1 1.2 1.3"),
    ],
)
def test_spacings(text: str, expected: str) -> None:
    """The numbers as Python prints them, with at most 15 significant digits."""
    assert values(text) == expected.split()


numbers = st.one_of(st.floats(-1e6, 1e6), st.integers(-1000, 1000), st.floats(-1e300, 1e300, allow_subnormal=False))
positives = st.one_of(st.floats(1e-6, 1e6), st.integers(1, 1000), st.floats(1e-300, 1e300))
counts = st.integers(1, 40)


def check(text: str, expected: np.ndarray, lost: float) -> None:
    """Hold the values against NumPy's: to 15 digits, and what NumPy may have lost to its own rounding on the way."""
    found = [float(each) for each in values(text)]
    assert found == pytest.approx(expected.tolist(), rel=6e-15, abs=lost + 1e-320)
    assert found == [float(f"{each:.15g}") for each in found]


@pytest.mark.parametrize("name", ["linspace", "logspace", "geomspace", "arange"])
def test_digits_are_those_of_numpy(name: str) -> None:
    """Of bounds without short numbers between them nearly all values are NumPy's to the last of 15 digits.

    The others are those where its powers, which differ between machines, lie on the other side of a half.
    """
    random = Random(name)
    same = total = 0
    for _ in range(150):
        first, second = random.uniform(0.1, 10), random.uniform(0.1, 10)
        third = random.uniform(0.1, 1) if name == "arange" else random.randint(2, 20)
        if name == "arange":
            second += first
        expected = getattr(np, name)(first, second, third).tolist()
        found = values(f"{name}({first!r}, {second!r}, {third!r})")
        same += sum(ours == repr(float(f"{numpys:.15g}")) for ours, numpys in zip(found, expected, strict=True))
        total += len(expected)
    assert total > 1000
    assert same > 0.98 * total


@given(numbers, numbers, counts)
@settings(deadline=None)
def test_linspace_is_that_of_numpy(start: float, stop: float, num: int) -> None:
    """Any bounds, also equal and reversed ones."""
    assume(math.isfinite(float(stop) - float(start)))
    check(f"linspace({start!r}, {stop!r}, {num})", np.linspace(start, stop, num), 4e-16 * max(abs(start), abs(stop)))


@given(st.floats(-300, 300), st.floats(-300, 300), counts)
@settings(deadline=None)
def test_logspace_is_that_of_numpy(start: float, stop: float, num: int) -> None:
    """Any exponents. NumPy's power loses more than a digit of a number that is very large."""
    found = [float(each) for each in values(f"logspace({start!r}, {stop!r}, {num})")]
    assert found == pytest.approx(np.logspace(start, stop, num).tolist(), rel=5e-13, abs=0)
    assert found == [float(f"{each:.15g}") for each in found]


@given(positives, positives, counts, st.sampled_from([1, -1]))
@settings(deadline=None)
def test_geomspace_is_that_of_numpy(start: float, stop: float, num: int, sign: int) -> None:
    """Any bounds of one sign. What NumPy loses to its logarithms is more than a digit where they are far apart."""
    expected = np.geomspace(sign * float(start), sign * float(stop), num)
    found = [float(each) for each in values(f"geomspace({sign * start!r}, {sign * stop!r}, {num})")]
    assert found == pytest.approx(expected.tolist(), rel=5e-13, abs=0)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(-1e5, 1e5))
@settings(deadline=None)
def test_arange_is_that_of_numpy(start: float, stop: float, step: float) -> None:
    """As many numbers, and the same, whatever the direction; an empty one is refused."""
    assume(step != 0 and abs((stop - start) / step) < 50)
    text = f"arange({start!r}, {stop!r}, {step!r})"
    expected = np.arange(start, stop, step)
    if len(expected) == 0:
        assert "empty" in refusal(text)
    else:
        # The step that NumPy takes is the difference of two numbers of the size of the bounds.
        check(text, expected, 4e-16 * (len(expected) + 1) * (abs(start) + abs(stop) + abs(step)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "linspace(0, 1)",
            "linspace(start, stop, num) takes 3 numbers, but has 2. For example: --x 'linspace(0, 1, 5)'",
        ),
        ("logspace()", "takes 3 numbers, but has 0. For example: --x 'logspace(-5, -1, 5)'"),
        ("linspace(0, 1, 0)", "must be a positive whole number, not 0"),
        ("linspace(0, 1, 2.0)", "must be a positive whole number, not 2.0"),
        ("linspace(0, 1, num=3)", "in order, not by name"),
        ("linspace(0, 1, 3, True)", "the arguments of linspace must be numbers"),
        ("linspace(0, 'a', 3)", "must be numbers, not 'a'"),
        ("linspace(0, [1], 3)", "must be numbers, not [1]"),
        ("linspace(-1e308, 1e308, 3)", "stop - start must be a finite number"),
        ("logspace(0, 400, 3)", "exponents of 10, from -308 to 308"),
        ("geomspace(0, 1, 3)", "both be above 0 or both below 0. For example: --x 'geomspace(1e-5, 1e-1, 5)'"),
        ("geomspace(-1, 1, 3)", "both be above 0 or both below 0"),
        ("geomspace(1, 0, 3)", "both be above 0 or both below 0"),
        ("arange()", "arange takes 1 to 3 numbers (start, stop, step), but has 0"),
        ("arange(1, 2, 3, 4)", "but has 4"),
        ("arange(0)", "the arange is empty"),
        ("arange(0.0)", "the arange is empty"),
        ("arange(1, 0, 0.5)", "the arange is empty"),
        ("arange(0, 1, 0)", "the step of arange cannot be 0. For example: --x 'arange(0, 1, 0.25)'"),
        ("arange(0, 1, 0.0)", "the step of an arange cannot be 0"),
        ("arange(0, 1e308, 1e-308)", "more numbers than can be counted"),
        ("linspace(0, 1", "linspace is not closed with )"),
    ],
)
def test_wrong_spacings(text: str, said: str) -> None:
    """Each is refused with what it takes and an example."""
    assert said in refusal(text)


def test_spacings_are_counted_before_they_are_made() -> None:
    """As many numbers as one can write are counted at once, and refused before they are made."""
    for text in ("linspace(0, 1, 1000000000000)", "arange(0, 1, 1e-12)", "arange(1000000000000)"):
        assert count(f"--x '{text}'", strategy="grid_search", num_trials=0) == 10**12
        with pytest.raises(SweepError, match="1,000,000,000,000"):
            grid(f"--x '{text}'")
    assert len(search("--x 'arange(1000000000000)'", 5).trials) == 5


def test_spacings_need_no_numpy() -> None:
    """A sweep over a spacing does not wait for NumPy to be imported."""
    program = """
import sys
from grid.service.domain.sweeps import expand
text = "--a 'geomspace(1, 9, 3)' --b 'arange(0, 1, 0.5)' --c 'linspace(0, 1, 2)' --d 'logspace(0, 1, 2)'"
assert len(expand(text, strategy="grid_search", num_trials=0, seed=0).trials) == 24
assert "numpy" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
