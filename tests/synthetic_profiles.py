"""Synthetic profiles with known effects: what the evaluation must find, without any image."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from anndata import AnnData

DOSES = tuple(float(d) for d in 10.0 ** np.arange(-2, 2, 0.5))
"""Eight half-log doses in uM."""


def log_logistic(c: np.ndarray, ec50: float, hill: float, emax: float, bottom: float = -1.0) -> np.ndarray:
    return bottom + (emax - bottom) / (1 + (ec50 / np.asarray(c, float)) ** hill)


def make_profiles(
    method: str = "synthetic",
    plates: dict[str, int] | None = None,
    roles: dict[str, int] | None = None,
    compounds: dict[str, tuple[float, float, float]] | None = None,
    doses: tuple[float, ...] = DOSES,
    sites: int = 2,
    n_features: int = 12,
    separation: float = 6.0,
    noise: float = 1.0,
    plate_effect: float = 1.0,
    seed: int = 0,
) -> AnnData:
    """Sites of wells on plates, each plate with its own gain and offset per feature.

    Args:
        plates: cell type to number of plates.
        roles: role to number of wells on each plate, for untreated roles.
        compounds: name to (ec50_uM, hill, emax); each gets one well a dose on every plate.
        separation: distance of C+ from C-, in units of `noise` between wells; features also carry noise between sites.
        plate_effect: 0 for plates alike.
    """
    rng = np.random.default_rng(seed)
    plates, roles, compounds = plates or {"HRCE": 2, "VERO": 2}, roles or {"C+": 8, "C-": 16}, compounds or {}
    infected, cell = np.linalg.qr(rng.standard_normal((n_features, 2)))[0].T
    contents = [(role, "", np.nan, {"C+": 1.0}.get(role, -1.0)) for role, n in roles.items() for _ in range(n)]
    contents += [("treated", name, c, float(log_logistic(c, *p))) for name, p in compounds.items() for c in doses]
    rows, X = [], []
    for cell_type, n_plates in plates.items():
        for plate in range(1, n_plates + 1):
            gain = np.exp(plate_effect * 0.3 * rng.standard_normal(n_features))
            offset = 3 * plate_effect * rng.standard_normal(n_features)
            for k in range(len(contents)):
                role, compound, dose, effect = contents[k]
                well = f"{chr(65 + k // 48 // 26)}{chr(65 + k // 48 % 26)}{k % 48 + 1:02d}"
                plate_id = f"{cell_type}-1_{plate}"
                centre = effect * separation / 2 * noise * infected + noise * rng.standard_normal(n_features)
                centre = centre + (cell_type == "HRCE") * 8 * cell
                for site in range(1, sites + 1):
                    rows.append((f"{plate_id}_{well}_{site}", f"{plate_id}_{well}", plate_id, cell_type,
                                 f"{cell_type}-1", plate, well, site, role, compound, dose, role))  # fmt: skip
                    X.append((centre + 0.5 * noise * rng.standard_normal(n_features)) * gain + offset)
    columns = ("site_id", "well_id", "plate_id", "cell_type", "experiment", "plate", "well", "site", "condition",
               "compound", "concentration_uM", "role")  # fmt: skip
    obs = pd.DataFrame(rows, columns=columns).rename(index=str)
    profiles = AnnData(np.asarray(X, np.float32), obs=obs)
    profiles.uns["provenance"] = json.dumps({"method": method, "note": "synthetic"})
    return profiles
