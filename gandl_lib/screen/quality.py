"""Is a screen fit to be read? How far its controls lie apart, and what a well's place on the plate does.

For the scores of C+ wells (mean m+, standard deviation s+) and C- wells (m-, s-)

    SSMD    = (m+ - m-) / sqrt(s+^2 + s-^2)                 Zhang (2007)
    Z'      = 1 - 3 (s+ + s-) / |m+ - m-|                   Zhang, Chung & Oldenburg (1999)
    AUROC   = P(a C+ well scores higher than a C- well)

Only wells that no axis was fitted on, or that were measured by an axis fitted without them, are counted (see `axes`).

**Edges.** Media evaporate from the outer wells first. For each plate and quantity the difference between outermost and
inner wells is given in standard deviations of the inner ones, with a Mann-Whitney test; and the rank correlation of the
quantity with row and column. Values are first centred on the median of their role (and cell type) on that plate, or
plates with all controls at the edge would have an edge effect by design. What hits do is left in: they lie anywhere.

**Pictures.** Of each channel of a well

    focus      var(Laplacian of x) / var(x)      how much of what differs in a picture is fine detail, whatever its gain
    saturated  share of pixels at the screen's highest grey value of that channel: 0 to 1

A well is *out of focus* where its focus lies below the median of its plate and role by more than `FAR` robust spreads
(1.4826 x the median absolute deviation), *saturated* where more than `SATURATED` of a channel's pixels are. It is *dim*
where its nuclei stand out less than half as far as is usual on its plate (`own.dim_wells`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from gandl_lib.datasets import own
from gandl_lib.shards import Shards
from gandl_lib.wells import place

ALL = "all plates"
CONTROLS_HEADER = ("method", "cell_type", "plate_id", "n_positive", "n_negative", "ssmd", "ssmd_low", "ssmd_high",
                   "z_prime", "auroc")  # fmt: skip
EDGES_HEADER = ("plate_id", "quantity", "n_edge", "n_inside", "edge_difference_sd", "p_value", "row_trend",
                "column_trend")  # fmt: skip
PICTURES_HEADER = ("well_id", "plate_id", "well", "role", "channel", "focus", "saturated", "doubt")
MIN_WELLS = 3
FAR = 6.0
SATURATED = 0.01


def ssmd(positive: np.ndarray, negative: np.ndarray) -> float:
    """Strictly standardised mean difference; NaN where neither sample has any spread."""
    spread = np.sqrt(np.var(positive, ddof=1) + np.var(negative, ddof=1))
    return float((np.mean(positive) - np.mean(negative)) / spread) if spread > 0 else np.nan


def z_prime(positive: np.ndarray, negative: np.ndarray) -> float:
    """Z'-factor, at most 1; minus infinity where the means are equal."""
    apart = abs(np.mean(positive) - np.mean(negative))
    return float(1 - 3 * (np.std(positive, ddof=1) + np.std(negative, ddof=1)) / apart) if apart > 0 else -np.inf


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a positive exceeds a negative, ties counted half."""
    return float(stats.mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative)))


def controls(efficacy: pd.DataFrame, n_bootstrap: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Separation of C+ and C- wells, from an efficacy table (`axes.efficacy`).

    Returns:
        Table with the columns `CONTROLS_HEADER`: a row per method, cell type and plate with at least three wells of
        each, and one for all plates together; the SSMD's 95 % interval is a bootstrap over wells.
    """
    counted = efficacy[efficacy["split"].isin(["train", "test"])].dropna(subset=["efficacy"])
    rows = []
    for (method, cell_type), group in counted.groupby(["method", "cell_type"], sort=False, observed=True):
        plates = [(ALL, group), *group.groupby("plate_id", sort=True, observed=True)]
        for plate_id, wells in plates:
            scores = [wells.loc[wells["role"] == role, "efficacy"].to_numpy() for role in ("C+", "C-")]
            if min(map(len, scores)) < MIN_WELLS:
                continue
            rng = np.random.default_rng(seed)
            drawn = [ssmd(*(rng.choice(s, len(s)) for s in scores)) for _ in range(n_bootstrap)]
            low, high = np.nanquantile(drawn, [0.025, 0.975]) if np.isfinite(drawn).any() else (np.nan, np.nan)
            separation = (ssmd(*scores), low, high, z_prime(*scores), auroc(*scores))
            rows.append((method, cell_type, plate_id, *map(len, scores), *separation))
    return pd.DataFrame(rows, columns=CONTROLS_HEADER)


