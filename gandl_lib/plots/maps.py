"""Well profiles on their two main directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from gandl_lib.plots.page import (
    CYCLE,
    ROLES,
    canvas,
    drawn,
    in_words,
)

if TYPE_CHECKING:
    from anndata import AnnData


@drawn
def pca_views(views: Mapping[str, AnnData], colours: Sequence[str] = ("plate_id", "role"), seed: int = 0) -> Figure:
    """Two principal components of well profiles, a row a view and a column a colouring.

    Args:
        views: label -> profiles of wells, X (G, D).
        colours: columns of obs.
    """
    figure, grid = canvas(2.5 * len(views) + 0.9, len(views), len(colours))
    shares, known = {}, {}
    for axes_row, (label, profiles) in zip(grid, views.items(), strict=True):
        pca = PCA(2, random_state=seed)
        at = pca.fit_transform(StandardScaler().fit_transform(profiles.X))  # (G, 2)
        first, second = (f"{100 * share:.0f} %" for share in pca.explained_variance_ratio_)
        shares[label] = f"{first} and {second} of the variance"
        order = np.random.default_rng(seed).permutation(len(at))  # so that no colour lies on top
        for axes, column in zip(axes_row, colours, strict=True):
            values = profiles.obs[column].to_numpy()[order]
            known[column] = _colours(column, values)
            axes.scatter(*at[order].T, c=[known[column][v] for v in values], s=9, linewidth=0, alpha=0.8)
            axes.set(xticks=[], yticks=[], xlabel=f"component 1 ({first})", ylabel=f"component 2 ({second})")
            axes.set_title(f"{label}, by {column.removesuffix('_id')}")
    for side, column in zip(("left", "right"), known, strict=False):
        few = list(known[column].items())[:10]
        marks = [Line2D([], [], color=c, marker="o", linestyle="", label=str(v)) for v, c in few]
        words = dict(title=column.removesuffix("_id"), title_fontsize=9, fontsize=8, handletextpad=0.2)
        figure.legend(handles=marks, loc=f"outside lower {side}", ncols=2, **words)
    by = " and by ".join(column.removesuffix("_id") for column in colours)
    figure.alt = f"Well profiles on two principal components, coloured by {by}; they hold, {in_words(shares)}."
    return figure


def _colours(column: str, values: np.ndarray) -> dict[str, str]:
    """A colour for each value of an obs column: fixed for roles, in turn for others, a gradient for many."""
    names = sorted(set(values), key=str)
    if column == "role":
        return {role: colour for role, colour in ROLES.items() if role in names}
    if len(names) <= len(CYCLE):
        return dict(zip(names, CYCLE, strict=False))
    gradient = matplotlib.colormaps["viridis"](np.linspace(0, 1, len(names)))
    return {n: matplotlib.colors.to_hex(c) for n, c in zip(names, gradient, strict=True)}
