"""Setups of learning paradigms beside each other."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gandl_lib.plots.images import album, composite, picture, tiles, unit
from gandl_lib.plots.page import (
    BLUE,
    CYCLE,
    GREEN,
    GREY,
    METHODS,
    PALE,
    PURPLE,
    VERMILLION,
    WHITE,
    YELLOW,
    canvas,
    drawn,
    in_words,
    maybe_simulated,
    name,
    percent,
    tell,
)
from gandl_lib.plots.words import number

PARADIGMS = {"weak": VERMILLION, "autoencoder": BLUE, "regularised": PURPLE, "byol": GREEN}
PARADIGM_NAMES = {"weak": "weakly supervised", "byol": "BYOL"}
MEASURES = {
    "normalised_d": "normalised d: similar drugs nearer than controls",
    "accuracy": "accuracy, drug against control",
    "precision": "precision",
    "recall": "recall",
    "roc_auc": "area under the ROC curve",
    "n_clusters": "number of clusters",
    "not_noise": "share not noise",
    "silhouette": "silhouette",
    "davies_bouldin_inverse": "1 / Davies-Bouldin",
}
"""Table 2's metrics in words; distance_similar has the unit of its embedding and is not drawn."""


def run_name(method: str) -> str:
    """How a method is called whose setup is in its name, `byol-augment-crops`; others by their own."""
    paradigm, *given = method.split("-")
    if paradigm not in PARADIGMS:
        return name(method)
    words = {"augment": "augmented", "crops": "multi-crop", "published": "as published"}
    return " + ".join([PARADIGM_NAMES.get(paradigm, paradigm), *(words.get(word, word) for word in given)])


def setup_name(row: Any) -> str:
    """How a row of paradigms.csv is called: paradigm, then what it was given."""
    if not isinstance(row.augment, bool | np.bool_):
        return {"paradigm-random": "untrained encoder"}.get(row.paradigm, name(row.paradigm))
    given = [word for word, on in (("augmented", row.augment), ("multi-crop", row.multi_crop)) if on]
    flawed = [] if not row.published else ["as published"]
    return " + ".join([PARADIGM_NAMES.get(row.paradigm, row.paradigm), *given, *flawed])


def tidy_setups(table: pd.DataFrame) -> pd.DataFrame:
    """paradigms.csv with its yes/no columns as such, `None` where a row is no setup."""
    yes = {True: True, False: False, "True": True, "False": False}  # numbers 1 and 0 are the same keys
    return table.assign(**{c: [yes.get(v) for v in table[c]] for c in ("augment", "multi_crop", "published")})


