"""On- and off-perturbation axes and the efficacy score: Fig. 3 of Mascolini et al. (2022).

A linear SVM between two classes of control wells has a unit normal w. For a well with standardised features z,

    on  = (w . z - c) / h      how far along the line from one class to the other
    off = sign(r . u) |r| / h, less its mean over the training wells,    r = z - (w . z) w

where u is the first principal direction of the training wells' r: what the perturbation does *beside* moving along the
line. c and h are set so that unseen wells of the two classes have mean on = +1 and -1, per cell
type (as the BMC text has it; the preprint min-max scales instead). **E2** is C+ (+1) against C- (-1) in one cell type,
**C2** HRCE (+1) against VERO (-1). The *efficacy score* of a well is its E2 on-value; 0, half-way, is the threshold.

**Unseen, and still only from training wells.** With more features than wells an SVM puts its own training wells at +1
and -1 exactly and everything else nearer to the middle, so a scale read off them would call every inert compound
half-way cured. Therefore training wells are projected on normals fitted without them (cross-fitting over wells), and c
and h come from those values. Treated and test wells, which no fit has seen, are then measured by the scale that is
theirs.

**No order, no scale.** Where those unseen values of C+ lie above C-'s by no more than chance (one-sided Mann-Whitney
test, 5 %), dividing by their distance would stretch noise to +1 and -1 and call hits from it. The axis is then NaN.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import stats
from sklearn.decomposition import PCA

from gandl_lib.evaluate import svm
from gandl_lib.evaluate.reference import normalise_apart
from gandl_lib.profiles import aggregate, by_method
from gandl_lib.splits import by_well

CELL_TYPES = ("HRCE", "VERO")
"""C2's positive and negative end."""

CROSS_FITS = 5
MIN_WELLS = 4
"""Control wells a class needs: one to test and three to cross-fit; in order, three against three are p = 1/20."""

ORDER_ALPHA = 0.05
"""Controls that are out of order, or in order by chance at this level, set no scale."""

_WELL = ["well_id", "role", "cell_type", "plate_id", "compound", "concentration_uM"]
HEADER = ("method", "task", *_WELL, "on", "off", "split")
EFFICACY_HEADER = ("method", *_WELL, "efficacy", "split", "off")
CELL_COUNT = "cell_count"
"""A column of obs, the number of cells in a site, that travels along as the well's mean where the profiles have it."""
COUNTS = "cell-count"
"""The method whose only feature it is: among others, its counts are theirs too, for a screen is counted once."""


@dataclass(frozen=True)
class Axis:
    """A direction in feature space with its scale. `normal`, `mean`, `sd`, `off_direction` are (D,)."""

    mean: np.ndarray
    sd: np.ndarray
    normal: np.ndarray
    off_direction: np.ndarray
    centre: float
    half: float
    off_centre: float

    def on(self, X: np.ndarray) -> np.ndarray:
        """(N,) position of X (N, D) along the axis, +1 and -1 being the class means."""
        z = (X - self.mean) / self.sd
        return (z @ self.normal - self.centre) / self.half

    def off(self, X: np.ndarray) -> np.ndarray:
        """(N,) signed distance of X (N, D) from the axis, in the same unit."""
        z = (X - self.mean) / self.sd
        rest = z - np.outer(z @ self.normal, self.normal)
        return _signed_norm(rest, self.off_direction) / self.half - self.off_centre


