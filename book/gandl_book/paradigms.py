"""Every setup's three exams in one row: Tables 1 and 2 of Dmitrenko et al. (2022), other methods beside them.

The ten metrics (`METRICS`) are means over cell lines, of `distances`, `drug_control` and `clusters`. All methods are
judged on the same sites. Row `shuffled features` has the first method's numbers, each permuted within its plate: what
the metrics say of an embedding in which there is nothing.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import joblib
import numpy as np
import pandas as pd
from anndata import AnnData

from gandl_book.drug_control import VARIANTS, drug_control
from gandl_lib.evaluate.clusters import clusters
from gandl_lib.evaluate.distances import ALL, distances
from gandl_lib.evaluate.distances import HEADER as DISTANCES_HEADER
from gandl_lib.evaluate.drugs import shuffled_features, similar_pairs
from gandl_lib.profiles import by_method

SHUFFLED = "shuffled features"
DISTANCES = ("distance_similar", "normalised_d")
PROBE = ("accuracy", "precision", "recall", "roc_auc")
CLUSTERS = ("n_clusters", "not_noise", "silhouette", "davies_bouldin_inverse")
METRICS = (*DISTANCES, *PROBE, *CLUSTERS)
"""Table 2's ten."""
HEADER = ("paradigm", "augment", "multi_crop", *METRICS, "train_seconds", "peak_memory_MB", "method", "d_low", "d_high",
          "accuracy_low", "accuracy_high", "auc_low", "auc_high", "majority_rate", "images", "published")  # fmt: skip
FLAWS_HEADER = ("flaw", "method", "metric", "corrected", "as_published", "difference")


def paradigms(profiles: list[AnnData], normalisation: str = "all", seed: int = 0) -> dict[str, pd.DataFrame]:
    """All tables of the comparison.

    Args:
        profiles: one a method; what is not a setup (GAN-DL, intensity, ...) is a row too. Only sites that all have are
            looked at.

    Returns:
        `""` one row a method (`HEADER`); `cells` the metrics per cell line; `distances`, `drug_control`, `clusters`,
        `points` as the three exams give them; `flaws` (`FLAWS_HEADER`) what the known flaws alter.

    Raises:
        ValueError: as the exams do, or no site in common. Without similar drugs there is a warning and no distance.
    """
    named = on_common_sites(by_method(profiles, ("site_id", "well_id", "plate_id", "cell_type", "role", "compound")))
    rows = {method: description(p) for method, p in named.items()}
    named[SHUFFLED] = shuffled_features(next(iter(named.values())), SHUFFLED, seed)
    rows[SHUFFLED] = {"paradigm": SHUFFLED}

    first = next(iter(named.values()))
    paired = len(similar_pairs(first.obs)) > 0
    if not paired:
        warnings.warn("no two similar drugs in this screen: its distances are left empty.", stacklevel=2)

    def exams(p: AnnData) -> tuple[pd.DataFrame, ...]:
        apart = distances(p, normalisation, seed) if paired else pd.DataFrame(columns=DISTANCES_HEADER)
        return apart, drug_control(p, normalisation, seed), *clusters(p, normalisation, seed)

    workers = min(len(named), joblib.cpu_count()) if len(named) > 2 else 1
    # A thread each: Snakemake sets OMP_NUM_THREADS, and with as many in every worker they would wait for each other.
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        parts = joblib.Parallel(n_jobs=workers)(joblib.delayed(exams)(p) for p in named.values())
    apart, probed, clustered, points = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    cells = per_cell_type(apart, probed, clustered)
    table = _rows(cells, rows)
    tables = {"": table, "cells": cells, "distances": apart, "drug_control": probed, "clusters": clustered}
    return tables | {"points": points, "flaws": flaws(table, probed, clustered)}


def on_common_sites(named: dict[str, AnnData]) -> dict[str, AnnData]:
    """Each method's profiles of the sites that all methods have, in the first one's order.

    Raises:
        ValueError: no such site.
    """
    shared = set.intersection(*(set(p.obs["site_id"]) for p in named.values()))
    common = [site for site in next(iter(named.values())).obs["site_id"] if site in shared]
    if not common:
        raise ValueError(f"the profiles of {', '.join(named)} have no site in common; embed the same screen with all.")
    chosen = {}
    for method, p in named.items():
        place = pd.Series(np.arange(p.n_obs), index=p.obs["site_id"].to_numpy())
        chosen[method] = p[place[common].to_numpy()].copy()
    return chosen


