"""RxRx1 (Recursion, 2019): siRNA in HEPG2, HUVEC, RPE and U2OS cells, 512x512, 8-bit, CC-BY-NC-SA 4.0.

The same five stains as RxRx19a and a sixth, MitoTracker in file w5, which is left out here so that both screens fit one
network. No infection: wells with the negative control are `untreated`, wells with an siRNA (the treatments and the
positive controls alike) are `treated` with the siRNA as compound and no concentration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gandl_lib.datasets import _recursion
from gandl_lib.datasets.layout import Layout, of_module

CHANNELS = ("DNA", "ER", "actin", "RNA", "golgi")
"""Files w1, w2, w3, w4, w6: Hoechst (DNA), concanavalin A (ER), phalloidin (actin), SYTO 14 (RNA, nucleoli), wheat germ
agglutinin (golgi, plasma membrane)."""

PIXEL_UM = 0.65
"""Side of a pixel in micrometres. Not stated with the data; assumed to be RxRx19a's."""

COLUMNS = (
    "site_id",
    "well_id",
    "cell_type",
    "dataset",
    "experiment",
    "plate",
    "well",
    "site",
    "well_type",
    "sirna",
    "sirna_id",
)
"""The columns that are needed; any other travels along."""

WELL_TYPES = ("negative_control", "positive_control", "treatment")

_FILES = (1, 2, 3, 4, 6)


def parse(path: str | Path) -> pd.DataFrame:
    """The wells table of an RxRx1 `metadata.csv`, images unseen; well_type, sirna_id and dataset travel along.

    Raises:
        ValueError: naming missing columns, unknown well types, values that are no numbers, or broken rules of `wells`.
    """
    text = _recursion.table(path, COLUMNS, "RxRx1")
    well_type = text["well_type"]
    if not well_type.isin(WELL_TYPES).all():
        unknown = ", ".join(map(repr, well_type[~well_type.isin(WELL_TYPES)].unique()[:3]))
        raise ValueError(f"{path}: unknown well_type {unknown}; known are {', '.join(WELL_TYPES)}.")
    plate, site = (_recursion.numbers(text, column, int, path) for column in ("plate", "site"))
    plate_id = text["experiment"] + "_" + plate.astype(str)
    untreated = well_type.eq("negative_control") | text["sirna"].isin(["EMPTY", ""])
    wells = text.drop(columns="sirna").assign(
        well_id=plate_id + "_" + text["well"],
        plate_id=plate_id,
        plate=plate,
        site=site,
        condition="",
        compound=text["sirna"].mask(untreated, ""),
        concentration_uM=np.nan,
        role=np.where(untreated, "untreated", "treated").astype(object),
    )
    return _recursion.finish(wells, path)


def layout(root: str | Path) -> Layout:
    """A folder of this layout."""
    return of_module("rxrx1", root, Path(root) / _recursion.METADATA, globals())


def wells(root: str | Path, where: str | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The complete sites under `root`, and a table `site_id, reason` of those left out.

    Args:
        root: folder with metadata.csv and images/.
        where: pandas query over the wells table; other sites are not even looked at.
    """
    table = _recursion.select(parse(Path(root) / _recursion.METADATA), where)
    return _recursion.complete_pngs(root, table, _FILES)


def read(root: str | Path, row: Any) -> np.ndarray:
    """The images of one site, a row of the wells table: (5, H, W), uint8 or uint16 as in its files."""
    return _recursion.read(root, row, _FILES)
