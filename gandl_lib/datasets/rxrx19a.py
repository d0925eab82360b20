"""RxRx19a (Recursion, 2020): compounds against SARS-CoV-2 in HRCE and VERO cells, 1024x1024, 8-bit, CC-BY 4.0.

Roles by rule, for the metadata name no control wells:

=====================================  ==================  =========
disease_condition                      treatment           role
=====================================  ==================  =========
`Mock`                                 empty               C+
`Active SARS-CoV-2`                    empty               C-
`UV Inactivated SARS-CoV-2`            empty               UV
`Active SARS-CoV-2`                    a compound          treated
anything else                                              blank
=====================================  ==================  =========

A compound on cells that are not infected is neither a control nor an answer to "does it help?". The screen's VERO part
has no such well. Where there is one it is called blank, so that nothing takes it for a control; its condition and
compound stay in the table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gandl_lib.datasets import _recursion
from gandl_lib.datasets.layout import Layout, of_module

CHANNELS = ("DNA", "ER", "actin", "RNA", "golgi")
"""Files w1 to w5: Hoechst (DNA), concanavalin A (ER), phalloidin (actin), SYTO 14 (RNA, nucleoli), wheat germ
agglutinin (golgi, plasma membrane)."""

PIXEL_UM = 0.65
"""Side of a pixel in micrometres."""

COLUMNS = (
    "site_id",
    "well_id",
    "cell_type",
    "experiment",
    "plate",
    "well",
    "site",
    "disease_condition",
    "treatment",
    "treatment_conc",
)
"""The columns that are needed. The official table has SMILES besides; it and any other column travel along."""

CONDITIONS = ("Mock", "Active SARS-CoV-2", "UV Inactivated SARS-CoV-2", "")

_FILES = (1, 2, 3, 4, 5)


def parse(path: str | Path) -> pd.DataFrame:
    """The wells table of an RxRx19a `metadata.csv`, images unseen.

    Raises:
        ValueError: naming missing columns, unknown conditions, values that are no numbers, or broken rules of `wells`.
    """
    text = _recursion.table(path, COLUMNS, "RxRx19a")
    condition = text["disease_condition"]
    if not condition.isin(CONDITIONS).all():
        unknown = ", ".join(map(repr, condition[~condition.isin(CONDITIONS)].unique()[:3]))
        raise ValueError(f"{path}: unknown disease_condition {unknown}; known are {', '.join(map(repr, CONDITIONS))}.")
    plate, site = (_recursion.numbers(text, column, int, path) for column in ("plate", "site"))
    plate_id = text["experiment"] + "_" + plate.astype(str)
    wells = text.drop(columns=["disease_condition", "treatment", "treatment_conc"]).assign(
        well_id=plate_id + "_" + text["well"],
        plate_id=plate_id,
        plate=plate,
        site=site,
        condition=condition,
        compound=text["treatment"],
        concentration_uM=_recursion.numbers(text, "treatment_conc", float, path),
        role=_role(condition, text["treatment"].ne("")),
    )
    return _recursion.finish(wells, path)


def layout(root: str | Path) -> Layout:
    """A folder of this layout."""
    return of_module("rxrx19a", root, Path(root) / _recursion.METADATA, globals())


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


def _role(condition: pd.Series, has_compound: pd.Series) -> np.ndarray:
    active = condition.eq("Active SARS-CoV-2")
    cases = {
        "C+": condition.eq("Mock") & ~has_compound,
        "C-": active & ~has_compound,
        "UV": condition.eq("UV Inactivated SARS-CoV-2") & ~has_compound,
        "treated": active & has_compound,
    }
    return np.select(list(cases.values()), list(cases), default="blank").astype(object)
