"""Two parts of BBBC021 that others cut and passed on: small enough for a lesson, with mechanisms and real cells.

    fields    metadata.csv (FIELDS) and RGB PNGs, 256 x 256: 55 treatments in three replicate wells, 4 fields a well,
              from 30 plates; 18 compounds with 6 mechanisms, no DMSO. A teaching set of pharmb.io.
    cells     metadata.csv (CELLS) and cells_sampled.npz: 1,996 single cells of 68 x 68 pixels from 55 plates, all 12
              mechanisms and DMSO. Data of a course.

Each is opened like any other screen. What one has to know of them:

* **fields** are squeezed from 1280 x 1024 to a square, so a pixel is not square any more, and turned to 8 bits in a way
  that nobody states: grey values are not to be compared across plates, let alone with other screens.
* **cells** hold grey values as measured, their channels DNA, actin, tubulin. (The list that travels with them has
  another order; over wells, these agree with CellProfiler's measurements of the official images.) They are read as
  CytoGAN takes cells: each channel scaled to its own range, as `cells.to_own_range` does, and 48 pixels wide.
  Neighbours are not blacked out, for no mask came with them.
* Plates and mechanisms are those of BBBC021v1 (see `bbbc021`); `batch` is the week.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from gandl_lib.datasets import _recursion
from gandl_lib.datasets.bbbc021 import CHANNELS, CONTROL
from gandl_lib.datasets.bbbc021 import PIXEL_UM as OFFICIAL_UM
from gandl_lib.datasets.layout import Layout, Sites, odd
from gandl_lib.paths import inside
from gandl_lib.wells import COLUMNS as WELLS_COLUMNS
from gandl_lib.wells import validate

TABLE = "metadata.csv"
PIXELS = "cells_sampled.npz"
FIELDS = ("file", "plate", "well", "site", "replicate", "compound", "concentration", "unit", "moa", "role")
CELLS = ("index", "cell", "plate", "well", "site", "replicate", "compound", "concentration", "moa", "role")
"""Columns of either table, by which it is known."""
FIELD_UM = OFFICIAL_UM * (1280 / 256 * 1024 / 256) ** 0.5
"""Side of a square pixel as large as a squeezed one, 1.6 x 1.28 um."""
CELL_PX, OFFICIAL_PX = 48, 68
IN_FILE = (2, 0, 1)
"""Where a PNG's colours (actin, tubulin, DNA) have the stains of `CHANNELS`."""


def find(root: str | Path) -> str:
    """Which part a folder holds: "fields", "cells", or "" for neither."""
    path = Path(root) / TABLE
    if not path.is_file():
        return ""
    found = _recursion.header(path)
    return next(
        (name for name, columns in {"fields": FIELDS, "cells": CELLS}.items() if set(columns) <= set(found)), ""
    )


def layout(root: str | Path) -> Layout:
    """The part of BBBC021 in a folder; ValueError where there is none."""
    root, kind = Path(root), find(root)
    if not kind:
        raise ValueError(f"{root}: no part of BBBC021; its {TABLE} would have the columns {', '.join(FIELDS)}.")
    return Layout(
        root=root,
        name=f"bbbc021-{kind}",
        channels=CHANNELS,
        parse=lambda: parse(root / TABLE),
        look=lambda where, workers: Sites(*_look(root, kind, where), odd([])),
        read=lambda row: read_field(root, row) if kind == "fields" else read_cell(root, row),
        measure=lambda: FIELD_UM if kind == "fields" else OFFICIAL_UM * OFFICIAL_PX / CELL_PX,
    )


