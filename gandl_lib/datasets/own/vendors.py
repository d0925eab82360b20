"""Folders as instruments leave them: whose they are, and a first metadata.csv and screen.toml made from their names.

Known are ImageXpress (MetaXpress), Opera and Operetta (Harmony), Yokogawa CellVoyager, IN Cell, CellInsight, and flat
folders of `A01_s1_w1.tif` or `A01_1_1.bmp`. Names say plate, well, site and channel; compounds and controls, which no
instrument knows, are left to be filled in. Of several layers the middle one is taken, of several times the first.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gandl_lib import files
from gandl_lib.datasets._recursion import METADATA
from gandl_lib.datasets.own.decoders import CONVERT, FOREIGN, pixel_um
from gandl_lib.datasets.own.description import MAPPINGS, draft, find
from gandl_lib.datasets.own.disk import IMAGES, Folder, is_thumbnail
from gandl_lib.wells import name as well_name

_UUID = r"(?:[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})?"
_END = r"\.(?:tiff?|png|bmp|c01)"
PATTERNS = {
    "Opera or Operetta (Harmony)": r"(?P<well>r\d+c\d+)f(?P<site>\d+)p(?P<z>\d+)-ch(?P<channel>\d+)sk(?P<t>\d+).*",
    "Yokogawa CellVoyager": r"(?P<plate>.+)_(?P<well>[A-Za-z]{1,2}\d{2})_T(?P<t>\d+)F(?P<site>\d+)L\d+A\d+Z(?P<z>\d+)"
    r"C(?P<channel>\d+)",
    "IN Cell": r"(?P<row>[A-Za-z]{1,2}) - (?P<column>\d+)\(fld (?P<site>\d+)(?: wv (?P<channel>[^)]+?))?"
    r"(?: z (?P<z>\d+))?(?: time (?P<t>\d+).*?)?\)",
    "CellInsight": r"(?P<plate>.+)_(?P<well>[A-Za-z]{1,2}\d{2})f(?P<site>\d+)d(?P<channel>\d+)",
    "ImageXpress (MetaXpress)": rf"(?P<plate>.+?)_(?P<well>[A-Za-z]{{1,2}}\d{{2}})(?:_s(?P<site>\d+))?_w(?P<channel>\d)"
    rf"{_UUID}",
    "a flat folder": r"(?P<well>[A-Za-z]{1,2}\d{1,2})_s?(?P<site>\d+)_(?:w|ch)?(?P<channel>\d+)",
}
"""Name of the instrument to the whole name of an image without its ending."""


@dataclass(frozen=True)
class Export:
    """An instrument's folder."""

    instrument: str
    images: pd.DataFrame
    """`file, plate, well, site, channel`, a row an image."""
    channels: tuple[str, ...]
    """In the instrument's own order."""
    pixel_um: float | None
    remarks: tuple[str, ...]


