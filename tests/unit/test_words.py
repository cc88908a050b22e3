"""Splitting text into words as a shell does: against bash itself, and what is said where a shell would do more."""

from __future__ import annotations

import shlex
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid import errors
from grid.definition.checks import check_script_args
from grid.service.domain.sweeps import SweepError, expand
from grid.shared.wire import MAX_SCRIPT_ARGS
from grid.shared.words import Words, WordsError, split

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash to compare with")

# Words are made in an array, where newlines separate as white space does. Nothing but quoting is left on: no patterns
# (-f), no braces (+B). What follows an array's name and `=` is one command, whatever is in it, as long as it has no
# parenthesis and no operator outside of quotes.
BASH = r"""
set -f +B
for text; do
  words=()
  eval "words=( $text"$'\n)' || printf 'FAILED\0'
  printf '%s\0' "${#words[@]}" "${words[@]}"
done
"""


def by_bash(texts: list[str]) -> list[tuple[str, ...]]:
    """Return the words of each text as bash splits it; one process for all."""
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", *texts], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert done.stderr == b""
    fields = iter(done.stdout.decode().split("\0"))
    return [tuple(next(fields) for _ in range(int(next(fields)))) for _ in texts]


# Without those that bash itself uses to mark what is quoted: it doubles them in an array.
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\x01\x7f")
plain_words = st.text(characters, max_size=12)


def in_double_quotes(word: str) -> str:
    """Return a word in double quotes, with what a shell would see in them escaped."""
    return '"' + "".join(f"\\{char}" if char in '$`"\\' else char for char in word) + '"'


def with_backslashes(word: str) -> str:
    """Return a word without quotes, every character of it escaped but a newline."""
    return "".join("'\n'" if char == "\n" else f"\\{char}" for char in word) or "''"


def in_pieces(word: str, places: list[int]) -> str:
    """Return a word in several pieces, each quoted in another way, and joined by a backslash and a newline."""
    ways = (shlex.quote, in_double_quotes, with_backslashes)
    cuts = sorted({place % (len(word) + 1) for place in places})
    pieces = [word[start:end] for start, end in zip([0, *cuts], [*cuts, len(word)], strict=True)]
    return "\\\n".join(ways[index % 3](piece) for index, piece in enumerate(pieces))


quoted_words = st.tuples(plain_words, st.lists(st.integers(0, 12), max_size=3)).map(lambda parts: in_pieces(*parts))
separators = st.sampled_from([" ", "\t", "\n", "  \n\t ", " \\\n "])
commands = st.lists(st.tuples(quoted_words, separators).map("".join), max_size=6).map("".join)


@needs_bash
@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.lists(plain_words, max_size=4), commands), max_size=8))
def test_words_are_those_of_bash(examples: list[tuple[list[str], str]]) -> None:
    """Words that were quoted, in whatever way, are what a script would get from bash."""
    texts = [text for words, command in examples for text in (shlex.join(words), command)]
    assert [split(text).words for text in texts] == by_bash(texts)
    assert [split(shlex.join(words)) for words, _ in examples] == [Words(tuple(words), ()) for words, _ in examples]


@needs_bash
@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(alphabet="ab=,.-+:/@%^!{}]'\"\\ \n\t$`~é", max_size=24), max_size=20))
def test_any_text_is_split_as_bash_splits_it(examples: list[str]) -> None:
    """What is split without a warning is split by bash into the same words, however its quotes and backslashes lie."""
    texts, expected = [], []
    for text in examples:
        try:
            words, warnings = split(text)
        except WordsError:
            continue
        if not warnings and "$" not in text:
            texts.append(text)
            expected.append(words)
    assert by_bash(texts) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("''", ("",)),
        ("--a 1 \\\n  --b", ("--a", "1", "--b")),
        ("--a 1 \\\r\n  --b\r\n--c", ("--a", "1", "--b", "--c")),
        ("ab\\\ncd", ("abcd",)),
        ('--a "cost \\$5"', ("--a", "cost $5")),
        (r'"\$ \` \" \\ \n \'"', ("$ ` \" \\ \\n \\'",)),
        ('"a\\\nb"', ("ab",)),
        ("'a\\\nb'", ("a\\\nb",)),
        (r"a\ b\'", ("a b'",)),
        ("a#b a~b a–b — - ~name", ("a#b", "a~b", "a–b", "—", "-", "~name")),
        ("'–lr' \"“a”\" '#' 'a|b' \\> \\#", ("–lr", "“a”", "#", "a|b", ">", "#")),
        ("uniform(0,1,3) [1,2] {a,b}", ("uniform(0,1,3)", "[1,2]", "{a,b}")),
        ("a$ \"a$\" $ '$HOME' \\$HOME", ("a$", "a$", "$", "$HOME", "$HOME")),
    ],
)
def test_words(text: str, expected: tuple[str, ...]) -> None:
    """Quotes and backslashes mean what they mean to a shell, and nothing is said about what it would pass on."""
    assert split(text) == Words(expected, ())


