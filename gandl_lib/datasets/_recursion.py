"""What RxRx19a and RxRx1 share: a `metadata.csv`, and one grey PNG a channel.

The images are `images/<experiment>/Plate<plate>/<well>_s<site>_w<channel>.png` beside the table.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from gandl_lib.paths import is_unsafe
from gandl_lib.wells import COLUMNS, validate

METADATA = "metadata.csv"
DTYPES = {"L": "uint8", "I;16": "uint16", "I;16B": "uint16"}  # Pillow's names of 8- and 16-bit grey
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"  # the last chunk of every whole PNG


# ---- the table ----


def header(path: Path) -> list[str]:
    """Column names of a CSV file; ValueError when it is missing or empty."""
    return list(_read_csv(path, nrows=0).columns)


def table(path: str | Path, columns: Sequence[str], layout: str) -> pd.DataFrame:
    """The whole of `metadata.csv` as text, empty where empty; ValueError when one of `columns` is missing."""
    text = _read_csv(Path(path))
    missing = [c for c in columns if c not in text.columns]
    if missing:
        raise ValueError(
            f"{path}: not {layout}'s layout, the column(s) {', '.join(missing)} are missing. "
            f"Found {', '.join(text.columns)}; expected {', '.join(columns)}."
        )
    if text.empty:
        raise ValueError(f"{path}: a header and no rows; there is no site to read.")
    return text


def numbers(text: pd.DataFrame, column: str, dtype: type, path: str | Path) -> pd.Series:
    """A text column as int or float (empty: NaN); ValueError naming the first values that are no such numbers."""
    if dtype is float:
        bad = text[column].ne("") & ~np.isfinite(pd.to_numeric(text[column], errors="coerce"))
    else:
        bad = ~text[column].str.fullmatch(r"[0-9]{1,9}")
    if bad.any():
        found = ", ".join(map(repr, text.loc[bad, column].unique()[:3]))
        kind = "a number or nothing" if dtype is float else "a whole number"
        raise ValueError(f"{path}: column {column!r} must hold {kind}; {bad.sum()} row(s) do not, first {found}.")
    return text[column].replace("", "nan").astype(dtype)  # to_numeric itself is a digit off now and then


def finish(wells: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """Put the columns of the wells table first, validate, and check that the ids say what the columns say."""
    wells = wells[[*COLUMNS, *(c for c in wells.columns if c not in COLUMNS)]]
    validate(wells, str(path))
    names = wells["experiment"]  # becomes the name of a folder
    unsafe = names.map(lambda name: is_unsafe(name) or "/" in name)
    if unsafe.any():
        raise ValueError(
            f"{path}: experiment must be a plain name, for images lie in a folder of that name; {unsafe.sum()} row(s) "
            f"have another, first {names[unsafe.idxmax()]!r}."
        )
    expected = wells["well_id"] + "_" + wells["site"].astype(str)
    wrong = wells["site_id"].ne(expected)
    if wrong.any():
        i = wrong.idxmax()
        raise ValueError(
            f"{path}: site_id must be <experiment>_<plate>_<well>_<site>; {wrong.sum()} row(s) are not, "
            f"first {wells['site_id'][i]!r} where the other columns say {expected[i]!r}."
        )
    return wells


def select(wells: pd.DataFrame, where: str | None) -> pd.DataFrame:
    """The rows for which the pandas query `where` holds, e.g. `"cell_type == 'VERO' and plate == 1"`.

    Raises:
        ValueError: when the query cannot be evaluated, is no yes/no question, or holds for no row.
    """
    if where is None:
        return wells
    columns = ", ".join(wells.columns)
    try:
        keep = wells.eval(where)
    except Exception as error:  # pandas raises a dozen kinds here, from SyntaxError to TypeError
        raise ValueError(f"cannot select wells where {where!r}: {error}. The columns are {columns}.") from None
    if not isinstance(keep, pd.Series) or keep.dtype != bool:
        raise ValueError(f"cannot select wells where {where!r}: not a yes/no question of the columns {columns}.")
    if not keep.any():
        raise ValueError(
            f"no well satisfies {where!r}; the table has {len(wells)} sites with columns "
            f"{columns}{_kinds(wells, where)}."
        )
    return wells[keep].reset_index(drop=True)


def _kinds(wells: pd.DataFrame, where: str) -> str:
    """What the columns that a query names hold: a number is never equal to a text."""
    said = []
    for column in (c for c in wells if re.search(rf"\b{re.escape(c)}\b", where)):
        numeric = pd.api.types.is_numeric_dtype(wells[column])
        some = ", ".join(repr(v) for v in wells[column].drop_duplicates().head(4).tolist())
        said.append(f"{column} holds {'numbers' if numeric else 'texts, written in quotes'}, for instance {some}")
        if column == "plate":
            ids = ", ".join(repr(v) for v in wells["plate_id"].drop_duplicates().head(4))
            said.append(f"the names of plates are in plate_id: {ids}")
    return f" ({'; '.join(said)})" if said else ""


def _read_csv(path: Path, **options: Any) -> pd.DataFrame:
    if not path.is_file():
        raise ValueError(f"{path}: no such file. A data folder holds {METADATA} beside images/.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            # utf-8-sig: spreadsheets put a byte order mark in front of the first column's name.
            return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False, **options)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path}: not a readable CSV file in UTF-8 ({error}).") from None


# ---- the images ----


def files(root: str | Path, row: Any, numbers: Sequence[int]) -> list[Path]:
    """The files of a site, one for each channel number; `row` has the fields experiment, plate, well and site."""
    folder = Path(root) / "images" / row.experiment / f"Plate{row.plate}"
    return [folder / f"{row.well}_s{row.site}_w{n}.png" for n in numbers]


def read(root: str | Path, row: Any, numbers: Sequence[int]) -> np.ndarray:
    """A site as (C, H, W) in the integer type of its files; ValueError naming a file that cannot be decoded."""
    channels = []
    for path in files(root, row, numbers):
        try:
            with Image.open(path, formats=["PNG"]) as image:
                channels.append(np.asarray(image).astype(DTYPES[image.mode], copy=False))
        except KeyError:
            raise ValueError(f"{path}: {image.mode} pixels, but 8- or 16-bit grey is expected.") from None
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{path}: cannot be decoded ({error}); fetch it again or drop its row.") from None
    if len({(c.shape, c.dtype) for c in channels}) > 1:
        found = ", ".join(_describe(*c.shape, c.dtype) for c in channels)
        raise ValueError(f"{path.parent}: the channels of {row.site_id} differ in size or type: {found}.")
    return np.stack(channels)  # [CHW]


Kind = tuple[int, int, str]
"""(height, width, dtype) of a site's images."""


