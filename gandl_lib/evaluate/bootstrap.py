"""Percentile bootstrap over wells: sites of one well are not independent, so wells are what is drawn again."""

from __future__ import annotations

import numpy as np
import pandas as pd

LEVEL = 0.95


def interval(values: np.ndarray, wells: np.ndarray, n_bootstrap: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of `values` (N,), resampling the G distinct `wells` (N,) with replacement.

    A score that is the same in every well gives an interval of width zero; that is the method's limit, not certainty.
    With n_bootstrap = 0 both ends are NaN.
    """
    if n_bootstrap == 0:
        return np.nan, np.nan
    codes, names = pd.factorize(np.asarray(wells))
    G = len(names)
    total, size = np.bincount(codes, np.asarray(values, float)), np.bincount(codes)  # (G,)
    rng = np.random.default_rng(seed)
    means = np.empty(n_bootstrap)
    for b in range(n_bootstrap):
        drawn = rng.integers(G, size=G)
        means[b] = total[drawn].sum() / size[drawn].sum()
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
