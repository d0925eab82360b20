"""What the axis looks like, chapter 12."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from gandl_book.figures.explain import measure_name
from gandl_lib.plots.page import Output
from gandl_lib.plots.words import count, listing, points


def axis_effects(effects: pd.DataFrame) -> Output:
    """For each screen: what truly changes, what of it the generator shows, and what the control direction changed."""
    sentences = []
    for screen, rows in effects.groupby("screen", sort=False):
        moved = {what: _surely(part) for what, part in rows.groupby("what")}
        real, drawn, control = (moved.get(what, {}) for what in ("real", "generated", "control"))
        same = [m for m in real if drawn.get(m) == real[m]]
        against = [m for m in real if m in drawn and drawn[m] != real[m]]
        only = [m for m in drawn if m not in real]
        missed = len(real) - len(same) - len(against)
        sentences.append(
            f"**{screen}.** Between real control wells {count(len(real), 'measure')} of "
            f"{rows['measure'].nunique()} differ beyond chance ({_names(real)}). Of these, cells drawn along the axis "
            f"change {len(same)} the same way ({_names(same)}), {len(against)} the other way "
            f"({_names(against)}), and {missed} by no more than chance. "
            f"They also change {len(only)} that real wells do not ({_names(only)}). "
            f"The control direction, which should change nothing, changes {len(control)} "
            f"({_names(control)}); by chance alone it would be one in twenty of those measured."
        )
    return points(*sentences)


def axis_moves(moves: pd.DataFrame) -> pd.DataFrame:
    """How far the moves went on the axis they were made for, and whether the cell stayed itself."""
    return pd.DataFrame(
        {
            "screen": moves["screen"],
            "cells": moves["what"],
            "score before": moves["score_before"].round(2),
            "after": moves["score_after"].round(2),
            "moved by": (moves["score_after"] - moves["score_before"]).round(2),
            "predicted": moves["predicted"],
            "still itself": moves["identity"].map(lambda share: f"{100 * share:.0f} %"),
        }
    )


def beside_axis(effects: pd.DataFrame) -> pd.DataFrame:
    """What a compound surely changes that its place on the axis does not account for."""
    rows = effects[effects["what"].str.startswith("beside ") & ((effects["low"] > 0) | (effects["high"] < 0))]
    change, low, high = (rows[c] / rows["spread"] for c in ("change", "low", "high"))
    words = [f"{c:+.2f} ({a:+.2f} to {b:+.2f})" for c, a, b in zip(change, low, high, strict=True)]
    compound, measures = rows["what"].str.removeprefix("beside "), rows["measure"].map(measure_name)
    return pd.DataFrame({"screen": rows["screen"], "compound": compound, "measure": measures, "beside": words})


def _names(measures: Iterable[str]) -> str:
    return listing([measure_name(m) for m in measures]) or "none"


def _surely(rows: pd.DataFrame) -> dict[str, bool]:
    """Measures whose interval leaves out zero, and whether they rise."""
    sure = rows[(rows["low"] > 0) | (rows["high"] < 0)]
    return dict(zip(sure["measure"], sure["change"] > 0, strict=True))