def complete(
    root: Path, wells: pd.DataFrame, names: Callable[[Any], Sequence[str]], look: Callable[[str], Kind]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Part a wells table into the sites whose images are all there and alike, and the others.

    "Alike": size and type that most sites have.

    Args:
        root: the data folder.
        names: of a site, a row of `wells`: its files below `root`.
        look: of a file: its kind; ValueError with the rest of a sentence about it where it is missing or damaged.

    Returns:
        the complete sites, and a table `site_id, reason` of those left out, both in the order of `wells`.

    Raises:
        ValueError: when no site is complete.
    """
    kinds: list[Kind | None] = []
    reasons: list[str | None] = []
    first: list[str] = []
    for row in tqdm(wells.itertuples(), f"checking {root.name}", len(wells), unit="site", delay=2, leave=False):
        kind = reason = None
        mine = names(row)
        first.append(mine[0])
        for name in mine:
            try:
                this = look(name)
            except ValueError as error:
                reason = f"{name} {error}"
                break
            if kind is not None and this != kind:
                reason = f"{name} is {_describe(*this)}, the site's other channels are {_describe(*kind)}"
                break
            kind = this
        kinds.append(None if reason else kind)
        reasons.append(reason)

    return part(root, wells, first, kinds, reasons)


def part(
    root: Path, wells: pd.DataFrame, names: Sequence[str], kinds: Sequence[Kind | None], reasons: list[str | None]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The sites whose images are all there and of the usual kind, and a table `site_id, reason` of the others.

    Args:
        names: one file of each site, to speak of it by.
        kinds: of each site; None where `reasons` says why it has none.

    Raises:
        ValueError: when no site is left.
    """
    usual = Counter(k for k in kinds if k is not None).most_common(1)
    if not usual:
        raise ValueError(f"{root}: none of the {len(wells)} site(s) has all its images; the first: {reasons[0]}.")
    usual = usual[0][0]
    reasons = [
        f"{name} is {_describe(*kind)}, most sites are {_describe(*usual)}" if kind not in (None, usual) else reason
        for name, kind, reason in zip(names, kinds, reasons, strict=True)
    ]
    good = np.array([r is None for r in reasons])
    skipped = pd.DataFrame({"site_id": wells["site_id"], "reason": reasons})[~good]
    return wells[good].reset_index(drop=True), skipped.reset_index(drop=True)


def complete_pngs(root: str | Path, wells: pd.DataFrame, numbers: Sequence[int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`complete` for this layout's images; looks only at the ends of each file."""
    root = Path(root)
    return complete(
        root,
        wells,
        lambda row: [path.relative_to(root).as_posix() for path in files(root, row, numbers)],
        lambda name: _peek(root / name),
    )


def _peek(path: Path) -> Kind:
    """(height, width, dtype) of a PNG from its two ends; ValueError with the rest of a sentence about the file."""
    try:
        with open(path, "rb") as file:
            with Image.open(file, formats=["PNG"]) as image:
                mode, (width, height) = image.mode, image.size
            file.seek(-len(PNG_END), os.SEEK_END)
            whole = file.read() == PNG_END
    except FileNotFoundError:
        raise ValueError("is missing") from None
    except (OSError, SyntaxError, ValueError):
        raise ValueError("is no readable PNG") from None
    if not whole:
        raise ValueError("is truncated")
    if mode not in DTYPES:
        raise ValueError(f"has {mode} pixels, not 8- or 16-bit grey")
    return height, width, DTYPES[mode]


def _describe(height: int, width: int, dtype: Any) -> str:
    return f"{height}x{width} {dtype}"
