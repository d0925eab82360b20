"""Before anything is pipetted: the smallest effect that a design can show, and the EC50 interval to expect.

All in the units of the axis (`axes`): wells scatter about their mean with a standard deviation `spread`, C- lies at -1,
C+ at +1, and an *effect* is the share of that way, 1 being a whole cure. A dose's n wells lie on plates in turn, n_a of
them on plate a, and are compared with the m_a controls there that no fit has seen (a quarter of them, as in `hits`).

**The smallest effect** is found four times out of five: the one-sided t test within plates has power 0.8 against it,

    t = d / (s sqrt(sum_a (n_a/n)^2 (1/n_a + 1/m_a))),    sum_a (n_a + m_a - 1) - 1 degrees of freedom

at 5 %, for a dose looked at alone, and at 5 % over the number of compounds times doses, which is what a single hit has
to pass among as many that do nothing (`hits`: Benjamini & Hochberg). `hits` permutes instead and comes to the same
where there are enough labellings; where the smallest p that there can be, `p_floor`, is above the level, no effect is
large enough, and the effect is NaN.

**The EC50** is taken from simulated wells: curves from -1 to +1 with slope 1 and an EC50 anywhere in the middle third
of the doses, wells scattered by `spread`, fitted by `dose_response`. Said is in how many of them an EC50 is given, how
wide the middle one of their 95 % intervals is (high over low), and how far off the middle one of the estimates.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import optimize, stats

from gandl_lib.evaluate import dose_response, hits
from gandl_lib.evaluate.axes import MIN_WELLS, efficacy
from gandl_lib.splits import TEST_FRACTION

POWER = 0.8
CURVES = 200

HEADER = ("spread", "plates", "controls", "replicates", "doses", "compounds", "unseen_controls", "p_floor",
          "smallest_effect", "smallest_effect_of_all", "ec50_given", "ec50_interval_fold", "ec50_error_fold",
          "reason")  # fmt: skip


def spread_of(profiles: AnnData, normalisation: str = "all", seed: int = 0) -> float:
    """Standard deviation on the axis between C- wells of a plate, the wells that no fit has seen; over cell types.

    Raises:
        ValueError: no axis, one without a scale, or no plate with two such wells.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(no axis|do not lie in order)")  # the error below says so
        table = efficacy(profiles, normalisation, seed)
    unseen = table[(table["role"] == "C-") & (table["split"] == "test")]
    if len(unseen) and unseen["efficacy"].isna().all():
        raise ValueError(
            "The spread of wells has no scale: there is no axis through these profiles, or controls that it was not "
            "fitted on do not come in order along it. Give --spread instead."
        )
    unseen = unseen.dropna(subset="efficacy")
    plates = unseen.groupby(["cell_type", "plate_id"], observed=True)["efficacy"]
    free = (plates.count() - 1).sum()
    if free < 1:
        raise ValueError(
            f"The spread of wells cannot be told from {len(unseen)} C- wells that the axis was not fitted on, on "
            f"{unseen['plate_id'].nunique()} plate(s); it takes two on a plate. Give --spread instead."
        )
    return float(np.sqrt(((unseen["efficacy"] - plates.transform("mean")) ** 2).sum() / free))


