"""BBBC021v1 (Caie et al. 2010; Ljosa et al. 2013): MCF-7 cells, three stains, compounds of known mechanism.

    BBBC021_v1_image.csv      (or .csv.gz) a row a field: three file names, plate, well, compound, concentration
    BBBC021_v1_moa.csv        compound, concentration, moa of 103 treatments by 38 compounds with 12 mechanisms
    images/<Image_PathName>/<Image_FileName>     16-bit TIFFs, one a stain, as `gandl fetch bbbc021` leaves them

Two things are read: the images, as every other layout's; and the published profiles, the mean of every CellProfiler
feature over the cells of a well (Ljosa et al.): 632 wells of 55 plates. Both know compounds, mechanisms and batches
from the same tables. Plates are named Week<k>_<number>; the wells of a week are one batch, which the wells table calls
`experiment` as well as `batch`. Six wells a plate have DMSO and nothing else: role `untreated`, no concentration.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import tifffile

from gandl_lib.datasets import _recursion
from gandl_lib.datasets.layout import Layout, of_module
from gandl_lib.paths import inside
from gandl_lib.wells import COLUMNS as WELLS_COLUMNS
from gandl_lib.wells import validate

if TYPE_CHECKING:
    from anndata import AnnData

CHANNELS = ("DNA", "actin", "tubulin")
"""DAPI, phalloidin, anti-beta-tubulin; in the paper's order, which is not that of the columns."""

PIXEL_UM = 0.32
"""Side of a pixel in micrometres: 6.45 um of a common camera through a 20x objective. The tables do not state it. The
published median nucleus, 1,020 pixels, is then 104 um2, which is what nuclei of MCF-7 measure."""

PROFILES = "ljosa_jbiomolscreen_2013_per_well_mean.csv.gz"
IMAGES = "BBBC021_v1_image.csv.gz"
MECHANISMS = "BBBC021_v1_moa.csv"

CONTROL = "DMSO"
_WELL = {"Image_Metadata_Plate_DAPI": "plate_id", "Image_Metadata_Well_DAPI": "well"}
_TREATMENT = {"Image_Metadata_Compound": "compound", "Image_Metadata_Concentration": "concentration_uM"}
_STAINS = ("DAPI", "Actin", "Tubulin")
_FILES = [(f"Image_PathName_{stain}", f"Image_FileName_{stain}") for stain in _STAINS]
COLUMNS = (*_WELL, *_TREATMENT, *(column for pair in _FILES for column in pair))
"""Columns of the image table that are needed to read images."""


# ---- images ----


def find(root: str | Path) -> Path | None:
    """The image table in a folder, if there is one."""
    known = (Path(root) / name for name in (IMAGES.removesuffix(".gz"), IMAGES))
    return next((path for path in known if path.is_file()), None)


def parse(path: str | Path) -> pd.DataFrame:
    """The wells table of an image table, images unseen; with `batch`, `moa` ("" where unknown) and the files' names.

    The table of mechanisms is looked for beside it.

    Raises:
        ValueError: naming missing columns, values that are none, or broken rules of `wells`.
    """
    path = Path(path)
    table = _annotated(_images(path, COLUMNS), path.parent)
    plate = table["plate_id"].str.extract(r"^(?P<experiment>\w+)_(?P<plate>[0-9]{1,9})$")
    site = table["Image_FileName_DAPI"].str.extract(r"_s([0-9]{1,4})_w[0-9]")[0]
    for bad, what in (
        (plate["plate"].isna(), "Image_Metadata_Plate_DAPI must be like Week1_22123"),
        (site.isna(), "Image_FileName_DAPI must hold the field, like G10_s1_w1....tif"),
    ):
        if bad.any():
            raise ValueError(f"{path}: {what}; {bad.sum()} row(s) are not, first {path.name} line {bad.idxmax() + 2}.")
    wells = table.assign(
        site_id=table["well_id"] + "_" + site,
        experiment=plate["experiment"],
        plate=plate["plate"].astype(int),
        site=site.astype(int),
        cell_type="MCF7",
        condition="",
    )
    more = [*dict.fromkeys(column for pair in _FILES for column in pair)]
    return validate(wells[[*WELLS_COLUMNS, "batch", "moa", *more]], str(path))


def layout(root: str | Path) -> Layout:
    """A folder of this layout."""
    return of_module("bbbc021", root, _found(Path(root)), globals())


