"""Is it a cure, or does it kill? Off-axis distance and cell count of a well, beside those of the controls.

Dead and dying cells are not infected cells, so a compound that kills may lie far along the axis. But it lies off it
too, further than any healthy or infected well does, and there are fewer cells. Two questions to each well:

    off axis   |off| (see `axes`)                                             above every control's?
    cells      cell count over the median of the C- wells of its plate        below every control's?

Controls are all C+ and C- wells of the cell type. Their largest |off| is the limit, and their fewest cells; but a
control that failed sets none: those further than `FAR` robust spreads (1.483 x the median absolute deviation) beyond
their median are left out first. A dose is **suspect** where the median of its wells lies beyond a limit. What is not
known (no off-axis distance, no count of cells, fewer than `MIN_CONTROLS` controls) makes nothing suspect.

What a suspect dose shows along the axis is no cure: see `dose_response`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

FAR = 6.0
MIN_CONTROLS = 8
"""Fewer wells do not show how far the controls reach."""

MEASURES = ("off_axis", "cells")


def measured(wells: pd.DataFrame) -> pd.DataFrame:
    """An efficacy table (`axes.efficacy`) with `off_axis`, `cells`, and the limits of both; NaN where not known.

    Args:
        wells: method, cell_type, role; `off`, `cell_count` and plate_id, if known.
    """
    wells = wells.copy()
    unknown = pd.Series(np.nan, wells.index)
    wells["off_axis"] = wells["off"].abs() if "off" in wells else unknown
    wells["cells"] = unknown
    keys = [wells["method"], wells["cell_type"]]
    if "cell_count" in wells and "plate_id" in wells:
        negative = wells["cell_count"].where(wells["role"] == "C-").groupby([*keys, wells["plate_id"]])
        usual = negative.transform("median")
        wells["cells"] = wells["cell_count"] / usual.where(usual > 0)
    controls = wells["role"].isin(["C+", "C-"])
    for name, sign in zip(MEASURES, (1, -1), strict=True):
        reach = wells[name].where(controls).groupby(keys)
        wells[f"{name}_limit"] = reach.transform(lambda x, sign=sign: sign * _reach(sign * x.dropna().to_numpy()))
    return wells


def suspect_doses(dose: pd.api.typing.DataFrameGroupBy) -> pd.DataFrame:
    """A row a group of `dose`, wells as `measured` grouped by dose: `off_axis, cells`, and whether they are suspect."""
    table = dose[list(MEASURES)].median()
    limits = dose[["off_axis_limit", "cells_limit"]].first()
    table["off_axis_suspect"] = table["off_axis"] > limits["off_axis_limit"]
    table["cells_suspect"] = table["cells"] < limits["cells_limit"]
    return table.assign(suspect=table["off_axis_suspect"] | table["cells_suspect"])


def _reach(x: np.ndarray) -> float:
    """The largest of the controls' values `x` (m,), failed wells left out; NaN if there are too few."""
    if len(x) < MIN_CONTROLS:
        return np.nan
    middle = np.median(x)
    spread = 1.4826 * np.median(np.abs(x - middle))
    return float(x[x <= middle + FAR * spread].max())