def plan(
    spread: float,
    *,
    controls: Iterable[int] = (4, 8, 16, 32),
    replicates: Iterable[int] = (1, 2, 3, 4),
    plates: int = 2,
    doses: int = 7,
    lowest_uM: float = 0.1,
    highest_uM: float = 100.0,
    compounds: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """One row a number of controls and replicates, with the columns `HEADER`.

    Args:
        spread: standard deviation between wells on the axis from C- (-1) to C+ (+1).
        controls: C- wells on each plate.
        replicates: wells of each compound and dose, on all plates together.
        doses: of a compound, evenly spaced on a logarithmic scale from the lowest to the highest.
        compounds: that are judged together.

    Raises:
        ValueError: a number that no design can have.
    """
    controls, replicates = tuple(controls), tuple(replicates)
    if not (np.isfinite(spread) and spread > 0):
        raise ValueError(f"spread must be above 0; it is {spread}.")
    if min((plates, doses, compounds, *controls, *replicates), default=0) < 1 or not controls or not replicates:
        raise ValueError(
            f"plates, doses, compounds, controls and replicates must be 1 or more; found {plates}, {doses}, "
            f"{compounds}, {controls}, {replicates}."
        )
    if not 0 < lowest_uM < highest_uM:
        raise ValueError(f"doses run from a lowest above 0 to a higher one; found {lowest_uM} to {highest_uM} uM.")
    concentrations = np.geomspace(lowest_uM, highest_uM, doses)
    curves = {n: _ec50(spread, n, concentrations, seed) for n in replicates}
    rows = []
    for m in controls:
        for n in replicates:
            unseen, wells = spread_evenly(max(round(TEST_FRACTION * m * plates), 1), plates), spread_evenly(n, plates)
            wells = np.where(unseen > 0, wells, 0)  # wells without controls beside them are compared with nothing
            ways = math.prod(math.comb(int(a + b), int(b)) for a, b in zip(unseen, wells, strict=True))
            row = {"spread": spread, "plates": plates, "controls": m, "replicates": n, "doses": doses,
                   "compounds": compounds, "unseen_controls": unseen.sum(), **curves[n],
                   "p_floor": 1 / min(ways, hits.PERMUTATIONS + 1)}  # fmt: skip
            levels = {"smallest_effect": hits.ALPHA, "smallest_effect_of_all": hits.ALPHA / (compounds * doses)}
            for name, level in levels.items():
                row[name] = smallest_effect(spread, wells, unseen, level) if row["p_floor"] <= level else np.nan
            if m * plates < MIN_WELLS:
                row |= dict.fromkeys(levels, np.nan) | {"reason": f"an axis takes {MIN_WELLS} controls of each kind"}
            elif row["p_floor"] > hits.ALPHA:
                row["reason"] = f"no p below {row['p_floor']:.2g}: more controls, or more replicates"
            elif row["p_floor"] > levels["smallest_effect_of_all"]:
                row["reason"] = f"a single hit among {compounds * doses} doses cannot be told: no p is that small"
            rows.append(row)
    return pd.DataFrame(rows).reindex(columns=HEADER).fillna({"reason": ""})


def spread_evenly(n: int, plates: int) -> np.ndarray:
    """(plates,) int: n wells on plates in turn."""
    return np.bincount(np.arange(n) % plates, minlength=plates)


def smallest_effect(spread: float, wells: np.ndarray, unseen: np.ndarray, level: float) -> float:
    """Share of the way from C- to C+ that is found four times out of five; `wells`, `unseen` (plates,) as above."""
    used = wells > 0
    free = (wells + unseen - 1)[used].sum() - 1
    if not used.any() or free < 1:
        return np.nan
    share = wells[used] / wells.sum()
    error = spread * np.sqrt((share**2 * (1 / wells[used] + 1 / unseen[used])).sum())
    threshold = stats.t.isf(level, free)

    def lacking(d: float) -> float:
        return stats.nct.sf(threshold, free, d) - POWER

    top = 2 * threshold + 10
    return float(optimize.brentq(lacking, 0, top) * error / 2) if lacking(top) > 0 else np.nan


def _ec50(spread: float, replicates: int, concentrations: np.ndarray, seed: int) -> dict[str, float]:
    if len(concentrations) < dose_response.MIN_DOSES:
        return dict.fromkeys(("ec50_given", "ec50_interval_fold", "ec50_error_fold"), np.nan)
    rng = np.random.default_rng([seed, replicates])
    c = np.repeat(concentrations, replicates)
    controls = -1 + spread * rng.standard_normal((CURVES, 16))
    low, high = np.log(concentrations[0]), np.log(concentrations[-1])
    truth = np.exp(low + (high - low) * rng.uniform(1 / 3, 2 / 3, CURVES))
    given, folds, errors = 0, [], []
    for k, ec50 in enumerate(truth):
        e = -1 + 2 / (1 + ec50 / c) + spread * rng.standard_normal(len(c))
        fit = dose_response.fit(c, e, controls[k])
        if fit.p_flat <= dose_response.ALPHA and concentrations[0] <= fit.ec50_uM <= concentrations[-1]:
            given += 1
            folds.append(fit.ec50_high / fit.ec50_low if fit.ec50_low > 0 else np.inf)
            errors.append(abs(np.log(fit.ec50_uM / ec50)))
    if not given:
        return {"ec50_given": 0.0, "ec50_interval_fold": np.nan, "ec50_error_fold": np.nan}
    middle = np.sort(folds)[given // 2]  # not a mean of two, one of which may be infinite
    return {"ec50_given": given / CURVES, "ec50_interval_fold": middle, "ec50_error_fold": np.exp(np.median(errors))}
