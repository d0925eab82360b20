"""Plates as chapters show them."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gandl_lib.plots.page import BLACK, CHANNELS, CYCLE, GREY, ROLES, WHITE, WIDTH, canvas, drawn, in_words
from gandl_lib.wells import letters, place

MARKS = {"C+": "+", "C-": "_", "UV": "x"}
"""Of controls, inside their squares: colour alone tells nothing to some."""


@drawn
def plate_map(wells: pd.DataFrame, plate_id: str) -> Figure:
    """Where on a plate which role lies. Columns that hold untreated controls only are marked below the plate."""
    plate = wells[wells["plate_id"] == plate_id].drop_duplicates("well_id")
    if plate.empty:
        raise ValueError(f"no plate {plate_id!r}; there are {', '.join(wells['plate_id'].unique()[:8])}.")
    at = np.array([place(well) for well in plate["well"]])
    roles = [role for role in ROLES if (plate["role"] == role).any()]
    size = at.max(axis=0) + 1
    image = np.ones((*size, 3))
    for role in roles:
        rows, columns = at[(plate["role"] == role).to_numpy()].T
        image[rows, columns] = matplotlib.colors.to_rgb(ROLES[role])
    figure, ((axes,),) = canvas(0.75 + WIDTH * size[0] / size[1] * 0.95)
    axes.pcolormesh(np.arange(size[1] + 1) + 0.5, np.arange(size[0] + 1), image, edgecolor="white", linewidth=0.4)
    for role, mark in MARKS.items():
        rows, columns = at[(plate["role"] == role).to_numpy()].T
        axes.plot(columns + 1, rows + 0.5, mark, color="white", markersize=4, markeredgewidth=0.9)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    columns = sorted(set(at[plate["role"].isin(["C+", "UV"]).to_numpy(), 1] + 1))
    axes.set_xticks(columns if len(columns) <= 8 else range(1, size[1] + 1, 4))
    axes.set_yticks(np.arange(0, size[0], 5) + 0.5, [letters(row) for row in range(0, size[0], 5)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="column", ylabel="row", title=f"plate {plate_id}")
    counts = plate["role"].value_counts()
    square = {"marker": "s", "markersize": 9, "linestyle": "", "markeredgecolor": "none"}
    mark = {"markersize": 6, "linestyle": "", "color": "white", "markeredgewidth": 1.2}
    labels = [f"{role} ({counts[role]})" for role in roles]
    handles = [
        (Line2D([], [], color=ROLES[role], **square), Line2D([], [], marker=MARKS.get(role, ""), **mark))
        for role in roles
    ]
    figure.legend(handles, labels, loc="outside lower center", ncols=len(roles))
    figure.alt = (
        f"Map of plate {plate_id}, a square a well: {in_words({r: str(counts[r]) for r in roles})} wells. "
        f"C+ and UV lie in columns {', '.join(map(str, columns))} only."
    )
    return figure


@drawn
def plate_effects(statistics: pd.DataFrame) -> Figure:
    """Mean grey value of every plate and channel, relative to the mean over plates.

    Args:
        statistics: `Shards.statistics`, with columns plate_id, channel, mean.
    """
    wide = statistics.pivot(index="plate_id", columns="channel", values="mean")
    wide = wide.loc[statistics["plate_id"].unique(), statistics["channel"].unique()]
    relative = wide / wide.mean()
    figure, ((axes,),) = canvas(3.0)
    axes.axhline(1, color=GREY, linewidth=0.8)
    for i, channel in enumerate(relative):
        colour = CHANNELS.get(channel, CYCLE[i % len(CYCLE)])
        axes.plot(
            relative[channel].to_numpy(), "o-", color=colour, label=channel, markeredgecolor=BLACK, markeredgewidth=0.4
        )
    axes.set_yscale("log")
    ticks = [
        t
        for t in (0.25, 0.5, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 4)
        if relative.min().min() * 0.9 <= t <= relative.max().max() * 1.1
    ]
    axes.set_yticks(ticks, [f"{t:g}×" for t in ticks])
    axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_xticks(
        range(len(relative)),
        relative.index,
        rotation=45 if len(relative) > 4 else 0,
        ha="right" if len(relative) > 4 else "center",
    )
    axes.set(xlabel="plate", ylabel="mean grey value,\nrelative to all plates")
    axes.grid(axis="y")
    figure.legend(loc="outside upper center", ncols=len(wide.columns))
    spread = {channel: f"{relative[channel].min():.2f} to {relative[channel].max():.2f}" for channel in relative}
    figure.alt = (
        f"Line per channel over {len(wide)} plates, mean grey value relative to the channel's mean: {in_words(spread)}."
    )
    return figure


@drawn
def grey_values(histograms: np.ndarray, channels: Sequence[str], limits: np.ndarray, bin_width: int = 1) -> Figure:
    """How often each grey value occurs, and which two become -1 and 1.

    Args:
        histograms: (C, bins) pixel counts.
        limits: (C, 2) grey values.
        bin_width: grey values a bin.
    """
    figure, grid = canvas(0.85 * len(channels) + 0.7, len(channels), 1, sharex=True)
    grey = np.arange(histograms.shape[1]) * bin_width
    top = grey[np.flatnonzero(histograms.sum(0))[-1]]
    for i, (axes, channel) in enumerate(zip(grid[:, 0], channels, strict=True)):
        colour = CHANNELS.get(channel, CYCLE[i % len(CYCLE)])
        axes.fill_between(grey, histograms[i] / histograms[i].sum(), step="mid", color=colour, linewidth=0)
        for value, label in zip(limits[i], ("-1", "1"), strict=True):
            axes.axvline(value, color=BLACK, linewidth=0.9)
            axes.text(value, 1, f" {label}", transform=axes.get_xaxis_transform(), fontsize=8, va="top", bbox=WHITE)
        axes.set(yscale="log", yticks=[], xlim=(0, top * 1.02))
        axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axes.set_ylabel(channel, rotation=0, ha="right", va="center")
    grid[-1, 0].set_xlabel("grey value as stored")
    figure.supylabel("pixels (logarithmic)", fontsize=9)
    ends = {channel: f"{low:g} and {high:g}" for channel, (low, high) in zip(channels, limits, strict=True)}
    figure.alt = f"Histogram of grey values per channel, with the two values that become -1 and 1: {in_words(ends)}."
    return figure
