"""Tests of the last lines of an output: tracebacks are whole, the rest is short, and no content breaks it."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grid.service.executors.output import last_lines

KEPT = 256 * 1024


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The path of a script's output."""
    return tmp_path / "output"


def tail(output: Path, written: str | bytes) -> tuple[str, str | None]:
    """The last lines of what is written."""
    output.write_bytes(written.encode() if isinstance(written, str) else written)
    return last_lines(output)


def run(output: Path, script: str) -> str:
    """Run a script in Python, its output in the file; return what it wrote."""
    with output.open("wb") as file:
        subprocess.run([sys.executable, "-c", script], stdout=file, stderr=file, check=False)
    return "\n".join(map(str.rstrip, output.read_text().split("\n")))


CHAINED = """
print('before')
def deeper(): raise ValueError('two\\nlines')
try:
    try: deeper()
    except ValueError as error: raise KeyError('cause') from error
except KeyError:
    raise RuntimeError('the last')
"""


@pytest.mark.parametrize(
    ("script", "final"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("print('before'); raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise ValueError('one\\ntwo\\n\\nthree')", "ValueError: one"),
        ("class Mine(Exception): pass\nraise Mine", "Mine"),
        ("def f():\n class Mine(Exception): pass\n raise Mine('x')\nf()", "f.<locals>.Mine: x"),
        ("def f(): f()\nf()", "RecursionError: maximum recursion depth exceeded"),
        ("print('before')\nexec('x = = 1')", "SyntaxError: invalid syntax"),
        (CHAINED, "RuntimeError: the last"),
    ],
)
def test_traceback_is_whole(output: Path, script: str, final: str) -> None:
    """What Python prints for an uncaught exception is there from its first line to its last, and nothing before it."""
    written = run(output, script)
    text, line = last_lines(output)
    assert line == final
    assert text.startswith("Traceback (most recent call last):")
    assert text == written[written.index("Traceback") :].rstrip()


def test_script_that_cannot_be_compiled(output: Path) -> None:
    """A syntax error of the script itself has no header, but is whole all the same."""
    written = run(output, "import os\nif True\n    pass")
    assert last_lines(output) == (written.rstrip(), written.splitlines()[-1])
    assert written.splitlines()[-1].startswith("SyntaxError: ")


def test_exception_group(output: Path) -> None:
    """A group is whole, with the exceptions in it; the final line is its own, not that of one of them."""
    script = (
        "def fail(n): raise ValueError(n)\n"
        "found = []\n"
        "for n in range(3):\n    try: fail(n)\n    except ValueError as error: found.append(error)\n"
        "print('before')\n"
        "try: raise KeyError(1)\n"
        "except KeyError: raise ExceptionGroup('several', found)\n"
    )
    written = run(output, script)
    text, line = last_lines(output)
    assert line == "ExceptionGroup: several (3 sub-exceptions)"
    assert text == written[written.index("Traceback") :].rstrip()


def test_traceback_of_another_process(output: Path) -> None:
    """The traceback of a pool's worker is part of it."""
    script = (
        "import multiprocessing\n"
        "if __name__ == '__main__':\n"
        "    print('before', flush=True)\n"
        "    with multiprocessing.get_context('fork').Pool(1) as pool: pool.apply(int, ('x',))\n"
    )
    written = run(output, script)
    text, line = last_lines(output)
    assert line == "ValueError: invalid literal for int() with base 10: 'x'"
    assert text == written.removeprefix("before\n").rstrip()
    assert text.startswith("multiprocessing.pool.RemoteTraceback")


PLAIN = 'Traceback (most recent call last):\n  File "run.py", line 1, in <module>\n    f()\nValueError: x'


def test_last_traceback_counts(output: Path) -> None:
    """Of several unrelated tracebacks the last one counts."""
    assert tail(output, f"{PLAIN}\nwent on\n{PLAIN.replace('x', 'y')}\n") == (PLAIN.replace("x", "y"), "ValueError: y")


def test_what_python_says_aside(output: Path) -> None:
    """What was raised in a thread, or during garbage collection, is taken only if there is nothing else."""
    for aside in ("Exception ignored in: <function f at 0x1>", "Exception in thread Thread-1 (f):"):
        said = f"{aside}\n{PLAIN.replace('ValueError', 'OSError')}"
        assert tail(output, f"{PLAIN}\n{said}\n") == (f"{PLAIN}\n{said}", "ValueError: x")
        assert tail(output, f"{said}\n")[1] == "OSError: x"


def test_traceback_that_did_not_end_it(output: Path) -> None:
    """A traceback that the script logged long before its end says nothing about that end."""
    lines = [f"step {number}" for number in range(200)]
    assert tail(output, "\n".join([PLAIN, *lines])) == ("\n".join(lines[-30:]), None)
    assert tail(output, "\n".join([PLAIN, *lines[:50]])) == ("\n".join([PLAIN, *lines[:50]]), "ValueError: x")
    indented = [f"    missing key {number}" for number in range(300)]
    assert tail(output, "\n".join([PLAIN, *indented]))[1] == "ValueError: x"


@pytest.mark.parametrize("prefix", ["[rank0]: ", "(train pid=123) ", "0: "])
def test_traceback_with_a_prefix(output: Path, prefix: str) -> None:
    """Launchers write a name before each line; the exception is named without it."""
    written = "\n".join(f"{prefix}{line}" for line in PLAIN.split("\n"))
    assert tail(output, f"before\n{written}\n") == (written, "ValueError: x")


