"""Does a screen keep what `gandl plan` promises? EC50 intervals planned and found, on simulated screens.

    python benchmarks/planning.py OUT.csv SCREEN [SCREEN ...]

A SCREEN is a folder as for hit_calling.py, whose first lines say how one is made. A row a method: what the plan says of
each screen's own design and spread between wells (the middle screen), and what `evaluate dose-response` finds for its
effective compounds, all screens together:

    given           share of them that get an EC50
    interval_fold   the middle 95 % interval, high over low
    error_fold      the middle distance from the truth, as a factor
    covered         of the intervals, the share that holds the truth
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro

from gandl_lib import files, profiles
from gandl_lib.evaluate import dose_response, planning
from gandl_lib.evaluate.axes import efficacy

METHODS = ("gandl", "gandl-random", "intensity", "cell-count")
CELL_TYPE = "HRCE"


@dataclass(frozen=True)
class Args:
    out: tyro.conf.Positional[Path]
    screens: tyro.conf.Positional[tuple[Path, ...]]


def planned(p, spread: float) -> pd.Series:  # noqa: ANN001 (AnnData)
    """What the plan says of the design that these profiles are of."""
    wells = p.obs.drop_duplicates("well_id")
    treated = wells[wells["role"] == "treated"]
    doses = treated["concentration_uM"]
    table = planning.plan(
        spread,
        controls=[int((wells["role"] == "C-").groupby(wells["plate_id"], observed=True).sum().min())],
        replicates=[int(treated.groupby(["compound", "concentration_uM"], observed=True).size().median())],
        plates=wells["plate_id"].nunique(),
        doses=doses.nunique(),
        lowest_uM=doses.min(),
        highest_uM=doses.max(),
        compounds=treated["compound"].nunique(),
    )
    return table.iloc[0]


def main(args: Args) -> None:
    rows = []
    for method in METHODS:
        plans, found = [], []
        for screen in args.screens:
            p = profiles.read(screen / "profiles" / f"{method}.h5ad")
            p = p[(p.obs["cell_type"] == CELL_TYPE).to_numpy()].copy()
            truth = pd.read_csv(screen / "data" / "screen" / "truth.csv").query(f"cell_type == '{CELL_TYPE}'")
            try:
                plans.append(planned(p, planning.spread_of(p)))
            except ValueError as error:
                print(f"{screen} {method}: {error}")
                continue
            curves = dose_response.curves(efficacy(p))
            found.append(curves.merge(truth.query("effective"), on="compound", suffixes=("", "_true")))
            print(screen, method, flush=True)
        if not found:
            continue
        plan, all_found = pd.DataFrame(plans), pd.concat(found)
        got = all_found.dropna(subset="ec50_uM")
        fold = got["ec50_high"] / got["ec50_low"]  # infinite where an end is open
        inside = got["ec50_uM_true"].between(got["ec50_low"], got["ec50_high"])
        rows.append(
            {
                "method": method,
                "screens": len(found),
                "spread": plan["spread"].median(),
                "given_planned": plan["ec50_given"].median(),
                "interval_fold_planned": plan["ec50_interval_fold"].median(),
                "error_fold_planned": plan["ec50_error_fold"].median(),
                "compounds": len(all_found),
                "given": len(got) / len(all_found),
                "interval_fold": fold.median(),
                "error_fold": np.exp(np.log(got["ec50_uM"] / got["ec50_uM_true"]).abs().median()),
                "covered": inside.mean(),
            }
        )
    table = pd.DataFrame(rows)
    files.write(args.out, table.to_csv(index=False, float_format="%.3g"))
    print(table.to_string(index=False, float_format="{:.3g}".format))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
