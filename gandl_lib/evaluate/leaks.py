"""Is it the cells, or where they lie? Three measurements that every separability score should be read beside.

On RxRx19a all C+ wells lie in five columns that hold no C- well. Whatever differs from column to column, light or
evaporation or a pipette, then tells C+ from C- as well as biology does, and holding out wells or plates does not help,
for the columns are the same on every plate.

* `position_only` shows the temptation: profiles that know the row and column of a well and no image.
* `zones` shows whether a method could give in to it: can it tell C- wells near the edge of a plate from C- wells
  inside? Both are infected and untreated, so nothing but position sets them apart. A method that cannot has no position
  to leak; one that can has some, which does not prove that it uses it.
* `sites` asks the same of the place within a well: can it tell the first field of a well from the last? They hold the
  same treatment, and only light, focus and the distance from the well's wall set them apart.
"""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.exceptions import ConvergenceWarning

from gandl_lib.evaluate.separability import HEADER, TASKS, Task, separability
from gandl_lib.profiles import check, normalise
from gandl_lib.wells import place

ZONE = "C- near the edge vs inside"
SITE = "first vs last site of a well"


def position_only(profiles: AnnData) -> AnnData:
    """Profiles of the same rows with nothing in X but one-hot row and column of the well; method "position"."""
    check(profiles, ("well",))
    at = np.array([place(well) for well in profiles.obs["well"]])
    X = np.concatenate([np.equal.outer(k, np.unique(k)) for k in at.T], axis=1).astype(np.float32)
    return AnnData(X, obs=profiles.obs.copy(), uns={"provenance": json.dumps({"method": "position"})})


def position(profiles: AnnData, seed: int = 0) -> pd.DataFrame:
    """What position alone reaches on "C+ vs C-": rows of `separability`, by well and by plate."""
    task = {"C+ vs C-": TASKS["C+ vs C-"]}
    return separability(position_only(profiles), ["none"], tasks=task, seed=seed, shuffled=False)


def zones(profiles: list[AnnData], normalisation: str = "all", seed: int = 0) -> pd.DataFrame:
    """How well each method tells C- wells of the outer half of a plate from those of the inner half, wells held out.

    Returns:
        rows of `separability`; none of profiles without C- wells, or with half of them or more farthest out.
    """
    marked = []
    for p in profiles:
        check(p, ("well", "role", "plate_id"))
        at = np.array([place(well) for well in p.obs["well"]], float)
        middle = (at.min(axis=0) + at.max(axis=0)) / 2
        outward = (np.abs(at - middle) / np.maximum(at.max(axis=0) - middle, 1)).max(axis=1)  # 0 centre, 1 edge
        negative = (p.obs["role"] == "C-").to_numpy()
        far = outward[negative]
        if len(far) == 0 or far.max() == np.median(far):  # half or more lie farthest out: none beyond the middle one
            continue
        zone = np.where(outward > np.median(far), "edge", "inside")
        marked.append(AnnData(p.X, obs=p.obs.assign(zone=np.where(negative, zone, "")), uns=p.uns))
    if not marked:
        return pd.DataFrame(columns=HEADER)
    task = {ZONE: Task("zone", "edge", "inside")}
    with warnings.catch_warnings():
        # Labels that nothing explains are no job a solver can finish, and that is the answer hoped for.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return separability(marked, [normalisation], ["well"], tasks=task, seed=seed, shuffled=False)


def sites(profiles: list[AnnData], normalisation: str = "all", seed: int = 0) -> pd.DataFrame:
    """How well each method tells the first site of a well from the last, wells held out; half are right by chance.

    Returns:
        rows of `separability`; none of profiles whose wells have one site each, or are one profile each.
    """
    marked = []
    for p in profiles:
        check(p, ("well_id", "plate_id"))
        if "site" not in p.obs:
            continue
        site = p.obs["site"].astype(int)
        ends = site.groupby(p.obs["well_id"], observed=True).agg(["min", "max"]).loc[p.obs["well_id"]]
        if (ends["min"] == ends["max"]).all():
            continue
        first, last = (site.to_numpy() == ends[end].to_numpy() for end in ("min", "max"))
        which = np.where(first == last, "", np.where(first, "first", "last"))  # one of several, or a well's only one
        marked.append(AnnData(p.X, obs=p.obs.assign(which_site=which), uns=p.uns))
    if not marked:
        return pd.DataFrame(columns=HEADER)
    task = {SITE: Task("which_site", "first", "last")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return separability(marked, [normalisation], ["well"], tasks=task, seed=seed, shuffled=False)


def cell_types(profiles: AnnData, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """ "HRCE vs VERO" as it should be judged, and after the mistake of normalising each plate: a row of each.

    A plate holds one cell type, so its mean is the answer, and taking it away takes the answer away. Both tables are
    empty where there are no controls of both cell types.
    """
    task = {"HRCE vs VERO": TASKS["HRCE vs VERO"]}
    (asked,) = task.values()
    if set(profiles.obs.loc[asked.rows(profiles.obs), "cell_type"]) != {asked.positive, asked.negative}:
        return pd.DataFrame(columns=HEADER), pd.DataFrame(columns=HEADER)
    right, wrong = (
        separability(p, splits=["well"], tasks=task, seed=seed, shuffled=False)
        for p in (profiles, normalise(profiles, "all"))
    )
    return right, wrong
