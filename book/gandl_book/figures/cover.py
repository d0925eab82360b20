"""The whole way in one picture, for the README: `python -m gandl_book.figures.cover results/quick OUT.png`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gandl_lib.plots.doses import dose_curve
from gandl_lib.plots.images import composite, examples, picture
from gandl_lib.plots.page import GREY, ROLES, canvas, drawn, empty, name, png


@drawn
def overview(
    sites: Mapping[str, np.ndarray],
    channels: Sequence[str],
    pixel_um: float,
    efficacy: pd.DataFrame,
    points: pd.DataFrame,
    curves: pd.DataFrame,
    simulated: bool,
    method: str = "gandl",
) -> Figure:
    """From a site of C+ and one of C-, over the axis, to one compound's dose-response, in a row: the README's picture.

    `sites` maps either role to (C, H, W) in [0, 1]; the tables are efficacy.csv, dose_points.csv and dose_response.csv.
    The compound is the hit with the smallest q-value that has an EC50, or else the first.
    """
    best = curves[curves["method"] == method].dropna(subset=["efficacy_max"])
    best = best.assign(fitted=best["ec50_uM"].notna()).sort_values(["fitted", "q_value"], ascending=[False, True])
    if best.empty:
        return empty(f"{name(method)} has no efficacy scores to draw.")
    row = next(best.itertuples())
    figure, ((first, second, middle, right),) = canvas(2.9, 1, 4, width=11.4)
    kind = "simulated " if simulated else ""
    for axes, (role, title) in zip((first, second), (("C+", "never infected"), ("C-", "infected")), strict=True):
        picture(axes, composite(sites[role], channels), pixel_um)
        axes.set_title(f"{kind}cells, {title}", color=ROLES[role])
    wells = efficacy[(efficacy["method"] == method) & (efficacy["cell_type"] == row.cell_type)]
    for role in ("C-", "C+"):
        scores = wells.loc[wells["role"] == role, "efficacy"]
        middle.hist(scores, bins=np.linspace(-2.5, 2.5, 31), color=ROLES[role], alpha=0.75, label=role)
    middle.axvline(0, color=GREY, linewidth=0.9)
    middle.legend()
    middle.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    middle.set(title="one axis from sick to healthy", xlabel="efficacy score", ylabel=f"{kind}wells")
    pair = pd.DataFrame([{"method": method, "cell_type": row.cell_type, "compound": row.compound}])
    said = dose_curve(right, row, pair.merge(points), None, ())
    right.set(ylim=(-2, 2), title=f"one compound, {said}", xlabel="concentration (µM)", ylabel="efficacy score")
    figure.alt = (
        f"Left, composites of {kind}cells never infected and infected; middle, histograms of efficacy scores of {kind}"
        f"C- and C+ wells in {row.cell_type}; right, dose-response of {row.compound}, {said}."
    )
    return figure


def write_overview(results: str | Path, out: str | Path) -> None:
    """Draw `overview` from a results folder, say `results/quick`, into a PNG file: the picture of the README."""
    from gandl_lib.shards import Shards

    results = Path(results)
    shards = Shards(results / "shards" / "screen.zarr")
    tables = [pd.read_csv(results / f"{stem}.csv") for stem in ("efficacy", "dose_points", "dose_response")]
    sites = {role: examples(shards, 1, role=role)[0] for role in ("C+", "C-")}
    figure = overview(sites, shards.channels, shards.pixel_um, *tables, shards.simulated)
    Path(out).write_bytes(png(figure, dpi=110))


if __name__ == "__main__":
    import sys

    write_overview(*sys.argv[1:3])
