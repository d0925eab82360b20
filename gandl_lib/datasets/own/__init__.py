"""Somebody's own plate: any table, any channels, and a small file that says what they mean.

`description` is that file, screen.toml, and what may stand in it; `text` and `table` read the table, `units` its
concentrations; `disk` compares it with what lies there; `decoders` reads images; `vendors` knows the exports of
instruments and drafts what is missing.

**What is read.** Wells: `A1`, `a01`, `A-01`, `r01c02`. Concentrations: numbers, with a unit of their own if they have
one (`10 nM`). Images: grey PNG, TIFF and BMP, 8 or 16 bit. **What is left out, and counted**: a site whose row or
images are unusable, with the reason. Every image is decoded once, so that nothing fails hours later. **What is refused
at once**: a table or a screen.toml that nobody could make sense of. Swapped channels can be noticed only where an
OME-TIFF names its channels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from gandl_lib.datasets._recursion import METADATA, Kind, part, select
from gandl_lib.datasets.layout import Layout, Sites, odd
from gandl_lib.datasets.own import decoders, table
from gandl_lib.datasets.own.description import MAPPINGS, WHICH_IMAGES, Description, describe, draft, find
from gandl_lib.datasets.own.disk import Folder
from gandl_lib.datasets.own.vendors import without_table, write_draft
from gandl_lib.paths import inside, is_unsafe

__all__ = ["MAPPINGS", "describe", "draft", "find", "open_folder", "parse", "read_site", "without_table", "write_draft"]

SATURATED = 0.01
"""More than this part of a channel's pixels at its highest value is odd."""
TOPS = (255, 1023, 4095, 16383, 65535, 65520, 65532)
"""Highest values of cameras of 8 to 16 bits, and of 12 and 14 bits stored at the top of 16."""
LEAST_RANGE = 32
"""A channel that spans fewer grey values is nearly black, and its highest value says nothing."""
DIM = 0.5
"""A well is dim whose nuclei stand out from their background by less than this part of what is usual on its plate."""
NUCLEI = ("dna", "nuclei", "nucleus", "dapi", "hoechst", "draq5")


def open_folder(root: str | Path) -> Layout:
    """The layout of a folder that has a description.

    Raises:
        ValueError: there is none, or it cannot be understood.
    """
    root, said = Path(root), describe(_described(root))
    if not said.files:
        raise ValueError(f"{said.path}: {WHICH_IMAGES}")
    folder = Folder(root, said.follow_links)
    parsed = cache(lambda: _parsed(root, said, folder, METADATA))
    return Layout(
        root=root,
        name="own",
        channels=said.channels,
        parse=lambda: parsed().wells,
        look=lambda where, workers: _look(root, said, folder, parsed(), where, workers),
        read=lambda row: read_site(root, said, row),
        measure=lambda: _pixel_um(root, said, parsed().wells),
    )


def parse(root: str | Path, name: str = METADATA) -> table.Parsed:
    """What the table called `name` in a folder with a description says, images unseen; they need not even be described.

    Raises:
        ValueError: as `open_folder` and `table.parse`.
    """
    root, said = Path(root), describe(_described(root))
    return _parsed(root, said, Folder(root, said.follow_links), name)


def _parsed(root: Path, said: Description, folder: Folder, name: str) -> table.Parsed:
    if name == METADATA and not (root / name).is_file():
        raise ValueError(without_table(root))
    return table.parse(root, said, folder, name)


def _described(root: str | Path) -> Path:
    path = find(root)
    if path is None:
        raise ValueError(f"{root}: no {MAPPINGS[0]} that would say what its columns mean.")
    return path


def read_site(root: Path, said: Description, row: Any) -> np.ndarray:
    """The images of one site, a row of the wells table: (C, H, W), uint8 or uint16 as in its files.

    Raises:
        ValueError: naming the file that is missing, leads elsewhere, cannot be decoded or is not what it should be.
    """
    names, C = json.loads(row.files), len(said.channels)
    planes = []
    for name in names:
        try:
            path = _path(root, name, said.follow_links)
            planes.append(decoders.decode(path, C if len(names) == 1 else 1, said.channels))
        except ValueError as error:
            raise ValueError(f"{root}/{name} {error}") from None
    if len({(p.shape[1:], p.dtype) for p in planes}) > 1:
        found = ", ".join(f"{p.shape[1]}x{p.shape[2]} {p.dtype}" for p in planes)
        raise ValueError(f"{root}/{names[0]} and the site's other channels differ in size or type: {found}")
    return decoders.binned(np.concatenate(planes), said.bin)  # [CHW]


def _path(root: Path, name: str, follow_links: bool) -> Path:
    if follow_links and not is_unsafe(name):
        return root / name
    try:
        return inside(root, name)
    except ValueError as error:
        if "link" in str(error):
            raise ValueError(f"{error}, or set follow_links = true in [images] of {MAPPINGS[0]}") from None
        raise


def _pixel_um(root: Path, said: Description, wells: pd.DataFrame) -> float:
    """Side of a pixel in micrometres, after binning: as screen.toml says or else the first TIFF that does.

    Raises:
        ValueError: neither says it.
    """
    if said.pixel_um is not None:
        return said.pixel_um * said.bin
    for row in wells.itertuples():
        try:
            path = _path(root, json.loads(row.files)[0], said.follow_links)
            return decoders.pixel_um(path) * said.bin
        except (ValueError, OSError):
            continue
    raise ValueError(f"{said.path}: how large is a pixel? No image says it; add `pixel_um = …` to [images].")


