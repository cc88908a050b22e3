"""The benchmarks still work: each in its smallest size. What they measure is not tested."""

from __future__ import annotations

import re

import pytest

from benchmarks.__main__ import BENCHMARKS, main

# What was measured, its figure, the baseline's figure, and the target.
LINE = re.compile(r"(\S.*?)  +([+-]?[\d,.]+ \S.*?)  +(\S.*? [\d,.]+ \S.*?)  +(.+ )?target \S.*")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_prints_figures_beside_a_baseline(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A benchmark runs to its end, and every line of it has a figure and a baseline."""
    assert main(["--smallest", name]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines
    for line in lines:
        assert LINE.fullmatch(line)


def test_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown name is an error that lists the benchmarks that there are."""
    with pytest.raises(SystemExit):
        main(["decodign"])

    assert "there is no benchmark decodign; the benchmarks are imports, sessions, loading" in capsys.readouterr().err
