"""A figure or a table on a page of the book: as `gandl_lib.plots.page` puts it, with where it is from (`origins`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from gandl_book import origins
from gandl_lib.plots import doses, page
from gandl_lib.plots.page import Output

Origin = pd.DataFrame | str | Iterable[str] | None


def show(figure: Figure, caption: str, alt: str | None = None, of: Origin = None) -> Output:
    """`page.show`; `of` says what it shows (see `origins`), by default the first table that it was drawn from. Words
    between backticks are set as code."""
    if of is None:
        of = next(iter(getattr(figure, "tables", ())), None)
    return _badged(page.show(figure, caption, alt), caption, of)


def table(
    frame: pd.DataFrame | None, caption: str, rows: int | None = None, name: str = "", of: Origin = None
) -> Output:
    """`page.table`, with a badge as in `show`; without `of`, that of the table itself."""
    return _badged(page.table(frame, caption, rows, name), caption, frame if of is None else of)


def compounds(points: pd.DataFrame, curves: pd.DataFrame, *more: Any, of: Origin = None) -> Output:
    """`doses.compounds` with a badge as in `show`."""
    return _badged(doses.compounds(points, curves, *more), "", curves if of is None else of)


def _badged(output: Output, caption: str, of: Origin) -> Output:
    words = origins.origin(of)
    before, opening, after = output.bundle["text/html"].rpartition("<figcaption")
    if not opening:  # a note that there is nothing has no caption, and needs no badge
        return output
    style, end, text = after.partition(">")
    text, closing, rest = text.partition("</figcaption>")  # only the caption: a script may follow, with ` of its own
    text = re.sub("`([^`]+)`", r"<code>\1</code>", text)
    return Output(
        html=f"{before}{opening}{style}{end}{origins.badge(words)}{text}{closing}{rest}",
        plain=f"[{', '.join(words)}] {output.bundle['text/plain']}",
    )
