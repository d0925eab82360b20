"""What the axis looks like, chapter 12."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gandl_lib.plots.page import BLACK, GREY, canvas, drawn
from gandl_lib.plots.strips import measure_name

_KINDS = {"real": (BLACK, "o"), "generated": ("#D55E00", "s"), "control": (GREY, "x")}
_WORDS = {
    "real": "real wells, C+ less C-",
    "generated": "drawn cells, +1 less -1",
    "control": "drawn, control direction",
}


@drawn
def axis_effects(effects: pd.DataFrame, screen: str) -> Figure:
    """Every measure's change in standard deviations of crops: real, drawn, and along the control direction."""
    rows = effects[(effects["screen"] == screen) & effects["what"].isin(list(_KINDS))]
    measures = list(dict.fromkeys(rows["measure"]))
    figure, grid = canvas(0.26 * len(measures) + 0.9, 1, 1)
    axes = grid[0, 0]
    for k, (what, (colour, marker)) in enumerate(_KINDS.items()):
        one = rows[rows["what"] == what].set_index("measure").reindex(measures)
        change, low, high = (one[c] / one["spread"] for c in ("change", "low", "high"))
        y = np.arange(len(measures)) + 0.25 * (k - 1)
        axes.errorbar(
            change,
            y,
            xerr=[(change - low).clip(lower=0), (high - change).clip(lower=0)],
            fmt=marker,
            color=colour,
            markersize=3.5,
            linewidth=1,
            label=_WORDS[what],
        )
    axes.axvline(0, color=GREY, linewidth=0.7)
    axes.set_yticks(range(len(measures)), [measure_name(m) for m in measures])
    axes.invert_yaxis()
    axes.set_xlabel("change, standard deviations of crops of C- wells")
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    figure.alt = (
        f"{screen}: change of {len(measures)} measures with 95 % intervals, between real controls and as drawn."
    )
    return figure
