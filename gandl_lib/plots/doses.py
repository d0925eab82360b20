"""Dose and response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gandl_lib.plots.page import (
    BLACK,
    BLUE,
    GREY,
    ROLES,
    VERMILLION,
    canvas,
    choice_html,
    drawing,
    drawn,
    empty,
    live,
    name,
    tell,
)
from gandl_lib.plots.words import Output, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curve(row: Any, concentration_uM: np.ndarray) -> np.ndarray:
    """The fitted four-parameter curve of a row of dose_response.csv at each concentration."""
    return row.bottom + (row.emax - row.bottom) / (1 + (row.ec50_uM / concentration_uM) ** row.hill)


@drawn
def dose_curves(
    points: pd.DataFrame,
    curves: pd.DataFrame,
    method: str,
    compounds: Sequence[tuple[str, str]],
    truth: pd.DataFrame | None = None,
    wells: pd.DataFrame | None = None,
) -> Figure:
    """Dose-response of (cell type, compound) pairs: mean and 95 % interval per dose, the fit, and the EC50's interval.

    Args:
        points: dose_points.csv.
        curves: dose_response.csv.
        truth: of a simulated screen; the true EC50 is a triangle on the axis.
        wells: efficacy.csv; every well is a dot then.
    """
    pairs = pd.DataFrame(list(compounds), columns=["cell_type", "compound"]).assign(method=method)
    rows = pairs.merge(curves, "inner").dropna(subset=["efficacy_max"])
    if rows.empty:
        return empty(f"{name(method)} has no dose-response curve of these compounds to show.")
    columns = min(2, len(rows))
    n_rows = -(-len(rows) // columns)
    figure, grid = canvas((2.1 if columns == 2 else 3.0) * n_rows + 0.7, n_rows, columns, sharey=True)
    words = []
    for axes, row in zip(grid.flat, rows.itertuples(), strict=False):
        pair = pairs.query("cell_type == @row.cell_type and compound == @row.compound")
        dots = pair.merge(wells).dropna(subset=["efficacy", "concentration_uM"]) if wells is not None else None
        true = pair.merge(truth)["ec50_uM"].dropna() if truth is not None else ()
        said = dose_curve(axes, row, pair.merge(points), dots, true)
        axes.set_title(f"{row.compound}, {row.cell_type}\n{said}", fontsize=9)
        words.append(f"{row.compound} in {row.cell_type}: {said}, highest mean efficacy {row.efficacy_max:.2f}")
    for axes in grid.flat[len(rows) :]:
        axes.set_axis_off()
    drawn_points = pairs.merge(points)
    reached = drawn_points[["efficacy", "ci_low", "ci_high"]].abs()
    highest = reached["efficacy"].max() if len(rows) > 1 else reached.max(axis=None)
    reach = min(max(2.0, highest + 0.2), 5.0)
    for axes in grid[:, 0]:
        axes.set(ylabel="efficacy score", ylim=(-reach, reach))
    for axes in grid.flat[max(0, len(rows) - columns) : len(rows)]:
        axes.set_xlabel("concentration (µM)")
    handles = [
        Line2D([], [], color=ROLES["treated"], marker="o", label="mean of wells, 95 % interval"),
        Line2D([], [], color=BLACK, label="fitted curve"),
        Line2D([], [], color=BLACK, linewidth=4, alpha=0.3, label="EC50, 95 % interval"),
    ]
    if "suspect" in drawn_points and drawn_points["suspect"].eq(True).any():
        label = "suspect dose: off the axis or few cells"
        handles.append(Line2D([], [], color=VERMILLION, marker="x", markersize=8, linestyle="", label=label))
    if wells is not None:
        handles.append(Line2D([], [], color=GREY, marker="o", linestyle="", markersize=4, label="a well"))
    if truth is not None:
        handles.append(Line2D([], [], color=BLUE, marker="^", linestyle="", label="true EC50 (simulated)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    figure.alt = f"Dose-response curves by {name(method)}. {'; '.join(words)}."
    return figure


def compounds(
    points: pd.DataFrame,
    curves: pd.DataFrame,
    method: str,
    pairs: Sequence[tuple[str, str]],
    caption: str,
    truth: pd.DataFrame | None = None,
    wells: pd.DataFrame | None = None,
) -> Output:
    """The curve of one (cell type, compound) pair after the other, chosen from a list; arguments as `dose_curves`."""
    panels = panels_of(points, curves, method, pairs, truth, wells)
    if not panels:
        return Output(html=f"<p><em>{caption}</em></p>", plain=caption)
    return Output(html=choice_html(panels, "Compound", caption) + live(), plain=f"[{', '.join(panels)}] {caption}")


def panels_of(
    points: pd.DataFrame,
    curves: pd.DataFrame,
    method: str,
    pairs: Sequence[tuple[str, str]],
    truth: pd.DataFrame | None = None,
    wells: pd.DataFrame | None = None,
) -> dict[str, str]:
    """Name of each pair -> its curve as HTML, for `page.choice`."""
    panels = {}
    called = curves[curves["method"] == method].set_index(["cell_type", "compound"])["hit"]
    for cell_type, compound in pairs:
        figure = dose_curves(points, curves, method, [(cell_type, compound)], truth, wells)
        hit = ", a hit" if bool(called.get((cell_type, compound), False)) else ""
        panels[f"{compound} in {cell_type}{hit}"] = drawing(figure, figure.alt[:300])
    return panels


def _where(well: Any) -> str:
    """Plate and position, as far as a row of efficacy.csv says them."""
    plate = getattr(well, "plate_id", "")
    return f"{well.well_id.removeprefix(f'{plate}_')}, plate {plate}" if plate else str(well.well_id)


def _mean(point: Any) -> str:
    """What a dose says of itself (a row of dose_points.csv)."""
    interval = f" ({point.ci_low:.2f} to {point.ci_high:.2f})" if point.ci_low == point.ci_low else ""
    said = [f"{number(point.concentration_uM)} µM, {point.n_wells} wells", f"mean {point.efficacy:.2f}{interval}"]
    if (cells := getattr(point, "cells", np.nan)) == cells:
        said.append(f"{100 * cells:.0f} % of the cells of C-")
    if getattr(point, "suspect", False) is True:
        said.append("suspect: unlike both controls")
    return "\n".join(said)


def dose_curve(axes: Axes, row: Any, points: pd.DataFrame, wells: pd.DataFrame | None, true_uM: Sequence[float]) -> str:
    """One panel of `dose_curves`; returns what to say of the EC50."""
    doses = points["concentration_uM"].to_numpy()
    low, high = doses[0] / 1.6, doses[-1] * 1.6
    toxic = doses >= (row.toxic_from_uM if row.toxic_from_uM == row.toxic_from_uM else np.inf)
    axes.axhline(0, color=GREY, linewidth=0.9)
    for end in (-1, 1):
        axes.axhline(end, color=GREY, linewidth=0.8, linestyle=":")
    if toxic.any():
        start = np.sqrt(doses[toxic][0] * doses[~toxic][-1])
        axes.axvspan(start, high, color=VERMILLION, alpha=0.12, linewidth=0)
        axes.text(0.98, 0.98, "toxic", color=VERMILLION, fontsize=8, ha="right", va="top", transform=axes.transAxes)
    if wells is not None:
        # Beside their dose, for the mean's own bar would cover them.
        beside = wells["concentration_uM"] * (doses[-1] / doses[0]) ** 0.015
        dots = axes.scatter(beside, wells["efficacy"], s=9, color=GREY, alpha=0.7, linewidth=0)
        tell(
            dots,
            [f"{_where(w)}: {number(w.concentration_uM)} µM\nefficacy {w.efficacy:.2f}" for w in wells.itertuples()],
        )
    whiskers = np.nan_to_num([points["efficacy"] - points["ci_low"], points["ci_high"] - points["efficacy"]])
    axes.errorbar(doses, points["efficacy"], whiskers, fmt="none", ecolor=ROLES["treated"], elinewidth=1.3)
    means = axes.scatter(doses, points["efficacy"], s=18, color=ROLES["treated"], linewidth=0, zorder=3)
    tell(means, [_mean(point) for point in points.itertuples()])
    if "suspect" in points and (suspect := points["suspect"].eq(True).to_numpy()).any():
        axes.plot(doses[suspect], points["efficacy"][suspect], "x", color=VERMILLION, markersize=8, zorder=4)
    for value in true_uM:
        axes.plot(
            value, 0, "^", color=BLUE, markersize=7, clip_on=False, zorder=5, transform=axes.get_xaxis_transform()
        )
    axes.set(xscale="log", xlim=(low, high))
    if np.isfinite(row.ec50_uM):
        x = np.geomspace(doses[0], doses[~toxic][-1], 200)
        axes.plot(x, curve(row, x), color=BLACK, linewidth=1.4)
        ends = np.clip([row.ec50_low, row.ec50_high], low, high)
        axes.plot(ends, [(row.emax + row.bottom) / 2] * 2, color=BLACK, linewidth=4, alpha=0.3, solid_capstyle="butt")
        return f"EC50 {number(row.ec50_uM, 2)} µM"
    if isinstance(row.ec50_censored, str) and row.ec50_censored:
        return f"EC50 {row.ec50_censored.replace('max', 'highest dose').replace('min', 'lowest dose')}"
    return "no curve"
