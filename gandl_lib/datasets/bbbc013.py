"""BBBC013v1 (Ilya Ravkin; Carpenter et al. 2006): a whole real plate with two drugs in nine doses. CC BY 3.0.

Human U2OS cells carry FKHR-EGFP, a protein that moves from the cytoplasm into the nucleus when PI3K/Akt is inhibited.
96 wells, one field of 640 x 640 pixels each, 8-bit, background subtracted by the publisher.

    BBBC013_v1_platemap_all.txt      a line of heading, then a dose a well, row by row (`gandl fetch bbbc013` brings it)
    1049_Metadata.csv                or this one: a row a well as CellProfiler's example set has it
    images/Channel<1|2>-<nn>-<row>-<column>.BMP      or .tif; the archive's own folder instead of images/ will do too

===========  ============  ==============================  =========================
rows         columns       what was added                  role
===========  ============  ==============================  =========================
A-D          1, 2          nothing                         `C-`
A-D          3-11          Wortmannin, 0.98 to 250 nM      `treated`
A-D          12            Wortmannin, 150 nM              `C+`
E-H          1             **disputed**, see below         `C+`, column `disputed`
E-H          2, 12         nothing                         `C-`
E-H          3-11          LY294002, 0.31 to 80 uM         `treated`
===========  ============  ==============================  =========================

`C+` is the state that the axis leads to, as everywhere: here that of cells fully inhibited. **E01-H01**: the plate map
has 80 (uM LY294002) there; the authors' corrected file, CellProfiler's tutorial and its table have the positive
control, 150 nM Wortmannin, which is followed here. Pixels cannot tell, both doses saturate. The design is a fact of the
plate and stands in this file; a table that says otherwise is refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from PIL import Image

from gandl_lib.datasets import _recursion
from gandl_lib.datasets.layout import Layout, of_module
from gandl_lib.wells import COLUMNS as WELLS_COLUMNS
from gandl_lib.wells import validate

CHANNELS = ("DNA", "FKHR-EGFP")
"""Files Channel2 and Channel1: nuclei come first, as in all other layouts."""

PIXEL_UM = 1.0
"""Side of a pixel in micrometres, about: not stated with the data. The median nucleus, 178 pixels, is then as large as
nuclei of U2OS are."""

PLATE_MAP = "BBBC013_v1_platemap_all.txt"
TABLE = "1049_Metadata.csv"
FOLDERS = ("images", "BBBC013_v1_images_bmp")

WORTMANNIN_nM = (0.98, 1.95, 3.91, 7.81, 15.63, 31.25, 62.5, 125.0, 250.0)  # noqa: N816 (units)
LY294002_uM = (0.31, 0.63, 1.25, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0)  # noqa: N816
"""Of columns 3 to 11."""
POSITIVE_nM = 150.0  # noqa: N816
DISPUTED = tuple(f"{row}01" for row in "EFGH")
COLUMNS = ("Row", "Column", "SBS_Doses", "SBS_Controls")
"""Of CellProfiler's table."""


def design() -> pd.DataFrame:
    """The 96 wells, row by row: well, compound, concentration_uM (NaN for none), role, disputed.

    `listed` is the number that the plate map has there, in nM for rows A-D and in uM for rows E-H.
    """
    wells = []
    for row in "ABCDEFGH":
        wortmannin = row in "ABCD"
        doses, drug = (WORTMANNIN_nM, "Wortmannin") if wortmannin else (LY294002_uM, "LY294002")
        for column in range(1, 13):
            well = f"{row}{column:02}"
            if 3 <= column <= 11:
                dose = doses[column - 3]
                wells.append((well, drug, dose / 1000 if wortmannin else dose, "treated", dose))
            elif column == (12 if wortmannin else 1):
                wells.append((well, "Wortmannin", POSITIVE_nM / 1000, "C+", POSITIVE_nM if wortmannin else 80.0))
            else:
                wells.append((well, "", np.nan, "C-", 0.0))
    table = pd.DataFrame(wells, columns=["well", "compound", "concentration_uM", "role", "listed"])
    return table.assign(disputed=table["well"].isin(DISPUTED))


def find(root: str | Path) -> Path | None:
    """The table in a folder by which it is known as BBBC013, if there is one."""
    return next((path for name in (PLATE_MAP, TABLE) if (path := Path(root) / name).is_file()), None)


def parse(path: str | Path) -> pd.DataFrame:
    """The wells table, images unseen; `disputed` travels along.

    Args:
        path: the plate map, or CellProfiler's table; it is held against `design()`.

    Raises:
        ValueError: naming the first well where the table is not that of BBBC013v1.
    """
    path, plate = Path(path), design()
    (_check_table if path.suffix == ".csv" else _check_plate_map)(path, plate)
    wells = plate.drop(columns="listed").assign(
        site_id="BBBC013_1_" + plate["well"] + "_1",
        well_id="BBBC013_1_" + plate["well"],
        plate_id="BBBC013_1",
        cell_type="U2OS",
        experiment="BBBC013",
        plate=1,
        site=1,
        condition="",
    )
    wells = wells[[*WELLS_COLUMNS, "disputed"]]
    return validate(wells, str(path))


def layout(root: str | Path) -> Layout:
    """A folder of this layout."""
    return of_module("bbbc013", root, find(root), globals())


