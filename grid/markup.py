"""Static HTML for notebooks: tables and texts, everything escaped, no scripts, no colours but the notebook's own."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


class Markup(str):
    """Text that is HTML already; everything else is escaped when it is put into some."""

    __slots__ = ()


def join(*parts: object) -> Markup:
    """Put texts and pieces of HTML one after the other."""
    return Markup("".join(part if isinstance(part, Markup) else html.escape(str(part)) for part in parts))


def element(name: str, *parts: object, **attributes: str) -> Markup:
    """Return an element with these parts in it."""
    written = "".join(f' {key}="{html.escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{written}>{join(*parts)}</{name}>")


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], more: str = "") -> Markup:
    """Return a table with its first column as the headings of its rows, and what is to be said of further rows."""
    lines = [
        element("tr", element("th", row[0], style=_CELL), *(element("td", cell, style=_CELL) for cell in row[1:]))
        for row in rows
    ]
    head = element("tr", *(element("th", heading, style=_CELL) for heading in headings))
    shown = element("table", element("thead", head), element("tbody", *lines))
    return join(shown, element("div", more)) if more else shown


def pairs(values: Iterable[tuple[str, object]]) -> Markup:
    """Return a table of names and what they stand for."""
    lines = [
        element("tr", element("th", name, style=_CELL), element("td", value, style=_CELL)) for name, value in values
    ]
    return element("table", element("tbody", *lines))


def details(summary: str, *parts: object) -> Markup:
    """Return what is shown when its summary is clicked."""
    return element("details", element("summary", summary), *parts)


def whole(*parts: object) -> str:
    """Return what is shown of an object, as a plain text."""
    # Jupyter takes what stands between two dollar signs for a formula, unless it is told not to.
    return str.__str__(Markup(f'<div class="tex2jax_ignore mathjax_ignore">{join(*parts)}</div>'))


_CELL = "text-align: left; vertical-align: top"