@pytest.mark.parametrize(
    ("text", "named", "advice"),
    [
        ("--a $HOME", "$HOME is", "what it stands for"),
        ('--a "x ${A_1}y"', "${A_1} is", "what it stands for"),
        ("--a $(nproc)", "$(nproc) is", "what it stands for"),
        ('--a `nproc` "`date`"', "`nproc`, `date` are", "what it stands for"),
        ('--a "$(ls -l) `date +%s` ${A:-a b}"', "$(ls -l), `date +%s`, ${A:-a b} are", "what it stands for"),
        ('--a "\\`date +%s\\` $(ls"', "$(ls is", "what it stands for"),
        ("--a 'x' \"costs $5\" $?", "$5, $? are", "single quotes"),
        ("--a $'a\\tb'", "$' is", "what it stands for"),
        ("$A $B $C $D $A", "$A, $B, $C and more are", "what it stands for"),
        ("--a ~", "~ is", "the whole path"),
        ("--a ~/data", "~/data is", "the whole path"),
        ("--a=~/data", "~/data is", "the whole path"),
        ("--a ~:/data ~+", "~:/data, ~+ are", "the whole path"),
        ("--a ~\\\n/data", "~\\ is", "the whole path"),
        ("--a *.csv", "*.csv is", "their names"),
        ("--a data/?.csv b", "data/?.csv is", "their names"),
        ("--a\u00a01", "U+00A0 is", "a space"),
    ],
)
def test_what_a_shell_would_replace(text: str, named: str, advice: str) -> None:
    """Each is passed on as it is, with one line that names it and says what to write."""
    words, (line,) = split(text)
    assert (
        "".join(words).replace("$a\\tb", "$'a\\tb'") == text.replace(" ", "").replace("'x'", "x").replace('"', "")
        or words
    )
    assert line.startswith(f"script_args: {named} passed on as written: ")
    assert advice in line
    assert line.isprintable()


@pytest.mark.parametrize(
    ("text", "found", "advice"),
    [
        ("--a 1 && echo done", "has && outside of quotes: --a 1 && echo done .", "make a script (.sh)"),
        ("a || b", "has || outside of quotes", "'||'"),
        ("a | tee log", "has | outside of quotes", "make a script (.sh)"),
        ("a; b", "has ; outside of quotes", "'a;'"),
        ("http://h/?a=1&b=2", "has & outside of quotes", "'http://h/?a=1&b=2'"),
        ("--a 1 > log", "has > outside of quotes", "'>'"),
        ("--filter x<3", "has < outside of quotes", "'x<3'"),
        ("--a 1 # first try", "a word that begins with #", "'#'"),
        ("--a 1\n#--b 2", "a comment: #--b .", "'#--b'"),
        ("--a “b c”", "the curly quote “ outside of quotes", "straight quotes, ' or \""),
        ("--a ‘b’", "the curly quote ‘", "straight quotes"),
        ("it’s", "the curly quote ’", "between them"),
        ("–lr 1", "the long dash – (U+2013)", "Write --lr, or"),
        ("—lr=1", "the long dash — (U+2014)", "Write --lr=1, or"),
        ("–n 1", "the long dash –", "Write -n, or"),
        ("--a −1e-3", "the long dash − (U+2212)", "Write -1e-3, or"),
        ("—-lr", "the long dash —", "'—-lr'"),
        ("--x 'abc", "a quote that is never closed", "For example: --model \"['resnet18', 'vit']\""),
        ('--x "abc', "a quote that is never closed", "Close it"),
        ('--x "abc\\"', "a quote that is never closed", "Close it"),
        ("it's", "a quote that is never closed", "Close it"),
        ("--x abc\\", "a backslash at its end", "in quotes if it is meant"),
        ("--x a\0b", "a null character", "leave it out"),
        ("--x \ud800", "surrogate", "leave it out"),
        ("x" * (MAX_SCRIPT_ARGS + 1), "1,000,001 characters", "to a file"),
    ],
)
def test_what_is_refused(text: str, found: str, advice: str) -> None:
    """Each says what was given, what is wrong with it and what to write."""
    with pytest.raises(WordsError) as caught:
        split(text)
    message = str(caught.value)
    assert message.startswith("script_args ")
    assert found in message
    assert advice in message
    assert message.isprintable()
    assert len(message) < 500


@pytest.mark.parametrize(
    "text", ["a && b", "#a", "“a”", "–lr 1", "'a", "a\\", "a\0b", "\ud800", "x" * (MAX_SCRIPT_ARGS + 1)]
)
def test_client_and_service_say_the_same(text: str) -> None:
    """What the client refuses before it sends anything, the service refuses with the same words and the same code."""
    with pytest.raises(errors.SweepError) as by_client:
        check_script_args("script_args", text)
    with pytest.raises(SweepError) as by_service:
        expand(text, strategy="none", num_trials=0, seed=0)
    assert str(by_client.value) == str(by_service.value)


def test_the_text_is_named() -> None:
    """A message names what was split."""
    with pytest.raises(WordsError, match="^launcher has && outside"):
        split("a && b", "launcher")
    assert split("$A", "launcher").warnings[0].startswith("launcher: $A is")


@pytest.mark.parametrize(
    "piece",
    ["a", "a ", "'", '"', "\\", "\\\n", "~", "=~/", "$", "$A ", "*", "`", "\u00a0", "a'b'\"c\"\\d", '"$A"', "–", "("],
)
def test_a_million_characters(piece: str) -> None:
    """The longest text is split, or refused with a short message, in one pass: what it is made of does not matter."""
    text = piece * (MAX_SCRIPT_ARGS // len(piece))
    try:
        words, warnings = split(text)
    except WordsError as error:
        assert len(str(error)) < 500
    else:
        assert sum(map(len, words)) <= len(text)
        assert sum(map(len, warnings)) < 1_000
