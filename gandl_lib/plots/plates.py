"""Plates seen from above, and what their wells say when they are pointed at."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from gandl_lib.plots.page import ROLES, WIDTH, canvas, drawn, tell
from gandl_lib.plots.words import number
from gandl_lib.wells import letters, place

BAD, ALMOST_WHITE = "#EEEEEE", "#FEFEFE"
"""What is not known, and what stays white on a dark page too."""


@drawn
def well_map(
    wells: pd.DataFrame,
    plate_id: str,
    quantity: str,
    label: str,
    limits: tuple[float, float],
    places: Sequence[str] | None = None,
    sheet: str = "",
) -> Figure:
    """One plate as it lies on the bench, a square a well, coloured by `quantity`; controls have a frame.

    Each square says what is in its well (`said_of`).

    Args:
        wells: one row a well: plate_id, well, role and the quantity (NaN: grey).
        limits: values at the two ends of the colours. If one is below and one above 0, white is 0.
        places: where in the picture `sheet` each well of this plate has a picture of its own (`page.tell`).
    """
    plate = wells[wells["plate_id"] == plate_id]
    at = np.array([place(well) for well in plate["well"]])
    rows, columns = at.max(axis=0) + 1
    values = plate[quantity].to_numpy(float)
    # Purple and green, for blue and orange are the frames of the controls.
    colours = matplotlib.colormaps["PRGn" if limits[0] < 0 < limits[1] else "viridis"].with_extremes(bad=BAD)
    figure, ((axes,),) = canvas(0.7 + 0.88 * WIDTH * rows / columns)
    corners = np.array([[0.53, 0.03], [1.47, 0.03], [1.47, 0.97], [0.53, 0.97]])
    squares = PolyCollection(corners + at[:, None, ::-1], cmap=colours, linewidth=0)
    squares.set_array(np.ma.masked_invalid(values))
    squares.set_clim(*limits)
    axes.add_collection(squares)
    tell(squares, said_of(plate, quantity, label), places, sheet)
    for (row, column), role in zip(at, plate["role"], strict=True):
        if role in ("C+", "C-"):
            for colour, width in ((ALMOST_WHITE, 2.8), (ROLES[role], 1.4)):  # to be seen on any ground
                frame = Rectangle((column + 0.58, row + 0.08), 0.84, 0.84, fill=False, linewidth=width)
                frame.set_edgecolor(colour)
                axes.add_patch(frame)
    axes.set(xlim=(0.5, columns + 0.5), ylim=(rows, 0))
    axes.set_aspect("equal")
    step = 1 if columns <= 12 else 4
    axes.set_xticks(range(1, columns + 1, step))
    axes.set_yticks(np.arange(0, rows, step) + 0.5, [letters(row) for row in range(0, rows, step)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{label}, plate {plate_id}")
    figure.colorbar(squares, ax=axes, shrink=0.8, pad=0.02)
    frames = [Patch(facecolor="none", edgecolor=ROLES[r], label=r) for r in ("C+", "C-") if (plate["role"] == r).any()]
    if frames:
        figure.legend(handles=frames, loc="outside lower center", ncols=2)
    values, known = plate[quantity].astype(float), "not known"
    if values.notna().any():
        known = f"{values.min():.3g} to {values.max():.3g}, median {values.median():.3g}"
    figure.alt = f"Map of plate {plate_id}, {label} of {len(plate)} wells: {known}."
    return figure


def said_of(wells: pd.DataFrame, quantity: str, label: str) -> list[str]:
    """What each well is: its name, what it received, and its value; a few lines a well."""
    said = []
    for row in wells.to_dict("records"):
        given = row.get("compound")
        given = given if isinstance(given, str) and given else ""
        dose = row.get("concentration_uM", np.nan)
        dose = f" {number(dose)} µM" if given and dose == dose else ""
        what = f"{given}{dose}" if given else row["role"]
        said.append(f"{row['well']}: {what}\n{label} {number(row[quantity])}")
    return said
