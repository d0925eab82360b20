"""Plates seen from above, and the grey values of their images."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from gandl_lib.plots.page import ROLES, WIDTH, canvas, drawn
from gandl_lib.wells import letters, place


@drawn
def well_map(wells: pd.DataFrame, plate_id: str, quantity: str, label: str, limits: tuple[float, float]) -> Figure:
    """One plate as it lies on the bench, a square a well, coloured by `quantity`; controls have a frame.

    Args:
        wells: one row a well: plate_id, well, role and the quantity (NaN: grey).
        limits: values at the two ends of the colours. If one is below and one above 0, white is 0.
    """
    plate = wells[wells["plate_id"] == plate_id]
    at = np.array([place(well) for well in plate["well"]])
    rows, columns = at.max(axis=0) + 1
    image = np.full((rows, columns), np.nan)
    image[at[:, 0], at[:, 1]] = plate[quantity]
    two_sided = limits[0] < 0 < limits[1]
    colours = matplotlib.colormaps["PuOr" if two_sided else "viridis"].with_extremes(bad="#EEEEEE")
    figure, ((axes,),) = canvas(0.7 + 0.88 * WIDTH * rows / columns)
    edges = np.arange(columns + 1) + 0.5, np.arange(rows + 1)
    mesh = axes.pcolormesh(*edges, np.ma.masked_invalid(image), cmap=colours, vmin=limits[0], vmax=limits[1],
                           edgecolor="white", linewidth=0.4)  # fmt: skip
    for (row, column), role in zip(at, plate["role"], strict=True):
        if role in ("C+", "C-"):
            frame = Rectangle((column + 0.58, row + 0.08), 0.84, 0.84, fill=False, linewidth=1.2)
            frame.set_edgecolor(ROLES[role])
            axes.add_patch(frame)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    step = 1 if columns <= 12 else 4
    axes.set_xticks(range(1, columns + 1, step))
    axes.set_yticks(np.arange(0, rows, step) + 0.5, [letters(row) for row in range(0, rows, step)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{label}, plate {plate_id}")
    figure.colorbar(mesh, ax=axes, shrink=0.8, pad=0.02)
    frames = [Patch(facecolor="none", edgecolor=ROLES[r], label=r) for r in ("C+", "C-") if (plate["role"] == r).any()]
    if frames:
        figure.legend(handles=frames, loc="outside lower center", ncols=2)
    values = plate[quantity].astype(float)
    spread = f"{values.min():.3g} to {values.max():.3g}" if values.notna().any() else "not known"
    figure.alt = f"Map of plate {plate_id}, {label} of {len(plate)} wells: {spread}, median {values.median():.3g}."
    return figure
