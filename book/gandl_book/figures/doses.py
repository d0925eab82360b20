"""EC50s beside their truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gandl_lib.plots.page import (
    GREY,
    PALE,
    canvas,
    drawn,
    empty,
    in_words,
    method_style,
    name,
)

if TYPE_CHECKING:
    pass


@drawn
def ec50_plot(curves: pd.DataFrame, truth: pd.DataFrame | None, methods: Sequence[str]) -> Figure:
    """Fitted against true EC50 of a simulated screen, with 95 % intervals; the band is a factor of three."""
    if truth is None:
        return empty()
    both = curves.merge(truth, on=["cell_type", "compound"], suffixes=("", "_true"))
    both = both[both["method"].isin(methods)].dropna(subset=["ec50_uM", "ec50_uM_true"])
    if both.empty:
        return empty("No effective compound has a fitted EC50, so there is nothing to compare with the truth.")
    values = both[["ec50_uM", "ec50_uM_true"]].to_numpy()
    ends = np.array([values.min() / 3, values.max() * 3])
    figure, ((axes,),) = canvas(4.6, width=4.8)
    axes.plot(ends, ends, color=GREY, linewidth=0.9)
    axes.fill_between(ends, ends / 3, ends * 3, color=PALE, alpha=0.3, linewidth=0)
    words = {}
    for i, (method, one) in enumerate(both.groupby("method", sort=False)):
        low, high = (np.clip(one[end], *ends) for end in ("ec50_low", "ec50_high"))
        whiskers = [one["ec50_uM"] - low, high - one["ec50_uM"]]
        x = one["ec50_uM_true"] * 1.06**i  # beside each other, not on top
        label, style = f"{name(method)} ({len(one)})", method_style(method, i)
        axes.errorbar(x, one["ec50_uM"], np.maximum(whiskers, 0), linestyle="", elinewidth=1, label=label, **style)
        near = (np.log10(one["ec50_uM"] / one["ec50_uM_true"]).abs() < np.log10(3)).sum()
        words[name(method)] = f"{near} of {len(one)} EC50s within a factor of three"
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    axes.set(xlabel="true EC50 (µM, simulated)", ylabel="fitted EC50 (µM)")
    axes.legend(loc="upper left")
    figure.alt = f"Fitted against true EC50, simulated screen: {in_words(words)}."
    return figure