def fit_axis(X: np.ndarray, positive: np.ndarray, wells: np.ndarray, seed: int = 0) -> tuple[Axis, pd.DataFrame]:
    """Fit an axis on training sites.

    Args:
        X: (N, D) features of sites, normalised per plate where that makes sense.
        positive: (N,) bool, the class to lie at +1.
        wells: (N,) well of each site.

    Returns:
        The axis, and a table indexed by training well with `on` and `off`, each from a normal that had not seen it.
        Where unseen wells of the two classes do not lie in order (`ORDER_ALPHA`), `half` is NaN, and so is all measured
        with it.

    Raises:
        ValueError: a class has fewer than two wells.
    """
    X, positive, wells = np.asarray(X, np.float64), np.asarray(positive, bool), np.asarray(wells)
    cost = svm.choose_cost(X, positive, wells, seed)
    model = svm.fit(X, positive, cost, seed)
    mean, sd = model.mean, model.sd
    normal = model.svm.coef_[0] / np.linalg.norm(model.svm.coef_)

    names, codes = np.unique(wells, return_inverse=True)
    Z = _mean_by(codes, (X - mean) / sd)  # (G, D): one row a well
    is_positive = _mean_by(codes, positive[:, None])[:, 0] > 0.5
    folds = svm.well_folds(positive, wells, CROSS_FITS, seed)
    if not folds:
        counts = is_positive.sum(), (~is_positive).sum()
        raise ValueError(f"An axis needs two training wells a class; found {counts[0]} and {counts[1]}.")
    normals = np.tile(normal, (len(names), 1))  # (G, D): for each well, one fitted without it
    for train, test in folds:
        # Back from the fold's own standardisation to the common one, where all projections are compared.
        fold = svm.fit(X[train], positive[train], cost, seed)
        w = fold.svm.coef_[0] / fold.sd * sd
        normals[codes[test]] = w / np.linalg.norm(w)

    along = (Z * normals).sum(axis=1)  # (G,)
    rest = Z - along[:, None] * normals  # (G, D)
    top, bottom = along[is_positive].mean(), along[~is_positive].mean()
    ordered = stats.mannwhitneyu(along[is_positive], along[~is_positive], alternative="greater").pvalue <= ORDER_ALPHA
    centre, half = (top + bottom) / 2, (top - bottom) / 2 if ordered and top > bottom else np.nan
    if rest.shape[1] > 1:
        off_direction = PCA(1, svd_solver="randomized", random_state=seed).fit(rest).components_[0]
    else:  # of a single feature, a count of cells say, nothing lies beside the line
        off_direction = np.zeros(1)
    off = _signed_norm(rest, off_direction) / half
    axis = Axis(mean, sd, normal, off_direction, centre, half, off.mean())
    return axis, pd.DataFrame({"on": (along - centre) / half, "off": off - off.mean()}, index=names)


def axes(
    profiles: AnnData | list[AnnData], tasks: tuple[str, ...] = ("E2", "C2"), normalisation: str = "all", seed: int = 0
) -> pd.DataFrame:
    """Position of every well on and off each task's axis.

    Args:
        profiles: one table a method; rows are sites.
        tasks: `E2` (one axis a cell type, on plate-normalised features) and/or `C2` (one axis; never plate-normalised,
            for a plate holds one cell type).
        normalisation: of E2, a name from `profiles.NORMALISATIONS`.
        seed: chooses the training wells, three quarters of the controls.

    Returns:
        Table with the columns `HEADER`, one row per method, task and well. split: `train`, `test`, `reference` (control
        wells that only set a plate's zero, see `reference.py`) or `other` (not a control). In C2 all wells of the two
        cell types are shown.

    Raises:
        ValueError: bad profiles, an unknown task, or no cell type with enough C+ and C- wells.
    """
    if unknown := [t for t in tasks if t not in ("E2", "C2")]:
        raise ValueError(f"Unknown task(s) {', '.join(unknown)}; choose from E2, C2.")
    tables = []
    for method, p in _counted(by_method(profiles, (*_WELL,))).items():
        for task in tasks:
            tables += [t.assign(method=method, task=task) for t in _measure(method, p, task, normalisation, seed)]
    if not tables:
        raise ValueError(_nothing(profiles, f"No axis of {', '.join(tasks)} can be fitted"))
    table = pd.concat(tables, ignore_index=True)
    return table[[*HEADER, *(c for c in [CELL_COUNT] if c in table)]]


def efficacy(profiles: AnnData | list[AnnData], normalisation: str = "all", seed: int = 0) -> pd.DataFrame:
    """Efficacy score of every well: its place on the E2 axis of its cell type, C+ at +1, C- at -1.

    Returns:
        Table with the columns `EFFICACY_HEADER`, one row per method and well, and `cell_count` where the profiles have
        one; cell types without enough controls are left out with a warning. The score is NaN, with a warning, where the
        method does not order unseen controls.

    Raises:
        ValueError: bad profiles, or no cell type with enough C+ and C- wells.
    """
    table = axes(profiles, ("E2",), normalisation, seed).rename(columns={"on": "efficacy"})
    return table[[*EFFICACY_HEADER, *(c for c in [CELL_COUNT] if c in table)]]


