"""Where what a page shows comes from, said in front of every caption.

    this build        made by the workflow of this build, or of the release whose prebuilt results are shown (`bundle`)
    shipped weights   some of its rows are networks that came with the project and were not trained in this build
    recorded          a table of a longer run in book/reference, which has its provenance beside it
    published         numbers of others

`show` and `table` of `gandl_book.figures` read it off the table shown, or the one that a figure was drawn from: its
methods are looked up in the profile's configuration, and `chapters.recorded` and `chapters.paper` mark the tables they
give. Where a table was made into another on the way, `of=` says what it was: that table, the name of one method, or
`RECORDED` and `PUBLISHED`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import yaml

HERE, SHIPPED, RECORDED, PUBLISHED = "this build", "shipped weights", "recorded", "published"
_MARK = "origin"
_shipped: set[str] = set()


def opened(configuration: Path) -> None:
    """Note which rows of a profile, config/<profile>.yaml, are shipped weights: `chapters.need` does."""
    _shipped.clear()
    made = yaml.safe_load(configuration.read_text())
    rows = (made.get("methods") or {}) | (made.get("real_plate") or {})
    _shipped.update(name for name, settings in rows.items() if (settings or {}).get("weights"))


def mark(table: pd.DataFrame, origin: str) -> pd.DataFrame:
    """The table, which from now on says where it is from."""
    table.attrs[_MARK] = origin
    return table


def origin(of: pd.DataFrame | str | Iterable[str] | None = None) -> tuple[str, ...]:
    """The words of a badge for a table, a method or several, one of this module's words, or nothing in particular."""
    from gandl_lib.plots.page import name  # here, for the workflow reads this module and draws nothing

    if of is None:
        return (HERE,)
    if isinstance(of, pd.DataFrame):
        if known := of.attrs.get(_MARK):
            return (known,)
        methods = set().union(*(of[column] for column in ("method", "other") if column in of))
    else:
        methods = {of} if isinstance(of, str) else set(of)
    if methods & {RECORDED, PUBLISHED}:
        return tuple(word for word in (RECORDED, PUBLISHED) if word in methods)
    known = _shipped | {name(method) for method in _shipped}  # tables for readers have the names that these read
    return (HERE, SHIPPED) if methods & known else (HERE,)


STYLE = (
    "display:inline-block;border:1px solid currentColor;border-radius:4px;padding:0 .4em;margin-right:.5em;"
    "font-size:.85em;white-space:nowrap;opacity:.85"
)
EXPLAINED = {
    HERE: "made by the workflow of this build",
    SHIPPED: "by networks that came with the project, not trained in this build",
    RECORDED: "from a longer run that is kept in book/reference with its provenance",
    PUBLISHED: "numbers of others, from their publications",
}


def badge(words: Iterable[str]) -> str:
    """HTML of a badge: a frame a word, explained where a mouse rests."""
    return "".join(f'<span style="{STYLE}" title="{html.escape(EXPLAINED[w])}">{w}</span>' for w in words)
