"""Somebody's own plate: any table, any channels, and a small file that says what they mean.

A folder is read by this module if `screen.toml` (or `screen.json`, of the same form) lies beside its `metadata.csv`:

    [columns]                       # our name = "their column"; only plate and well are needed
    plate = "Barcode"
    well = "{Row}{Col}"             # several columns in one, where a value has braces
    site = "Field"                  # one site a well where there is none
    compound = "Substance"
    concentration = "Dose"
    unit = "Unit"                   # a column with a unit a row, instead of [concentration] unit
    control = "Kind"                # whose values [controls] explains; may be the compound's column
    cell_type = "Cells"
    batch = "Run"

    [concentration]
    unit = "nM"                     # pM, nM, uM, mM or M
    decimal = ","                   # only where it cannot be told

    [controls]                      # role = the values of the control column that mean it; see wells.ROLES
    "C+" = ["healthy"]              # the state to reach
    "C-" = ["sick", "DMSO"]         # the state to leave

    [images]
    pixel_um = 0.65                 # of the files; may be left out where OME-TIFFs say it
    bin = 2                         # average 2 x 2 pixels into one (1 where it is left out)
    files = "img/{Barcode}/{Row}{Col}_{Field:02}_{channel}.tif"
    channels = ["DNA", "actin"]     # or { DNA = "w1", actin = "w2" }: what stands for {channel} in the file's name

Without `{channel}` in its name a file holds all channels, in the order given: planes of a TIFF or OME-TIFF, or the
colours of a PNG. `files` may also be a table with a name a channel, `{ DNA = "{FileDNA}", actin = "{FileActin}" }`.
A channel gets the name of its stain's target; those named as in RxRx19a (DNA, ER, actin, RNA, golgi, in this order) can
be embedded with the shipped network.

**What is read.** The table: UTF-8 with or without byte order mark, UTF-16 with one, or Windows-1252; separated by
comma, semicolon, tab or bar; decimals with point or comma. Wells: `A1`, `a01`, `A-01`, `r01c02`. Concentrations:
numbers, with a unit of their own if they have one (`10 nM`). Images: grey PNG and TIFF, 8 or 16 bit.

**What is left out, and counted**: a site whose row or images are unusable, with the reason (`wells`), and twins: of
rows that repeat a site word for word the first is kept; rows that contradict each other are all left out. Every image
is decoded once, so that nothing fails hours later. **What is refused at once**: a table or a screen.toml that nobody
could make sense of. Swapped channels can be noticed only where an OME-TIFF names its channels.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import string
import struct
import tomllib
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from PIL import Image
from tqdm import tqdm

from gandl_lib.datasets._recursion import DTYPES, METADATA, PNG_END, Kind, part, select
from gandl_lib.paths import inside
from gandl_lib.wells import COLUMNS, ROLES, validate

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file is said once, by us

MAPPINGS = ("screen.toml", "screen.json")
KEYS = {
    "columns": (
        "plate",
        "well",
        "site",
        "compound",
        "concentration",
        "unit",
        "control",
        "cell_type",
        "batch",
    ),
    "concentration": ("unit", "decimal"),
    "controls": ROLES,
    "images": ("files", "channels", "pixel_um", "bin"),
}
UNITS = {"M": 6, "mM": 3, "uM": 0, "µM": 0, "μM": 0, "nM": -3, "pM": -6}
"""Powers of ten of a micromole per litre. Two of these are the micro sign and the Greek letter."""
UNIT_ALIASES = {"um": "uM", "UM": "uM", "nm": "nM", "NM": "nM", "pm": "pM", "PM": "pM", "mm": "mM", "mol/l": "M"}

MAX_PIXELS = 2**26
"""A larger image (8192 x 8192) is no field of a microscope but a mistake, or a bomb."""
SATURATED = 0.01
"""More than this part of a channel's pixels at the top value is odd."""

MISSING = ("", "na", "n/a", "nan", "none", "null", "-", "–")
WELL = re.compile(r"([A-Za-z]{1,2})[-_ ]?0*(\d{1,2})|[rR]0*(\d{1,2})[-_ ]?[cC]0*(\d{1,2})")
AMOUNT = re.compile(r"([+-]?[\d.,]*\d[.,]?(?:[eE][+-]?\d{1,4})?)\s*(\D.*)?")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")


