"""How near generated images come to real ones, given features of both by a network that took no part in either.

* **FID** (Heusel et al. 2017): Frechet distance of two Gaussians, |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). Biased
  upwards by few images, so only distances of equally many compare.
* **KID** (Binkowski et al. 2018): unbiased squared maximum mean discrepancy with the kernel (x . y / D + 1)^3, mean and
  standard deviation over random subsets; around zero, and below it half the time, where both come from one source.
* **Precision and recall** (Kynkaanniemi et al. 2019): the share of generated images that lie among the real ones, and
  of real ones that lie among the generated; "among" is within the distance to the third neighbour of one of them.

The first two read scales of features, so features are standardised over the real images first.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 3
KID_SUBSETS, KID_SIZE = 50, 500


def quality(real: np.ndarray, generated: np.ndarray, seed: int = 0) -> dict[str, float]:
    """All four: fid, kid, kid_sd, precision, recall.

    Args:
        real, generated: (N, D) and (M, D) features of images.
        seed: draws KID's subsets.

    Raises:
        ValueError: fewer images on a side than a covariance of D features needs, or features that are not finite.
    """
    real, generated = np.asarray(real, np.float64), np.asarray(generated, np.float64)
    for side, x in (("real", real), ("generated", generated)):
        if len(x) <= x.shape[1] or not np.isfinite(x).all():
            raise ValueError(f"{side}: {x.shape[1]} features need more images than that, all finite; found {len(x)}.")
    mean, sd = real.mean(axis=0), real.std(axis=0)
    sd[sd == 0] = 1
    real, generated = (real - mean) / sd, (generated - mean) / sd
    kids = kid_of_subsets(real, generated, np.random.default_rng(seed))
    return {
        "fid": fid(real, generated),
        "kid": float(kids.mean()),
        "kid_sd": float(kids.std()),
        "precision": within(generated, real),
        "recall": within(real, generated),
    }


def fid(real: np.ndarray, generated: np.ndarray) -> float:
    """Frechet distance between Gaussians fitted to (N, D) and (M, D)."""
    (m1, s1), (m2, s2) = ((x.mean(axis=0), np.cov(x, rowvar=False)) for x in (real, generated))
    # tr (S1 S2)^(1/2) = sum of the roots of the eigenvalues, which are real and not negative up to rounding.
    roots = np.sqrt(np.maximum(linalg.eigvals(s1 @ s2).real, 0)).sum()
    return float(((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * roots)


def kid(real: np.ndarray, generated: np.ndarray) -> float:
    """Unbiased squared MMD with the cubic kernel between (n, D) and (m, D)."""
    n, m, d = len(real), len(generated), real.shape[1]
    xx, yy, xy = ((a @ b.T / d + 1) ** 3 for a, b in ((real, real), (generated, generated), (real, generated)))
    inside = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(inside - 2 * xy.mean())


def kid_of_subsets(real: np.ndarray, generated: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(KID_SUBSETS,) values of `kid`, each of KID_SIZE images a side (or as many as there are)."""
    size = min(KID_SIZE, len(real), len(generated))
    drawn = ([rng.choice(len(x), size, replace=False) for x in (real, generated)] for _ in range(KID_SUBSETS))
    return np.array([kid(real[i], generated[j]) for i, j in drawn])


def within(points: np.ndarray, cloud: np.ndarray, k: int = NEIGHBOURS) -> float:
    """Share of `points` (N, D) nearer to some member of `cloud` (M, D) than that member's k-th neighbour in it."""
    radii = NearestNeighbors(n_neighbors=k + 1).fit(cloud).kneighbors(cloud)[0][:, k]  # the nearest is itself
    squares = (points**2).sum(1)[:, None] + (cloud**2).sum(1) - 2 * points @ cloud.T
    return float((squares <= radii**2).any(axis=1).mean())
