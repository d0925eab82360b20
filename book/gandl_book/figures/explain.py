"""What the axis looks like, chapter 12."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gandl_lib.plots.images import picture, shown
from gandl_lib.plots.page import BLACK, GREY, canvas, drawn, empty

_KINDS = {"real": (BLACK, "o"), "generated": ("#D55E00", "s"), "control": (GREY, "x")}
_WORDS = {
    "real": "real wells, C+ less C-",
    "generated": "drawn cells, +1 less -1",
    "control": "drawn, control direction",
}


def measure_name(measure: str) -> str:
    """How a measure of `gandl_lib.explain.measure` is called: without its unit, for changes are given in deviations."""
    return measure.removesuffix("_um").removesuffix("_um2").replace("_", " ")


@drawn
def axis_strip(images: np.ndarray | None, channels: Sequence[str]) -> Figure:
    """One cell moved along the axis, a row a channel, and its last less its first. images: (5, C, R, R) in [-1, 1]."""
    if images is None:
        return empty("No strip in this build: its controls set no axis, or its generator does not move along it.")
    images = shown(images)
    figure, grid = canvas(1.2 * len(channels), len(channels), len(images) + 1)
    for row, (axes_row, channel) in enumerate(zip(grid, channels, strict=True)):
        for axes, image, place in zip(axes_row, images[:, row], np.linspace(-1, 1, len(images)), strict=False):
            picture(axes, image)
            if row == 0:
                axes.set_title(f"{place:+g}", fontsize=9)
        axes_row[-1].imshow(images[-1, row] - images[0, row], cmap="RdBu_r", vmin=-0.3, vmax=0.3)
        axes_row[-1].set(xticks=[], yticks=[])
        axes_row[0].set_ylabel(channel)
    grid[0, -1].set_title("difference", fontsize=9)
    figure.alt = (
        f"One generated cell moved along the axis from -1 to +1, rows {', '.join(channels)}, and the difference."
    )
    return figure


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
