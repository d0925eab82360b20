"""The real plate of chapter 10."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gandl_lib.plots.page import BLACK, GREY, ROLES, canvas, drawn, empty, method_style, methods_in, name

CLASSICAL = "classical"
WELLS = ("A01", "A06", "A08", "A11")


@drawn
def real_plate_sites(store: Any) -> Figure:
    """The middles of four wells of Wortmannin's first row; a note where there are no images."""
    if store is None:
        return empty("No images in this build: there is no BBBC013 where GANDL_DATA points to.")
    figure, grid = canvas(1.9, 1, len(WELLS))
    at = {row.well: (i, row.concentration_uM) for i, row in enumerate(store.wells.itertuples())}
    limits = store.limits
    said = []
    for axes, well in zip(grid[0], WELLS, strict=True):
        i, dose = at[well]
        image = store.read(i)[:, 220:420, 220:420].astype(np.float32)
        unit = [(c - low) / (high - low) for c, (low, high) in zip(image, limits, strict=True)]
        dna, egfp = (np.clip(u, 0, 1) for u in unit)
        axes.imshow(np.stack([0 * dna, egfp, dna], axis=-1))
        axes.set_axis_off()
        words = "no drug" if np.isnan(dose) else f"{1000 * dose:g} nM"
        axes.set_title(f"{well}: {words}", fontsize=9)
        said.append(f"{well} {words}")
    figure.alt = (
        f"Real cells, DNA blue and FKHR-EGFP green, wells {', '.join(said)}; at high dose green fills the nuclei."
    )
    return figure


@drawn
def real_plate_scores(wells: pd.DataFrame) -> Figure:
    """A panel a method: its axis against the classical one, a dot a well."""
    across = wells[wells["method"] == CLASSICAL].set_index("well")["efficacy"]
    known = wells.dropna(subset=["efficacy"])
    methods = [m for m in methods_in(known) if m not in (CLASSICAL, "classical-ratio")]
    if not methods:
        return empty("No method has an axis on this plate.")
    columns = min(3, len(methods))
    rows = -(-len(methods) // columns)
    figure, grid = canvas(1.9 * rows + 0.6, rows, columns, sharex=True, sharey=True)
    said = []
    for axes, method in zip(grid.flat, methods, strict=False):
        one = known[known["method"] == method]
        for role in ("treated", "C-", "C+"):
            part = one[one["role"] == role]
            axes.plot(part["well"].map(across), np.clip(part["efficacy"], -3, 3), "o", color=ROLES[role], markersize=3)
        for end in (-1, 1):
            axes.axhline(end, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_title(name(method), fontsize=9)
        rank = one["efficacy"].corr(one["well"].map(across), method="spearman")
        axes.text(0.03, 0.9, f"Spearman {rank:.2f}", fontsize=8, transform=axes.transAxes)
        said.append(f"{name(method)} {rank:.2f}")
    for axes in grid.flat[len(methods) :]:
        axes.set_axis_off()
    for axes in grid[:, 0]:
        axes.set_ylabel("place on the axis", fontsize=9)
    for axes in grid.flat[max(0, len(methods) - columns) : len(methods)]:
        axes.set_xlabel("classical score", fontsize=9)
        axes.tick_params(labelbottom=True)
    handles = [
        Line2D([], [], color=ROLES[role], marker="o", linestyle="", label=role) for role in ("C-", "treated", "C+")
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    figure.alt = f"Scores of wells against the classical score, rank correlation: {'; '.join(said)}."
    return figure


@drawn
def real_plate_curves(measured: pd.DataFrame, wells: pd.DataFrame) -> Figure:
    """EC50 with its interval, a panel a drug and a line a method; methods without a curve are named."""
    drugs = sorted(measured["compound"].unique(), reverse=True)
    methods = ["classical", "classical-ratio", *(m for m in methods_in(measured) if not m.startswith("classical"))]
    figure, grid = canvas(0.3 * len(methods) + 1.1, 1, len(drugs), sharey=True)
    said = []
    for axes, drug in zip(grid[0], drugs, strict=True):
        rows = measured[measured["compound"] == drug].set_index("method")
        doses = wells.loc[wells["compound"].eq(drug) & wells["role"].eq("treated"), "concentration_uM"]
        low, high = doses.min(), doses.max()
        axes.axvspan(
            rows.loc[CLASSICAL, "ec50_low"], rows.loc[CLASSICAL, "ec50_high"], color=GREY, alpha=0.3, linewidth=0
        )
        for k, method in enumerate(methods):
            row = rows.loc[method]
            if not np.isfinite(row["ec50_uM"]):
                axes.text(np.sqrt(low * high), k, "no curve", fontsize=8, color=GREY, ha="center", va="center")
                continue
            style = method_style(method, k) if not method.startswith("classical") else {"color": BLACK, "marker": "|"}
            axes.plot(
                np.clip([row["ec50_low"], row["ec50_high"]], low, high), [k, k], color=style["color"], linewidth=2
            )
            axes.plot(row["ec50_uM"], k, linestyle="", **style)
            said.append(f"{drug} by {name(method)} {row['ec50_uM']:.2g} µM")
        axes.set(xscale="log", xlim=(low, high), xlabel="EC50 (µM)", title=drug)
    grid[0, 0].set_yticks(range(len(methods)), [name(m) for m in methods], fontsize=8)
    grid[0, 0].set_ylim(len(methods) - 0.5, -0.5)
    figure.alt = f"EC50s with 95 % intervals: {'; '.join(said)}."
    return figure