def test_traceback_after_a_word(output: Path) -> None:
    """A logger may write before the first line only."""
    assert tail(output, f"before\nERROR: {PLAIN}\n") == (f"ERROR: {PLAIN}", "ValueError: x")


def test_traceback_in_a_box(output: Path) -> None:
    """A traceback in a box drawn by rich counts too."""
    written = "╭──── Traceback (most recent call last) ────╮\n│ run.py:1 │\n╰──────╯\nValueError: x"
    assert tail(output, f"before\n{written}") == (written, "ValueError: x")


@pytest.mark.parametrize(
    "written", [PLAIN.removesuffix("\nValueError: x"), "Traceback (most recent call last):", "a\nb"]
)
def test_no_exception(output: Path, written: str) -> None:
    """If no exception is named, none is made up."""
    assert tail(output, f"{written}\n") == (written, None)


def test_last_lines_without_a_traceback(output: Path) -> None:
    """Of other output the last 30 lines are kept, without empty ones at the end."""
    lines = [f"line {number}" for number in range(100)]
    assert tail(output, "\n".join(lines) + "\n\n\n") == ("\n".join(lines[-30:]), None)
    assert tail(output, "") == ("", None)
    assert tail(output, "\n\n") == ("", None)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("10%\r20%\r100%\ndone", "100%\ndone"),
        ("long text\rshort", "shorttext"),
        ("long text\r\x1b[Kshort", "short"),
        ("long text\x1b[2K\rshort", "short"),
        ("1/10\b\b\b\b2/10", "2/10"),
        ("abc\b\b\x1b[1K", " bc"),
        ("windows\r\nlines\r\n", "windows\nlines"),
        ("\x1b[31mred\x1b[0m \x1b]8;;http://x\x1b\\link\x1b]8;;\x07 \x1b(Bplain", "red link plain"),
        ("nul\0 bell\a c1\x9b tab\t|", "nul bell c1 tab\t|"),
        (b"caf\xe9 \xff", "caf\ufffd \ufffd"),
        ("\r" * 10, ""),
    ],
)
def test_as_a_terminal_shows_it(output: Path, written: str | bytes, shown: str) -> None:
    """Progress bars are shown in their last state; colours are removed, and so is what databases refuse."""
    assert tail(output, written) == (shown, None)


def test_long_traceback_is_cut_in_its_middle(output: Path) -> None:
    """Of a traceback that is too long the beginning, a mark and the end are kept."""
    message = "".join(f"    detail {number} é\n" for number in range(20_000))
    text, line = tail(output, f"{PLAIN}\n{message}the end")
    assert text.startswith(PLAIN)
    assert text.endswith("\nthe end")
    assert text.count("left out") == 1
    assert len(text.encode()) <= KEPT
    assert line == "ValueError: x"
    assert tail(output, PLAIN + "y" * 10_000)[1] == "ValueError: x" + "y" * (500 - len("ValueError: x"))


def test_deep_recursion_is_whole(output: Path) -> None:
    """As many calls as Python allows are all kept; of lines that are not a traceback, only a page or two."""
    frames = "".join(
        f'  File "/a/folder/of/some/length/train.py", line {n}, in f\n    return g(n)\n' for n in range(1000)
    )
    written = f"Traceback (most recent call last):\n{frames}RecursionError: maximum recursion depth exceeded"
    assert tail(output, f"before\n{written}\n") == (written, "RecursionError: maximum recursion depth exceeded")
    assert len(tail(output, "y" * 100_000)[0]) <= 16 * 1024


def test_file_that_is_larger_than_memory(output: Path) -> None:
    """Only the end of a file is read."""
    with output.open("wb") as file:
        file.seek(1 << 40)
        file.write(f"\n{PLAIN}\n".encode())
    assert last_lines(output) == (PLAIN, "ValueError: x")


def test_no_file(tmp_path: Path) -> None:
    """What is not a file has no lines: pipes are not waited for, and links are not followed."""
    (tmp_path / "file").write_text("secret")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", "link", "pipe", "."):
        assert last_lines(tmp_path / name) == ("", None)


PIECES = st.sampled_from(
    [
        b"\r", b"\n", b"\b", b"\0", b"\x1b", b"\x1b[2K", b"\x1b[K", b"\x1b[1K", b"\x1b]", b"\x1b[31m", b"\xff", b"\xc3",
        b"Traceback (most recent call last):", b"  + Exception Group Traceback (most recent call last):",
        b'  File "x", line 1', b"    code", b"ValueError: x", b"ValueError", b"SyntaxError: y", b"  | Error: z", b'"""',
        b"Exception ignored in: f", b"[rank0]: ", b" ", b"|",
        "│".encode(), "╭─ Traceback (most recent call last) ─╮".encode(),
        b"\nDuring handling of the above exception, another exception occurred:\n\n",
    ]
)  # fmt: skip


@given(
    st.lists(st.one_of(PIECES, st.binary(max_size=40)), max_size=60).map(b"".join),
    st.sampled_from([1, 1, 1, 50, 10_000]),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_written(output: Path, piece: bytes, times: int) -> None:
    """Any bytes become a text that is short enough, that a database accepts, and that does no harm to a terminal."""
    output.write_bytes((piece * times)[-300_000:])
    text, line = last_lines(output)
    assert len(text.encode()) <= KEPT
    assert not any(unicodedata.category(character) == "Cc" for character in text if character not in "\n\t")
    assert line is None or (line == line.strip("\n") and line and len(line) <= 500)
    assert line is None or "left out" in text or line in text