@dataclass(frozen=True)
class Description:
    """A screen.toml, checked."""

    path: Path
    columns: Mapping[str, str]
    unit: str | None
    decimal: str | None
    controls: Mapping[str, str]
    """Value of the control column -> role."""
    channels: tuple[str, ...]
    files: tuple[str, ...]
    """A template a channel, or a single one of files that hold all channels."""
    pixel_um: float | None
    bin: int = 1


def find(root: str | Path) -> Path | None:
    """The description that lies in `root`, if any."""
    return next((p for name in MAPPINGS if (p := Path(root) / name).is_file()), None)


@dataclass
class Own:
    """A layout like the modules beside this one, of one folder."""

    root: Path
    description: Description
    odd: pd.DataFrame = field(default_factory=lambda: _odd([]))
    """`what, count, first`: what `wells` noticed and did not leave out."""

    __name__ = __name__

    @property
    def CHANNELS(self) -> tuple[str, ...]:  # noqa: N802 (as in the modules)
        return self.description.channels

    @cached_property
    def PIXEL_UM(self) -> float:  # noqa: N802
        """Side of a pixel in micrometres, after binning: as screen.toml says or else the first readable OME-TIFF.

        Raises:
            ValueError: neither says it.
        """
        if self.description.pixel_um is not None:
            return self.description.pixel_um * self.description.bin
        for row in self._parsed[0].itertuples():
            try:
                return _ome_pixel_um(inside(self.root, json.loads(row.files)[0])) * self.description.bin
            except (ValueError, OSError):
                continue
        raise ValueError(
            f"{self.description.path}: how large is a pixel? No image says it; add `pixel_um = …` to [images]."
        )

    @cached_property
    def _parsed(self) -> tuple[pd.DataFrame, pd.DataFrame, list[tuple[str, str]]]:
        return _parse(self.root / METADATA, self.description)

    def parse(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The wells table, images unseen, and `site_id, reason` of unusable rows.

        Raises:
            ValueError: naming a column that is missing, or the first reason where no row is usable.
        """
        return self._parsed[:2]

    def wells(self, root: str | Path, where: str | None = None, workers: int = 2) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The complete sites, and a table `site_id, reason` of those left out; fills `odd`.

        Args:
            root: as given to `open_folder`.
            where: pandas query over the wells table; the images of other sites are not even looked at.
            workers: threads that decode images.
        """
        table, unusable, notes = self._parsed
        table = select(table, where)

        def look(row: Any) -> tuple[Kind | None, str | None, list[tuple[str, str]]]:
            try:
                images = self.read(root, row)
            except ValueError as error:
                return None, str(error).removeprefix(f"{Path(root)}/"), []
            return (*images.shape[1:], images.dtype.name), None, list(_oddities(images, self.CHANNELS, row.site_id))

        with ThreadPoolExecutor(workers) as pool:
            looked = tqdm(
                pool.map(look, table.itertuples()), f"checking {self.root.name}", len(table), unit="site", delay=2
            )
            kinds, reasons, oddities = zip(*looked, strict=True)
        self.odd = _odd([*notes, *(one for some in oddities for one in some)])
        names = [json.loads(files)[0] for files in table["files"]]
        good, skipped = part(self.root, table, names, kinds, list(reasons))
        return good, pd.concat([unusable, skipped], ignore_index=True)

    def read(self, root: str | Path, row: Any) -> np.ndarray:
        """The images of one site, a row of the wells table: (C, H, W), uint8 or uint16 as in its files.

        Raises:
            ValueError: naming the file that is missing, leads elsewhere, cannot be decoded or is not what it should be.
        """
        root, names, C = Path(root), json.loads(row.files), len(self.CHANNELS)
        planes = []
        for name in names:
            try:
                planes.append(_decode(inside(root, name), C if len(names) == 1 else 1, self.CHANNELS))
            except ValueError as error:
                raise ValueError(f"{root}/{name} {error}") from None
        if len({(p.shape[1:], p.dtype) for p in planes}) > 1:
            found = ", ".join(f"{p.shape[1]}x{p.shape[2]} {p.dtype}" for p in planes)
            raise ValueError(f"{root}/{names[0]} and the site's other channels differ in size or type: {found}")
        return _bin(np.concatenate(planes), self.description.bin)  # [CHW]


def open_folder(root: str | Path) -> Own:
    """The layout of a folder that has a description.

    Raises:
        ValueError: there is none, or it cannot be understood.
    """
    path = find(root)
    if path is None:
        raise ValueError(f"{root}: no {MAPPINGS[0]} that would say what its columns mean.")
    return Own(Path(root), describe(path))


# ---- the description ----


def describe(path: Path) -> Description:
    """Read and check a screen.toml or screen.json; ValueError naming what is wrong in it."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as {path.suffix[1:].upper()} in UTF-8 ({error}).") from None

    def fail(message: str) -> ValueError:
        return ValueError(f"{path}: {message}")

    if not isinstance(content, dict):
        raise fail(f"must have the sections {', '.join(KEYS)}.")
    for section, values in content.items():
        if section not in KEYS:
            raise fail(f"unknown section [{section}]; known are {', '.join(KEYS)}.")
        if not isinstance(values, dict):
            raise fail(f"[{section}] must be a section of `name = value` lines.")
        for key in values:
            if key not in KEYS[section]:
                raise fail(f"[{section}] has an unknown name {key!r}; known are {', '.join(KEYS[section])}.")
    columns = {**content.get("columns", {})}
    if bad := [key for key, name in columns.items() if not isinstance(name, str) or not name]:
        raise fail(f"[columns] {bad[0]} must be the name of a column in quotes.")
    if missing := [key for key in ("plate", "well") if key not in columns]:
        raise fail(f"[columns] lacks {' and '.join(missing)}: which column of {METADATA} is it?")

    concentration = content.get("concentration", {})
    unit, decimal = concentration.get("unit"), concentration.get("decimal")
    if unit is not None and _unit(unit) is None:
        raise fail(f"[concentration] unit {unit!r} is no molar unit; known are {', '.join(UNITS)}.")
    if decimal not in (None, ",", "."):
        raise fail(f'[concentration] decimal must be "," or "."; found {decimal!r}.')
    if "concentration" in columns and unit is None and "unit" not in columns:
        raise fail('concentrations of which unit? Add [concentration] unit = "uM" (or nM, …), or a column `unit`.')

    controls: dict[str, str] = {}
    for role, values in content.get("controls", {}).items():
        for value in [values] if isinstance(values, str) else values if isinstance(values, list) else [values]:
            if not isinstance(value, str):
                raise fail(f'[controls] "{role}" must be a list of texts; found {value!r}.')
            if controls.setdefault(_clean(value), role) != role:
                raise fail(f"[controls] {value!r} cannot mean both {controls[_clean(value)]} and {role}.")
    if controls and "control" not in columns:
        raise fail("[controls] explains the values of a column; name it in [columns] control.")

    channels, files = _files(content.get("images", {}), fail)
    pixel_um = content.get("images", {}).get("pixel_um")
    if pixel_um is not None and (isinstance(pixel_um, bool) or not isinstance(pixel_um, int | float) or pixel_um <= 0):
        raise fail(f"[images] pixel_um must be a length in micrometres above 0; found {pixel_um!r}.")
    n = content.get("images", {}).get("bin", 1)
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= 16:
        raise fail(f"[images] bin must be a whole number from 1 to 16; found {n!r}.")
    return Description(path, columns, unit, decimal, controls, channels, files, pixel_um and float(pixel_um), n)


def _files(images: Mapping[str, Any], fail: Callable[[str], ValueError]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the channels, and one template a channel or a single one for all."""
    files, channels = images.get("files"), images.get("channels")
    if isinstance(files, dict):
        if channels is not None and list(channels) != list(files):
            raise fail("[images] channels and the names in files differ; leave channels out.")
        channels, templates = list(files), list(files.values())
    else:
        if isinstance(channels, list):
            channels = dict(zip(map(str, channels), map(str, channels), strict=True)) if channels else None
        if not isinstance(files, str) or not isinstance(channels, dict) or not channels:
            raise fail('[images] needs files = "…" and channels = ["…", …]; chapter 09 of the book has an example.')
        tokens = channels.values()
        templates = [files.replace("{channel}", str(t)) for t in tokens] if "{channel}" in files else [files]
    names = list(channels)
    if not all(isinstance(t, str) and t for t in templates):
        raise fail("[images] files must be texts.")
    if len({n.strip() for n in names}) < len(names) or not all(n.strip() for n in names):
        raise fail(f"[images] channels must have different names; found {', '.join(map(repr, names))}.")
    if len(templates) > 1 and len(set(templates)) < len(templates):
        raise fail(f"[images] two channels have the same files: {templates[0]!r}.")
    return tuple(n.strip() for n in names), tuple(templates)


def draft(path: Path) -> str:
    """A screen.toml for the table at `path` as far as column names can be guessed; the rest is left to fill in."""
    text, _ = _text_table(path)
    guesses = {
        "plate": r"plate|barcode|assay.?plate",
        "well": r"well|position",
        "site": r"site|field|fov|image",
        "compound": r"compound|treat|drug|substance|perturb|molecule",
        "concentration": r"conc|dose",
        "control": r"control|role|kind|type|group|condition",
        "cell_type": r"cell",
        "batch": r"batch|experiment|run|week|date",
    }
    lines = ["# What the columns of metadata.csv mean. Check every line; `#` starts a remark.", "[columns]"]
    free = list(text.columns)
    for key, pattern in guesses.items():
        found = next((c for c in free if re.search(pattern, c, re.IGNORECASE)), None)
        free = [c for c in free if c != found]
        lines.append(f"{'' if found else '# '}{key} = {json.dumps(found or '?', ensure_ascii=False)}")
    lines += ["", "[concentration]", 'unit = "uM"', "", "[controls]", '"C+" = []', '"C-" = []', "", "[images]"]
    lines += ["pixel_um = 1.0", 'files = "images/{plate}/{well}_{channel}.tif"', 'channels = ["DNA"]', ""]
    return "\n".join([*lines, f"# Columns not used: {', '.join(free) or 'none'}", ""])


# ---- the table ----


def _text_table(path: Path) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """The table as stripped text, index = line of the file, and notes on how it had to be read."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file. A data folder holds {METADATA} beside its images.")
    raw, notes = path.read_bytes(), []
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-16":
            raise ValueError(f"{path}: begins like UTF-16 but is not ({error}); save it as CSV in UTF-8.") from None
        text = raw.decode("cp1252", errors="replace")
        notes.append(("the table is not UTF-8; it was read as Windows-1252", path.name))
    if "\0" in text:
        raise ValueError(f"{path}: has zero bytes, so it is no text; save it as CSV in UTF-8.")
    first = text.lstrip("\r\n").splitlines()[:1] or [""]
    bare = re.sub(r'"[^"]*"', "", first[0])
    separator = max("\t;,|", key=bare.count)
    header = next(csv.reader(first, delimiter=separator), [])
    repeated = [name for name, n in Counter(h.strip() for h in header).items() if n > 1 and name]
    if repeated:
        raise ValueError(f"{path}: the column {repeated[0]!r} occurs twice; rename one.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            table = pd.read_csv(
                io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, index_col=False, na_filter=False
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError, ValueError) as error:
        raise ValueError(f"{path}: not a readable table separated by {separator!r} ({error}).") from None
    table = table.fillna("").rename(columns=lambda c: str(c).strip()).map(_clean)
    if table.empty:
        raise ValueError(f"{path}: a header and no rows; there is no site to read.")
    return table.set_axis(range(2, len(table) + 2), axis=0), notes


def _clean(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


def _parse(path: Path, said: Description) -> tuple[pd.DataFrame, pd.DataFrame, list[tuple[str, str]]]:
    """The wells table, `site_id, reason` of unusable rows, and (what, where) of odd things."""
    text, notes = _text_table(path)

    def column(key: str, default: str = "") -> pd.Series:
        if key not in said.columns:
            return pd.Series(default, text.index)
        return _fill(said.columns[key], text, f"{said.path}: [columns] {key}")

    reasons: dict[int, str] = {}

    def skip(bad: pd.Series, values: pd.Series, why: str) -> None:
        for line in text.index[bad]:
            reasons.setdefault(line, f"line {line}: {why}; found {str(values[line])[:60]!r}")

    plate, batch = column("plate"), column("batch")
    skip(plate.eq(""), plate, "no plate")
    places = column("well")
    well = places.map(_well)
    skip(well.eq(""), places, "no well like A01 or r01c01")
    fields = column("site", "1")
    site = fields.str.extract(r"^\D*(\d{1,8})(?:[.,]0+)?$")[0].fillna("-1").astype(int)
    skip(site.lt(0), fields, "no number of a site")
    if site.eq(0).any():
        site = site + 1
        notes.append(("sites are numbered from 0; one was added", path.name))

    compound, control = column("compound"), column("control")
    compound = compound.mask(compound.str.lower().isin(MISSING), "")
    role = control.map(said.controls).astype(object)
    without = "untreated" if not said.controls else "blank"
    role = role.where(role.notna(), np.where(compound.ne(""), "treated", without))
    for value in said.controls:
        if not control.eq(value).any():
            notes.append((f"no row has the control {value!r} of {said.path.name}", path.name))

    amounts, decimal = column("concentration"), said.decimal
    asked = ~amounts.str.lower().isin(MISSING)
    decimal = decimal or _decimal(amounts[asked], path, said.path)
    units = column("unit")
    units = units.where(units.ne(""), said.unit or "")
    pairs = list(zip(amounts[asked], units[asked], strict=True))
    known = {pair: _concentration(*pair, decimal) for pair in set(pairs)}
    concentration = pd.Series(np.nan, text.index)
    for line, pair in zip(text.index[asked], pairs, strict=True):
        value = known[pair]
        if isinstance(value, float):
            concentration[line] = value
        elif role[line] == "treated":
            reasons.setdefault(line, f"line {line}: {value}; found {amounts[line][:60]!r}")
    # In a well that is no treatment, a dose of nothing (DMSO at 0, a percentage) is no mistake but has no meaning here.
    concentration = concentration.where(compound.ne(""), np.nan)
    for line in text.index[role.eq("treated") & compound.eq("")]:
        reasons.setdefault(line, f"line {line}: treated with what? The compound is missing; found ''")
    bare = role.eq("treated") & ~asked & ~text.index.isin(reasons)
    if bare.any() and "concentration" in said.columns:
        notes += [("treated, but no concentration", f"line {line}") for line in text.index[bare]]

    experiment = batch.where(batch.ne(""), "screen")
    plate_id = (batch + "_").where(batch.ne(""), "") + plate
    numbers = {}
    for one in sorted(set(experiment)):
        for k, name in enumerate(sorted(set(plate[experiment.eq(one)])), 1):
            numbers[one, name] = k
    files = pd.concat([_fill(t, text, f"{said.path}: [images] files") for t in said.files], axis=1)
    wells = pd.DataFrame(
        {
            "site_id": plate_id + "_" + well + "_" + site.astype(str),
            "well_id": plate_id + "_" + well,
            "plate_id": plate_id,
            "cell_type": (cells := column("cell_type", "cells")).where(cells.ne(""), "cells"),
            "experiment": experiment,
            "plate": [numbers[key] for key in zip(experiment, plate, strict=True)],
            "well": well,
            "site": site,
            "condition": control,
            "compound": compound,
            "concentration_uM": concentration,
            "role": role,
            "files": [json.dumps(names, ensure_ascii=False) for names in files.to_numpy().tolist()],
        },
        text.index,
    )
    extra = [c for c in text if re.fullmatch(r"\w[\w .()%-]*", c) and c not in wells.columns and c not in COLUMNS]
    wells = wells.join(text[extra])
    _skip_contradictions(wells, reasons)
    good = ~wells.index.isin(reasons)
    unusable = pd.DataFrame({"site_id": wells["site_id"], "reason": pd.Series(reasons, dtype=object)}).loc[~good]
    if not good.any():
        raise ValueError(
            f"{path}: none of the {len(wells)} row(s) can be used; the first: {unusable['reason'].iloc[0]}."
        )
    wells = wells[good].reset_index(drop=True)
    return validate(wells, str(path)), unusable.reset_index(drop=True), notes


def _skip_contradictions(wells: pd.DataFrame, reasons: dict[int, str]) -> None:
    """Write down why rows that repeat or contradict others are left out; index = line of the file."""
    usable = wells[~wells.index.isin(reasons)]
    for site_id, rows in usable[usable["site_id"].duplicated(keep=False)].groupby("site_id"):
        first, *others = rows.index
        if len(rows.drop_duplicates()) == 1:
            reasons.update({line: f"line {line}: repeats line {first}, which is kept" for line in others})
        else:
            lines = ", ".join(map(str, rows.index[:5]))
            reasons.update({line: f"line {line}: {site_id} is described more than once, and differently, in lines "
                            f"{lines}" for line in rows.index})  # fmt: skip
    usable = wells[~wells.index.isin(reasons)]
    shared = ["plate_id", "cell_type", "condition", "compound", "concentration_uM", "role"]
    torn = usable.groupby("well_id")[shared].nunique(dropna=False).gt(1)
    for well_id, differs in torn[torn.any(axis=1)].iterrows():
        what = ", ".join(differs.index[differs])
        for line in usable.index[usable["well_id"].eq(well_id)]:
            reasons[line] = f"line {line}: the sites of well {well_id} disagree on {what}"


def _fill(template: str, text: pd.DataFrame, where: str) -> pd.Series:
    """A column, or several put into a template like `{Row}{Column:02}`."""
    if "{" not in template:
        if template not in text:
            raise ValueError(f"{where} is {template!r}, but the table has no such column; it has {', '.join(text)}.")
        return text[template]
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{where} {template!r} is no template ({error}).") from None
    filled = pd.Series("", text.index)
    for literal, name, width, conversion in parts:
        filled += literal
        if name is not None:
            if name not in text:
                raise ValueError(f"{where} {template!r}: the table has no column {name!r}; it has {', '.join(text)}.")
            if conversion or (width and not re.fullmatch(r"0?\d", width)):
                raise ValueError(f"{where} {template!r}: only a width may follow a column's name, as in {{{name}:02}}.")
            filled += text[name].str.zfill(int(width)) if width else text[name]
    return filled


def _well(text: str) -> str:
    """`A01` from the many ways to write it; empty where it is none."""
    found = WELL.fullmatch(text)
    if not found:
        return ""
    if found[1]:
        row, column = found[1].upper(), int(found[2])
    else:
        n, column = int(found[3]), int(found[4])
        row = "" if n < 1 else chr(64 + n) if n <= 26 else "A" + chr(64 + n - 26) if n <= 52 else ""
    return f"{row}{column:02d}" if row and column >= 1 else ""


def _unit(text: Any) -> str | None:
    text = str(text).strip()
    text = text if text in UNITS else UNIT_ALIASES.get(text, "")
    return text or None


def _decimal(amounts: pd.Series, path: Path, description: Path) -> str:
    """Whether numbers are written with point or comma; ValueError where both would be possible."""
    mantissas = amounts.str.extract(r"^([+-]?[\d.,]+)")[0].dropna()
    commas = mantissas[mantissas.str.contains(",", regex=False)]
    if commas.empty or commas.str.contains(r",.*\.").any():
        return "."
    if not commas.str.fullmatch(THOUSANDS).all():
        return ","
    raise ValueError(
        f"{path}: is {commas.iloc[0]!r} a thousand and more, or a number with a decimal comma? Say so in "
        f'{description.name}: [concentration] decimal = "," (or ".").'
    )


def _concentration(text: str, unit: str, decimal: str) -> float | str:
    """Micromolar, or what is wrong with it."""
    found = AMOUNT.fullmatch(text)
    if not found:
        return "the concentration is no number"
    number, own = found[1], (found[2] or "").strip()
    known = _unit(own or unit)
    if known is None:
        return f"the concentration has the unit {own or unit!r}, which is not molar"
    if decimal == ",":
        number = number.replace(".", "").replace(",", ".") if re.search(r"\..*,", number) else (
            number.replace(",", ".") if "." not in number else "?")  # fmt: skip
    elif "," in number:
        number = number.replace(",", "") if THOUSANDS.fullmatch(number.lower().partition("e")[0]) else "?"
    try:
        value = float(Decimal(number).scaleb(UNITS[known]))
    except (ArithmeticError, ValueError):
        return "the concentration is no number"
    if not np.isfinite(value):
        return "the concentration is no number"
    return value if value > 0 else "a concentration must be above 0 (an untreated well is a control or has no compound)"


# ---- the images ----


def _decode(path: Path, n_planes: int, channels: tuple[str, ...]) -> np.ndarray:
    """(n_planes, H, W) of a PNG or TIFF; ValueError with the rest of a sentence about the file."""
    try:
        with open(path, "rb") as file:
            start = file.read(26)
    except FileNotFoundError:
        raise ValueError("is missing") from None
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        planes = _decode_png(path, start)
    elif start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        planes = _decode_tiff(path, n_planes, channels)
    else:
        raise ValueError(f"is neither PNG nor TIFF (it begins with {start[:8]!r})" if start else "is empty")
    if len(planes) != n_planes:
        held = "one channel" if n_planes == 1 else f"{n_planes} channels ({', '.join(channels)})"
        raise ValueError(f"has {len(planes)} plane(s), but {held} should be in it")
    return planes


def _bin(images: np.ndarray, n: int) -> np.ndarray:
    """(C, H, W) to (C, H // n, W // n), means of n x n pixels, rounded."""
    if n == 1:
        return images
    C, H, W = images.shape
    blocks = images[:, : H // n * n, : W // n * n].reshape(C, H // n, n, W // n, n)
    return np.rint(blocks.mean(axis=(2, 4))).astype(images.dtype)


def _decode_png(path: Path, start: bytes) -> np.ndarray:
    if len(start) < 26:
        raise ValueError("is truncated")
    width, height = struct.unpack(">II", start[16:24])
    _check_size(width, height)
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - len(PNG_END)))
        if file.read() != PNG_END:
            raise ValueError("is truncated")
    try:
        with Image.open(path, formats=["PNG"]) as image:
            mode, pixels = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"cannot be decoded ({error})") from None
    if mode == "RGB":
        return np.moveaxis(pixels, -1, 0)
    if mode not in DTYPES:
        kind = {"P": "palette", "1": "black-and-white", "RGBA": "colour with transparency"}.get(mode, mode)
        raise ValueError(f"has {kind} pixels, not 8- or 16-bit grey; save it again as grey")
    return pixels.astype(DTYPES[mode], copy=False)[None]


