"""Cells of drugs, who finds their mechanisms, and what steps in latent space do."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from itertools import product
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gandl_lib.cells import NUCLEUS, segment
from gandl_lib.plots.images import composite, montage, picture, shown, unit
from gandl_lib.plots.page import (
    BLACK,
    CYCLE,
    GREY,
    PALE,
    YELLOW,
    canvas,
    drawn,
    empty,
    in_words,
    maybe_simulated,
    method_style,
    name,
    percent,
    percent_ticks,
)

PROPERTIES = {"nucleus_area_um2": "nucleus area, µm²", "mean_tubulin": "mean tubulin, 0 to 1"}
"""What generated cells are measured in, as figures and text call it."""


def outlined(image: np.ndarray, labels: np.ndarray, colour: str) -> np.ndarray:
    """(H, W, 3) in [0, 1] with the pixels marked at which one of `labels` (H, W) ends and another begins."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    marked = image.copy()
    marked[edge] = matplotlib.colors.to_rgb(colour)
    return marked


@drawn
def segmented(shards: Any | None, row: int | None = None) -> Figure:
    """One site as it is, and with the outlines of the nuclei and cells that are found in it.

    Args:
        shards: `Shards` of whole sites; None draws a note that there are none.
        row: which site; the first of the controls where not given.
    """
    if shards is None:
        return empty()
    row = int(shards.wells["role"].eq("untreated").argmax()) if row is None else row
    image, dna = shards.read(row), shards.channels.index(NUCLEUS)
    nuclei, cells = segment(image, dna, shards.pixel_um)
    figure, ((left, right),) = canvas(2.9, 1, 2)
    colour = composite(unit(image, shards.limits), shards.channels)
    picture(left, colour, shards.pixel_um)
    picture(right, outlined(outlined(colour, cells, "white"), nuclei, YELLOW))
    left.set_title("one site")
    right.set_title("nuclei and cells found")
    text = (
        f"A site of {', '.join(shards.channels)}, and the same with outlines of {nuclei.max()} nuclei and their cells."
    )
    figure.alt = maybe_simulated(shards.simulated, text)
    return figure


@drawn
def drug_sites(shards: Any | None, columns: int = 4) -> Figure:
    """A site of the controls and one of every mechanism at its highest dose, as composites with their names.

    Args:
        shards: `Shards` of whole sites; None draws a note that there are none.
    """
    if shards is None:
        return empty()
    wells = shards.wells
    rows = {"DMSO": int(wells["role"].eq("untreated").argmax())}
    for mechanism, part in wells[wells["moa"] != ""].groupby("moa"):
        rows[mechanism] = int(part["concentration_uM"].idxmax())
    lines = -(-len(rows) // columns)
    figure, grid = canvas(1.75 * lines, lines, columns)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for axes in grid.flat[len(rows) :]:
        axes.set_axis_off()
    for axes, (label, row) in zip(grid.flat, rows.items(), strict=False):
        image = composite(unit(shards.read(row), shards.limits), shards.channels)
        picture(axes, image, shards.pixel_um if axes is grid[0, 0] else None)
        axes.set_title("\n".join(textwrap.wrap(label, 20)), fontsize=8)
    figure.alt = maybe_simulated(shards.simulated, f"Composites of one site each of {', '.join(rows)}.")
    return figure


def drawn_cells(shards: Any | None, drawn: Mapping[str, Any], real: bool = True) -> Figure:
    """Pictures of single cells, a row a generator, under a row of the screen's own.

    Args:
        shards: `Shards` of single cells; None draws a note that there are none.
        drawn: method -> (N, C, S, S) in [-1, 1].
        real: whether to draw the screen's own row.
    """
    if shards is None or not drawn:
        return empty()
    n = max(len(images) for images in drawn.values())
    rows = {}
    if real:  # spread over the screen: its rows are in order of plates
        chosen = np.linspace(0, len(shards) - 1, n).round().astype(int)
        rows["the screen"] = unit(shards.read_many(chosen), shards.limits)
    rows |= {name(method): shown(images) for method, images in drawn.items()}
    return montage(rows, shards.channels, shards.pixel_um, shards.simulated, "single cells")


@drawn
def exam(scores: pd.DataFrame | None, paper: pd.DataFrame | None = None) -> Figure:
    """Mechanisms found, a panel a protocol and a row a method: dots with 95 % intervals, filled for the first recipe.

    Args:
        scores: rows of moa.csv by several methods of one dataset.
        paper: method, protocol, accuracy: published values on other images, diamonds in the row of their method.
    """
    if scores is None or scores.empty:
        return empty()
    methods, recipes = (list(dict.fromkeys(scores[column])) for column in ("method", "recipe"))
    panels = dict(list(scores.groupby("protocol", sort=False)))
    figure, grid = canvas(len(panels) * (0.27 * len(methods) + 0.42) + 0.95, len(panels), 1, sharex=True)
    words = []
    for axes, (protocol, part) in zip(grid[:, 0], panels.items(), strict=True):
        axes.axvline(part["majority_rate"].iloc[0], color=GREY, linestyle=":", linewidth=1.2)
        for row in part.itertuples():
            i, k = methods.index(row.method), recipes.index(row.recipe)
            style, y = method_style(row.method, i), i + 0.3 * (k - (len(recipes) - 1) / 2)
            axes.plot([row.ci_low, row.ci_high], [y, y], color=style["color"], linewidth=1.6)
            axes.plot(row.accuracy, y, linestyle="", markerfacecolor="white" if k else style["color"], **style)
            words.append(f"{protocol}, {name(row.method)}, {row.recipe} {percent(row.accuracy)}")
        if paper is not None:
            for one in paper[(paper["protocol"] == protocol) & paper["method"].isin(methods)].itertuples():
                axes.plot(one.accuracy, methods.index(one.method), "D", mfc="none", mec=BLACK, zorder=3)
        axes.set_yticks(range(len(methods)), map(name, methods))
        axes.set_ylim(len(methods) - 0.4, -0.6)
        axes.set_title(f"{protocol}, {part['n_treatments'].iloc[0]} treatments", loc="left")
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 1.02), xlabel="mechanisms found, with 95 % interval")
    percent_ticks(axes.xaxis)
    marks = [Line2D([], [], linestyle="", marker="o", color=BLACK, mfc="white" if k else BLACK, label=recipe)
             for k, recipe in enumerate(recipes)]  # fmt: skip
    if paper is not None:
        marks += [Line2D([], [], linestyle="", marker="D", color=BLACK, mfc="none", label="paper, real images")]
    figure.legend(handles=marks, loc="outside lower center", ncols=3, handletextpad=0.2)
    figure.alt = f"Mechanisms found: {'; '.join(words)}."
    return figure


