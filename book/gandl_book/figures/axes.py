"""Axes and rankings as chapters show them."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gandl_lib.plots.axes import span
from gandl_lib.plots.page import BLACK, CYCLE, GREEN, GREY, ROLES, canvas, drawn, empty, methods_in, name

UNFITTED = {
    "E2": "No E2 axis: no cell type of this build has enough wells of both controls.",
    "C2": "No C2 axis: it takes control wells of both HRCE and VERO, which this build does not have.",
}
"""What a build says instead of an axis that it could not fit."""


@drawn
def axes_plot(positions: pd.DataFrame, method: str, task: str = "E2") -> Figure:
    """Wells on and off an axis, and above it how they spread along it: a panel a cell type (E2), or one panel (C2).

    Off the axis is a length here, as in `gandl_lib.evaluate.toxicity`: its sign says little, and parts a cloud in two.

    Args:
        positions: axes.csv: method, task, cell_type, role, on, off, split.
    """
    chosen = positions[(positions["method"] == method) & (positions["task"] == task)]
    if chosen.empty:
        return empty(UNFITTED[task])
    chosen = chosen.dropna(subset=["on", "off"])
    chosen = chosen.assign(off=chosen["off"].abs())
    if chosen.empty:
        return empty(f"{name(method)} has no {task} axis: it does not order control wells it has not seen.")
    cell_types = sorted(chosen["cell_type"].unique())
    if task == "E2":
        parts = {cell_type: chosen[chosen["cell_type"] == cell_type] for cell_type in cell_types}
        column, colours, ends = "role", {r: ROLES[r] for r in ("treated", "UV", "C-", "C+")}, ("C-", "C+")
    else:
        parts = {" and ".join(cell_types): chosen}
        column, colours, ends = "cell_type", dict(zip(cell_types, CYCLE, strict=False)), cell_types[::-1]
    rows = len(parts)
    ratios = {"height_ratios": [1, 2.4] * rows}
    figure, grid = canvas(3.6 * rows, 2 * rows, 1, gridspec_kw=ratios)
    words = []
    for above, below, (panel, part) in zip(grid[::2, 0], grid[1::2, 0], parts.items(), strict=True):
        (left, right), (bottom, top) = (span(part[c], limit) for c, limit in (("on", 6), ("off", np.inf)))
        bottom = 0.0
        bins = np.linspace(left, right, 46)
        for value, colour in colours.items():
            one = part[part[column] == value]
            if one.empty:
                continue
            size, alpha = (6, 0.35) if value == "treated" else (13, 0.8)
            label = f"{value} ({len(one)})"
            below.scatter(one["on"], one["off"], s=size, color=colour, alpha=alpha, linewidth=0, label=label)
            above.hist(one["on"], bins=bins, density=True, histtype="step", linewidth=1.6, color=colour)
            words.append(f"{panel}, {value} mean {one['on'].mean():.2f}")
        for axes in (above, below):
            axes.axvline(0, color=GREY, linewidth=0.9)
            for end in (-1, 1):
                axes.axvline(end, color=GREY, linewidth=0.9, linestyle=":")
            axes.set_xlim(left, right)
        above.set(yticks=[], title=panel)
        above.tick_params(labelbottom=False)
        below.set(
            ylim=(bottom, top), ylabel="distance off it", xlabel=f"on the axis ({ends[0]} at -1, {ends[1]} at +1)"
        )
        below.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=4, handletextpad=0.1, columnspacing=1)
    figure.alt = f"Wells on and off the {task} axis of {name(method)}, histograms of the on-values: {'; '.join(words)}."
    return figure


@drawn
def ranking(curves: pd.DataFrame, method: str, truth: pd.DataFrame | None = None) -> Figure:
    """Compounds by their highest mean efficacy, a panel a cell type; filled where called a hit.

    Args:
        curves: dose_response.csv.
        truth: cell_type, compound, effective of a simulated screen: compounds that truly help are green, others grey.
    """
    part = curves[curves["method"] == method].dropna(subset=["efficacy_max"])
    if part.empty:
        return empty(f"{name(method)} has no efficacy scores, so there is nothing to rank.")
    known = truth[["cell_type", "compound", "effective"]] if truth is not None else part[["cell_type", "compound"]]
    part = part.merge(known, "left", ["cell_type", "compound"])
    cell_types = sorted(part["cell_type"].unique())
    figure, grid = canvas(2.0 * len(cell_types) + 0.7, len(cell_types), 1)
    words = []
    for axes, cell_type in zip(grid[:, 0], cell_types, strict=True):
        one = part[part["cell_type"] == cell_type].sort_values("efficacy_max", ascending=False)
        helps = one["effective"] if truth is not None else np.ones(len(one), bool)
        colours = np.where(helps, GREEN, GREY)
        faces = np.where(one["hit"].astype(bool), colours, "white")
        axes.axhline(0, color=GREY, linewidth=0.9)
        axes.scatter(range(1, len(one) + 1), one["efficacy_max"], c=faces, edgecolors=colours, s=30, linewidths=1.3)
        axes.set_title(cell_type, loc="left")
        axes.set_ylabel("highest mean\nefficacy of a dose")
        axes.grid(axis="y")
        hits = int(one["hit"].astype(bool).sum())
        words.append(f"{cell_type}: {hits} hits among {len(one)} compounds, best {one['compound'].iloc[0]}")
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axes.set_xlabel("rank of the compound")
    dot = dict(color=BLACK, marker="o", linestyle="")
    handles = [Line2D([], [], label="called a hit", **dot), Line2D([], [], label="not", markerfacecolor="white", **dot)]
    if truth is not None:
        handles += [Patch(color=GREEN, label="truly effective (simulated)"), Patch(color=GREY, label="not effective")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, handletextpad=0.4)
    figure.alt = f"Compounds ranked by highest mean efficacy under {name(method)}. {'; '.join(words)}."
    return figure


@drawn
def axes_of_all(positions: pd.DataFrame, task: str = "E2") -> Figure:
    """Fig. 3 for every embedding: control wells along the axis, a row a method, for E2 a column a cell type.

    Args:
        positions: axes.csv; a row without histograms has no axis, for it does not order control wells it has not seen.
    """
    part = positions[(positions["task"] == task) & positions["split"].isin(["train", "test"])]
    if part.empty:
        return empty(UNFITTED[task])
    methods, cell_types = methods_in(part), sorted(part["cell_type"].unique())
    if task == "E2":
        columns = {cell_type: part[part["cell_type"] == cell_type] for cell_type in cell_types}
        by, colours = "role", {role: ROLES[role] for role in ("C-", "C+")}
    else:
        columns, by, colours = {" and ".join(cell_types): part}, "cell_type", dict(zip(cell_types, CYCLE, strict=False))
    figure, grid = canvas(0.5 * len(methods) + 1.1, len(methods), len(columns), sharex=True)
    words = []
    for i, method in enumerate(methods):
        for axes, (title, column) in zip(grid[i], columns.items(), strict=True):
            one = column[column["method"] == method].dropna(subset=["on"])
            for value, colour in colours.items():
                on = one.loc[one[by] == value, "on"]
                axes.hist(np.clip(on, -3, 3), bins=np.linspace(-3, 3, 41), color=colour, alpha=0.6, density=len(on) > 0)
            means, spread = one.groupby(by)["on"].mean(), one.groupby(by)["on"].std()
            if len(means) == 2:
                words.append(f"{name(method)}, {title} {abs(means.diff().iloc[-1]) / spread.mean():.1f} spreads apart")
            axes.axvline(0, color=GREY, linewidth=0.8)
            axes.set(yticks=[], xlim=(-3, 3))
            axes.spines["left"].set_visible(False)
            if i == 0:
                axes.set_title(title)
            if i == len(methods) - 1:
                axes.set_xlabel("on the axis")
        grid[i, 0].set_ylabel(name(method), rotation=0, ha="right", va="center", fontsize=8)
    handles = [Patch(color=colour, alpha=0.6, label=value) for value, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    figure.alt = f"Histograms of control wells along the {task} axis of each method: {'; '.join(words)}."
    return figure
