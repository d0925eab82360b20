"""What training left in its log, and where embeddings put the wells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gandl_lib.plots.page import (
    BLUE,
    GREEN,
    GREY,
    METHODS,
    SKY,
    VERMILLION,
    canvas,
    drawn,
    in_words,
    method_style,
    percent,
    percent_ticks,
)
from gandl_lib.plots.words import thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _seen(axes: Axes) -> None:
    axes.set_xlabel("images seen (thousands)")
    axes.grid(axis="y")


def _probed(axes: Axes, levels: Mapping[str, tuple[float, str, str]]) -> None:
    """Accuracies of the probe against images seen, with levels to compare them with: (accuracy, colour, dash) each."""
    for label, (level, colour, dash) in levels.items():
        axes.axhline(level, color=colour, linestyle=dash, linewidth=1.2, label=f"{label} ({percent(level)})")
    axes.set_ylabel("linear probe, C+ vs C-")
    percent_ticks(axes.yaxis)
    _seen(axes)


@drawn
def probe_curve(
    stats: pd.DataFrame, majority: float, paper: float | None = None, longer: pd.DataFrame | None = None
) -> Figure:
    """Linear-probe accuracy of the features against images seen; the curve that matters.

    Args:
        stats: n_seen, probe_accuracy, probe_balanced_accuracy; the first row is the network before its first step.
        majority: share of the larger class among the probed sites.
        paper: the published accuracy, from the real screen.
        longer: n_seen and probe_accuracy of a recorded longer run. It gets a panel of its own, for it is many times as
            long and began elsewhere.
    """
    figure, (panels,) = canvas(3.3, 1, 1 if longer is None else 2, sharey=True)
    x, y = stats["n_seen"] / 1000, stats["probe_accuracy"]
    levels = {"majority": (majority, VERMILLION, ":")}
    levels |= {"paper, real screen": (paper, BLUE, "-.")} if paper is not None else {}
    panels[0].plot(x, y, "o-", color=METHODS["gandl"], label="accuracy")
    panels[0].plot(
        x, stats["probe_balanced_accuracy"], "o-", color=SKY, label="balanced accuracy", markersize=3, linewidth=1
    )
    _probed(panels[0], levels)
    panels[0].axhline(y.iloc[0], color=GREY, linestyle="--", linewidth=1.2, label="untrained")
    low = min(majority, y.min(), stats["probe_balanced_accuracy"].min(), 0.5)
    panels[0].set_ylim(low - 0.03, 1.01)
    figure.alt = (
        f"Accuracy of a linear probe against images seen: {percent(y.iloc[0])} untrained, {percent(y.iloc[-1])} at "
        f"{thousands(stats['n_seen'].iloc[-1])} images, highest {percent(y.max())}; majority rate {percent(majority)}."
    )
    if longer is not None:
        seen, reached = longer["n_seen"], longer["probe_accuracy"]
        panels[1].plot(seen / 1000, reached, "D-", color=GREEN, label="accuracy, shipped run", markersize=4)
        for level, colour, dash in (*levels.values(), (reached.iloc[0], GREY, "--")):
            panels[1].axhline(level, color=colour, linestyle=dash, linewidth=1.2)
        panels[0].set_title("the run of this page")
        panels[1].set_title("the shipped run (recorded)")
        _seen(panels[1])
        figure.alt += (
            f" The shipped run: {percent(reached.iloc[0])} untrained, {percent(reached.iloc[-1])} at "
            f"{thousands(seen.iloc[-1])} images."
        )
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@drawn
def precisions(curves: pd.DataFrame) -> Figure:
    """Linear-probe accuracy against images seen, a line a precision.

    Args:
        curves: precision ("fp32", "bf16"), n_seen, probe_accuracy, majority_rate.
    """
    figure, ((axes,),) = canvas(2.8)
    majority, last = curves["majority_rate"].iloc[0], []
    for precision, colour, mark in (("fp32", METHODS["gandl"], "o-"), ("bf16", SKY, "s-")):
        of = curves[curves["precision"] == precision]
        axes.plot(of["n_seen"] / 1000, of["probe_accuracy"], mark, color=colour, label=precision, markersize=4)
        last.append(f"{precision} {percent(of['probe_accuracy'].iloc[-1])}")
    _probed(axes, {"majority": (majority, VERMILLION, ":")})
    figure.legend(loc="outside lower center", ncols=3)
    figure.alt = (
        f"Accuracy of a linear probe against images seen, after {curves['n_seen'].max()} images: {', '.join(last)}; "
        f"majority rate {percent(majority)}."
    )
    return figure


@drawn
def what_matters(measured: pd.DataFrame, tap: str, split: str) -> Figure:
    """Accuracy of GAN-DL's variants, a row each: trained filled, before its first step open; dotted, intensity.

    Args:
        measured: what `benchmarks/what_matters.py` writes.
        tap, split: which of its rows.
    """
    part = measured[measured["split"] == split]
    intensity = part.loc[part["variant"] == "intensity", "accuracy"].iloc[0]
    part = part[part["tap"] == tap]
    variants = list(dict.fromkeys(part["variant"]))
    figure, ((axes,),) = canvas(0.3 * len(variants) + 1.2)
    axes.axvline(intensity, color=METHODS["intensity"], linestyle=":", linewidth=1.4)
    words, marks = [], {}
    for row in part.itertuples():
        method, label, shift = (
            ("gandl", "trained", -0.13) if row.n_seen else ("gandl-random", "before its first step", 0.13)
        )
        look, y = method_style(method), variants.index(row.variant) + shift
        look |= {"markerfacecolor": look["color"] if row.n_seen else "white"}
        axes.plot([row.ci_low, row.ci_high], [y, y], color=look["color"], linewidth=1.6)
        axes.plot(row.accuracy, y, linestyle="", **look)
        marks[label] = Line2D([], [], linestyle="", label=label, **look)
        words.append(f"{row.variant} {percent(row.accuracy)} {'trained' if row.n_seen else 'untrained'}")
    axes.set_yticks(range(len(variants)), variants)
    axes.set_ylim(len(variants) - 0.4, -0.6)
    axes.set_xlabel("accuracy, C+ vs C-, with 95 % interval")
    percent_ticks(axes.xaxis)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    dotted = Line2D([], [], linestyle=":", color=METHODS["intensity"], label="intensity statistics")
    figure.legend(handles=[*marks.values(), dotted], loc="outside lower center", ncols=3, handletextpad=0.4)
    figure.alt = f"Accuracy by variant: {'; '.join(words)}; intensity statistics {percent(intensity)}."
    return figure


@drawn
def loss_curves(stats: pd.DataFrame) -> Figure:
    """Loss terms against images seen: the losses, the logits, the penalties."""
    groups = {
        "loss": {"loss_d": ("discriminator", BLUE), "loss_g": ("generator", VERMILLION)},
        "mean logit": {"logit_real": ("real", BLUE), "logit_fake": ("generated", VERMILLION)},
        "penalty": {
            "r1": ("R1", BLUE),
            "lipschitz": ("Lipschitz, one-sided", GREEN),
            "path_length": ("path length", VERMILLION),
        },
    }
    figure, grid = canvas(5.6, 3, 1, sharex=True)
    last = {}
    for axes, (label, terms) in zip(grid[:, 0], groups.items(), strict=True):
        for term, (title, colour) in terms.items():
            if term in stats:
                drawn = stats[["n_seen", term]].dropna()
                axes.plot(drawn["n_seen"] / 1000, drawn[term], "o-", color=colour, label=title, markersize=3)
                last[title] = f"{drawn[term].iloc[-1]:.3g}" if len(drawn) else "not logged"
        axes.set_ylabel(label)
        axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderpad=0)
        axes.grid(axis="y")
        if label == "penalty":
            axes.set_yscale("symlog", linthresh=1e-3)
    _seen(grid[-1, 0])
    figure.alt = f"Three panels of curves against images seen; their last values: {in_words(last)}."
    return figure