def parse(path: str | Path) -> pd.DataFrame:
    """The wells table, images unseen, with `batch`, `moa` and either `file` or `site_of, cell, place` (in the array).

    Raises:
        ValueError: naming missing columns, values that are none, or broken rules of `wells`.
    """
    path, kind = Path(path), find(Path(path).parent)
    text = _recursion.table(path, CELLS if kind == "cells" else FIELDS, "BBBC021's parts")
    plate = text["plate"].str.extract(r"^(?P<experiment>\w+)_(?P<plate>[0-9]{1,9})$")
    if plate["plate"].isna().any():
        first = text["plate"][plate["plate"].isna().idxmax()]
        raise ValueError(f"{path}: plate must be like Week1_22123; found {first!r}.")
    control = text["compound"].eq(CONTROL)
    well_id = text["plate"] + "_" + text["well"]
    made = text[["well", "compound"]].assign(
        site_id=well_id + "_" + text["site"],
        well_id=well_id,
        plate_id=text["plate"],
        cell_type="MCF7",
        experiment=plate["experiment"],
        plate=plate["plate"].astype(int),
        site=_recursion.numbers(text, "site", int, path),
        condition="",
        concentration_uM=_recursion.numbers(text, "concentration", float, path).mask(control),
        role=np.where(control, "untreated", "treated"),
        batch=plate["experiment"],
        moa=text["moa"].mask(control, ""),
    )
    if kind == "fields":
        more = {"file": text["file"]}
    else:
        number = text["cell"].str.extract(r"_([0-9]{1,9})$")[0]
        more = {"site_of": made["site_id"], "cell": number, "place": _recursion.numbers(text, "index", int, path)}
        made["site_id"] = made["site_id"] + "_" + number
    return validate(made[[*WELLS_COLUMNS, "batch", "moa"]].assign(**more), str(path))


def read_field(root: str | Path, row: Any) -> np.ndarray:
    """A field, a row of the wells table: (3, H, W) uint8 in the order of `CHANNELS`; ValueError naming its file."""
    try:
        return _decode(Path(root), row.file)
    except ValueError as error:
        raise ValueError(f"{row.file} {error}") from None


def _decode(root: Path, name: str) -> np.ndarray:
    """(3, H, W) uint8 in the order of `CHANNELS`; ValueError with the rest of a sentence about the file."""
    try:
        with Image.open(inside(root, name), formats=["PNG"]) as image:
            pixels, mode = np.asarray(image), image.mode
    except FileNotFoundError:
        raise ValueError("is missing") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(f"cannot be decoded ({error})") from None
    if mode != "RGB":
        raise ValueError(f"has {mode} pixels, not RGB")
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[list(IN_FILE)])


def read_cell(root: str | Path, row: Any) -> np.ndarray:
    """A cell, a row of the wells table: (3, 48, 48) uint8, each channel from its own least to its own largest value."""
    channels = _pixels(Path(root))[row.place].transpose(2, 0, 1).astype(np.float32)  # [CHW]
    small = [np.asarray(Image.fromarray(c).resize((CELL_PX, CELL_PX), Image.Resampling.BILINEAR)) for c in channels]
    low, high = np.min(small, (1, 2), keepdims=True), np.max(small, (1, 2), keepdims=True)
    return np.rint(255 * (small - low) / np.maximum(high - low, 1)).astype(np.uint8)


@lru_cache(maxsize=1)
def _pixels(root: Path) -> np.ndarray:
    """(N, 68, 68, 3) uint16."""
    path = root / PIXELS
    try:
        with np.load(path) as kept:
            pixels = kept["cells"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: no readable array of cells ({error}).") from None
    if pixels.ndim != 4 or pixels.shape[3] != len(CHANNELS) or pixels.dtype != np.uint16:
        raise ValueError(f"{path}: cells must be (N, H, W, 3) uint16; found {pixels.shape} {pixels.dtype}.")
    return pixels


def _look(root: Path, kind: str, where: str | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The sites that can be read, and `site_id, reason` of those that cannot."""
    table = _recursion.select(parse(root / TABLE), where)
    if kind == "cells":
        n = len(_pixels(root))
        if (beyond := table["place"] >= n).any():
            raise ValueError(f"{root / TABLE} lists cell {table['place'][beyond].iloc[0]}; {PIXELS} has {n}.")
        return table, pd.DataFrame(columns=["site_id", "reason"])
    return _recursion.complete(
        root, table, lambda row: [row.file], lambda name: (*_decode(root, name).shape[1:], "uint8")
    )