def _decode_tiff(path: Path, n_planes: int, channels: tuple[str, ...]) -> np.ndarray:
    size = path.stat().st_size
    try:
        # Not the other files that an OME-TIFF may name: those could lie anywhere.
        with tifffile.TiffFile(path, _multifile=False) as tiff:
            pages = list(tiff.pages)
            if not pages:
                raise _Unfit("holds no image")
            page = pages[0]
            if page.dtype is None or page.dtype.name not in ("uint8", "uint16"):
                raise _Unfit(
                    f"has pixels of {page.dtype or 'an unknown kind'}, not whole numbers of 8 or 16 bit without sign; "
                    "save it again as 16-bit"
                )
            if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
                raise _Unfit("has palette pixels, not 8- or 16-bit grey; save it again as grey")
            _check_size(page.imagewidth, page.imagelength)
            if len(pages) * page.samplesperpixel > max(64, n_planes):
                raise _Unfit(f"has {len(pages)} planes; a stack or a film? {n_planes} should be in it")
            for other in pages:
                if other.shape != page.shape or other.dtype != page.dtype:
                    raise _Unfit("has planes of different sizes or types")
                ends = [o + n for o, n in zip(other.dataoffsets, other.databytecounts, strict=True)]
                if not ends or max(ends) > size:
                    raise _Unfit("is truncated")
            if tiff.is_ome:
                _check_ome(tiff.ome_metadata or "", n_planes, channels)
            planes = _planes(path, tiff, pages)
    except _Unfit as unfit:
        raise ValueError(str(unfit)) from None
    except Exception as error:  # tifffile raises two dozen kinds over damaged files
        raise ValueError(f"cannot be decoded ({error})") from None
    return planes.astype(planes.dtype.newbyteorder("="), copy=False)