def edges(wells: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    """What place does to each of `quantities`.

    Args:
        wells: one row a well, with plate_id, well, role and a column per quantity (NaN where not known).

    Returns:
        Table with the columns `EDGES_HEADER`, a row per plate and quantity; NaN where fewer than three wells lie on
        either side or all values are the same.
    """
    rows = []
    for plate_id, plate in wells.groupby("plate_id", sort=True, observed=True):
        at = np.array([place(well) for well in plate["well"]])  # (n, 2)
        alike = [key for key in ("role", "cell_type") if key in plate]
        edge = ((at == at.min(axis=0)) | (at == at.max(axis=0))).any(axis=1)
        for quantity in quantities:
            value = plate[quantity].astype(float)
            value = (value - value.groupby([plate[key] for key in alike]).transform("median")).to_numpy()
            known = np.isfinite(value)
            outer, inner = value[known & edge], value[known & ~edge]
            measured = [np.nan] * 4
            if min(len(outer), len(inner)) >= MIN_WELLS and np.ptp(value[known]) > 0:
                sd = inner.std(ddof=1)
                difference = (outer.mean() - inner.mean()) / sd if sd > 0 else np.nan
                trends = [_trend(at[known, k], value[known]) for k in (0, 1)]
                measured = [difference, stats.mannwhitneyu(outer, inner).pvalue, *trends]
            rows.append((plate_id, quantity, len(outer), len(inner), *measured))
    return pd.DataFrame(rows, columns=EDGES_HEADER)


def pictures(shards: Shards, name_dim: bool = True) -> pd.DataFrame:
    """Focus and saturation of every well and channel, means over its sites.

    Args:
        name_dim: warn of dim wells; the look at a plate of somebody's own has named them before.

    Returns:
        Table with the columns `PICTURES_HEADER`; doubt is "out of focus", "saturated", both, or nothing. Dim wells, of
        whatever layout the screen was, are named in a warning.
    """
    wells, channels = shards.wells, list(shards.channels)
    focus, top, at_top = (np.empty((len(wells), len(channels))) for _ in range(3))
    nuclei, contrast = own.nuclei_in(channels), np.empty(len(wells))
    for i in range(len(wells)):
        x = shards.read(i).astype(np.float32)  # (C, H, W)
        focus[i] = sharpness(x)
        top[i] = x.max(axis=(1, 2))
        at_top[i] = (x == top[i][:, None, None]).mean(axis=(1, 2))
        contrast[i] = own.contrast_of(x[nuclei])
    at_top[top < top.max(axis=0)] = 0.0
    if name_dim and (dim := own.dim_wells(wells, pd.Series(contrast))):
        warnings.warn(
            f"{len(dim)} well(s) have nuclei ({channels[nuclei]}) less than {own.DIM:g} times as bright as usual on "
            f"their plate: {', '.join(dim[:6])}{' …' if len(dim) > 6 else ''}",
            stacklevel=2,
        )
    keys = ["well_id", "plate_id", "well", "role"]
    several = [wells[keys].assign(channel=c, focus=focus[:, k], saturated=at_top[:, k]) for k, c in enumerate(channels)]
    table = pd.concat(several).groupby([*keys, "channel"], sort=False, observed=True).mean().reset_index()
    alike = table.groupby(["plate_id", "role", "channel"], observed=True)["focus"]
    middle = alike.transform("median")
    spread = 1.4826 * (table["focus"] - middle).abs().groupby(
        [table[k] for k in ("plate_id", "role", "channel")]
    ).transform("median")
    blurred = (table["focus"] < middle - FAR * spread) & (spread > 0) & (alike.transform("size") >= MIN_WELLS)
    doubts = {"out of focus": blurred, "saturated": table["saturated"] > SATURATED}
    table["doubt"] = [", ".join(d for d, found in doubts.items() if found.iloc[i]) for i in range(len(table))]
    return table[list(PICTURES_HEADER)]


def sharpness(images: np.ndarray) -> np.ndarray:
    """(C,) variance of the Laplacian of (C, H, W) over their own variance; 0 where a picture is flat."""
    x = images
    laplacian = 4 * x[:, 1:-1, 1:-1] - x[:, :-2, 1:-1] - x[:, 2:, 1:-1] - x[:, 1:-1, :-2] - x[:, 1:-1, 2:]
    own = x.var(axis=(1, 2))
    return np.where(own > 0, laplacian.var(axis=(1, 2)) / np.where(own > 0, own, 1), 0.0)


def _trend(along: np.ndarray, value: np.ndarray) -> float:
    return float(stats.spearmanr(along, value).statistic) if np.ptp(along) > 0 else np.nan