# ---- looking at every image ----


class _Seen(NamedTuple):
    """What is remembered of a site's images."""

    kind: Kind
    lowest: list[int]
    highest: list[int]
    at_top: list[float]
    """Part of each channel's pixels that has its highest value."""
    contrast: float
    """Of the channel of nuclei: how far its brightest percent stands above its median."""
    digest: bytes


def _look(
    root: Path, said: Description, folder: Folder, parsed: table.Parsed, where: str | None, workers: int
) -> Sites:
    wells = select(parsed.wells, where)
    nuclei = nuclei_in(said.channels)

    def look(row: Any) -> tuple[_Seen | None, str | None]:
        try:
            images = read_site(root, said, row)
        except ValueError as error:
            return None, str(error).removeprefix(f"{root}/")
        high = images.max(axis=(1, 2))
        at_top = (images == high[:, None, None]).mean(axis=(1, 2)).tolist()
        digest = hashlib.blake2b(np.ascontiguousarray(images), digest_size=16).digest()
        kind = (*images.shape[1:], images.dtype.name)
        low, bright = images.min(axis=(1, 2)).tolist(), contrast_of(images[nuclei])
        return _Seen(kind, low, high.tolist(), at_top, bright, digest), None

    with ThreadPoolExecutor(workers) as pool:
        looked = tqdm(pool.map(look, wells.itertuples()), f"checking {root.name}", len(wells), unit="site", delay=2)
        seen, reasons = zip(*looked, strict=True)
    reasons = [_nearest(reason, folder) if reason else None for reason in reasons]
    names = [json.loads(files)[0] for files in wells["files"]]
    good, skipped = part(root, wells, names, [s and s.kind for s in seen], reasons)
    notes = [*parsed.notes, *_oddities(wells, seen, said.channels, nuclei)]
    notes += [("images in the folder that no row of the table names", name) for name in folder.unnamed(parsed.named)]
    return Sites(good, pd.concat([parsed.unusable, skipped], ignore_index=True), odd(notes))


def _nearest(reason: str, folder: Folder) -> str:
    """A reason for which a file is left out, and what was probably meant where it is missing."""
    name = reason.removesuffix(" is missing")
    near = folder.near(name) if name != reason else ""
    return f"{reason}; {near}" if near else reason


def _oddities(
    wells: pd.DataFrame, seen: tuple[_Seen | None, ...], channels: tuple[str, ...], nuclei: int
) -> Iterator[tuple[str, str]]:
    known = [(row, s) for row, s in zip(wells.itertuples(), seen, strict=True) if s is not None]
    for c, channel in enumerate(channels):
        top = max((s.highest[c] for _, s in known), default=0)
        for row, s in known:
            if s.lowest[c] == s.highest[c]:
                yield f"channel {channel} has a single grey value (nothing in it)", row.site_id
            elif s.at_top[c] > SATURATED and s.highest[c] in (top, *TOPS) and s.highest[c] - s.lowest[c] >= LEAST_RANGE:
                yield f"channel {channel} is saturated in more than {SATURATED:.0%} of its pixels", row.site_id
    first: dict[bytes, str] = {}
    for row, s in known:
        if s.digest in first and s.lowest != s.highest:
            yield "the picture is the very same as that of another site", f"{row.site_id} and {first[s.digest]}"
        first.setdefault(s.digest, row.site_id)
    if known:
        whole = wells[[s is not None for s in seen]]
        for well in dim_wells(whole, pd.Series([s.contrast for _, s in known])):
            yield (
                f"wells with nuclei ({channels[nuclei]}) less than {DIM:g} times as bright as usual on their plate",
                well,
            )


def dim_wells(sites: pd.DataFrame, contrast: pd.Series) -> list[str]:
    """Wells whose contrast is below `DIM` of what is usual: medians, over a plate's wells of one cell type, 4 or more.

    Args:
        sites: `plate_id, well_id, role` and, where it is known, `cell_type`; a row a site. Blank wells are left alone:
            nothing in them was to be bright.
        contrast: of each site, how far the brightest percent of the nuclei's channel stands above its median.
    """
    alike = [c for c in ("plate_id", "cell_type") if c in sites]
    full = sites["role"].ne("blank").to_numpy()
    per_well = sites.loc[full, [*alike, "well_id"]].assign(contrast=contrast.to_numpy()[full])
    per_well = per_well.groupby([*alike, "well_id"], observed=True)["contrast"].median()
    beside = per_well.groupby(level=alike)
    usual = beside.transform("median").where(beside.transform("size") >= 4)
    return per_well.index[per_well < DIM * usual].get_level_values("well_id").tolist()


def contrast_of(image: np.ndarray) -> float:
    """How far the brightest percent of (H, W) stands above its median, in grey values."""
    return float(np.quantile(image, 0.99) - np.median(image))


def nuclei_in(channels: Sequence[str]) -> int:
    """Which channel shows nuclei: the first that is named so, or else the first of all."""
    return next((c for c, name in enumerate(channels) if name.lower() in NUCLEI), 0)
