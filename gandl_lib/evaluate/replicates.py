"""Do replicates find each other? Mean average precision, a view that needs no classifier and no label of sickness.

Each treated well asks in turn: which wells are most like me? It is shown the other wells with its compound, dose and
cell type (the right answers) among all C- wells of that cell type on its own plate (the wrong ones), ranked by cosine
similarity of their plate-normalised profiles. With r(k) the rank of the k-th of R right answers,

    AP = (1 / R) sum_k k / r(k)

A compound that does nothing cannot be told from C- by any method, and its AP is that of chance, which stands beside it.

Reference: Kalinin et al. 2025 (mAP for profiles; the package copairs, with which the tests compare); Bestgen 2015 (the
expected AP of a random ranking).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from gandl_lib.evaluate.reference import normalise_apart
from gandl_lib.profiles import aggregate, arms, by_method, is_negative_control
from gandl_lib.splits import by_well

GROUP = ["cell_type", "compound", "concentration_uM"]
HEADER = ("method", *GROUP, "mean_average_precision", "by_chance", "n_wells")


def replicates(profiles: AnnData | list[AnnData], normalisation: str = "all", seed: int = 0) -> pd.DataFrame:
    """One row a method, cell type, compound and dose of two wells or more, with the columns `HEADER`.

    Raises:
        ValueError: bad profiles, or no compound with replicates beside negative controls.
    """
    rows = []
    for method, p in by_method(profiles, ("well_id", "plate_id", "role", *GROUP)).items():
        normalised, reference = normalise_apart(p, normalisation, by_well(p.obs, seed=seed), seed)
        wells = aggregate(normalised[~reference])
        unit = wells.X / np.maximum(np.linalg.norm(wells.X, axis=1, keepdims=True), 1e-12)
        obs, arm = wells.obs.reset_index(drop=True), arms(wells.obs)
        negative = is_negative_control(obs)
        for group, members in obs[obs["role"] == "treated"].groupby(GROUP).indices.items():
            at = obs.index[obs["role"] == "treated"][members].to_numpy()
            found, chance = [], []
            for query in at if len(at) > 1 else []:
                right, wrong = at[at != query], np.flatnonzero(negative & (arm == arm[query]))
                if len(wrong):
                    found.append(average_precision(unit[right] @ unit[query], unit[wrong] @ unit[query]))
                    chance.append(expected(len(right), len(right) + len(wrong)))
            if found:
                rows.append((method, *group, np.mean(found), np.mean(chance), len(found)))
    if not rows:
        raise ValueError("No compound and dose has two treated wells or more beside negative controls of their plate.")
    return pd.DataFrame(rows, columns=HEADER)


def average_precision(right: np.ndarray, wrong: np.ndarray) -> float:
    """AP of ranking similarities `right` (R,) among `wrong` (N,); of equals the wrong ones go first."""
    right = np.sort(right)[::-1]
    k = np.arange(1, len(right) + 1)
    above = len(wrong) - np.searchsorted(np.sort(wrong), right, side="left")  # wrong answers not below each right one
    return float(np.mean(k / (k + above)))


def expected(n_right: int, n: int) -> float:
    """AP of a random ranking of `n` answers, R of them right: the mean over ranks i of (1 + (i-1)(R-1)/(n-1)) / i."""
    i = np.arange(1, n + 1)
    return float(np.mean((1 + (i - 1) * (n_right - 1) / max(n - 1, 1)) / i))
