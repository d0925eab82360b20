"""Does an embedding fall into clusters: UMAP and HDBSCAN per cell line, Figures 5 and 7 of Dmitrenko et al. (2022).

UMAP lays the normalised features in a plane, HDBSCAN looks for dense regions there and calls the rest noise. Of a grid
over UMAP's neighbours and the smallest cluster, the published rule takes the points whose silhouette is no lower than
the median, of these those whose Davies-Bouldin index is no higher than theirs, of these the one with the least noise,
and of equals the one with the most clusters.

* **Silhouette and Davies-Bouldin are those of clustered points**, in the plane. The authors' public code counts noise
  as one more cluster; that silhouette is `silhouette_published`.
* **Clusters of nothing.** UMAP draws clusters also where there are none, so shuffled features belong beside every row.
* **What clusters are.** `ami_plate` and `ami_drug` (adjusted mutual information: 0 chance, 1 the same) say whether
  clusters are plates, which nobody wants, or classes of drugs at their doses.

One layout, one seed: these numbers have no interval.
"""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.cluster import HDBSCAN
from sklearn.metrics import adjusted_mutual_info_score, davies_bouldin_score, silhouette_score
from sklearn.neighbors import NearestNeighbors

from gandl_lib.evaluate.drugs import drug_class, drugs_and_controls
from gandl_lib.profiles import by_method, normalise

NEIGHBOURS = (10, 30)
MIN_CLUSTER_SIZES = (10, 20, 40)
EPOCHS = 200
NOISE = -1
MEASURES = ("n_clusters", "not_noise", "silhouette", "davies_bouldin_inverse", "silhouette_published")
HEADER = ("method", "cell_type", *MEASURES, "n_neighbors", "min_cluster_size", "ami_plate", "ami_drug", "n_rows")
POINTS_HEADER = ("method", "cell_type", "site_id", "x", "y", "cluster")


def clusters(
    profiles: AnnData | list[AnnData], normalisation: str = "all", seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Clusters of drugs and controls in every cell type.

    Returns:
        Table (`HEADER`), one row per method and cell type; where nothing clusters, n_clusters is 0 and the measures of
        clusters are NaN, and a warning says so. Points (`POINTS_HEADER`): where every row lies in the plane of the
        chosen grid point, and its cluster (-1: noise).

    Raises:
        ValueError: umap-learn is not installed, bad profiles, or a cell type with too few rows for the grid.
    """
    umap = _umap()
    rows, points = [], []
    for method, p in by_method(profiles, ("site_id", "plate_id", "cell_type", "role", "compound")).items():
        p = normalise(drugs_and_controls(p, method), normalisation)
        for cell_type in dict.fromkeys(p.obs["cell_type"]):
            here = p[(p.obs["cell_type"] == cell_type).to_numpy()]
            if here.n_obs <= max(*NEIGHBOURS, *MIN_CLUSTER_SIZES):
                raise ValueError(
                    f"{method}: {here.n_obs} rows of {cell_type} are too few to cluster with up to {max(NEIGHBOURS)} "
                    f"neighbours and clusters of at least {max(MIN_CLUSTER_SIZES)}."
                )
            planes = _planes(umap, here.X, seed)
            grid = pd.DataFrame(
                [
                    {"n_neighbors": n, "min_cluster_size": size, **measure(planes[n], labels), "labels": labels}
                    for n, size in product(NEIGHBOURS, MIN_CLUSTER_SIZES)
                    for labels in [HDBSCAN(min_cluster_size=size, copy=True).fit_predict(planes[n])]
                ]
            )
            best = grid.loc[select(grid)]
            if best["n_clusters"] == 0:
                warnings.warn(
                    f"{method}: HDBSCAN finds no cluster in {cell_type} at any of {len(grid)} grid points.",
                    stacklevel=2,
                )
            labels, plane, obs = best["labels"], planes[best["n_neighbors"]], here.obs
            dosed = obs["compound"].map(drug_class) + obs["concentration_uM"].map(" {:.3g}".format)
            rows.append(
                {"method": method, "cell_type": cell_type, "n_rows": here.n_obs}
                | best.drop("labels").to_dict()
                | {
                    "ami_plate": adjusted_mutual_info_score(obs["plate_id"], labels),
                    "ami_drug": adjusted_mutual_info_score(dosed, labels),
                }
            )
            at = {"method": method, "cell_type": cell_type, "site_id": obs["site_id"].to_numpy()}
            points.append(pd.DataFrame({**at, "x": plane[:, 0], "y": plane[:, 1], "cluster": labels}))
    table = pd.DataFrame(rows, columns=HEADER)
    whole = ["n_clusters", "n_neighbors", "min_cluster_size", "n_rows"]
    return table.astype(dict.fromkeys(whole, int)), pd.concat(points, ignore_index=True)[list(POINTS_HEADER)]


def measure(plane: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """`MEASURES` of points (N, 2) with clusters `labels` (N,), -1 for noise; NaN for what takes two clusters."""
    kept = labels != NOISE
    n = len(set(labels[kept]))
    several, several_published = n > 1, len(set(labels)) > 1
    return {
        "n_clusters": n,
        "not_noise": kept.mean(),
        "silhouette": silhouette_score(plane[kept], labels[kept]) if several else np.nan,
        "davies_bouldin_inverse": 1 / davies_bouldin_score(plane[kept], labels[kept]) if several else np.nan,
        "silhouette_published": silhouette_score(plane, labels) if several_published else np.nan,
    }


def select(grid: pd.DataFrame) -> int:
    """Index of the row that the published rule takes (see this module's docstring); rows without clusters come last."""
    some = grid[grid["silhouette"].notna()]
    if some.empty:
        return grid.index[0]
    some = some[some["silhouette"] >= some["silhouette"].median()]
    some = some[some["davies_bouldin_inverse"] >= some["davies_bouldin_inverse"].median()]
    return some.sort_values(["not_noise", "n_clusters"], ascending=False, kind="stable").index[0]


def _planes(umap, X: np.ndarray, seed: int) -> dict[int, np.ndarray]:
    """(N, D) -> for each of NEIGHBOURS, (N, 2)."""
    # Exact neighbours, found once for all: UMAP's own search begins with ten seconds of compiling itself.
    distances, indices = NearestNeighbors(n_neighbors=max(NEIGHBOURS), algorithm="brute").fit(X).kneighbors(X)
    near = (indices.astype(np.int32), distances.astype(np.float32))
    planes = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*transforming new data", UserWarning)  # nobody asks for that
        for n in NEIGHBOURS:
            layout = umap.UMAP(n_neighbors=n, n_epochs=EPOCHS, random_state=seed, n_jobs=1, precomputed_knn=near)
            planes[n] = layout.fit_transform(X).astype(float)
    return planes


def _umap():
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImportWarning)  # a part that nobody uses asks for tensorflow
            import umap
    except ImportError:
        raise ValueError("clusters need the package umap-learn; `pip install umap-learn` (extra `methods`).") from None
    return umap
