"""What each embedding has cost, from the provenance of its profiles."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from anndata import AnnData

from gandl_lib.profiles import by_method

HEADER = ("method", "minutes", "images", "peak_memory_MB", "dimensions", "labels", "device")


def cost(profiles: AnnData | list[AnnData]) -> pd.DataFrame:
    """One row a method: minutes and memory of training, images seen, numbers an image, which labels were learnt.

    Methods with nothing to train have cost nothing; what nobody has recorded is NaN. Minutes of different devices are
    no measure of each other.
    """
    rows = []
    for method, p in by_method(profiles, ()).items():
        made = json.loads(p.uns["provenance"])
        images = made.get("n_seen", 0)
        untrained = images == 0
        minutes, memory = (made.get(key, 0.0 if untrained else np.nan) for key in ("minutes", "peak_memory_MB"))
        unknown = np.nan if images is None else images
        rows.append((method, minutes, unknown, memory, p.n_vars, made.get("label", ""), made.get("device", "")))
    return pd.DataFrame(rows, columns=HEADER)
