"""Normalise so that no well that trains or is scored has set its own plate's zero.

Where controls set the zero of a plate, those very wells lie nearer to it than any other well can: their share of the
chance in the plate's mean is gone from them and sits in everything else. A classifier trained on them learns that
difference instead of the infection, and fails on the next plate. So half of the C- wells that could train become
*reference wells*: they are what the plate is normalised on, and nothing else.
"""

from __future__ import annotations

import numpy as np
from anndata import AnnData

from gandl_lib.profiles import READS_LABELS, is_negative_control, normalise
from gandl_lib.splits import by_well

REFERENCE_FRACTION = 0.5


def normalise_apart(profiles: AnnData, how: str, test: np.ndarray, seed: int) -> tuple[AnnData, np.ndarray]:
    """Normalise by `how`; for recipes that read labels, on reference wells chosen outside the rows `test` (N,) bool.

    Returns:
        Normalised profiles, and (N,) bool: the rows of reference wells, to be neither trained on nor scored (none for
        recipes that read no labels).

    Raises:
        ValueError: a plate is left with too few reference wells.
    """
    reference = np.zeros(profiles.n_obs, bool)
    if how not in READS_LABELS:
        return normalise(profiles, how), reference
    reference[~test] = by_well(profiles.obs[~test], REFERENCE_FRACTION, seed)
    reference &= is_negative_control(profiles.obs)
    return normalise(profiles, how, reference), reference
