"""Scores with their intervals: accuracies, differences, confusion, few labels, compute."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gandl_lib.plots.page import (
    BLACK,
    GREY,
    WIDTH,
    YELLOW,
    canvas,
    drawn,
    empty,
    in_words,
    method_style,
    methods_in,
    name,
    percent,
    percent_ticks,
)

PUBLISHED = {
    "gandl": "GAN-DL",
    "supervised": "baseline",
    "baseline": "baseline",
    "imagenet-collapsed": "ImageNet-collapsed",
    "imagenet-concatenated": "ImageNet-concatenated",
    "convae": "ConvAE",
}
"""What the paper calls the counterparts of ours."""


@drawn
def accuracy_plot(
    scores: pd.DataFrame | None, paper: pd.DataFrame | None = None, panel: str = "task", what: str = ""
) -> Figure:
    """Dots with 95 % intervals, a panel a task and a row a method; a dotted line is the majority rate.

    Args:
        scores: method, accuracy, ci_low, ci_high, majority_rate and perhaps the column `panel`; if there is a column
            `split`, dots are filled for its first value and open for its second. None draws a note that there is none.
        paper: method, accuracy and `panel`: published values, diamonds in the row of the method of ours that they
            belong to; those that have none stand below, with their name.
        what: what was told apart, where there is no column `panel`.
    """
    if scores is None:
        return empty()
    if panel not in scores:  # nothing to divide by: one panel
        scores, paper = (t if t is None else t.assign(**{panel: what}) for t in (scores, paper))
    methods = list(dict.fromkeys(scores["method"]))
    splits = list(dict.fromkeys(scores["split"])) if "split" in scores else [None]
    panels = dict(list(scores.groupby(panel, sort=False)))
    ours = {PUBLISHED[m]: i for i, m in reversed(list(enumerate(methods))) if m in PUBLISHED}
    alone = [] if paper is None else [m for m in dict.fromkeys(paper["method"]) if m not in {*ours, "majority class"}]
    place = ours | {m: len(methods) + k for k, m in enumerate(alone)}
    rows = [*map(name, methods), *(textwrap.fill(f"paper: {m}", 30) for m in alone)]
    figure, grid = canvas(len(panels) * (0.24 * len(rows) + 0.42) + 0.75, len(panels), 1, sharex=True)
    words = []
    for axes, (title, part) in zip(grid[:, 0], panels.items(), strict=True):
        majority = part["majority_rate"].iloc[0]
        axes.axvline(majority, color=GREY, linestyle=":", linewidth=1.2)
        for row in part.itertuples():
            i, split = methods.index(row.method), getattr(row, "split", None)
            style = method_style(row.method, i)
            y = i + 0.34 * (splits.index(split) - (len(splits) - 1) / 2)
            axes.plot([row.ci_low, row.ci_high], [y, y], color=style["color"], linewidth=1.6)
            face = style["color"] if split == splits[0] else "white"
            axes.plot(row.accuracy, y, linestyle="", markerfacecolor=face, **style)
            by = f" with {split}s held out" if split else ""
            words.append(f"{title}, {name(row.method)}{by} {percent(row.accuracy)}".removeprefix(f"{what}, "))
        if paper is not None:
            for one in paper[(paper[panel] == title) & (paper["method"] != "majority class")].itertuples():
                face = YELLOW if one.method == "GAN-DL" else "white"
                axes.plot(one.accuracy, place[one.method], "D", markerfacecolor=face, markeredgecolor=BLACK, zorder=3)
                words.append(f"{title}, {one.method} in the paper {percent(one.accuracy)}".removeprefix(f"{what}, "))
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_title(f"{title}   (majority {percent(majority)})".strip(), loc="left", fontsize=10)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    low = min(scores[["accuracy", "ci_low", "majority_rate"]].min())
    axes.set(xlim=(max(0, low - 0.05), 1.015), xlabel="accuracy, with 95 % interval")
    percent_ticks(axes.xaxis)
    mark = functools.partial(Line2D, [], [], linestyle="", color=BLACK)
    handles = []
    if len(splits) > 1:
        faces = zip(splits, (BLACK, "white"), strict=True)
        handles += [mark(marker="o", markerfacecolor=face, label=f"{split}s held out") for split, face in faces]
    if paper is not None:
        faces = {"paper's GAN-DL, real cells": YELLOW, "the paper's others": "white"}
        handles += [mark(marker="D", markerfacecolor=face, label=label) for label, face in faces.items()]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=2, handletextpad=0.2)
    figure.alt = f"Accuracies with intervals{', ' + what if what else ''}: {'; '.join(words)}."
    return figure


@drawn
def confusion(counts: pd.DataFrame | None, methods: Sequence[str] | None = None) -> Figure:
    """Confusion matrices, a panel a method, shaded by the share of the true class: method, true, predicted, count."""
    if counts is None:
        return empty()
    methods = list(methods or dict.fromkeys(counts["method"]))
    classes = sorted(set(counts["true"]) | set(counts["predicted"]))
    many = len(classes) > 6  # a panel a row, and no zeros, or nothing can be read
    columns = 1 if many else min(2, len(methods))
    rows = -(-len(methods) // columns)
    height = (0.27 * len(classes) + 2.1 if many else 2.75) * rows + 0.2
    figure, grid = canvas(height, rows, columns, width=WIDTH if many or columns == 2 else 3.4)
    words, listed = {}, ", ".join(map(str, classes))
    for axes in grid.flat[len(methods) :]:
        axes.set_axis_off()
    for axes, method in zip(grid.flat, methods, strict=False):
        matrix = counts[counts["method"] == method].pivot(index="true", columns="predicted", values="count")
        matrix = matrix.reindex(index=classes, columns=classes).fillna(0)
        share = matrix.to_numpy() / np.maximum(matrix.to_numpy().sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (i, j), value in np.ndenumerate(matrix.to_numpy()):
            axes.text(
                j,
                i,
                f"{value:.0f}" if value or not many else "",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if share[i, j] > 0.5 else BLACK,
            )
        axes.set_xticks(
            range(len(matrix)), matrix.columns, rotation=90 if many else 40, ha="center" if many else "right"
        )
        axes.set_yticks(range(len(matrix)), matrix.index)
        axes.set(xlabel="predicted", ylabel="true", title=name(method))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        words[name(method)] = f"{matrix.to_numpy().trace():.0f} of {matrix.to_numpy().sum():.0f} right"
    figure.alt = f"Confusion matrices of {listed}: {in_words(words)}."
    return figure


@drawn
def accuracy_against_compute(scores: pd.DataFrame, cost: pd.DataFrame, task: str = "C+ vs C-") -> Figure:
    """Accuracy (wells held out, 95 % intervals) against minutes of training, a mark a method.

    Args:
        scores: separability.csv.
        cost: cost.csv; methods with nothing to train stand on the left, those nobody timed are left out.
    """
    part = scores[
        (scores["task"] == task) & (scores["split"] == "well") & scores["normalisation"].isin(["all", "none"])
    ]
    both = part.merge(cost.dropna(subset=["minutes"]), on="method")
    if both.empty:
        return empty()
    figure, ((axes,),) = canvas(3.9)
    majority = both["majority_rate"].iloc[0]
    axes.axhline(majority, color=GREY, linestyle=":", linewidth=1.2)
    untrained = max(0.3, both.loc[both["minutes"] > 0, "minutes"].min() / 4) if (both["minutes"] > 0).any() else 1.0
    free, words = both[both["minutes"] == 0]["method"].tolist(), {}
    for row in both.itertuples():
        # Marks without a time stand side by side, so that they do not hide each other.
        x = row.minutes or untrained * 1.25 ** (free.index(row.method) - len(free) / 2)
        style = method_style(row.method)
        axes.plot([x, x], [row.ci_low, row.ci_high], color=style["color"], linewidth=1.4)
        axes.plot(x, row.accuracy, linestyle="", label=name(row.method), **(style | {"markersize": 7}))
        words[name(row.method)] = f"{percent(row.accuracy)} after {row.minutes:.3g} minutes"
    axes.set_xscale("log")
    ticks = [
        untrained,
        *(t for t in (1, 3, 10, 30, 100, 300, 1000, 3000) if untrained * 2 < t < both["minutes"].max() * 2),
    ]
    axes.set_xticks(ticks, ["none", *(f"{t:g}" for t in ticks[1:])])
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set(xlabel="minutes of training", ylabel=f"accuracy, {task}")
    percent_ticks(axes.yaxis)
    axes.grid(axis="y")
    figure.legend(loc="outside lower center", ncols=2, handletextpad=0.3, columnspacing=1)
    figure.alt = f"Accuracy of {task} against training time, majority rate {percent(majority)}: {in_words(words)}."
    return figure


@drawn
def probe_sizes(table: pd.DataFrame | None, methods: Sequence[str] | None = None) -> Figure:
    """Accuracy against the number of labelled wells, a line a method, a band from the lowest to the highest draw."""
    if table is None or table.empty:
        return empty()
    figure, ((axes,),) = canvas(3.9)
    axes.axhline(table["majority_rate"].iloc[0], color=GREY, linestyle=":", linewidth=1.2)
    words = []
    for method in methods_in(table, methods):
        part = table[table["method"] == method]
        if part.empty:
            continue
        style = method_style(method)
        axes.fill_between(
            part["n_wells"], part["lowest"], part["highest"], color=style["color"], alpha=0.1, linewidth=0
        )
        axes.plot(part["n_wells"], part["accuracy"], linewidth=1.4, label=name(method), **style)
        first, last = part.iloc[0], part.iloc[-1]
        ends = f"{percent(first.accuracy)} at {first.n_wells:.0f} wells, {percent(last.accuracy)} at {last.n_wells:.0f}"
        words.append(f"{name(method)} {ends}")
    sizes = sorted(table["n_wells"].unique())
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{n:.0f}" for n in sizes])
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set(xlabel="labelled wells", ylabel="accuracy on held-out wells")
    percent_ticks(axes.yaxis)
    axes.grid()
    figure.legend(loc="outside lower center", ncols=2, handletextpad=0.3, columnspacing=1)
    figure.alt = f"Accuracy against the number of labelled wells: {'; '.join(words)}."
    return figure


@drawn
def differences(paired: pd.DataFrame | None, method: str, task: str = "C+ vs C-") -> Figure:
    """How much better or worse than `method` each other method is on the same wells, with paired 95 % intervals.

    Args:
        paired: paired.csv; filled for wells held out, open for plates.
    """
    rows = against(paired, method, task) if paired is not None else pd.DataFrame()
    if rows.empty:
        return empty()
    others, splits = (list(dict.fromkeys(rows[column])) for column in ("other", "split"))
    figure, ((axes,),) = canvas(0.3 * len(others) + 1.0)
    axes.axvline(0, color=BLACK, linewidth=1)
    words = []
    for row in rows.itertuples():
        style, shift = method_style(row.other), 0.3 * (splits.index(row.split) - (len(splits) - 1) / 2)
        y = others.index(row.other) + shift
        axes.plot([row.ci_low, row.ci_high], [y, y], color=style["color"], linewidth=1.6)
        face = style["color"] if row.split == splits[0] else "white"
        axes.plot(row.difference, y, linestyle="", markerfacecolor=face, **style)
        words.append(f"{name(row.other)} {100 * row.difference:+.1f} points with {row.split}s held out")
    axes.set_yticks(range(len(others)), [name(m) for m in others])
    axes.set_ylim(len(others) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda x, _: f"{100 * x:+.0f}"))
    axes.set_xlabel(f"accuracy less that of {name(method)}, points")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    figure.alt = f"{task}, differences from {name(method)} on the same wells: {'; '.join(words)}."
    return figure


def against(
    paired: pd.DataFrame, method: str, task: str, normalisation: Sequence[str] = ("all", "none")
) -> pd.DataFrame:
    """Rows of paired.csv that compare others with `method`, turned so that what is positive is the other's lead."""
    part = paired[(paired["task"] == task) & paired["normalisation"].isin(normalisation)]
    first, second = part[part["method"] == method], part[part["other"] == method]
    turned = first.assign(difference=-first["difference"], ci_low=-first["ci_high"], ci_high=-first["ci_low"])
    second = second.assign(method=second["other"], other=second["method"])
    return pd.concat([turned, second], ignore_index=True)


@drawn
def replicate_precision(table: pd.DataFrame | None) -> Figure:
    """Mean average precision of replicates by dose, a line a method; dotted, a random ranking."""
    if table is None or table.empty:
        return empty()
    by = table.groupby(["method", "concentration_uM"], sort=False)[["mean_average_precision", "by_chance"]].mean()
    figure, ((axes,),) = canvas(3.9)
    words = []
    for method in methods_in(table):
        part = by.loc[method].sort_index()
        axes.plot(part.index, part["mean_average_precision"], linewidth=1.4, label=name(method), **method_style(method))
        words.append(f"{name(method)} {part['mean_average_precision'].iloc[-1]:.2f} at the highest dose")
    chance = by.groupby(level="concentration_uM")["by_chance"].mean().sort_index()
    axes.plot(chance.index, chance, linestyle=":", color=GREY, label="by chance")
    axes.set_xscale("log")
    axes.set(xlabel="concentration (µM)", ylabel="mAP of replicates", ylim=(0, None))
    axes.grid()
    figure.legend(loc="outside lower center", ncols=2, handletextpad=0.3, columnspacing=1)
    figure.alt = (
        f"Mean average precision of replicates against dose, by chance {chance.mean():.2f}: {'; '.join(words)}."
    )
    return figure
