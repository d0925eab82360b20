"""What the axis looks like, chapter 12."""

from __future__ import annotations

import pandas as pd

from gandl_lib.plots.page import Output
from gandl_lib.plots.strips import (
    AGAINST,
    MISSED,
    ONLY,
    SAME,
    deviations,
    measure_name,
    measure_names,
    surely,
    verdicts,
)
from gandl_lib.plots.words import count, points


def axis_effects(effects: pd.DataFrame) -> Output:
    """For each screen: what truly changes, what of it the generator shows, and what the control direction changed."""
    sentences = []
    for screen, rows in effects.groupby("screen", sort=False):
        found, control = verdicts(rows), surely(rows[rows["what"] == "control"])
        by = {verdict: [m for m, v in found.items() if v == verdict] for verdict in (SAME, AGAINST, MISSED, ONLY)}
        real = [m for m, v in found.items() if v != ONLY]
        sentences.append(
            f"**{screen}.** Between real control wells {count(len(real), 'measure')} of "
            f"{rows['measure'].nunique()} differ beyond chance ({measure_names(real)}). Of these, cells drawn along "
            f"the axis change {len(by[SAME])} the same way ({measure_names(by[SAME])}), {len(by[AGAINST])} the other "
            f"way ({measure_names(by[AGAINST])}), and {len(by[MISSED])} by no more than chance. "
            f"They also change {len(by[ONLY])} that real wells do not ({measure_names(by[ONLY])}). "
            f"The control direction, which should change nothing, changes {len(control)} "
            f"({measure_names(control)}); by chance alone it would be one in twenty of those measured."
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
    compound, measures = rows["what"].str.removeprefix("beside "), rows["measure"].map(measure_name)
    return pd.DataFrame(
        {"screen": rows["screen"], "compound": compound, "measure": measures, "beside": deviations(rows)}
    )