class _Unfit(ValueError):
    """What a file is or has, as the rest of a sentence."""


def _planes(path: Path, tiff: tifffile.TiffFile, pages: list[tifffile.TiffPage]) -> np.ndarray:
    """(planes, H, W), pages in order, samples of a page beside each other."""
    try:
        arrays = [page.asarray() for page in pages]
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        # LZW and the like, where imagecodecs is not installed: Pillow has them too, for grey pages.
        with Image.open(path, formats=["TIFF"]) as image:
            arrays = []
            for k in range(len(pages)):
                image.seek(k)
                arrays.append(np.asarray(image))
                if arrays[-1].dtype != pages[k].dtype or arrays[-1].shape != pages[k].shape:
                    raise error from None
    planes = []
    for page, array in zip(pages, arrays, strict=True):
        if page.axes not in ("YX", "SYX", "YXS"):
            raise _Unfit(f"has axes {page.axes}; planes of height and width are expected")
        planes += [array] if array.ndim == 2 else list(array if page.axes == "SYX" else np.moveaxis(array, -1, 0))
    order = tiff.series[0] if tiff.is_ome and len(tiff.series) == 1 else None
    if order is not None and order.axes == "CYX" and order.shape[0] == len(planes) and len(pages) == len(planes):
        index = [None if p is None else p.index for p in order.pages]  # which page is which channel, says the OME-XML
        if sorted(i for i in index if i is not None) == list(range(len(planes))):
            planes = [planes[i] for i in index]
    return np.stack(planes)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or width < 1 or height < 1:
        raise _Unfit(f"is said to be {height} x {width} pixels; no more than {MAX_PIXELS:,} are read")