@drawn
def latent_effect(tried: pd.DataFrame | None) -> Figure:
    """What steps along a direction do to a property of generated cells: a row a method, a column a property.

    Args:
        tried: latent_arithmetic.csv.
    """
    if tried is None or tried.empty:
        return empty()
    methods, properties = (list(dict.fromkeys(tried[column])) for column in ("method", "property"))
    figure, grid = canvas(1.25 * len(methods) + 0.7, len(methods), len(properties), sharex=True, sharey="col")
    words = {}
    for i, (row, method) in enumerate(zip(grid, methods, strict=True)):
        for axes, column in zip(row, properties, strict=True):
            part = tried[(tried["method"] == method) & (tried["property"] == column)]
            axes.axhline(0, color=PALE, linewidth=0.8)
            for direction, line in part.groupby("direction", sort=False):
                found = direction == "found"
                colour = method_style(method, i)["color"] if found else GREY
                axes.fill_between(line["step"], line["change_low"], line["change_high"], color=colour, alpha=0.25, lw=0)
                axes.plot(line["step"], line["change"], color=colour, linewidth=1.8 if found else 0.9)
                if found:
                    words[f"{name(method)}, {PROPERTIES.get(column, column)}"] = f"{line['change'].iloc[-1]:+.3g}"
            axes.grid(axis="y")
            if i == 0:
                axes.set_title(f"change of {PROPERTIES.get(column, column)}", fontsize=9)
            if i == len(methods) - 1:
                axes.set_xlabel("step, in lengths of the direction")
        row[0].set_ylabel(name(method))
    marks = [Line2D([], [], color=BLACK, label="direction found"), Line2D([], [], color=GREY, lw=0.9, label="random")]
    figure.legend(handles=marks, loc="outside lower center", ncols=2)
    figure.alt = f"Changes at a whole step of the direction found, beside random ones of its length: {in_words(words)}."
    return figure


@drawn
def real_training(table: pd.DataFrame | None, bars: tuple[str, ...] = ("texture", "intensity")) -> Figure:
    """Treatments right against crops seen: untrained seeds as dots at 0, a line a trained seed.

    A column a tap, a row a normalisation.

    Args:
        table: rows of real_cells.csv on the fields.
        bars: variants that stand as lines across.
    """
    if table is None or table.empty:
        return empty()
    taps = {"penultimate": "as published: before the verdict", "all blocks": "all blocks together"}
    ways = {"global": "z-scores", "sphered": "sphered"}
    table = table[(table["protocol"] == "NSC") & table["normalisation"].isin(list(ways))]
    ways = {way: called for way, called in ways.items() if way in set(table["normalisation"])}
    networks = list(dict.fromkeys(table.loc[table["layer"].isin(list(taps)), "variant"]))
    figure, grid = canvas(2.3 * len(ways) + 0.8, len(ways), 2, sharex=True, sharey=True)
    words = {}
    for (i, (way, called)), (j, (layer, title)) in product(enumerate(ways.items()), enumerate(taps.items())):
        axes, asked = grid[i, j], table[table["normalisation"] == way]
        for k, bar in enumerate(bars):
            value = asked.loc[asked["variant"] == bar, "correct"].iloc[0]
            axes.axhline(value, color=(BLACK, GREY)[k], linestyle=("--", ":")[k], linewidth=1.2, label=name(bar))
            words[f"{called}, {name(bar)}"] = f"{value:.0f}"
        for k, network in enumerate(networks):
            rows = asked[(asked["variant"] == network) & (asked["layer"] == layer)]
            before, shift = rows[rows["n_seen"] == 0], 0.02 * (k - (len(networks) - 1) / 2) * table["n_seen"].max()
            axes.plot(np.full(len(before), shift), before["correct"], "o", mfc="none", mec=CYCLE[k], label=network)
            for _, line in rows.groupby("seed"):
                if line["n_seen"].max() > 0:
                    axes.plot(line["n_seen"] + shift, line["correct"], marker="o", color=CYCLE[k], linewidth=1)
            words[f"{called}, {title}, {network}"] = ", ".join(
                f"{part['correct'].min():.0f} to {part['correct'].max():.0f} after {n} crops"
                for n, part in rows.groupby("n_seen")
            )
        if i == 0:
            axes.set_title(title, fontsize=9)
        if i == len(ways) - 1:
            axes.set_xlabel("crops seen in training")
        if j == 0:
            axes.set_ylabel(f"{called}: right of {table['of'].max():.0f}")
        axes.grid(axis="y")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    figure.alt = f"Treatments right, of {table['of'].max():.0f}, against crops seen: {in_words(words)}."
    return figure
