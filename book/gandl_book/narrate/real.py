"""Real plates: that of chapter 10, and plate 25 of RxRx19a beside what others measured on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gandl_lib.plots.page import Output, name
from gandl_lib.plots.words import hundredths, listing, number, say
from gandl_lib.profiles import aggregate

if TYPE_CHECKING:
    from anndata import AnnData

CLASSICAL = "classical"
PLATE_25 = "HRCE-1_25"


def real_plate_source(live: bool) -> Output:
    """Where the numbers of this page come from."""
    if live:
        return say(
            "**Live:** all numbers and figures of this page were made by this build, from the plate's own images."
        )
    return say(
        "**Recorded:** this build had no BBBC013, so numbers and figures are those of a recorded run "
        "(`book/reference/real_plate.provenance.json`), and pictures of cells are left out."
    )


def real_plate_table(measured: pd.DataFrame) -> pd.DataFrame:
    """A row a method: both EC50s, Z', Spearman, wells needed."""
    rows = []
    for method, part in measured.groupby("method", sort=False):
        ec50 = {}
        for row in part.itertuples():
            factor, unit = (1000, "nM") if row.compound == "Wortmannin" else (1, "µM")
            ends = f"{row.ec50_low * factor:.3g} to {row.ec50_high * factor:.3g}"
            known = np.isfinite(row.ec50_uM)
            ec50[f"{row.compound}, {unit}"] = f"{row.ec50_uM * factor:.3g} ({ends})" if known else "no curve"
        one = part.iloc[0]
        z = f"{one.z_prime:.2f} ({one.z_prime_low:.2f} to {one.z_prime_high:.2f})" if np.isfinite(one.z_prime) else "–"
        rows.append(
            {
                "method": name(method),
                **ec50,
                "Z′": z,
                "Spearman": one.spearman_classical,
                "wells": one.wells_for_a_quarter,
            }
        )
    return pd.DataFrame(rows)


def agreeing(measured: pd.DataFrame, method: str) -> bool:
    """Whether a method's EC50s and the classical ones have intervals that meet, for every drug."""
    classical = measured[measured["method"] == CLASSICAL].set_index("compound")
    mine = measured[measured["method"] == method].set_index("compound")
    low, high = mine["ec50_low"] <= classical["ec50_high"], mine["ec50_high"] >= classical["ec50_low"]
    return bool((low & high).all())


def real_plate(measured: pd.DataFrame, method: str = "gandl", untrained: str = "gandl-random") -> Output:
    """What GAN-DL did on real cells: against the classical measurement, and against itself untrained."""
    rows = measured.drop_duplicates("method").set_index("method")
    sentences = []
    classical = measured[measured["method"] == CLASSICAL].set_index("compound")
    if method in rows.index:
        inside = []
        for row in measured[measured["method"] == method].itertuples():
            true = classical.loc[row.compound]
            overlap = row.ec50_low <= true.ec50_high and row.ec50_high >= true.ec50_low
            inside.append(f"{row.compound} {'agrees' if overlap else '**differs**'}")
        sentences.append(
            f"Held against the classical logarithm, {name(method)}'s EC50 of {listing(inside)}, by whether the 95 % "
            "intervals meet."
        )
        if untrained in rows.index:
            a, b = rows.loc[method], rows.loc[untrained]
            apart = a.z_prime_low > b.z_prime_high or b.z_prime_low > a.z_prime_high
            verdict = (
                ("**is above**" if a.z_prime > b.z_prime else "**is below**") if apart else "**cannot be told from**"
            )
            sentences.append(
                f"Its Z′ of {a.z_prime:.2f} {verdict} the {b.z_prime:.2f} of the same network untrained, by their "
                f"intervals (classical: {rows.loc[CLASSICAL].z_prime:.2f}); wells come in the classical order with "
                f"Spearman {a.spearman_classical:.2f} against {b.spearman_classical:.2f}."
            )
        sentences.append(
            f"A quarter of the full effect takes {rows.loc[method].wells_for_a_quarter:.0f} wells a side by its axis, "
            f"{rows.loc[CLASSICAL].wells_for_a_quarter:.0f} by the ratio's logarithm."
        )
    blind = [name(m) for m in rows.index[rows["z_prime"].isna()]]
    if blind:
        sentences.append(f"No axis has: {listing(blind)}; controls it has not seen do not come in order.")
    return say(*sentences)