def _check_ome(xml: str, n_planes: int, channels: tuple[str, ...]) -> None:
    """Stacks and films, and channels named otherwise than screen.toml has them."""
    sizes = {axis: int(n) for axis, n in re.findall(r'Size([ZT])="(\d{1,9})"', xml)}
    if deep := [f"{n} {'layers' if axis == 'Z' else 'times'}" for axis, n in sizes.items() if n > 1]:
        raise _Unfit(f"has {' and '.join(deep)}; project the stack or choose one plane first")
    named = re.findall(r'<(?:\w+:)?Channel\b[^>]*?\bName="([^"]*)"', xml)
    if n_planes > 1 and sorted(named) == sorted(channels) and tuple(named) != channels:
        raise _Unfit(f"names its channels {', '.join(named)}; screen.toml has them in another order")


def _ome_pixel_um(path: Path) -> float:
    """PhysicalSizeX of an OME-TIFF in micrometres; ValueError where there is none."""
    try:
        with tifffile.TiffFile(path, _multifile=False) as tiff:
            xml = tiff.ome_metadata or ""
    except Exception as error:
        raise ValueError(str(error)) from None
    size = re.search(r'PhysicalSizeX="([0-9.eE+-]+)"', xml)
    unit = re.search(r'PhysicalSizeXUnit="([^"]*)"', xml)
    scale = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3}.get(unit[1] if unit else "µm")
    if not size or scale is None or not 0 < float(size[1]) * scale < 1e3:
        raise ValueError("says no size of a pixel")
    return float(size[1]) * scale


def _oddities(images: np.ndarray, channels: tuple[str, ...], site_id: str) -> Iterator[tuple[str, str]]:
    for channel, image in zip(channels, images, strict=True):
        low, high = image.min(), image.max()
        if low == high:
            yield f"channel {channel} has a single grey value (nothing in it)", site_id
        elif high in (255, 4095, 65535) and (image == high).mean() > SATURATED:
            yield f"channel {channel} is saturated in more than {SATURATED:.0%} of its pixels", site_id


def _odd(notes: list[tuple[str, str]]) -> pd.DataFrame:
    """(what, where) counted: `what, count, first`."""
    first: dict[str, str] = {}
    for what, where in notes:
        first.setdefault(what, where)
    counts = Counter(what for what, _ in notes)
    return pd.DataFrame([(what, counts[what], first[what]) for what in first], columns=["what", "count", "first"])