def _counted(named: dict[str, AnnData]) -> dict[str, AnnData]:
    """The same profiles; those without a count of cells have that of `COUNTS`, if it is there and knows their wells."""
    if COUNTS not in named:
        return named
    count = pd.Series(named[COUNTS].X[:, 0].astype(float)).groupby(named[COUNTS].obs["well_id"].to_numpy()).mean()
    for p in named.values():
        if CELL_COUNT not in p.obs and p.obs["well_id"].isin(count.index).all():
            p.obs[CELL_COUNT] = p.obs["well_id"].map(count).astype(float)
    return named


def _measure(method: str, p: AnnData, task: str, normalisation: str, seed: int) -> list[pd.DataFrame]:
    """One table per axis of the task: all E2 axes (a cell type each), or the C2 axis."""
    obs = p.obs
    test = by_well(obs, seed=seed)
    control = obs["role"].isin(["C+", "C-"]).to_numpy()
    if task == "E2":
        positive = (obs["role"] == "C+").to_numpy()
        parts = {cell: (obs["cell_type"] == cell).to_numpy() for cell in sorted(obs["cell_type"].unique())}
    else:
        normalisation = "none"
        positive = (obs["cell_type"] == CELL_TYPES[0]).to_numpy()
        parts = {"C2": obs["cell_type"].isin(CELL_TYPES).to_numpy()}
    fitted = {name: rows & control for name, rows in parts.items()}
    possible = {name: rows for name, rows in fitted.items() if _enough(method, name, obs[rows], positive[rows])}
    if not possible:
        return []

    normalised, reference = normalise_apart(p, normalisation, test, seed)
    tables = []
    for name, controls in possible.items():
        train = controls & ~test & ~reference
        axis, seen = fit_axis(normalised.X[train], positive[train], obs["well_id"].to_numpy()[train], seed)
        if np.isnan(axis.half):
            warnings.warn(
                f"{method}, {name}: unseen control wells do not lie in order along the axis by more than chance, so it "
                "has no scale; its values are NaN.",
                stacklevel=4,
            )
        wells = aggregate(normalised[parts[name]], "well_id")
        table = wells.obs[_WELL].reset_index(drop=True)
        well = table["well_id"]
        table["on"] = well.map(seen["on"]).where(well.isin(seen.index), pd.Series(axis.on(wells.X)))
        table["off"] = well.map(seen["off"]).where(well.isin(seen.index), pd.Series(axis.off(wells.X)))
        if CELL_COUNT in obs:
            table[CELL_COUNT] = well.map(obs[CELL_COUNT].astype(float).groupby(obs["well_id"]).mean())
        table["split"] = "other"
        for split, part in (("train", train), ("test", controls & test), ("reference", controls & reference)):
            table.loc[well.isin(set(obs["well_id"][part])), "split"] = split
        tables.append(table)
    return tables


def _enough(method: str, name: str, obs: pd.DataFrame, positive: np.ndarray) -> bool:
    counts = [obs.loc[side, "well_id"].nunique() for side in (positive, ~positive)]
    if min(counts) >= MIN_WELLS:
        return True
    ends = CELL_TYPES if name == "C2" else ("C+", "C-")
    warnings.warn(
        f"{method}, {name}: no axis, {counts[0]} {ends[0]} and {counts[1]} {ends[1]} control wells; "
        f"{MIN_WELLS} of each are needed.",
        stacklevel=5,
    )
    return False


def _nothing(profiles: AnnData | list[AnnData], what: str) -> str:
    obs = pd.concat([p.obs for p in ([profiles] if isinstance(profiles, AnnData) else profiles)])
    wells = obs.drop_duplicates("well_id").groupby(["cell_type", "role"], observed=True).size()
    found = ", ".join(f"{cell} {role}: {n}" for (cell, role), n in wells.items())
    return f"{what}: at least {MIN_WELLS} wells of C+ and of C- in one cell type are needed; found wells {found}."


def _signed_norm(rest: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """(N,) length of each row of `rest` (N, D), negative where it points against `direction` (D,)."""
    return np.sign(rest @ direction) * np.linalg.norm(rest, axis=1)


def _mean_by(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(G, D) mean of `values` (N, D) over each of the G codes (N,)."""
    return pd.DataFrame(values).groupby(codes).mean().to_numpy()