def description(profiles: AnnData) -> dict[str, Any]:
    """paradigm, augment, multi_crop, cost: from the provenance. What is no setup is its own paradigm."""
    provenance = json.loads(profiles.uns["provenance"])
    config, name = provenance.get("config") or {}, provenance["method"]
    trained = provenance.get("n_seen", 0) > 0
    found: dict[str, Any] = {"paradigm": name}
    if trained and {"augment", "crops"} <= set(config):
        found = {"paradigm": name.partition("-")[0], "augment": config["augment"], "multi_crop": config["crops"]}
        found["published"] = config["published"]
    if trained:
        found["images"] = provenance["n_seen"]
        found["train_seconds"] = 60 * provenance.get("minutes", np.nan)
        found["peak_memory_MB"] = provenance.get("peak_memory_MB", np.nan)
    return found


def per_cell_type(apart: pd.DataFrame, probed: pd.DataFrame, clustered: pd.DataFrame) -> pd.DataFrame:
    """The ten metrics, with what intervals there are, a row per method and cell type."""
    keys = ["method", "cell_type"]
    d = apart[apart["drug_class"] == ALL].rename(columns={"ci_low": "d_low", "ci_high": "d_high"})
    probe = probed[probed["variant"] == VARIANTS[0]]
    probe = probe.rename(columns={"ci_low": "accuracy_low", "ci_high": "accuracy_high"})
    d = d.astype(dict.fromkeys((*DISTANCES, "d_low", "d_high"), float))
    cells = d[[*keys, *DISTANCES, "d_low", "d_high"]].merge(
        probe[[*keys, *PROBE, "accuracy_low", "accuracy_high", "auc_low", "auc_high", "majority_rate"]],
        on=keys,
        how="outer",
    )
    return cells.merge(clustered[[*keys, *CLUSTERS]], on=keys, how="outer")


def _rows(cells: pd.DataFrame, described: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Means over cell types; the interval of a mean of k independent values has a half-width of |h| / k."""
    rows = []
    for method, about in described.items():
        part = cells[cells["method"] == method]
        row = {"method": method, **about, **part[[*METRICS, "majority_rate"]].mean().to_dict()}
        for value, ends in (("normalised_d", "d"), ("accuracy", "accuracy"), ("roc_auc", "auc")):
            for side, sign in (("low", -1), ("high", 1)):
                h = (part[f"{ends}_{side}"] - part[value]).to_numpy()
                row[f"{ends}_{side}"] = row[value] + sign * np.sqrt(np.sum(h**2)) / len(part)
        rows.append(row)
    return pd.DataFrame(rows, columns=HEADER)


def flaws(table: pd.DataFrame, probed: pd.DataFrame, clustered: pd.DataFrame) -> pd.DataFrame:
    """What each known flaw alters (`FLAWS_HEADER`): flaws of the exams for every method, of training for a pair."""
    rows = []
    by = {variant: t.groupby("method").mean(numeric_only=True) for variant, t in probed.groupby("variant")}
    right, published = by[VARIANTS[0]], by[VARIANTS[1]]
    silhouettes = clustered.groupby("method")[["silhouette", "silhouette_published"]].mean()
    for m in table["method"]:
        rows += [
            ("probe not begun anew", m, "accuracy", right.loc[m, "accuracy"], published.loc[m, "accuracy"]),
            ("ROC-AUC of hard labels", m, "roc_auc", right.loc[m, "roc_auc"], right.loc[m, "auc_from_labels"]),
            ("noise counted as a cluster", m, "silhouette", *silhouettes.loc[m]),
        ]
    setups = table[table["published"].notna()].set_index("method")
    for flaw, paradigm in (("softmax before cross-entropy", "weak"), ("regulariser without gradient", "regularised")):
        mine = setups[setups["paradigm"] == paradigm]
        flawed = mine[mine["published"].astype(bool)]
        for name, row in flawed.iterrows():
            same = mine[
                ~mine["published"].astype(bool)
                & (mine["augment"] == row["augment"])
                & (mine["multi_crop"] == row["multi_crop"])
            ]
            rows += [(flaw, name, m, same[m].iloc[0], row[m]) for m in METRICS[1:] if len(same)]
    found = pd.DataFrame(rows, columns=FLAWS_HEADER[:-1])
    return found.assign(difference=found["as_published"] - found["corrected"])


def tables(
    profiles: list[AnnData], normalisation: tuple[str, ...], truth: pd.DataFrame | None, seed: int
) -> dict[str, pd.DataFrame]:
    """`gandl evaluate paradigms`, as `gandl_lib.evaluate.EVALUATIONS` has the others."""
    found = paradigms(profiles, normalisation[0], seed)
    return {"{out}" + (f"_{name}" if name else ""): table for name, table in found.items()}
