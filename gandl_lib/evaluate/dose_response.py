"""Dose-response curves, hits and toxicity from efficacy scores: Figs. 4 and 5 of Mascolini et al. (2022).

**The curve.** The efficacy E of a compound at concentration c is the four-parameter log-logistic

    E(c) = bottom + (emax - bottom) / (1 + (EC50 / c)^hill),    emax >= bottom, hill > 0

EC50 is the dose of half effect; -1 is the infected control, +1 the uninfected one, 0 the threshold half-way.

**The fit.** For a given (EC50, hill) the other two follow by linear least squares, so only two dimensions need
searching (variable projection; Golub & Pereyra 1973). A grid over both serves as a thousand starts, its best point is
polished. The 95 % interval of EC50 is where the sum of squares, minimised over all else, stays under
SSE_min (1 + F_0.95(1, n-4) / (n-4)) (profile likelihood; Bates & Watts 1988); an end the data leave open is 0 or
infinity.

**Toxicity.** Rise-then-fall is a compound that cures and then kills. Starting at the top dose, doses significantly
below the best dose under them (one-sided t, pooled variance, Bonferroni over all pairs of doses, 1 %) are toxic; the
lowest of that run is `toxic_from_uM`, and the rising curve is fitted without it and the doses above.

**Evidence.** `p_value` is twice the smaller of two: the F test of the curve against a flat line, (3, n-4) degrees of
freedom, on the safe side because the curve may only rise; and a t test that the mean lies above the threshold 0, for a
compound that works at every dose tested is flat too. With fewer than four doses there is no curve, and p is Student's
one-sided t test against the infected controls. `q_value` is Benjamini & Hochberg's over the compounds of one method and
cell type.

**Few wells.** Where the curve leaves fewer than three degrees of freedom (six doses of a well each leave two), the m C-
wells say how far wells scatter: the variance is (SSE + (m-1) s^2) / (n-4 + m-1), in the F test and in the interval.

**Wells that failed** (`outliers`) are set aside, named in `outlier_wells`, and take no part in anything but the plain
fit of all wells, which stands beside: `p_all_wells`, `ec50_all_wells_uM`.

**Hit or suspicious.** A compound *works* if q < 0.05 and a dose's mean efficacy (`efficacy_max` is the highest) exceeds
0. What kills may seem to: so it has to work without the doses that are suspect by off-axis distance or cell count
(`toxicity`), with p < 0.05 and a dose above 0 among the others. If it does, it is a **hit**; if not, it is no hit but
`suspicious`, and `toxic_reason` says what was seen. `off_axis` and `cells` are those of the dose of `efficacy_max`,
beside their limits; `suspect_from_uM` is the lowest dose from which on all are suspect.

**Shape.** Beside all this, `shape` says which of four curves over all doses has the smallest AICc (Hurvich & Tsai
1989): `flat`, `rising` (the curve above), `falling` (the same the other way), or `bell`, which rises and falls again
with one slope,

    E(c) = bottom + height / ((1 + (EC50 / c)^hill) (1 + (c / fall50)^hill)),     fall50 > EC50

It decides nothing else: with few wells, AICc and the toxicity test above may disagree, and both are worth knowing.
Where there are too few wells for AICc, or a well a dose, which cannot tell a misfit from chance, it is AIC with the
variance of the C- wells.

**What is not known is NaN.** EC50, hill, emax and bottom are given only where the F test alone is significant and EC50
lies within the doses fitted. Else `reason` says why, and `ec50_censored` where it lies if that is known: `>max` (half
the rise lies beyond the top dose) or `<min` (at the lowest dose the compound works already: EC50 lies below it, or
bottom above the threshold).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import optimize, special, stats
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from gandl_lib.evaluate import toxicity
from gandl_lib.evaluate.axes import efficacy
from gandl_lib.evaluate.outliers import far_from_replicates

MIN_DOSES = 4
"""Doses a four-parameter curve needs."""

HILL = (0.3, 8.0)
"""Range of slopes searched; beyond it a curve is a straight line or a step to any real dose series."""

ALPHA = 0.05
TOXIC_ALPHA = 0.01

MIN_FREE = 3
"""Degrees of freedom; with fewer, the controls say how far wells scatter."""
MIN_CONTROLS = 4

HEADER = ("method", "cell_type", "compound", "ec50_uM", "ec50_low", "ec50_high", "hill", "emax", "efficacy_max",
          "p_value", "q_value", "hit", "toxic_from_uM", "n_wells", "n_doses", "bottom", "ec50_censored",
          "shape", "reason", "suspicious", "toxic_reason", "suspect_from_uM", "off_axis", "off_axis_limit", "cells",
          "cells_limit", "outlier_wells", "p_all_wells", "ec50_all_wells_uM")  # fmt: skip
POINTS_HEADER = ("method", "cell_type", "compound", "concentration_uM", "efficacy", "ci_low", "ci_high", "n_wells",
                 "off_axis", "cells", "suspect")  # fmt: skip

_HILLS = np.geomspace(*HILL, 24)
_SHAPE_HILLS = np.geomspace(0.5, 6.0, 8)
_SHAPE_STEPS = 24


@dataclass(frozen=True)
class Fit:
    """A fitted curve. `ec50_uM` is the estimate even outside the tested doses; open ends of its interval are 0, inf."""

    ec50_uM: float
    ec50_low: float
    ec50_high: float
    hill: float
    emax: float
    bottom: float
    p_flat: float

    def __call__(self, concentration_uM: np.ndarray) -> np.ndarray:
        """Efficacy at each concentration."""
        rise = special.expit(self.hill * (np.log(concentration_uM) - np.log(self.ec50_uM)))
        return self.bottom + (self.emax - self.bottom) * rise


def fit(concentration_uM: np.ndarray, efficacy: np.ndarray, controls: np.ndarray | None = None) -> Fit:
    """Fit the rising curve of this module's docstring to n wells.

    Args:
        concentration_uM: (n,) doses, at least four different ones.
        efficacy: (n,) scores.
        controls: (m,) scores of C- wells, whose spread counts where n is small.

    Raises:
        ValueError: fewer than four doses, a dose that is not positive, values that are not finite, or unequal lengths.
    """
    c, e = np.asarray(concentration_uM, float), np.asarray(efficacy, float)
    if c.ndim != 1 or c.shape != e.shape:
        raise ValueError(f"concentration_uM and efficacy must be equally long; they are {c.shape} and {e.shape}.")
    if not (np.isfinite(c).all() and np.isfinite(e).all() and (c > 0).all()):
        raise ValueError("Doses must be positive and all values finite; drop wells without a dose or score first.")
    doses, codes = np.unique(c, return_inverse=True)
    if len(doses) < MIN_DOSES:
        raise ValueError(
            f"A curve needs {MIN_DOSES} doses; found {len(doses)}: {', '.join(f'{d:g}' for d in doses)} uM."
        )

    # All a curve can see of the wells: number n_d and mean m_d per dose. The squares within doses it cannot explain.
    n_d = np.bincount(codes)
    m_d = np.bincount(codes, e) / n_d
    log_doses = np.log(doses)
    within = ((e - m_d[codes]) ** 2).sum()
    flat = within + _flat(n_d, m_d)

    step = np.log(10) / 16
    low, high = log_doses[0] - np.log(10), log_doses[-1] + np.log(10)
    log_ec50 = np.linspace(low, high, int(np.ceil((high - low) / step)) + 1)  # (T,)
    sse = within + _project(log_ec50[:, None], _HILLS, log_doses, n_d, m_d)[0]  # (T, H)

    t, h = np.unravel_index(np.argmin(sse), sse.shape)

    def residuals(v: np.ndarray) -> np.ndarray:
        _, bottom, rise = _project(v[0], np.exp(v[1]), log_doses, n_d, m_d)
        return np.sqrt(n_d) * (m_d - bottom - rise * special.expit(np.exp(v[1]) * (log_doses - v[0])))

    bounds = [low, np.log(HILL[0])], [high, np.log(HILL[1])]
    start = np.clip([log_ec50[t], np.log(_HILLS[h])], *bounds)
    best = optimize.least_squares(residuals, start, bounds=bounds, xtol=1e-10, ftol=1e-10, gtol=1e-10).x
    sse_best, bottom, rise = _project(best[0], np.exp(best[1]), log_doses, n_d, m_d)
    sse_best = within + sse_best

    free = len(e) - 4
    if free < MIN_FREE and controls is not None and len(controls) >= MIN_CONTROLS:
        m = len(controls)
        squares, free = sse_best + (m - 1) * np.var(controls, ddof=1), free + m - 1
        limit = sse_best + squares * stats.f.ppf(1 - ALPHA, 1, free) / free
    else:
        squares = sse_best
        limit = sse_best * (1 + stats.f.ppf(1 - ALPHA, 1, free) / free) if free > 0 else np.inf
    ends = _interval(log_ec50, sse.min(axis=1), best[0], sse_best, limit)
    return Fit(
        ec50_uM=float(np.exp(best[0])),
        ec50_low=float(np.exp(ends[0])),
        ec50_high=float(np.exp(ends[1])),
        hill=float(np.exp(best[1])),
        emax=float(bottom + rise),
        bottom=float(bottom),
        p_flat=_f_test(flat, sse_best, squares, free, scale=(e**2).sum()),
    )


def shape(concentration_uM: np.ndarray, efficacy: np.ndarray, controls: np.ndarray | None = None) -> str:
    """`flat`, `rising`, `falling` or `bell` for n wells, by AICc (see this module's docstring).

    Empty where there are too few wells, and too few `controls` (m,) to know their spread from.

    All four are searched on the same grid of half-way doses and slopes, none of them polished, so that none has an
    advantage of precision.
    """
    doses, codes = np.unique(np.log(concentration_uM), return_inverse=True)
    n, n_d = len(efficacy), np.bincount(codes)
    if len(doses) < MIN_DOSES:
        return ""
    m_d = np.bincount(codes, efficacy) / n_d
    within = ((efficacy - m_d[codes]) ** 2).sum()
    half_way = np.linspace(doses[0], doses[-1], _SHAPE_STEPS)
    hill = _SHAPE_HILLS[:, None]
    up = special.expit(hill[..., None] * (doses - half_way[:, None]))  # (H, T, doses)
    i, j = np.triu_indices(_SHAPE_STEPS, 1)
    squares = {
        "flat": (1, _flat(n_d, m_d)),
        "rising": (4, _scale(up, n_d, m_d)[0].min()),
        "falling": (4, _scale(1 - up, n_d, m_d)[0].min()),
        "bell": (5, _scale(up[:, i] * (1 - up[:, j]), n_d, m_d)[0].min()),
    }
    found = {name: _aicc(n, parameters + 1, within + sse) for name, (parameters, sse) in squares.items()}
    variance = np.var(controls, ddof=1) if controls is not None and len(controls) >= MIN_CONTROLS else 0.0
    if not np.isfinite(found["rising"]) and variance <= 0:
        return ""
    if variance > 0 and (n == len(doses) or not np.isfinite(found["rising"])):
        found = {name: (within + sse) / variance + 2 * parameters for name, (parameters, sse) in squares.items()}
    return min(found, key=found.__getitem__)


def _aicc(n: int, k: int, sse: float) -> float:
    """Of n normal residuals and k parameters, their variance among them; infinite where n is too small for k."""
    return n * np.log(max(sse, 1e-300) / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1) if n > k + 1 else np.inf


def _flat(n_d: np.ndarray, m_d: np.ndarray) -> float:
    """Squares between doses left by a constant."""
    return (n_d * (m_d - np.average(m_d, weights=n_d)) ** 2).sum()


def _project(log_ec50, hill, log_doses: np.ndarray, n_d: np.ndarray, m_d: np.ndarray):
    """Squares left, bottom and rise >= 0, each (*S), of the best curve for each (log EC50, hill), broadcast to S."""
    g = special.expit(np.asarray(hill)[..., None] * (log_doses - np.asarray(log_ec50)[..., None]))  # (*S, doses)
    return _scale(g, n_d, m_d)


def _scale(g: np.ndarray, n_d: np.ndarray, m_d: np.ndarray):
    """Squares left, bottom and rise >= 0, each (*S), of the best bottom + rise g for each course g (*S, doses)."""
    weight = n_d / n_d.sum()
    mean_g, mean_m = g @ weight, m_d @ weight
    dg, dm = g - mean_g[..., None], m_d - mean_m
    slope = (dg * dm) @ weight / np.maximum((dg**2) @ weight, 1e-300)
    rise = np.maximum(slope, 0)
    sse = ((dm - rise[..., None] * dg) ** 2) @ n_d
    return sse, mean_m - rise * mean_g, rise


def _interval(log_ec50: np.ndarray, sse: np.ndarray, best: float, sse_best: float, limit: float) -> list[float]:
    """Outermost points left and right of `best` where the profile `sse` (T,) crosses `limit`; infinite where open."""
    ends = []
    for sign in (-1, 1):
        side = sign * (log_ec50 - best) > 0
        outward = np.argsort(np.abs(log_ec50[side] - best))
        x = np.r_[best, log_ec50[side][outward]]
        y = np.r_[sse_best, sse[side][outward]]
        k = np.flatnonzero(y <= limit)[-1]
        closed = k + 1 < len(x)
        ends.append(x[k] + (x[k + 1] - x[k]) * (limit - y[k]) / (y[k + 1] - y[k]) if closed else sign * np.inf)
    return ends


def _f_test(sse_flat: float, sse_curve: float, squares: float, free: int, scale: float) -> float:
    """p of the curve's three further parameters; `squares` over `free` is the variance of a well."""
    if free <= 0 or sse_flat <= 1e-20 * scale:  # nothing to explain but rounding
        return 1.0
    if squares <= 0:
        return 0.0
    return float(stats.f.sf((sse_flat - sse_curve) / 3 / (squares / free), 3, free))


def curves(wells: pd.DataFrame) -> pd.DataFrame:
    """Fit every compound of an efficacy table (`axes.efficacy`).

    Returns:
        Table with the columns `HEADER`, one row per method, cell type and compound, as this module's docstring tells.
        Compounds of fewer than four doses have no curve and are named in a warning.

    Raises:
        ValueError: no treated well has a dose.
    """
    wells = toxicity.measured(wells)
    treated = _treated(wells)
    few, tables = [], []
    for (method, cell_type), group in treated.groupby(["method", "cell_type"], sort=False, observed=True):
        control = (wells["role"] == "C-") & (wells["split"] != "reference")
        same = (wells["method"] == method) & (wells["cell_type"] == cell_type)
        controls = wells.loc[same & control, "efficacy"].dropna().to_numpy()
        rows = []
        by_compound = group.groupby("compound", sort=True, observed=True)
        for compound, one in tqdm(by_compound, desc=f"dose-response of {method}, {cell_type}", disable=None):
            row = _describe(one, controls)
            rows.append({"method": method, "cell_type": cell_type, "compound": compound, **row})
            if row["n_doses"] < MIN_DOSES:
                few.append(f"{compound} in {cell_type} ({row['n_doses']})")
        table = pd.DataFrame(rows)
        tested = table["p_value"].notna()
        table["q_value"] = np.nan
        table.loc[tested, "q_value"] = stats.false_discovery_control(table.loc[tested, "p_value"], method="bh")
        works = (table["q_value"] < ALPHA) & (table["efficacy_max"] > 0)
        table["hit"] = works & table["works_unsuspected"]
        table["suspicious"] = works & ~table["works_unsuspected"]
        tables.append(table)
    if few:
        few = list(dict.fromkeys(few))
        warnings.warn(
            f"No curve for {len(few)} compound(s) with fewer than {MIN_DOSES} doses, tested against controls only: "
            f"{', '.join(few[:10])}.",
            stacklevel=2,
        )
    return pd.concat(tables, ignore_index=True)[list(HEADER)]


def points(wells: pd.DataFrame) -> pd.DataFrame:
    """Mean efficacy per dose, with its 95 % t interval over wells (NaN for a single well), from an efficacy table.

    Beside it the median off-axis distance and cell count of its wells, and whether the dose is suspect (`toxicity`).

    Returns:
        Table with the columns `POINTS_HEADER`, sorted by dose within each method, cell type and compound.
    """
    keys = ["method", "cell_type", "compound", "concentration_uM"]
    grouped = _treated(toxicity.measured(wells)).groupby(keys, observed=True)
    table = grouped["efficacy"].agg(efficacy="mean", sd="std", n_wells="count").reset_index()
    half = stats.t.ppf(1 - ALPHA / 2, table["n_wells"] - 1) * table["sd"] / np.sqrt(table["n_wells"])
    doses = toxicity.suspect_doses(grouped).reset_index()[["off_axis", "cells", "suspect"]]
    table = table.assign(ci_low=table["efficacy"] - half, ci_high=table["efficacy"] + half)
    return table.join(doses)[list(POINTS_HEADER)]


def dose_response(profiles: AnnData | list[AnnData], normalisation: str = "all", seed: int = 0) -> pd.DataFrame:
    """`curves` of the efficacy scores of `profiles`; see there and `axes.efficacy` for arguments and errors."""
    return curves(efficacy(profiles, normalisation, seed))


def dose_points(profiles: AnnData | list[AnnData], normalisation: str = "all", seed: int = 0) -> pd.DataFrame:
    """`points` of the efficacy scores of `profiles`; see there and `axes.efficacy` for arguments and errors."""
    return points(efficacy(profiles, normalisation, seed))


def evaluate_truth(table: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Compare a dose-response table with the truth of a simulated screen.

    Args:
        table: from `curves` or `dose_response`.
        truth: columns cell_type, compound, effective (bool), ec50_uM, toxic_uM (NaN where never toxic).

    Returns:
        One row per method and cell type: n_compounds, n_effective; auroc of efficacy_max for effective compounds;
        precision and recall of `hit`; over effective compounds with an EC50 (n_ec50), the median absolute error of
        log10 EC50 and the share of 95 % intervals that hold the true one; recall of toxicity among toxic compounds and
        the share of false alarms among the others, by the fall of the curve (`toxic_from_uM`) and, where the table has
        it, by suspect doses (`suspect_from_uM`).

    Raises:
        ValueError: missing columns, or no compound in common.
    """
    if missing := [c for c in ("cell_type", "compound", "effective", "ec50_uM", "toxic_uM") if c not in truth]:
        raise ValueError(f"The truth table lacks the column(s) {', '.join(missing)}; it has {', '.join(truth)}.")
    both = table.merge(truth, on=["cell_type", "compound"], suffixes=("", "_true"))
    if both.empty:
        raise ValueError("The dose-response table and the truth have no compound of one cell type in common.")
    rows = []
    for (method, cell_type), t in both.groupby(["method", "cell_type"], sort=False):
        effective, hit = t["effective"].astype(bool), t["hit"].astype(bool)
        scored = t["efficacy_max"].notna()
        fitted = t[effective & t["ec50_uM"].notna() & t["ec50_uM_true"].notna()]
        toxic, flagged = t["toxic_uM"].notna(), t["toxic_from_uM"].notna()
        held = fitted["ec50_uM_true"].between(fitted["ec50_low"], fitted["ec50_high"])
        rows.append(
            {
                "method": method,
                "cell_type": cell_type,
                "n_compounds": len(t),
                "n_effective": int(effective.sum()),
                "auroc": roc_auc_score(effective[scored], t.loc[scored, "efficacy_max"])
                if effective[scored].nunique() == 2
                else np.nan,
                "precision": effective[hit].mean(),
                "recall": hit[effective].mean(),
                "n_ec50": len(fitted),
                "log10_ec50_error": np.log10(fitted["ec50_uM"] / fitted["ec50_uM_true"]).abs().median(),
                "ec50_coverage": held.mean(),
                "toxic_recall": flagged[toxic].mean(),
                "toxic_false_alarms": flagged[~toxic].mean(),
            }
        )
        if "suspect_from_uM" in t:
            suspect = t["suspect_from_uM"].notna()
            rows[-1] |= {"suspect_recall": suspect[toxic].mean(), "suspect_false_alarms": suspect[~toxic].mean()}
    return pd.DataFrame(rows)


def _treated(wells: pd.DataFrame) -> pd.DataFrame:
    """The treated wells with a dose; the others are named aloud."""
    treated = wells[wells["role"] == "treated"]
    without = treated["concentration_uM"].isna()
    if without.all():
        raise ValueError(
            f"No treated well has a concentration_uM: {len(treated)} treated among {len(wells)} wells. Dose-response "
            "needs compounds at known doses."
        )
    if without.any():
        names = ", ".join(treated.loc[without, "compound"].unique()[:5])
        warnings.warn(f"{without.sum()} treated well(s) without a dose left out: {names}.", stacklevel=3)
    return treated[~without]


def _describe(wells: pd.DataFrame, controls: np.ndarray) -> dict:
    """All that `curves` says of one compound but q, hit and suspicious: its wells, and the scores of C- wells (m,)."""
    n_doses = wells["concentration_uM"].nunique()
    scored = wells[np.isfinite(wells["efficacy"].astype(float))]
    c, e = scored["concentration_uM"].to_numpy(float), scored["efficacy"].to_numpy(float)
    far = far_from_replicates(c, e, controls)
    kept = scored[~far]
    row = _judge(c[~far], e[~far], controls, n_doses)
    plain = _judge(c, e, controls, n_doses) if far.any() else row
    row |= {"n_wells": len(c), "n_doses": n_doses, "outlier_wells": " ".join(scored["well_id"][far])}
    row |= {"p_all_wells": plain["p_value"], "ec50_all_wells_uM": plain["ec50_uM"]}

    doses = toxicity.suspect_doses(kept.groupby("concentration_uM"))
    suspect = doses.index[doses["suspect"]]
    limits = [f"{name}_limit" for name in toxicity.MEASURES]
    row |= dict.fromkeys((*toxicity.MEASURES, *limits, "suspect_from_uM"), np.nan) | {"toxic_reason": ""}
    row["works_unsuspected"] = True
    if len(kept):
        best = kept.groupby("concentration_uM")["efficacy"].mean().idxmax()
        row |= doses.loc[best, list(toxicity.MEASURES)].to_dict() | kept[limits].iloc[0].to_dict()
    if len(suspect):
        fine = ~np.isin(c, suspect) & ~far
        rest = _judge(c[fine], e[fine], controls, n_doses)
        row["works_unsuspected"] = bool(rest["p_value"] < ALPHA and rest["efficacy_max"] > 0)
        cleared = doses.index[~doses["suspect"]]
        row["suspect_from_uM"] = doses.index[doses.index > (cleared.max() if len(cleared) else 0)].min()
        row["toxic_reason"] = _toxic_reason(doses, kept[limits].iloc[0])
    return row


def _toxic_reason(doses: pd.DataFrame, limits: pd.Series) -> str:
    """What is suspect about which doses, in words."""
    said = []
    if (off := doses[doses["off_axis_suspect"]])["off_axis"].size:
        said.append(
            f"{off['off_axis'].max():.2g} off the axis at {off['off_axis'].idxmax():g} µM (no control is further than "
            f"{limits['off_axis_limit']:.2g})"
        )
    if (few := doses[doses["cells_suspect"]])["cells"].size:
        said.append(
            f"{100 * few['cells'].min():.0f} % of the cells of C- at {few['cells'].idxmin():g} µM "
            f"(no control has fewer than {100 * limits['cells_limit']:.0f} %)"
        )
    return "; ".join(said)


def _judge(c: np.ndarray, e: np.ndarray, controls: np.ndarray, n_doses: int) -> dict:
    """Curve, p, toxicity and shape of the doses `c` (n,) and scores `e` (n,), and why there is no EC50.

    `n_doses` is how many were tested, scored or not.
    """
    row = dict.fromkeys(("ec50_uM", "ec50_low", "ec50_high", "hill", "emax", "bottom", "p_value"), np.nan)
    row |= {"efficacy_max": np.nan, "toxic_from_uM": np.nan, "ec50_censored": "", "shape": ""}
    if len(c) == 0:
        return row | {"reason": "no well has a score: the axis has no scale"}
    row["shape"] = shape(c, e, controls)
    row["efficacy_max"] = pd.Series(e).groupby(c).mean().max()
    row["toxic_from_uM"] = toxic_from(c, e, controls)
    safe = ~(c >= row["toxic_from_uM"])
    c, e = c[safe], e[safe]
    if (left := len(set(c))) < MIN_DOSES:
        below = f"{left} below the toxic ones; " if n_doses >= MIN_DOSES else ""
        falls = "only falls; " if row["shape"] == "falling" else ""
        row["reason"] = f"{falls}{n_doses} dose{'s' * (n_doses != 1)}, {below}a curve needs {MIN_DOSES}"
        row["p_value"] = _greater(e, controls)
        return row

    curve = fit(c, e, controls)
    p_above = _greater(e, 0.0)
    row["p_value"] = min(1.0, 2 * min(curve.p_flat, p_above))
    if curve.p_flat >= ALPHA:
        if p_above < ALPHA:
            return row | {"ec50_censored": "<min", "reason": "works at every dose, so that no rise is seen"}
        if row["shape"] == "falling":
            return row | {"reason": "only falls"}
        if len(c) - 4 < 1 and len(controls) < MIN_CONTROLS:
            return row | {"reason": f"{len(c)} wells and {len(controls)} C- wells do not show how far wells scatter"}
        return row | {"reason": f"no rise beyond chance (p = {curve.p_flat:.2g})"}
    row |= {"ec50_low": curve.ec50_low, "ec50_high": curve.ec50_high}
    if curve.bottom > 0 or curve.ec50_uM < c.min():
        why = "half the rise lies below the lowest dose" if curve.ec50_uM < c.min() else "above 0 at every dose"
        return row | {"ec50_censored": "<min", "ec50_low": 0.0, "reason": why}
    if curve.ec50_uM > c.max():
        why = "half the rise lies beyond the highest dose"
        why += " that is not toxic" if np.isfinite(row["toxic_from_uM"]) else ""
        return row | {"ec50_censored": ">max", "ec50_high": np.inf, "reason": why}
    row |= {"ec50_uM": curve.ec50_uM, "hill": curve.hill, "emax": curve.emax, "bottom": curve.bottom}
    return row | {"reason": ""}


def toxic_from(concentration_uM: np.ndarray, efficacy: np.ndarray, controls: np.ndarray | None = None) -> float:
    """The lowest toxic dose in uM by the rule of this module's docstring; NaN if there is none.

    Where wells were hardly repeated (fewer than three degrees of freedom within doses), the spread of `controls` (m,)
    stands in; without it nothing can be called toxic.
    """
    doses, codes = np.unique(concentration_uM, return_inverse=True)
    n = np.bincount(codes)
    mean = np.bincount(codes, efficacy) / n
    free = len(codes) - len(doses)
    variance = ((efficacy - mean[codes]) ** 2).sum() / max(free, 1)
    if free < MIN_FREE:
        if controls is None or len(controls) < MIN_CONTROLS:
            return np.nan
        free, variance = len(controls) - 1, np.var(controls, ddof=1)
    n_pairs = len(doses) * (len(doses) - 1) / 2
    toxic = np.nan
    for k in range(len(doses) - 1, 0, -1):
        best = np.argmax(mean[:k])
        fall = mean[best] - mean[k]
        error = np.sqrt(variance * (1 / n[k] + 1 / n[best]))
        if not fall > error * stats.t.ppf(1 - TOXIC_ALPHA / n_pairs, free) + 1e-12 * np.abs(mean).max():
            break
        toxic = doses[k]
    return float(toxic)


def _greater(e: np.ndarray, than: np.ndarray | float) -> float:
    """One-sided t test that the mean of `e` (n,) exceeds `than`, a number or a sample (m,); NaN if too few to say."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # values without spread
        if np.ndim(than) == 0:
            return float(np.nan_to_num(stats.ttest_1samp(e, than, alternative="greater").pvalue, nan=1.0))
        if len(e) == 0 or len(than) == 0 or len(e) + len(than) < 3:
            return np.nan
        return float(np.nan_to_num(stats.ttest_ind(e, than, alternative="greater").pvalue, nan=1.0))
