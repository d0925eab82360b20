"""Which compounds are alike: what the distances of two similar drugs are asked of.

A simulated compound bears its class in its name (`sim-antiviral-05`). Of the real screen's compounds, only pairs of
which chemistry leaves no doubt are named here: a drug and its parent, or its salt.
"""

from __future__ import annotations

import re
import warnings
from itertools import combinations

import numpy as np
import pandas as pd
from anndata import AnnData

REAL = {"remdesivir": "GS-441524 and its prodrug", "gs-441524": "GS-441524 and its prodrug",
        "hydroxychloroquine": "chloroquines", "chloroquine": "chloroquines"}  # fmt: skip
"""Beginning of a compound's name, in small letters, to its class."""
NO_EFFECT = "inert"
"""A class whose members do nothing, and so are as near to the controls as to each other."""


def drug_class(compound: str) -> str:
    """The class of a compound, `""` where none is known."""
    simulated = re.fullmatch(r"sim-(\w+)-\d+", compound)
    if simulated:
        return simulated[1]
    return next((c for start, c in REAL.items() if compound.lower().startswith(start)), "")


def drugs_and_controls(profiles: AnnData, method: str) -> AnnData:
    """The rows of drugs (role `treated`) and their controls (`C-`; where there are none, `untreated`).

    Raises:
        ValueError: either is missing.
    """
    roles = (
        profiles.obs["role"].replace("untreated", "C-")
        if "C-" not in set(profiles.obs["role"])
        else profiles.obs["role"]
    )
    rows = roles.isin(["treated", "C-"]).to_numpy()
    found = roles[rows].value_counts()
    if len(found) < 2:
        had = ", ".join(f"{role} ({n})" for role, n in profiles.obs["role"].value_counts().items())
        raise ValueError(f"{method}: drug against control takes rows of role treated and C-; found {had}.")
    chosen = profiles[rows].copy()
    chosen.obs["role"] = roles[rows].to_numpy()
    return chosen


def similar_pairs(obs: pd.DataFrame) -> pd.DataFrame:
    """Pairs of compounds of one class in one cell type, and the doses at which they are compared.

    Doses are the two highest that both compounds were given at, or the one there is.

    Returns:
        cell_type, drug_class, first, second, doses_uM (a tuple). Classes of one member, and pairs without a dose in
        common, are left out with a warning that names them; the table may so be empty.
    """
    treated = obs[obs["role"] == "treated"]
    rows, single, apart = [], set(), []
    for cell_type, part in treated.groupby("cell_type", observed=True):
        given = part.groupby("compound", observed=True)["concentration_uM"].agg(lambda doses: set(doses.dropna()))
        classes = pd.Series({name: drug_class(name) for name in given.index})
        for kind, members in classes[classes != ""].groupby(classes):
            if len(members) < 2:
                single.add(f"{kind} ({members.index[0]}, {cell_type})")
            for a, b in combinations(members.index, 2):
                shared = sorted(given[a] & given[b])[-2:]
                if shared:
                    rows.append((cell_type, kind, a, b, tuple(shared)))
                else:
                    apart.append(f"{a} and {b} in {cell_type}")
    if single:
        warnings.warn(
            f"classes with one member have no pair and are left out: {', '.join(sorted(single))}.", stacklevel=2
        )
    if apart:
        warnings.warn(f"pairs without a dose in common are left out: {', '.join(apart[:5])}.", stacklevel=2)
    return pd.DataFrame(rows, columns=["cell_type", "drug_class", "first", "second", "doses_uM"])


def shuffled_features(profiles: AnnData, name: str, seed: int = 0) -> AnnData:
    """The same numbers with nothing in them: each feature permuted on its own within every plate."""
    rng, X = np.random.default_rng(seed), np.array(profiles.X, np.float32)
    for rows in profiles.obs.groupby("plate_id", observed=True).indices.values():
        X[rows] = rng.permuted(X[rows], axis=0)
    return AnnData(X, obs=profiles.obs.copy(), uns={"provenance": f'{{"method": "{name}"}}'})