def recognise(root: Path) -> Export | None:
    """Whose export lies in `root`; None where the names follow no pattern that is known."""
    folder = Folder(root)
    candidates = [n for n in folder.names if not is_thumbnail(n) and n.lower().endswith((*IMAGES, ".c01"))]
    best: tuple[str, list[dict[str, str]]] = ("", [])
    for instrument, pattern in PATTERNS.items():
        whole = re.compile(pattern + _END, re.IGNORECASE)
        rows = []
        for name in candidates:
            if found := whole.fullmatch(name.rpartition("/")[2]):
                rows.append({"file": name} | {k: v for k, v in found.groupdict().items() if v is not None})
        if len(rows) > len(best[1]):
            best = instrument, rows
    instrument, rows = best
    if len(rows) < max(1, len(candidates) // 2):
        return None
    images = pd.DataFrame(rows)
    if "row" in images:
        images["well"] = images["row"] + images["column"]
    images["well"] = images["well"].map(well_name)
    xml = next((root / n for n in folder.names if n.lower().endswith(("index.idx.xml", "index.xml"))), None)
    index = xml.read_text(encoding="utf-8-sig", errors="replace") if xml else ""
    htd = next((n for n in folder.names if n.lower().endswith(".htd")), None)
    named = re.search(r"<PlateID>([^<]+)</PlateID>", index)
    if "plate" not in images:
        images["plate"] = named[1] if named else root.resolve().name
    elif htd is not None and images["plate"].nunique() == 1:
        images["plate"] = Path(htd).stem
    images["site"] = images["site"].astype(int) if "site" in images else 1
    given = images["channel"] if "channel" in images else pd.Series("1", images.index)
    images["channel"] = _channels(given, root / htd if htd else None, index)
    channels = images["channel"][given.sort_values(kind="stable").index].drop_duplicates()
    remarks = []
    by_folder = images["file"].str.extract(r"TimePoint_(\d+)")[0]
    if "t" not in images and by_folder.notna().any():
        images["t"] = by_folder
    for axis, what, choose in (("t", "times", 0), ("z", "layers", None)):
        if axis in images and images[axis].nunique() > 1:
            values = sorted(images[axis].unique(), key=lambda v: (len(v), v))
            kept = values[len(values) // 2 if choose is None else choose]
            remarks.append(f"{len(values)} {what} lie there; the table names those of {axis} = {kept}")
            images = images[images[axis] == kept]
    images = images[["file", "plate", "well", "site", "channel"]]
    return Export(instrument, images, tuple(channels), _pixel_um(root, folder, images, index), tuple(remarks))


def _pixel_um(root: Path, folder: Folder, images: pd.DataFrame, index: str) -> float | None:
    """Side of a pixel in micrometres, by Harmony's index, CellVoyager's MeasurementDetail.mrf or the first image."""
    metres = re.findall(r"<ImageResolutionX[^>]*>([0-9.eE+-]+)<", index)
    sizes = {float(f"{float(m) * 1e6:.6g}") for m in metres}
    for name in folder.names:
        if name.lower().endswith(".mrf"):
            detail = (root / name).read_text(encoding="utf-8-sig", errors="replace")
            sizes |= {float(um) for um in re.findall(r'HorizontalPixelDimension="([0-9.eE+-]+)"', detail)}
    if not sizes:
        try:
            sizes.add(pixel_um(root / images["file"].iloc[0]))
        except (ValueError, OSError):
            pass
    return sizes.pop() if len(sizes) == 1 else None  # several: somebody has to say which


def _channels(given: pd.Series, htd: Path | None, index: str) -> pd.Series:
    """Names of the channels as the instrument wrote them, numbered where it did not."""
    names: dict[str, str] = {}
    if htd is not None:
        names = dict(re.findall(r'"WaveName(\d+)",\s*"([^"]+)"', htd.read_text(encoding="cp1252")))
    if index:
        pairs = re.findall(r"<ChannelID>(\d+)</ChannelID>\s*<ChannelName>([^<]+)<", index)
        names |= {str(int(k)): v for k, v in pairs}
    named = given.map(lambda k: names.get(str(int(k)) if k.isdigit() else k, f"channel {k}" if k.isdigit() else k))
    return named if named.nunique() == given.nunique() else given


def write_draft(root: str | Path) -> list[Path]:
    """Write what is missing of metadata.csv and screen.toml, as far as names of files or columns tell it.

    Returns:
        the files written. Nothing that is there is written over.

    Raises:
        ValueError: both are there, or no pattern of names is known.
        OSError: the folder cannot be written to.
    """
    root = Path(root)
    if find(root):
        raise ValueError(f"{find(root)} is there already; nothing is left to draft.")
    table, toml = root / METADATA, root / MAPPINGS[0]
    if table.is_file():
        files.write(toml, draft(table))
        return [toml]
    export = recognise(root) if root.is_dir() else None
    if export is None:
        raise ValueError(without_table(root))
    channels = [c for c in export.channels if export.images["channel"].eq(c).any()]
    doubled = export.images.duplicated(["plate", "well", "site", "channel"])
    if doubled.any():
        raise ValueError(
            f"{root}: several images of one plate, well, site and channel, for instance "
            f"{export.images['file'][doubled].iloc[0]}; draft one folder at a time."
        )
    wide = export.images.pivot(index=["plate", "well", "site"], columns="channel", values="file").reset_index()
    columns = {c: f"file_{k}" for k, c in enumerate(channels, 1)}
    wide = wide.rename(columns=columns).rename_axis(columns=None).fillna("")
    wide[["compound", "concentration", "control"]] = ""
    lines = [
        f"# Drafted from the names of files of {export.instrument}. Check every line, name the channels by what they"
    ]
    lines += ["# show (DNA, actin, ...), and fill in compounds, concentrations and controls in metadata.csv."]
    lines += [f"# {remark}." for remark in export.remarks]
    keys = ("plate", "well", "site", "compound", "concentration", "control")
    lines += ["[columns]", *(f'{key} = "{key}"' for key in keys)]
    lines += ["", "[concentration]", 'unit = "uM"', "", "[controls]  # words in the column `control`"]
    lines += ['"C+" = []', '"C-" = []', "", "[images]"]
    lines += [f"pixel_um = {export.pixel_um:g}" if export.pixel_um else "# pixel_um = 0.65  # of these images; say it"]
    lines += ["", "[images.files]", *(f"{json.dumps(c)} = {json.dumps(f'{{{columns[c]}}}')}" for c in channels), ""]
    files.write(table, wide.to_csv(index=False))
    files.write(toml, "\n".join(lines))
    return [table, toml]


def without_table(root: str | Path) -> str:
    """What to do about a folder without metadata.csv, in words."""
    root = Path(root)
    if not root.exists():
        return f"{root}: no such folder."
    if not root.is_dir():
        return f"{root}: is a file; a folder with {METADATA} and images is needed."
    said = f"{root / METADATA}: no such file. A data folder holds {METADATA} beside images/."
    tables = [p.name for p in sorted(root.iterdir()) if p.suffix.lower() in (".csv", ".tsv", ".txt", ".xlsx", ".xls")]
    books = [t for t in tables if t.lower().endswith((".xlsx", ".xls"))]
    if books:
        said += f" {books[0]} is there: save it as CSV in UTF-8, under the name {METADATA}."
    if texts := [t for t in tables if t not in books]:
        said += f" Found instead: {', '.join(texts[:3])}; if that is the table, call it {METADATA}."
    if find(root):  # what the columns mean is said already, so a draft would be of no use
        return said
    export = recognise(root)
    names = Folder(root).names
    foreign = next((n for n in names if Path(n).suffix.lower() in FOREIGN), None)
    why = f" {foreign} is of {FOREIGN[Path(foreign).suffix.lower()]}, which is not read: {CONVERT}." if foreign else ""
    if export is not None:
        said += (
            f" The {len(export.images)} images look like those of {export.instrument}: `gandl screen {root} --draft` "
            f"writes a first {METADATA} and {MAPPINGS[0]} from their names, to be completed."
        )
    return said + why
