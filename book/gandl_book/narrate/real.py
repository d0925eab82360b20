"""The real plate of chapter 10."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gandl_lib.plots.page import Output, name
from gandl_lib.plots.words import listing, say

CLASSICAL = "classical"


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
                ("**higher**" if a.z_prime > b.z_prime else "**lower**") if apart else "**not told apart from it**"
            )
            sentences.append(
                f"Its Z′ of {a.z_prime:.2f} is {verdict} beside {b.z_prime:.2f} of the same network untrained "
                f"(classical: {rows.loc[CLASSICAL].z_prime:.2f}); wells come in the classical order with Spearman "
                f"{a.spearman_classical:.2f} against {b.spearman_classical:.2f}."
            )
        sentences.append(
            f"A quarter of the full effect takes {rows.loc[method].wells_for_a_quarter:.0f} wells a side by its axis, "
            f"{rows.loc[CLASSICAL].wells_for_a_quarter:.0f} by the ratio's logarithm."
        )
    blind = [name(m) for m in rows.index[rows["z_prime"].isna()]]
    if blind:
        sentences.append(f"No axis has: {listing(blind)}; controls it has not seen do not come in order.")
    return say(*sentences)
