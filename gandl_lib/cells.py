"""Single cells of any screen: every nucleus found, a crop around it, and what is not its cell blacked out.

    nuclei    above Otsu's threshold on the smoothed logarithm of the DNA channel, and above their neighbourhood;
              touching ones are parted by a watershed on the distance from their edge
    cells     Otsu's threshold on the sum of the other channels' logarithms, parted by a watershed that floods from the
              nuclei by distance: flooding by brightness gave dim cells to their bright neighbours

The result is a store like any other (`shards`), a row a cell: the wells row of its site with a `site_id` of its own,
and the columns

    site_of                             the site it was found in
    cell                                its number there, from 1, in reading order
    y_px, x_px                          the centre of its nucleus
    nucleus_area_um2, cell_area_um2     the cell's area includes its nucleus

so that networks train on cells as they do on sites, and a mean over `well_id` is a well's profile. A cell whose nucleus
touches the border of its site is left out, for its centre is not known; of one whose outskirts alone are cut off, the
crop is padded with zeros.

Sizes are in micrometres, so the same numbers hold for every pixel size; they suit adherent human cells and were set by
looking, on simulated MCF-7 cells and on the four cell types of RxRx1. This is no CellProfiler: in dense layers cells
are parted less well than nuclei are.

References: Goldsborough et al. 2017 (single cells, black outside, each scaled to its own range); Otsu 1979; Beucher and
Lantuejoul 1979 (watershed). Filters are scikit-image's.
"""

from __future__ import annotations

import json
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from gandl_lib import files, shards
from gandl_lib.processes import for_each
from gandl_lib.shards import Shards

NUCLEUS = "DNA"
"""What the channel of nuclei is called, where nothing else is said."""
SMOOTH_UM = 0.7
"""Standard deviation of the blur before thresholds."""
SEED_UM = 3.2
"""Least distance between the centres of two nuclei."""
MIN_NUCLEUS_UM2 = 25.0
"""Smaller spots are debris; a metaphase plate seen from the side still is larger."""
MAX_HOLE_UM2 = 40.0
"""Larger gaps among nuclei are gaps."""
NEIGHBOURHOOD_UM = 8.0
"""Standard deviation of the blur that says how bright it is around."""
CONTRAST = 1.25
"""A field has nuclei if what lies above the threshold is, on average, this many times as bright as what lies below."""


