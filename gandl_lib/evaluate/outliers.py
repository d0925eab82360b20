"""Wells that failed: one that lies far from the others of its dose, as no chance puts it there.

A bubble, a missed dispense or a focus that was lost leaves a well anywhere, and a single one at -40 among 24 makes the
squares of a clear curve those of a flat line. So a well is set aside where it lies further than `FAR` spreads from its
replicates: from the median of the others of its dose; where there is one other only, the two lie that far apart and
this is the one further from the wells of the doses beside it. A dose of one well has nothing to be compared with.

The spread is that of wells of one dose, 1.048 x the median of |difference| over all their pairs (for normal scores a
standard deviation, and a failed well hardly moves it), or that of the controls (1.483 x the median absolute deviation)
where that is larger. Six of them happen by chance to one normal well in a hundred million, and with a spread known from
24 wells to perhaps one in a hundred thousand.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

FAR = 6.0
"""Spreads between a well and its replicates, times the square root of 1 + 1 / the number of the others."""


def far_from_replicates(
    concentration_uM: np.ndarray, scores: np.ndarray, controls: np.ndarray | None = None
) -> np.ndarray:
    """(n,) bool: the wells of one compound that lie far from the others of their dose.

    Args:
        concentration_uM: (n,) doses.
        scores: (n,) finite scores.
        controls: (m,) scores of wells that are alike, whose spread is the least to be expected.
    """
    c, e = np.asarray(concentration_uM, float), np.asarray(scores, float)
    doses, codes = np.unique(c, return_inverse=True)
    members = [np.flatnonzero(codes == k) for k in range(len(doses))]
    apart = [abs(e[i] - e[j]) for rows in members for i, j in combinations(rows, 2)]
    far = np.zeros(len(e), bool)
    if not apart:
        return far
    spread = 1.4826 / np.sqrt(2) * np.median(apart)
    if controls is not None and len(controls) >= 4:
        spread = max(spread, 1.4826 * np.median(np.abs(controls - np.median(controls))))
    if spread <= 1e-9 * np.abs(e).max():  # scores without noise: nothing says how far is far
        return far
    for k, rows in enumerate(members):
        while len(rows) > 2:  # the furthest first, for a failed well draws the median of the others to itself
            worst = rows[np.abs(e[rows] - np.median(e[rows])).argmax()]
            others = rows[rows != worst]
            far[worst] = abs(e[worst] - np.median(e[others])) > FAR * spread * np.sqrt(1 + 1 / len(others))
            if not far[worst]:
                break
            rows = others
        if len(rows) == 2 and abs(e[rows[0]] - e[rows[1]]) > FAR * spread * np.sqrt(2):
            beside = np.concatenate([*members[max(k - 1, 0) : k], *members[k + 1 : k + 2]] or [rows])
            strayed = np.abs(e[rows] - np.median(e[beside]))
            if strayed.min() < strayed.max():
                far[rows[strayed.argmax()]] = True
    return far
