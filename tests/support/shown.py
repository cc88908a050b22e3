"""What is shown of an output, said in the simplest way: the whole of it at once, character by character."""

from __future__ import annotations


def shown_lines(content: bytes, longest: int) -> list[str]:
    """What is shown of each line of an output that has ended."""
    lines = content.split(b"\n")
    if not lines[-1]:
        del lines[-1]
    return [shown_line(line, longest) for line in lines]


def shown_line(line: bytes, longest: int) -> str:
    """What is shown of a line."""
    while line.endswith(b"\r"):
        line = line[:-1]
    line = line.split(b"\r")[-1]
    if len(line) <= longest:
        return without_controls(line.decode("utf-8", "replace"))
    kept = line[:longest]
    # A character that is cut in two is left out.
    for count in range(1, 4):
        tail = kept[-count:]
        if tail[0] >= 0xC0:
            try:
                tail.decode()
            except UnicodeDecodeError as error:
                if "unexpected end" in error.reason:
                    kept = kept[:-count]
            break
        if tail[0] < 0x80:
            break
    return f"{without_controls(kept.decode('utf-8', 'replace'))} … [{len(line) - len(kept):,} more bytes]"


def without_controls(text: str) -> str:
    """What is left of a text without control characters and sequences."""
    left, place = "", 0
    while place < len(text):
        if text[place] == "\x1b":
            place = _end_of_sequence(text, place + 1)
        else:
            if text[place] == "\t" or not ("\0" <= text[place] < " " or "\x7f" <= text[place] < "\xa0"):
                left += text[place]
            place += 1
    return left


def _end_of_sequence(text: str, place: int) -> int:
    def skip(place: int, first: str, last: str) -> int:
        while place < len(text) and first <= text[place] <= last:
            place += 1
        return place

    if text[place : place + 1] == "[":
        place = skip(skip(place + 1, "0", "?"), " ", "/")
        return place + (place < len(text) and "@" <= text[place] <= "~")
    if text[place : place + 1] and text[place] in "]PX^_":
        end = place + 1
        while end < len(text) and text[end] not in "\x07\x1b" and end - place <= 2_048:
            end += 1
        if text[end : end + 1] == "\x07":
            return end + 1
        return end + 2 * (text[end : end + 2] == "\x1b\\")
    place = skip(place, " ", "/")
    return place + (place < len(text) and "0" <= text[place] <= "~")