def write(
    source: str | Path,
    out: str | Path,
    *,
    size: int = 48,
    masks: bool = True,
    own_range: bool = False,
    nucleus: str = NUCLEUS,
    jobs: int = 2,
) -> Path:
    """Cut the single cells out of the store `source` and write them as the store `out`.

    Works in `<out>.partial`, a file a site, and packs these at the end. Stopped half-way, the same command goes on
    where it was and ends in the same bytes. If `out` is there already and was made from the same, nothing is done.

    Args:
        source: a store of sites made by `gandl shard`.
        out: the Zarr group to be made, usually `<name>.zarr`.
        size: side of a crop in pixels.
        masks: black out what is not the cell itself.
        own_range: scale each channel of each crop from its own least and greatest value to 0 and 255 (uint8), as
            CytoGAN does. What is lost is how bright a cell is, and its channels relative to each other.
        nucleus: name of the channel that shows nuclei.
        jobs: processes.

    Raises:
        ValueError: no such store or channel, a `size` that cannot be, less than a cell a site on average, or an `out`
            made from something else.
        OSError: when the disk is full or `out` cannot be written.
    """
    _skimage()
    store, out = Shards(source), Path(out)
    channel = _channel(store, nucleus)
    if "site_of" in store.wells:
        raise ValueError(f"{store.path} holds single cells already; give the store of whole sites.")
    if not 8 <= size <= min(store.shape[1:]):
        raise ValueError(f"a crop must be 8 to {min(store.shape[1:])} pixels, as large as a site at most; got {size}.")
    options = {"size": size, "masks": masks, "own_range": own_range, "nucleus": nucleus}
    constants = [SMOOTH_UM, SEED_UM, MIN_NUCLEUS_UM2, MAX_HOLE_UM2, NEIGHBOURHOOD_UM, CONTRAST]
    made_from = shards.fingerprint([store.fingerprint, options, constants])
    if shards.is_written(out, made_from):
        return out

    begun = files.partial_path(out)
    folder = begun / f"sites-{made_from[:12]}"
    if set(begun.glob("*")) - {folder, begun / "store", begun / "done"}:
        raise ValueError(
            f"{begun} was left by an interrupted run over other sites or settings; delete it, or run that command "
            "again to finish it."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        todo = [i for i in range(len(store)) if not _file(folder, i).exists()]
        if todo:
            cut_site = partial(_write_site, store, folder, channel, size, masks, own_range)
            for_each(cut_site, todo, f"finding cells of {store.path.name}", jobs)
    except OSError as error:
        why = f"{error.strerror or error}; what was found is kept in {begun}, run the same command again"
        raise OSError(error.errno, f"cannot write {out}: {why}") from error

    tables = [_table(folder, i) for i in range(len(store))]
    counts = np.array([len(table) for table in tables])
    empty = store.wells["site_id"][counts == 0]
    print(
        f"{store.path}: {counts.sum()} cells in {len(store)} sites ({np.median(counts):g} in the median site), "
        f"none in {len(empty)}; crops of {size} pixels, {size * store.pixel_um:.0f} um."
    )
    if counts.sum() < len(store):
        raise ValueError(
            f"{store.path}: only {counts.sum()} cells in {len(store)} sites. Is {nucleus!r} the channel of nuclei, and "
            f"{store.pixel_um} um the side of a pixel? Nuclei of at least {MIN_NUCLEUS_UM2:g} um2 are looked for."
        )
    wells = store.wells.loc[np.repeat(np.arange(len(store)), counts)].reset_index(drop=True)
    found = pd.concat([table for table in tables if len(table)], ignore_index=True)
    wells = wells.assign(
        site_of=wells["site_id"],
        site_id=wells["site_id"] + "_" + found["cell"].astype(str),
        **{column: found[column] for column in found},
    )
    skipped = pd.DataFrame({"site_id": empty, "reason": "no cell found"})
    attributes = {
        "format": shards.FORMAT,
        "layout": store.layout,
        "simulated": store.simulated,
        "channels": list(store.channels),
        "pixel_um": store.pixel_um,
        "plates": list(wells["plate_id"].unique()),
        "cells": options,
        "fingerprint": made_from,
    }
    place = {site_id: i for i, site_id in enumerate(store.wells["site_id"])}

    def read(row: Any) -> np.ndarray:
        return _crops(folder, place[row.site_of])[int(row.cell) - 1]

    _crops.cache_clear()
    return shards.pack(out, attributes, wells, skipped, read, sites_per_shard=512)


# ---- finding cells ----


def segment(image: np.ndarray, nucleus: int, pixel_um: float) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels are whose: two (H, W) int32 images, 0 for background, the same numbers for a nucleus and its cell.

    Args:
        image: (C, H, W), any integer or float type.
        nucleus: number of the channel of nuclei; without another channel, cells are their nuclei.
        pixel_um: side of a pixel.
    """
    filters, segmentation, feature = _skimage()
    smooth = _smooth(image[nucleus], pixel_um)
    # Brighter than its neighbourhood too: in dense layers the haze between nuclei is above any threshold of the whole.
    bright = _bright(filters, smooth) & (smooth > ndimage.gaussian_filter(smooth, NEIGHBOURHOOD_UM / pixel_um))
    bright = _without_holes(ndimage.binary_opening(bright), pixel_um)
    blobs, _ = ndimage.label(bright)
    inside = ndimage.gaussian_filter(ndimage.distance_transform_edt(bright), SMOOTH_UM / pixel_um)
    away = max(1, round(SEED_UM / pixel_um))
    peaks = feature.peak_local_max(inside, min_distance=away, labels=blobs, exclude_border=False)
    seeds = np.zeros(bright.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    nuclei = segmentation.watershed(-inside, seeds, mask=bright).astype(np.int32)
    areas = np.bincount(nuclei.ravel()) * pixel_um**2
    nuclei = _in_reading_order(np.where(areas[nuclei] >= MIN_NUCLEUS_UM2, nuclei, 0))

    others = [c for c in range(len(image)) if c != nucleus]
    if not others or not nuclei.any():
        return nuclei, nuclei.copy()
    parts = [_smooth(image[c], pixel_um) for c in others]
    body = np.sum([(p - p.min()) / max(np.ptp(p), 1e-6) for p in parts], axis=0)
    around = _bright(filters, body, always=True) | (nuclei > 0)
    away_from_nuclei = ndimage.distance_transform_edt(nuclei == 0)
    return nuclei, segmentation.watershed(away_from_nuclei, nuclei, mask=around).astype(np.int32)


def _smooth(channel: np.ndarray, pixel_um: float) -> np.ndarray:
    """The logarithm, so that a dim nucleus counts beside a bright one, of a slightly blurred channel."""
    return np.log(ndimage.gaussian_filter(channel.astype(np.float32), SMOOTH_UM / pixel_um) + 1)


def _bright(filters: ModuleType, logarithm: np.ndarray, always: bool = False) -> np.ndarray:
    """Pixels above Otsu's threshold; none where there is no contrast worth the name, unless `always`."""
    if np.ptp(logarithm) == 0:
        return np.zeros(logarithm.shape, bool)
    bright = logarithm > filters.threshold_otsu(logarithm)
    if always or logarithm[bright].mean() - logarithm[~bright].mean() > np.log(CONTRAST):
        return bright
    return np.zeros(logarithm.shape, bool)


def _without_holes(mask: np.ndarray, pixel_um: float) -> np.ndarray:
    """Fill what is enclosed and no larger than `MAX_HOLE_UM2`, such as the middle of a ring of chromosomes."""
    holes, n = ndimage.label(ndimage.binary_fill_holes(mask) & ~mask)
    small = np.bincount(holes.ravel(), minlength=n + 1) * pixel_um**2 <= MAX_HOLE_UM2
    small[0] = False
    return mask | small[holes]


def _in_reading_order(labels: np.ndarray) -> np.ndarray:
    """Numbers from 1, by the rows and then the columns in which objects first appear."""
    found, first = np.unique(labels, return_index=True)
    new = np.zeros(labels.max() + 1, np.int32)
    kept = found[np.argsort(first)]
    kept = kept[kept > 0]
    new[kept] = np.arange(1, len(kept) + 1)
    return new[labels]


def cut(
    image: np.ndarray, nuclei: np.ndarray, cells: np.ndarray, size: int, pixel_um: float, masks: bool = True
) -> tuple[pd.DataFrame, np.ndarray]:
    """Crops of the cells of one site whose nuclei do not touch its border.

    Args:
        image: (C, H, W) integers.
        nuclei, cells: as from `segment`.
        size: side S of a crop; a cell's centre comes to lie at (S // 2, S // 2).

    Returns:
        cell, y_px, x_px, nucleus_area_um2, cell_area_um2 of each; (N, C, S, S) of the image's type.
    """
    border = np.unique(np.concatenate([nuclei[0], nuclei[-1], nuclei[:, 0], nuclei[:, -1]]))
    numbers = np.setdiff1d(np.unique(nuclei), np.append(border, 0))
    centres = np.array(ndimage.center_of_mass(nuclei > 0, nuclei, numbers)).reshape(-1, 2)
    nucleus_px, cell_px = (np.bincount(labels.ravel(), minlength=nuclei.max() + 1) for labels in (nuclei, cells))
    table = pd.DataFrame(
        {
            "cell": np.arange(1, len(numbers) + 1),
            "y_px": centres[:, 0].round(2),
            "x_px": centres[:, 1].round(2),
            "nucleus_area_um2": (nucleus_px[numbers] * pixel_um**2).round(2),
            "cell_area_um2": (cell_px[numbers] * pixel_um**2).round(2),
        }
    )
    room = [(0, 0), (size, size), (size, size)]
    image, cells = np.pad(image, room), np.pad(cells, room[1:])
    crops = np.empty((len(numbers), len(image), size, size), image.dtype)
    for crop, number, (y, x) in zip(crops, numbers, np.rint(centres).astype(int) + size - size // 2, strict=True):
        window = np.s_[y : y + size, x : x + size]
        crop[...] = image[:, *window] * (cells[window] == number) if masks else image[:, *window]
    return table, crops


def to_own_range(crops: np.ndarray) -> np.ndarray:
    """(N, C, S, S) integers to uint8: each channel of each crop from its least (0) to its greatest value (255)."""
    low, high = crops.min((2, 3), keepdims=True).astype(float), crops.max((2, 3), keepdims=True).astype(float)
    return np.rint(255 * (crops - low) / np.maximum(high - low, 1)).astype(np.uint8)


# ---- files ----


def _channel(store: Shards, name: str) -> int:
    if name not in store.channels:
        raise ValueError(f"{store.path} has no channel {name!r} to find nuclei in; it has {', '.join(store.channels)}.")
    return store.channels.index(name)


def _file(folder: Path, site: int) -> Path:
    return folder / f"{site:07d}.npz"


def _write_site(store: Shards, folder: Path, channel: int, size: int, masks: bool, own_range: bool, site: int) -> None:
    """Find the cells of a site and keep them in a file of its own."""
    image = store.read(site)
    table, crops = cut(image, *segment(image, channel, store.pixel_um), size, store.pixel_um, masks)
    path = _file(folder, site)
    with files.replacing(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(
            file, table=json.dumps(table.to_dict("list")), crops=to_own_range(crops) if own_range else crops
        )


def _table(folder: Path, site: int) -> pd.DataFrame:
    with np.load(_file(folder, site)) as kept:
        return pd.DataFrame(json.loads(str(kept["table"])))


@lru_cache(maxsize=8)
def _crops(folder: Path, site: int) -> np.ndarray:
    """(N, C, S, S); rows of a site follow each other, so that a few sites in memory will do."""
    with np.load(_file(folder, site)) as kept:
        return kept["crops"]


def _skimage() -> tuple[ModuleType, ModuleType, ModuleType]:
    try:
        from skimage import feature, filters, segmentation
    except ImportError as error:
        raise ValueError(
            "finding cells needs scikit-image, which is not installed: pip install 'gandl[methods]'."
        ) from error
    return filters, segmentation, feature
