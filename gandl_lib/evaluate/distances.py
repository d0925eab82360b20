"""Are two similar drugs nearer to each other than to the controls: Figure 3 of Dmitrenko et al. (2022).

    D(A, B) = median over a in A, b in B of |a - b|
    d       = (D(S, control) - D(S1, S2)) / D(S, control),      S either of the two drugs

D has the unit of the embedding and compares nothing between methods; d is 0 where the drugs are as far from each other
as from the controls, and 1 where they are the same. The value of a class of drugs is the mean over its pairs and both
drugs of each, its interval by drawing wells again within every compound and among the controls. Row `all` is the mean
over classes, so that the class with most members, and so by far most pairs, does not decide alone. Features are
normalised per plate.

Drugs that do nothing (`drugs.NO_EFFECT`) have a row of their own, where d has to be 0, and no part in row `all`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.metrics import pairwise_distances

from gandl_lib.evaluate.bootstrap import LEVEL
from gandl_lib.evaluate.drugs import NO_EFFECT, drugs_and_controls, similar_pairs
from gandl_lib.profiles import by_method, normalise

ALL = "all"
HEADER = ("method", "cell_type", "drug_class", "distance_similar", "distance_control", "normalised_d", "ci_low",
          "ci_high", "n_pairs", "n_wells")  # fmt: skip


def distances(
    profiles: AnnData | list[AnnData], normalisation: str = "all", seed: int = 0, n_bootstrap: int = 100
) -> pd.DataFrame:
    """One row (`HEADER`) per method, cell type and class of drugs, and row `all` over those that do something.

    Raises:
        ValueError: bad profiles, no controls, or no two similar drugs.
    """
    rows = []
    for method, p in by_method(profiles, ("well_id", "plate_id", "cell_type", "role", "compound")).items():
        p = normalise(drugs_and_controls(p, method), normalisation)
        found_pairs = similar_pairs(p.obs)
        if found_pairs.empty:
            compounds = sorted(set(p.obs["compound"]) - {""})
            raise ValueError(
                f"{method}: no two similar drugs among {len(compounds)} compounds ({', '.join(compounds[:5])}); "
                "distances take two of one class with a dose in common; classes stand in gandl_lib/evaluate/drugs.py."
            )
        for cell_type, pairs in found_pairs.groupby("cell_type"):
            here = p[(p.obs["cell_type"] == cell_type).to_numpy()]
            for found in _cell_type(here, pairs, seed, n_bootstrap):
                rows.append({"method": method, "cell_type": cell_type, **found})
    return pd.DataFrame(rows, columns=HEADER)


def _cell_type(p: AnnData, pairs: pd.DataFrame, seed: int, n_bootstrap: int) -> list[dict]:
    """The rows of one cell type; `pairs` as `similar_pairs` gives them."""
    sets = {  # (compound, doses) -> rows of p; several pairs share a compound, and few of them differ in doses
        (name, row.doses_uM): np.flatnonzero((p.obs["compound"] == name) & p.obs["concentration_uM"].isin(row.doses_uM))
        for row in pairs.itertuples()
        for name in (row.first, row.second)
    }
    control = np.flatnonzero(p.obs["role"] == "C-")
    used = np.unique(np.concatenate([*sets.values(), control]))
    place = np.full(p.n_obs, -1)
    place[used] = np.arange(len(used))
    D = pairwise_distances(p.X[used])
    well = pd.factorize(p.obs["well_id"].to_numpy()[used])[0]
    sets, control = {key: place[rows] for key, rows in sets.items()}, place[control]
    kinds = pairs["drug_class"].to_numpy()

    def measured(sets: dict, control: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Per pair: D(S1, S2), the mean D to control, d."""
        to_control = {key: np.median(D[np.ix_(rows, control)]) for key, rows in sets.items()}
        similar, both = [], []
        for row in pairs.itertuples():
            a, b = (row.first, row.doses_uM), (row.second, row.doses_uM)
            similar.append(np.median(D[np.ix_(sets[a], sets[b])]))
            both.append((to_control[a], to_control[b]))
        similar, both = np.array(similar), np.array(both)
        d = np.divide(both - similar[:, None], both, out=np.zeros_like(both), where=both > 0)
        return similar, both.mean(axis=1), d.mean(axis=1)

    similar, to_control, d = measured(sets, control)
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [
            measured({key: _draw(rows, well, rng) for key, rows in sets.items()}, _draw(control, well, rng))[2]
            for _ in range(n_bootstrap)
        ]
    )
    working = [kind for kind in dict.fromkeys(kinds) if kind != NO_EFFECT]
    result = []
    for kind, classes in [*((kind, [kind]) for kind in dict.fromkeys(kinds)), *[(ALL, working)] * (len(working) > 0)]:

        def mean(values: np.ndarray, classes: list[str] = classes) -> np.ndarray:
            """Over pairs, the last axis, and then over classes."""
            return np.mean([values[..., kinds == c].mean(axis=-1) for c in classes], axis=0)

        low, high = np.quantile(mean(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if n_bootstrap else (np.nan, np.nan)
        of = pairs[np.isin(kinds, classes)]
        compounds = {(name, row.doses_uM) for row in of.itertuples() for name in (row.first, row.second)}
        result.append(
            {
                "drug_class": kind,
                "distance_similar": mean(similar),
                "distance_control": mean(to_control),
                "normalised_d": mean(d),
                "ci_low": low,
                "ci_high": high,
                "n_pairs": len(of),
                "n_wells": len(set(np.concatenate([well[sets[key]] for key in compounds]))),
            }
        )
    return result


def _draw(rows: np.ndarray, well: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many wells as `rows` have, drawn with replacement; all rows of each."""
    codes, _ = pd.factorize(well[rows])
    n = codes.max() + 1
    drawn = rng.integers(n, size=n)
    if n == len(rows):
        return rows[drawn]  # one row a well
    of = [rows[codes == k] for k in range(n)]
    return np.concatenate([of[k] for k in drawn])
