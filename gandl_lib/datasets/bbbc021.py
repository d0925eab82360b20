"""BBBC021v1 (Caie et al. 2010; Ljosa et al. 2013): MCF-7 cells, three stains, compounds of known mechanism.

What is read here is not images but profiles: the mean of every CellProfiler feature over the cells of a well, as
published with Ljosa et al., beside the image table (which compound is where) and the table of mechanisms. 632 wells of
55 plates; 103 treatments (a compound at a dose) by 38 compounds with 12 mechanisms, and six DMSO wells a plate.

Plates are named Week<k>_<number>; the wells of a week are one batch.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

PROFILES = "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz"
IMAGES = "BBBC021_v1_image.csv.gz"
MECHANISMS = "BBBC021_v1_moa.csv"

CONTROL = "DMSO"
_WELL = {"Image_Metadata_Plate_DAPI": "plate_id", "Image_Metadata_Well_DAPI": "well"}
_TREATMENT = {"Image_Metadata_Compound": "compound", "Image_Metadata_Concentration": "concentration_uM"}


def profiles(root: str | Path) -> AnnData:
    """The published per-well profiles: X (wells, features) and obs plate_id, batch, well, compound, moa, role, ...

    role is `untreated` for DMSO and `treated` otherwise; `moa` is "" where no mechanism is known.

    Raises:
        ValueError: a file or a column is missing, or tables that do not fit together, naming what does not.
    """
    root = Path(root)
    table = _read(root / PROFILES, ["Image_Metadata_Plate", "Image_Metadata_Well"])
    images = _read(root / IMAGES, [*_WELL, *_TREATMENT])[[*_WELL, *_TREATMENT]].drop_duplicates()
    known = _read(root / MECHANISMS, ["compound", "concentration", "moa"])
    table = table.rename(columns={"Image_Metadata_Plate": "plate_id", "Image_Metadata_Well": "well"})
    images = images.rename(columns=_WELL | _TREATMENT)
    twice = images.duplicated(["plate_id", "well"])
    if twice.any():
        one = images[twice].iloc[0]
        raise ValueError(f"{root / IMAGES}: well {one['well']} of {one['plate_id']} has two treatments.")
    features = table.columns.drop(["plate_id", "well"])
    obs = table[["plate_id", "well"]].merge(images, on=["plate_id", "well"], how="left")
    if obs["compound"].isna().any():
        one = obs[obs["compound"].isna()].iloc[0]
        raise ValueError(f"{root / IMAGES} does not know well {one['well']} of {one['plate_id']}, which has a profile.")
    known = known.rename(columns={"concentration": "concentration_uM"})
    strange = set(known["compound"]) - set(images["compound"])
    if strange:
        raise ValueError(f"{root / MECHANISMS} names compounds that no well has: {', '.join(sorted(strange)[:5])}.")
    obs = obs.merge(known, on=["compound", "concentration_uM"], how="left")
    control = obs["compound"].eq(CONTROL)
    obs["moa"] = obs["moa"].fillna("").mask(control, "")
    obs["role"] = np.where(control, "untreated", "treated")
    obs["batch"] = obs["plate_id"].str.split("_").str[0]
    obs["well_id"] = obs["plate_id"] + "_" + obs["well"]
    X = table[features].to_numpy(np.float32)
    made = AnnData(X, obs=obs.set_axis(obs.index.astype(str)), var=pd.DataFrame(index=features))
    made.uns["provenance"] = json.dumps({"method": "cellprofiler", "simulated": False})
    return made


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; it is part of BBBC021v1 and of Ljosa et al. 2013.")
    table = pd.read_csv(path)
    missing = [c for c in columns if c not in table]
    if missing:
        raise ValueError(f"{path}: lacks the column(s) {', '.join(missing)}; it has {', '.join(table.columns[:6])} ...")
    return table