def plate25(theirs: pd.DataFrame, efficacy: pd.DataFrame, profiles: Sequence[AnnData]) -> pd.DataFrame | None:
    """What others measured on HRCE-1 plate 25, and beside it a column for each method of this build, on their scale.

    Their score of a well is 1 where it looks infected and 0 where it does not, so ours is (1 - efficacy) / 2.

    Args:
        theirs: `paper("plate25")`.
        efficacy: efficacy.csv.
        profiles: those whose features are at hand, for Cohen's d; of others only their scores are shown.

    Returns:
        None where the build does not hold that plate, or where one of that name was simulated.
    """
    mine = efficacy[efficacy["plate_id"] == PLATE_25]
    made = [json.loads(p.uns["provenance"]) for p in profiles]
    if mine.empty or any(one.get("simulated") for one in made):
        return None
    mine = mine.assign(score=(1 - mine["efficacy"]) / 2)
    effects = {one["method"]: median_effect(p) for one, p in zip(made, profiles, strict=True)}
    rows = []
    for row in theirs.itertuples():
        said, found = _asked(row), {}
        for method, part in mine.groupby("method", sort=False):
            if row.measure == "cohens_d_by_well":
                found[name(method)] = _digits(effects.get(method, np.nan))
            elif row.measure != "cohens_d_by_cell":
                found[name(method)] = _scores(row, part)
        rows.append({"plate 25": said, "others": _theirs(row), **found})
    return pd.DataFrame(rows)


def median_effect(profiles: AnnData) -> float:
    """Median over features of |Cohen's d| between C+ and C- wells of plate 25: |difference| / root of mean variance."""
    chosen = profiles.obs["plate_id"].eq(PLATE_25) & profiles.obs["role"].isin(["C+", "C-"])
    wells = aggregate(profiles[chosen.to_numpy()])
    a, b = (wells.X[(wells.obs["role"] == role).to_numpy()].astype(float) for role in ("C+", "C-"))
    spread = np.sqrt((a.var(axis=0, ddof=1) + b.var(axis=0, ddof=1)) / 2)
    d = np.abs(a.mean(axis=0) - b.mean(axis=0))[spread > 0] / spread[spread > 0]
    return float(np.median(d)) if len(d) else np.nan


def _asked(row: Any) -> str:
    role = {"UV": "inactivated virus", "C+": "uninfected", "treated": row.compound}.get(row.role)
    if row.measure.startswith("cohens_d"):
        unit = row.measure.removeprefix("cohens_d_by_")
        return f"median |Cohen's d| of uninfected against infected {unit}s"
    if row.measure == "dim_well":
        return f"well {row.well}, {role}"
    if row.measure == "on_score_range":
        return f"{role}, lowest to highest dose mean"
    return f"{role}, {number(row.concentration_uM)} µM" if row.role == "treated" else role


def _theirs(row: Any) -> str:
    """As they gave it, not rounded anew."""
    if row.measure == "dim_well":
        return "dim"
    return f"{row.value:g} to {row.highest:g}" if row.measure == "on_score_range" else f"{row.value:g}"


def _scores(row: Any, wells: pd.DataFrame) -> str:
    """Ours in the place of theirs: the mean of the wells it speaks of, or the range of means over doses."""
    if row.measure == "dim_well":
        return _digits(wells.loc[wells["well_id"] == f"{PLATE_25}_{row.well}", "score"].mean())
    some = wells[wells["role"] == row.role]
    if row.role == "treated":
        some = some[some["compound"] == row.compound]
    if row.measure == "on_score_range":
        means = some.groupby("concentration_uM")["score"].mean()
        return f"{_digits(means.min())} to {_digits(means.max())}" if means.notna().any() else "–"
    if row.role == "treated":
        some = some[np.isclose(some["concentration_uM"], row.concentration_uM)]
    return _digits(some["score"].mean())


def _digits(value: float) -> str:
    return hundredths(value) if np.isfinite(value) else "–"