def wells(root: str | Path, where: str | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The wells whose two images are there and whole, and a table `site_id, reason` of the others.

    Args:
        root: folder with the plate map and the images.
        where: pandas query over the wells table; other wells are not even looked at.

    Raises:
        ValueError: no table, a table of something else, or no complete well.
    """
    root, path = Path(root), find(root)
    if path is None:
        raise ValueError(f"{root}: there is neither {PLATE_MAP} nor {TABLE}; `gandl fetch bbbc013 OUT` brings it.")
    table = _recursion.select(parse(path), where)
    if table["disputed"].any():
        print(
            f"{root}: E01-H01 are taken as 150 nM Wortmannin, as the corrected table has it; the plate map says 80 uM "
            "LY294002. The column `disputed` marks them."
        )
    return _recursion.complete(
        root,
        table,
        lambda row: [path.relative_to(root).as_posix() for path in files(root, row.well)],
        lambda name: (*(image := _decode(root / name)).shape, image.dtype.name),
    )


def read(root: str | Path, row: Any) -> np.ndarray:
    """The images of one well, a row of the wells table: (2, H, W) uint8."""
    channels = []
    for path in files(Path(root), row.well):
        try:
            channels.append(_decode(path))
        except ValueError as error:
            raise ValueError(f"{path}: {error}; fetch it again or drop its row.") from None
    if len({c.shape for c in channels}) > 1:
        raise ValueError(f"{path.parent}: the channels of {row.site_id} differ in size.")
    return np.stack(channels)  # [CHW]


def files(root: Path, well: str) -> list[Path]:
    """The files of a well in the order of `CHANNELS`: those that are there, or else where they are looked for."""
    number = "ABCDEFGH".index(well[0]) * 12 + int(well[1:])
    found = []
    for channel in (2, 1):
        name = f"Channel{channel}-{number:02}-{well[0]}-{well[1:]}"
        there = (root / folder / f"{name}{end}" for folder in FOLDERS for end in (".BMP", ".bmp", ".tif", ".TIF"))
        found.append(next((path for path in there if path.is_file()), root / FOLDERS[0] / f"{name}.BMP"))
    return found


def _decode(path: Path) -> np.ndarray:
    """(H, W) uint8 of an 8-bit BMP or TIFF, grey or with a grey ramp as palette; else the rest of a sentence about it.

    CellProfiler's copy and BMPs have palettes. Where entry i is the grey value i, the file's numbers are the image.
    """
    try:
        if path.suffix.lower() == ".bmp":
            with Image.open(path, formats=["BMP"]) as image:
                mode, pixels = image.mode, np.asarray(image)
                palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3).T if mode == "P" else None
        else:
            with tifffile.TiffFile(path) as tiff:
                page = tiff.pages[0]
                mode, pixels = page.photometric.name, page.asarray()
                palette = page.colormap // 257 if mode == "PALETTE" else None  # 16 bits to 8
    except FileNotFoundError:
        raise ValueError("is missing") from None
    except Exception as error:  # Pillow and tifffile raise dozens of kinds over damaged files
        raise ValueError(f"is not readable ({error})") from None
    if palette is not None and not (palette == np.arange(palette.shape[1])).all():
        wrong = int(np.argmax((palette != np.arange(palette.shape[1])).any(axis=0)))
        colour = ", ".join(map(str, palette[:, wrong].tolist()))
        raise ValueError(
            f"has a palette that is no ramp of grey (entry {wrong} is {colour}), so its numbers are no brightness"
        )
    if pixels.ndim != 2 or pixels.dtype != np.uint8 or mode not in ("P", "L", "PALETTE", "MINISBLACK"):
        raise ValueError(f"has {mode} pixels {pixels.dtype} of shape {pixels.shape}, not 8-bit grey")
    return pixels


def _check_plate_map(path: Path, plate: pd.DataFrame) -> None:
    """Hold the published plate map against the design; one dose a line after the heading."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
        found = [float(line) for line in lines[1:] if line.strip()]
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path}: must be a heading and then a dose a line; {error}.") from None
    if len(found) != len(plate):
        raise ValueError(f"{path}: lists {len(found)} wells; BBBC013 has {len(plate)}. Fetch it again.")
    for well, dose, listed in zip(plate["well"], found, plate["listed"], strict=True):
        if well not in DISPUTED and abs(dose - listed) > 0.01 * listed:
            raise ValueError(f"{path}: well {well} has dose {dose:g}, where BBBC013v1 has {listed:g}.")


def _check_table(path: Path, plate: pd.DataFrame) -> None:
    """Hold CellProfiler's table against the design; SBS_Doses counts doses from 1, SBS_Controls is -1, 0 or 1."""
    text = _recursion.table(path, COLUMNS, "BBBC013")
    code = dict(zip(text["Row"] + text["Column"].str.zfill(2), text["SBS_Controls"], strict=True))
    if missing := [well for well in plate["well"] if well not in code]:
        raise ValueError(f"{path}: well {missing[0]} is missing, {len(missing)} in all; BBBC013 has {len(plate)}.")
    for well, role in zip(plate["well"], plate["role"], strict=True):
        expected = {"C-": "-1", "treated": "0", "C+": "1"}[role]
        if well not in DISPUTED and not re.fullmatch(rf"{expected}(\.0*)?", code[well]):
            raise ValueError(
                f"{path}: well {well} has SBS_Controls {code[well]}, where BBBC013v1 has {expected} ({role})."
            )