@drawn
def setups_plot(
    table: pd.DataFrame,
    metrics: Mapping[str, tuple[str, str] | None],
    paper: pd.DataFrame | None = None,
) -> Figure:
    """A row a setup, a panel a metric, two beside each other; bars are 95 % intervals where there are any.

    Args:
        table: paradigms.csv.
        metrics: column -> the columns of its interval's ends, or None.
        paper: `paper("paradigms")`: published ranges, yellow bands behind the rows of their paradigm.
    """
    table = tidy_setups(table)
    names = [setup_name(row) for row in table.itertuples()]
    columns = min(2, len(metrics))
    rows = -(-len(metrics) // columns)
    figure, grid = canvas(rows * (0.19 * len(names) + 0.55), rows, columns, width=7.4, sharey=True)
    words = []
    for axes in grid.flat[len(metrics) :]:
        axes.set_axis_off()
    for axes, (metric, ends) in zip(grid.flat, metrics.items(), strict=False):
        published = {} if paper is None else paper[paper["metric"] == metric].set_index("paradigm")
        said = []
        for i, row in enumerate(table.itertuples()):
            colour = PARADIGMS.get(row.paradigm, METHODS.get(row.paradigm, GREY))
            if len(published) and row.paradigm in published.index and not row.published:
                low, high = published.loc[row.paradigm, ["low", "high"]]
                axes.fill_betweenx([i - 0.5, i + 0.5], low, high, color=YELLOW, alpha=0.6, linewidth=0)
            value = getattr(row, metric)
            if ends and not np.isnan(getattr(row, ends[0])):
                axes.plot([getattr(row, end) for end in ends], [i, i], color=colour, linewidth=1.6)
            face = "white" if row.augment is None or row.published else colour
            marker = "o" if row.augment is not None else "s"
            axes.plot(value, i, marker, color=colour, markerfacecolor=face, markersize=4.5)
            said.append(f"{names[i]} {value:.2f}")
        if metric == "accuracy":
            axes.axvline(table["majority_rate"].iloc[0], color=GREY, linestyle=":", linewidth=1.2)
        if metric in ("normalised_d", "roc_auc"):
            axes.axvline(0.5 if metric == "roc_auc" else 0, color=GREY, linestyle=":", linewidth=1.2)
        if metric == "n_clusters":
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_title(textwrap.fill(MEASURES[metric], 34), loc="left", fontsize=9)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        words.append(f"{MEASURES[metric]}: {', '.join(said)}")
    figure.alt = f"Setups compared. {'; '.join(words)}."
    return figure


@drawn
def probe_by_cell(cells: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Accuracy, precision, recall and AUC of every setup, a panel each, a marker a cell line (paradigms_cells.csv)."""
    table = tidy_setups(table)
    names = {row.method: setup_name(row) for row in table.itertuples()}
    lines = list(dict.fromkeys(cells["cell_type"]))
    metrics = ("accuracy", "precision", "recall", "roc_auc")
    figure, grid = canvas(2 * (0.19 * len(names) + 0.55) + 0.3, 2, 2, width=7.4, sharey=True)
    for axes, metric in zip(grid.flat, metrics, strict=True):
        for k, line in enumerate(lines):
            part = cells[cells["cell_type"] == line].set_index("method").reindex(list(names))
            y, colour = np.arange(len(part)) + 0.3 * (k - (len(lines) - 1) / 2), CYCLE[k % len(CYCLE)]
            ends = {"accuracy": "accuracy", "roc_auc": "auc"}.get(metric)
            if ends:
                axes.hlines(y, part[f"{ends}_low"], part[f"{ends}_high"], color=colour, linewidth=1.2)
            axes.plot(part[metric], y, "os^D"[k % 4], color=colour, markersize=4, label=line)
            if metric == "accuracy":
                axes.axvline(part["majority_rate"].iloc[0], color=colour, linestyle=":", linewidth=1.2)
        axes.set_yticks(range(len(names)), list(names.values()), fontsize=8)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_title(MEASURES[metric], loc="left", fontsize=9)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(lines))
    ranges = {
        f"{line}, {m}": f"{part[m].min():.2f} to {part[m].max():.2f}"
        for line, part in cells.groupby("cell_type")
        for m in metrics
    }
    figure.alt = f"Drug against control by cell line, over {len(names)} embeddings: {in_words(ranges)}."
    return figure


def _words_of(wells: pd.DataFrame) -> dict[str, str]:
    """Site -> where it is from and what it received."""
    said = {}
    for site, row in wells.iterrows():
        given = row["compound"] if isinstance(row["compound"], str) and row["compound"] else row["role"]
        dose = f" {number(row['concentration_uM'])} µM" if np.isfinite(row["concentration_uM"]) else ""
        said[site] = f"{row['well']}, plate {row['plate_id']}: {given}{dose}"
    return said


@drawn
def cluster_plane(points: pd.DataFrame, shards: Any, methods: Sequence[str], cell_type: str, n: int = 4) -> Figure:
    """UMAP planes with HDBSCAN's clusters, one a method, and sites of the largest clusters beside each.

    Args:
        points: paradigms_points.csv.
        shards: where the sites' images are.
        methods: which, top to bottom.
        cell_type: which.
        n: clusters shown, two sites each, those nearest to their cluster's middle.

    A dot says which site it is, and shows it, when it is pointed at.
    """
    of_all = points[points["method"].isin(list(methods)) & (points["cell_type"] == cell_type)]
    sites = list(dict.fromkeys(of_all["site_id"]))
    place = pd.Series(range(len(shards)), index=shards.wells["site_id"].to_numpy())
    small = [tiles(unit(shards.read(int(place[site])), shards.limits), 32) for site in sites]
    below, at = album(
        [composite(image, shards.channels) for image in small],
        f"sites-{cell_type}",
        f"Every site of {cell_type}, small, as a colour composite.",
        "Pictures of all dots",
    )
    at, said = dict(zip(sites, at, strict=True)), _words_of(shards.wells.set_index("site_id").loc[sites])

    def answer(dots: Any, of: pd.DataFrame) -> None:
        words = [
            f"{said[site]}\n{'noise' if k < 0 else f'cluster {k}'}"
            for site, k in zip(of["site_id"], of["cluster"], strict=True)
        ]
        tell(dots, words, [at[site] for site in of["site_id"]], f"sites-{cell_type}")

    height = 2.3
    figure = Figure((7.4, height * len(methods)), layout="constrained")
    grid = figure.subplots(2 * len(methods), n + 2, gridspec_kw={"width_ratios": [1] * (n + 2)})
    words = {}
    for k, method in enumerate(methods):
        part = points[(points["method"] == method) & (points["cell_type"] == cell_type)]
        block = grid[2 * k : 2 * k + 2]
        spec = block[0, 0].get_gridspec()
        for axes in block[:, :2].flat:
            axes.remove()
        plane = figure.add_subplot(spec[2 * k : 2 * k + 2, :2])
        noise = part[part["cluster"] < 0]
        answer(plane.scatter(noise["x"], noise["y"], s=5, color=PALE, linewidths=0), noise)
        sizes = part.loc[part["cluster"] >= 0, "cluster"].value_counts()
        for i, (cluster, _) in enumerate(sizes.items()):
            of, colour = part[part["cluster"] == cluster], CYCLE[i % len(CYCLE)]
            answer(plane.scatter(of["x"], of["y"], s=6, color=colour, linewidths=0), of)
            if i < n:
                middle = of[["x", "y"]].median()
                plane.text(*middle, "ABCDEFGH"[i], fontweight="bold", ha="center", va="center", bbox=WHITE)
                near = ((of[["x", "y"]] - middle) ** 2).sum(axis=1).nsmallest(2).index
                for axes, site in zip(block[:, 2 + i], of.loc[near, "site_id"], strict=False):
                    image = shards.read(int(place[site]))
                    picture(axes, composite(unit(image, shards.limits), shards.channels), None)
                    for spine in axes.spines.values():
                        spine.set(visible=True, edgecolor=colour, linewidth=2)
                block[0, 2 + i].set_title(f"{'ABCDEFGH'[i]}: {len(of)} sites", fontsize=8)
        for axes in block[:, 2 + min(n, len(sizes)) :].flat:
            axes.set_axis_off()
        plane.set(xticks=[], yticks=[])
        text = f"{len(sizes)} clusters, {percent(len(noise) / len(part))} noise" if len(sizes) else "no cluster"
        plane.set_title(f"{run_name(method)}\n{text}", loc="left", fontsize=9)
        words[run_name(method)] = text
    figure.below = below
    figure.alt = maybe_simulated(
        shards.simulated,
        f"UMAP of {cell_type} sites by cluster: {in_words(words)}; beside each, sites of the largest clusters.",
    )
    return figure