def wells(root: str | Path, where: str | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The complete sites under `root`, and a table `site_id, reason` of those left out.

    Looks only at the header of each TIFF and at whether the file is as long as that says.

    Args:
        where: pandas query over the wells table; other sites are not even looked at.

    Raises:
        ValueError: as `parse`, or when no site is complete.
    """
    root = Path(root)
    table = _recursion.select(parse(_found(root)), where)
    return _recursion.complete(root, table, _names, lambda name: _peek(inside(root, name)))


def read(root: str | Path, row: Any) -> np.ndarray:
    """The images of one site, a row of the wells table: (3, H, W), uint8 or uint16 as in its files."""
    channels = []
    for name in _names(row):
        try:
            with tifffile.TiffFile(inside(Path(root), name)) as tiff:
                channels.append(tiff.pages[0].asarray())
        except Exception as error:  # tifffile raises two dozen kinds over damaged files
            raise ValueError(f"{name}: cannot be decoded ({error}); fetch it again or drop its row.") from None
    if len({(c.shape, c.dtype) for c in channels}) > 1:
        raise ValueError(f"{_names(row)[0]}: the channels of {row.site_id} differ in size or type.")
    images = np.stack(channels)  # [CHW]
    return images.astype(images.dtype.newbyteorder("="), copy=False)


def _names(row: Any) -> list[str]:
    """Files of a site below the data folder, in the order of `CHANNELS`."""
    return [f"images/{getattr(row, folder)}/{getattr(row, file)}" for folder, file in _FILES]


def _peek(path: Path) -> _recursion.Kind:
    """(height, width, dtype) of a TIFF with one grey page; ValueError with the rest of a sentence about the file."""
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0]
            end = max(o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True))
            shape, dtype = page.shape, page.dtype
    except FileNotFoundError:
        raise ValueError("is missing") from None
    except Exception:  # tifffile raises two dozen kinds over damaged files
        raise ValueError("is no readable TIFF") from None
    if end > path.stat().st_size:
        raise ValueError("is truncated")
    if len(shape) != 2 or dtype is None or dtype.name not in ("uint8", "uint16"):
        raise ValueError(f"has pixels {dtype} of shape {shape}, not 8- or 16-bit grey")
    return *shape, dtype.name


# ---- profiles ----


def profiles(root: str | Path) -> AnnData:
    """The published per-well profiles: X (wells, features) and obs plate_id, batch, well, compound, moa, role, ...

    role is `untreated` for DMSO and `treated` otherwise; `moa` is "" where no mechanism is known.

    Raises:
        ValueError: a file or a column is missing, or tables that do not fit together, naming what does not.
    """
    from anndata import AnnData  # takes seconds, and who reads images does without

    root = Path(root)
    table = _read(root / PROFILES, ["Image_Metadata_Plate", "Image_Metadata_Well"])
    path = _found(root)
    images = _images(path, (*_WELL, *_TREATMENT))[[*_WELL.values(), *_TREATMENT.values()]].drop_duplicates()
    table = table.rename(columns={"Image_Metadata_Plate": "plate_id", "Image_Metadata_Well": "well"})
    features = table.columns.drop(["plate_id", "well"])
    obs = table[["plate_id", "well"]].merge(images, on=["plate_id", "well"], how="left")
    if obs["compound"].isna().any():
        one = obs[obs["compound"].isna()].iloc[0]
        raise ValueError(f"{path} does not know well {one['well']} of {one['plate_id']}, which has a profile.")
    strange = set(_mechanisms(root)["compound"]) - set(images["compound"])
    if strange:
        raise ValueError(f"{root / MECHANISMS} names compounds that no well has: {', '.join(sorted(strange)[:5])}.")
    obs = _annotated(obs, root)
    X = table[features].to_numpy(np.float32)
    made = AnnData(X, obs=obs.set_axis(obs.index.astype(str)), var=pd.DataFrame(index=features))
    made.uns["provenance"] = json.dumps({"method": "cellprofiler", "simulated": False})
    return made


# ---- tables ----


def _found(root: Path) -> Path:
    path = find(root)
    if path is None:
        raise ValueError(f"{root}: there is no {IMAGES.removesuffix('.gz')}[.gz]; `gandl fetch bbbc021 OUT` brings it.")
    return path


def _images(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """The image table with our names of wells and treatments; DMSO has no concentration.

    Raises:
        ValueError: a column is missing, a concentration is no number, or a well has two treatments.
    """
    text = _recursion.table(path, columns, "BBBC021")
    dose = _recursion.numbers(text, "Image_Metadata_Concentration", float, path)
    images = text.rename(columns=_WELL | _TREATMENT)
    images["concentration_uM"] = dose.mask(images["compound"].eq(CONTROL))
    wells = images[[*_WELL.values(), *_TREATMENT.values()]].drop_duplicates()
    twice = wells.duplicated(["plate_id", "well"])
    if twice.any():
        one = wells[twice].iloc[0]
        raise ValueError(f"{path}: well {one['well']} of {one['plate_id']} has two treatments.")
    return images


def _mechanisms(root: Path) -> pd.DataFrame:
    table = _read(root / MECHANISMS, ["compound", "concentration", "moa"])
    return table.rename(columns={"concentration": "concentration_uM"})


def _annotated(table: pd.DataFrame, root: Path) -> pd.DataFrame:
    """What follows from plate, well and treatment: moa, role, batch and well_id."""
    known = _mechanisms(root)[["compound", "concentration_uM", "moa"]]
    table = table.merge(known[known["compound"].ne(CONTROL)], on=["compound", "concentration_uM"], how="left")
    return table.assign(
        moa=table["moa"].fillna(""),
        role=np.where(table["compound"].eq(CONTROL), "untreated", "treated"),
        batch=table["plate_id"].str.split("_").str[0],
        well_id=table["plate_id"] + "_" + table["well"],
    )


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; it is part of BBBC021v1 and of Ljosa et al. 2013.")
    table = pd.read_csv(path)
    missing = [c for c in columns if c not in table]
    if missing:
        raise ValueError(f"{path}: lacks the column(s) {', '.join(missing)}; it has {', '.join(table.columns[:6])} ...")
    return table
