"""EC50s beside their truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gandl_lib.plots.page import (
    GREY,
    PALE,
    WIDTH,
    canvas,
    drawn,
    empty,
    in_words,
    method_style,
    name,
)


@drawn
def ec50_plot(curves: pd.DataFrame, truth: pd.DataFrame | None, methods: Sequence[str]) -> Figure:
    """Fitted against true EC50 of a simulated screen, a panel a method: 95 % intervals, a band of a factor of three."""
    if truth is None:
        return empty()
    both = curves.merge(truth, on=["cell_type", "compound"], suffixes=("", "_true"))
    both = both[both["method"].isin(methods)].dropna(subset=["ec50_uM", "ec50_uM_true"])
    if both.empty:
        return empty("No effective compound has a fitted EC50, so there is nothing to compare with the truth.")
    values = both[["ec50_uM", "ec50_uM_true"]].to_numpy()
    ends = np.array([values.min() / 3, values.max() * 3])
    shown = [method for method in methods if (both["method"] == method).any()]
    figure, grid = canvas(2.6, 1, len(shown), width=WIDTH if len(shown) > 1 else 3.4, sharex=True, sharey=True)
    words = {}
    for i, (axes, method) in enumerate(zip(grid[0], shown, strict=True)):
        one = both[both["method"] == method]
        axes.plot(ends, ends, color=GREY, linewidth=0.9)
        axes.fill_between(ends, ends / 3, ends * 3, color=PALE, alpha=0.3, linewidth=0)
        low, high = (np.clip(one[end], *ends) for end in ("ec50_low", "ec50_high"))
        whiskers = np.maximum([one["ec50_uM"] - low, high - one["ec50_uM"]], 0)
        style = method_style(method, i)
        axes.errorbar(one["ec50_uM_true"], one["ec50_uM"], whiskers, linestyle="", elinewidth=0.8, **style)
        near = (np.log10(one["ec50_uM"] / one["ec50_uM_true"]).abs() < np.log10(3)).sum()
        words[name(method)] = f"{near} of {len(one)} EC50s within a factor of three"
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
        axes.set_title(f"{name(method)}\n{len(one)} fitted", fontsize=9)
        axes.set_xlabel("true EC50 (µM)", fontsize=9)
    grid[0, 0].set_ylabel("fitted EC50 (µM)", fontsize=9)
    figure.alt = f"Fitted against true EC50, simulated screen: {in_words(words)}."
    return figure
