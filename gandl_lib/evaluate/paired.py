"""Is one method better than another, or were these wells kind to it?

Two methods that are judged on the same wells mostly err on the same wells. Intervals of each alone know nothing of that
and call too much a tie. Here wells are compared one by one: with d_w the number of sites of well w that the one gets
right less the number that the other does, and n_w its number of sites,

    difference = sum_w d_w / sum_w n_w

Its 95 % interval is by bootstrap over wells, the same wells being drawn for both. The p-value is by permutation: were
the two alike, the sign of every d_w would be a coin's. No correction is made for the number of pairs.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import numpy as np
import pandas as pd

from gandl_lib.evaluate.bootstrap import LEVEL

HEADER = ("task", "split", "normalisation", "method", "other", "difference", "ci_low", "ci_high", "p_value", "n_wells")


def paired(decisions: pd.DataFrame, n_draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Every pair of methods on the wells both were scored on.

    Args:
        decisions: of `separability.judged`.
        n_draws: of bootstrap and permutation alike; the smallest p-value is 1 / (n_draws + 1).

    Returns:
        Table with the columns `HEADER`; difference is the accuracy of `method` less that of `other`.
    """
    rows = []
    for key, part in decisions.groupby(["task", "split", "normalisation"], sort=False):
        right = (part["value"] > 0) == part["positive"]
        by = right.groupby([part["well_id"], part["method"]], sort=False).agg(["sum", "size"])
        n_right, n_sites = by["sum"].unstack(), by["size"].unstack()  # (wells, methods)
        for method, other in combinations(part["method"].unique(), 2):
            both = n_sites[method].eq(n_sites[other]).to_numpy()
            d = (n_right[method] - n_right[other]).to_numpy(float)[both]  # (G,)
            n = n_sites[method].to_numpy(float)[both]
            if len(d):
                rows.append((*key, method, other, *_compare(d, n, n_draws, seed), len(d)))
    return pd.DataFrame(rows, columns=HEADER)


def _compare(d: np.ndarray, n: np.ndarray, n_draws: int, seed: int) -> tuple[float, float, float, float]:
    """Difference, interval and p-value from d and n (G,)."""
    drawn, signs = _draws(len(d), n_draws, seed)
    low, high = np.quantile((drawn @ d) / (drawn @ n), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    p = (1 + np.sum(np.abs(signs @ d) >= abs(d.sum()) - 1e-9)) / (n_draws + 1)
    return d.sum() / n.sum(), low, high, p


@lru_cache(maxsize=2)
def _draws(G: int, n_draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each of G wells is drawn, and its sign, (draws, G) each: the same for all pairs on these wells."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(G, np.full(G, 1 / G), size=n_draws)
    return drawn.astype(float), rng.choice([-1.0, 1.0], size=(n_draws, G))
