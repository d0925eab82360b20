"""What others read: tables of profiles, a plain folder of TIFFs, OME-Zarr.

**Tables** (`.csv`, `.csv.gz`, `.parquet`) are those of pycytominer: a row a profile, what is known about it in columns
that begin with `Metadata_` (the wells table, the method, whether the images were simulated), and then the features. A
feature whose name is a bare number becomes `feature_<number>`. Numbers are written with all their digits: reading them
back as float32 gives the same bits.

**A folder** holds `images/<plate>/<well>_s<site>.ome.tif` (all channels of a site, deflated), `metadata.csv`, and the
`screen.toml` that lets `gandl shard` read it again: the same images, and the same wells but for what this layout has
no column for. `condition` says the role, plates of an experiment are numbered in the order of their names, and a column
`files` is added. A simulated screen stays one, by its `simulation.json`.

**OME-Zarr** 0.5 (https://ngff.openmicroscopy.org/0.5/) on Zarr v3 is a group a plate,
`<plate>/<row>/<column>/<field>`, with the names of channels, their grey range over the whole screen, and the size of a
pixel; `wells.csv` lies beside the plates. There is one resolution: a field is no larger than a screen.

Everything is made under `<out>.partial` and renamed at the end.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import pandas as pd
import tifffile
import zarr
from anndata import AnnData
from tqdm import tqdm
from zarr.codecs import ZstdCodec

from gandl_lib import files, profiles
from gandl_lib.datasets import METADATA, own
from gandl_lib.shards import Shards
from gandl_lib.wells import COLUMNS, ROLES

PREFIX = "Metadata_"
TABLES = (".csv", ".csv.gz", ".parquet")
OME_ZARR = ".ome.zarr"
NGFF = "0.5"
COLOURS = ("0000FF", "00FF00", "FF0000", "FFFF00", "FF00FF", "00FFFF", "FFFFFF")
"""Of channels in turn, as RRGGBB: the first is nearly always DNA, which people expect in blue."""


def export(source: str | Path, out: str | Path) -> Path:
    """Write profiles as a table, or shards as OME-Zarr or a folder of TIFFs; the names say which.

    Args:
        source: profiles (`.h5ad`), or shards (a folder or an address).
        out: `*.csv`, `*.csv.gz` or `*.parquet` for profiles; for shards `*.ome.zarr`, or any other name for a folder.

    Returns:
        `out`.

    Raises:
        ValueError: the source is neither, `out` does not fit it, or a folder of that name is there already.
        OSError: the disk is full or the folder not writable; nothing is left under the final name.
    """
    out = Path(out)
    is_table = out.name.endswith(TABLES)
    if str(source).endswith(".h5ad"):
        if not is_table:
            raise ValueError(f"{out}: profiles are exported as {', '.join(TABLES)}; choose one of these endings.")
        return write_table(profiles.read(source), out)
    shards = Shards(source)
    if is_table:
        raise ValueError(f"{out}: a table is made of profiles (.h5ad), and {source} holds images; `gandl embed` first.")
    return write_ome_zarr(shards, out) if out.name.endswith(OME_ZARR) else write_folder(shards, out)


# ---- tables ----


def wide(profiles: AnnData) -> pd.DataFrame:
    """Profiles as one table: `Metadata_<column>` of obs and provenance, then the features; a row a profile."""
    made = json.loads(profiles.uns["provenance"])
    obs = profiles.obs.reset_index(drop=True).assign(**{k: made[k] for k in ("method", "simulated") if k in made})
    names = [f"feature_{name}" if name.isdecimal() else name for name in profiles.var_names]
    theirs = {c for c in obs if c.startswith(PREFIX) and c.removeprefix(PREFIX) not in obs}  # have it already
    obs = obs.rename(columns={c: f"{PREFIX}{c}" for c in obs if c not in theirs})
    return pd.concat([obs, pd.DataFrame(profiles.X, columns=names)], axis=1)


def write_table(found: AnnData, out: str | Path) -> Path:
    """Write `wide(found)`, `profiles.CHUNK_ROWS` rows at a time; the ending of `out` is one of `TABLES`.

    Raises:
        ValueError: another ending, or Parquet without pyarrow.
    """
    out = Path(out)
    if not out.name.endswith(TABLES):
        raise ValueError(f"{out}: a table ends in {', '.join(TABLES)}.")
    pieces = (wide(found[i : i + profiles.CHUNK_ROWS]) for i in range(0, found.n_obs, profiles.CHUNK_ROWS))
    with profiles.replacing(out) as partial:
        (_write_parquet if out.suffix == ".parquet" else _write_csv)(pieces, partial, out.suffix == ".gz")
    return out


def _write_csv(pieces: Iterator[pd.DataFrame], path: Path, zipped: bool) -> None:
    with open(path, "wb") as file:
        # Without a name and a time in it, the same table makes the same bytes.
        target = gzip.GzipFile("", "wb", fileobj=file, mtime=0) if zipped else file
        for k, piece in enumerate(pieces):
            piece.to_csv(target, index=False, header=k == 0, lineterminator="\n")
        if zipped:
            target.close()


def _write_parquet(pieces: Iterator[pd.DataFrame], path: Path, _: bool) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError("Parquet needs the package pyarrow: `pip install pyarrow`, or write a .csv.gz.") from None
    writer = None
    try:
        for piece in pieces:
            table = pyarrow.Table.from_pandas(piece, writer and writer.schema, preserve_index=False)
            writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


# ---- images ----


def write_folder(shards: Shards, out: str | Path) -> Path:
    """Write shards as a folder that `gandl shard` and `gandl screen` read, and Fiji, CellProfiler and QuPath too.

    Raises:
        ValueError: `out` is there already, or a row of the wells table is none that the layout could say.
    """
    out, wells = Path(out), shards.wells
    partial = _begin(out)
    plates = _plate_names(shards)
    names = [f"{plates[w.plate_id]}/{w.well}_s{w.site}.ome.tif" for w in wells.itertuples()]

    apart = [
        " | " if p.startswith(f"{e} | ") else "_" for p, e in zip(wells["plate_id"], wells["experiment"], strict=True)
    ]
    experiment = wells["experiment"] + apart
    has_batch = [p.startswith(e) for p, e in zip(wells["plate_id"], experiment, strict=True)]
    table = pd.DataFrame(
        {
            "batch": wells["experiment"].where(has_batch, ""),
            "plate": [
                p[len(e) :] if b else p for p, e, b in zip(wells["plate_id"], experiment, has_batch, strict=True)
            ],
            **{c: wells[c] for c in ("well", "site", "cell_type", "compound")},
            "concentration": [repr(c) if c == c else "" for c in wells["concentration_uM"].tolist()],
            "role": wells["role"],
            "file": names,
        }
    )
    taken = {*table.columns, *COLUMNS, "files"}
    table = table.join(wells[[c for c in wells if c not in taken]])
    table.to_csv(partial / METADATA, index=False, lineterminator="\n")
    (partial / own.MAPPINGS[0]).write_text(_description(shards), encoding="utf-8")
    if shards.simulated:
        (partial / "simulation.json").write_text(json.dumps({"pixel_um": shards.pixel_um}) + "\n")
    parsed = own.parse(partial)
    read_back, unusable = parsed.wells, parsed.unusable
    lost = [c for c in COLUMNS if c not in ("condition", "plate") and not read_back[c].equals(wells[c])]
    if len(unusable) or lost:
        said = unusable["reason"].iloc[0] if len(unusable) else f"its {lost[0]} would not come back as it is"
        shutil.rmtree(partial)
        raise ValueError(f"{out}: this screen does not fit a plain folder: {said}. Export it as {OME_ZARR}.")

    for i, name in enumerate(tqdm(names, f"export {out.name}", unit="site")):
        path = partial / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(
            path,
            shards.read(i),
            ome=True,
            photometric="minisblack",
            compression="zlib",
            metadata={
                "axes": "CYX",
                "Name": wells["site_id"][i],
                "Channel": {"Name": list(shards.channels)},
                **{f"PhysicalSize{axis}": shards.pixel_um for axis in "XY"},
                **{f"PhysicalSize{axis}Unit": "µm" for axis in "XY"},
                "UUID": str(uuid5(NAMESPACE_URL, wells["site_id"][i])),  # by itself it would be another every time
            },
        )
    os.replace(partial, out)
    return out


def _description(shards: Shards) -> str:
    """A screen.toml for the table that `write_folder` writes."""

    def text(value: str) -> str:
        return json.dumps(value, ensure_ascii=False)

    columns = {key: key for key in ("plate", "well", "site", "compound", "concentration", "cell_type", "batch")}
    roles = [role for role in ROLES if role != "treated"]  # those are what has a compound
    lines = ["[columns]", *(f"{key} = {text(name)}" for key, name in (columns | {"control": "role"}).items())]
    lines += ["", "[concentration]", 'unit = "uM"', 'decimal = "."']
    lines += ["", "[controls]", *(f"{text(role)} = [{text(role)}]" for role in roles)]
    lines += ["", "[images]", f"pixel_um = {shards.pixel_um!r}", 'files = "images/{file}"']
    lines += [f"channels = [{', '.join(map(text, shards.channels))}]", ""]
    return "\n".join(lines)


def write_ome_zarr(shards: Shards, out: str | Path) -> Path:
    """Write shards as OME-Zarr 0.5, a high-content plate a group.

    Raises:
        ValueError: `out` is there already.
    """
    out, wells = Path(out), shards.wells
    partial = _begin(out)
    top = float(np.iinfo(shards.dtype).max)
    omero = {
        "channels": [
            {
                "label": name,
                "color": COLOURS[c % len(COLOURS)],
                "active": True,
                "window": {"min": 0.0, "max": top, "start": float(low), "end": float(high)},
            }
            for c, (name, (low, high)) in enumerate(zip(shards.channels, shards.limits, strict=True))
        ]
    }
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "yx"]
    scale = [{"type": "scale", "scale": [1.0, shards.pixel_um, shards.pixel_um]}]
    zarr.create_group(partial, attributes={"gandl": {"simulated": shards.simulated}})
    wells.to_csv(partial / "wells.csv", index=False, lineterminator="\n")
    with tqdm(total=len(wells), desc=f"export {out.name}", unit="site") as bar:
        for plate_id, name in _plate_names(shards).items():
            on_plate = wells[wells["plate_id"].eq(plate_id)]
            places = {well: re.fullmatch(r"([A-Z]+)(\d+)", well).groups() for well in sorted(on_plate["well"].unique())}
            rows = sorted({row for row, _ in places.values()}, key=lambda row: (len(row), row))  # Z before AA
            columns = sorted({column for _, column in places.values()})
            by_well = on_plate.groupby("well").groups
            plate = {
                "name": plate_id,
                "version": NGFF,
                "rows": [{"name": row} for row in rows],
                "columns": [{"name": column} for column in columns],
                "wells": [
                    {"path": f"{row}/{column}", "rowIndex": rows.index(row), "columnIndex": columns.index(column)}
                    for row, column in places.values()
                ],
                "field_count": max(map(len, by_well.values())),
            }
            zarr.create_group(partial / name, attributes={"ome": {"version": NGFF, "plate": plate}})
            for row in rows:
                zarr.create_group(partial / name / row)
            for well, (row, column) in places.items():
                group = partial / name / row / column
                fields = [{"path": str(k)} for k in range(len(by_well[well]))]
                zarr.create_group(
                    group, attributes={"ome": {"version": NGFF, "well": {"version": NGFF, "images": fields}}}
                )
                for k, i in enumerate(by_well[well]):
                    multiscale = {
                        "name": wells["site_id"][i],
                        "axes": axes,
                        "datasets": [{"path": "0", "coordinateTransformations": scale}],
                    }
                    image = {"version": NGFF, "multiscales": [multiscale], "omero": omero}
                    field = zarr.create_group(group / str(k), attributes={"ome": image})
                    pixels = shards.read(i)
                    field.create_array(
                        "0",
                        data=pixels,
                        chunks=(1, *pixels.shape[1:]),
                        dimension_names=("c", "y", "x"),
                        compressors=ZstdCodec(level=3),
                    )
                    bar.update()
    os.replace(partial, out)
    return out


def _begin(out: Path) -> Path:
    """The empty folder `<out>.partial`; ValueError where `out` is there already."""
    if out.exists():
        raise ValueError(f"{out} is there already; delete it or choose another name.")
    partial = files.partial_path(out)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def _plate_names(shards: Shards) -> dict[str, str]:
    """plate_id to the name of its folder: itself where all can be names, and otherwise a number."""
    ids = list(shards.wells["plate_id"].unique())
    if all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", one) for one in ids):
        return {one: one for one in ids}
    return {one: f"plate-{k}" for k, one in enumerate(ids, 1)}
