"""Images at rest: a whole screen in one Zarr v3 group.

    zarr.json         attributes: format, layout, simulated, channels, pixel_um, plates, fingerprint; where there are
                      any, `numeric`: types of columns of numbers that not every wells table has
    images/           (N, C, H, W) uint8 or uint16, zstd; many sites a shard file, a site in chunks of all its channels
                      and about 128 x 128 pixels (`chunks`); in stores of format 1, a chunk a site
    histograms/       (plates, C, bins) pixels of each grey value; 256 bins of 1 (uint8) or 4096 bins of 16 (uint16)
    wells.csv         the wells table, row i for images[i]
    skipped.csv       site_id, reason of the sites left out

The histograms fix how grey values become network input: between two percentiles of the whole screen, so that the
scaling of an image does not depend on its neighbours.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import zarr
from tqdm import tqdm
from zarr.codecs import ZstdCodec

from gandl_lib import chunks, datasets, files, object_store
from gandl_lib.wells import COLUMNS, validate

FORMAT = 2
READABLE = (1, 2)
PERCENTILES = (0.1, 99.9)
BIN_WIDTH = {"uint8": 1, "uint16": 16}


# ---- writing ----


def write(
    root: str | Path,
    out: str | Path,
    *,
    where: str | None = None,
    sites_per_shard: int = 64,
    workers: int = 2,
    sites: tuple[pd.DataFrame, pd.DataFrame] | None = None,
) -> Path | str:
    """Read the screen under `root` and write it as shards to `out`.

    Works in `<out>.partial` and renames at the end. Stopped half-way, the same command goes on where it was and ends in
    the same bytes. If `out` is there already and was made from the same table, nothing is done.

    Args:
        root: a folder that `datasets.open_layout` knows.
        out: the Zarr group to be made, usually `<name>.zarr`; or an address, `s3://bucket/<name>.zarr`. Then it is made
            in `<name>.zarr.sending` where the command runs, sent (`object_store.send`) and removed here.
        where: pandas query over the wells table, e.g. `"cell_type == 'VERO' and plate == 1"`.
        sites_per_shard: sites in one file; each worker holds that many in memory.
        workers: threads that decode images and encode shards.
        sites: complete sites and those left out, as the layout's `wells(where)` has just said, to spare a second look.

    Raises:
        ValueError: bad metadata, no complete site, bad `where`, an image that cannot be decoded, or an `out` made from
            something else.
        OSError: when the disk is full or `out` cannot be written; the finished shards are kept.
    """
    if sites_per_shard < 1 or workers < 1:
        raise ValueError(f"sites_per_shard and workers must be at least 1; got {sites_per_shard} and {workers}.")
    address = str(out).rstrip("/") if object_store.is_address(out) else ""
    if address:
        object_store.look(address)  # refused, or no such bucket: said before the work
        out = f"{address.rpartition('/')[2]}.sending"
    root, out = Path(root), Path(out)
    layout = datasets.open_layout(root)
    wells, skipped = layout.wells(where, workers)[:2] if sites is None else sites
    first = layout.read(wells.iloc[0])
    simulation = _simulation(root)
    attributes = {
        "format": FORMAT,
        "layout": layout.name,
        "simulated": simulation is not None,
        "channels": list(layout.channels),
        "pixel_um": float((simulation or {}).get("pixel_um", layout.pixel_um)),
        "plates": list(wells["plate_id"].unique()),
    }
    same_images = attributes | {"format": 1}  # whatever the format: one written before counts as written
    inputs = [same_images, wells.to_csv(), skipped.to_csv(), first.shape, first.dtype.name, sites_per_shard, simulation]
    attributes["fingerprint"] = fingerprint(inputs)
    _, height, width = first.shape
    print(
        f"{root}: {len(wells)} sites of {wells['well_id'].nunique()} wells on {len(attributes['plates'])} plate(s), "
        f"{len(skipped)} skipped{'' if skipped.empty else ' (first: ' + skipped['reason'][0] + ')'}; "
        f"{', '.join(layout.channels)}; {height}x{width} {first.dtype}; "
        f"{'real' if simulation is None else 'simulated'} images."
    )
    if address and object_store.holds(address, attributes["fingerprint"]):
        return address
    if not is_written(out, attributes["fingerprint"]):
        pack(out, attributes, wells, skipped, layout.read, sites_per_shard, workers)
    if not address:
        return out
    object_store.send(out, address)
    shutil.rmtree(out)
    return address


def fingerprint(inputs: Any) -> str:
    """One word for all that decides what is read from a store, but not for where or in what format it lies."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def is_written(out: Path, fingerprint: str) -> bool:
    """Whether the store `out` is there already, made from what `fingerprint` stands for.

    Raises:
        ValueError: if something else is there.
    """
    if not out.exists():
        return False
    if _attributes(out)["fingerprint"] != fingerprint:
        raise ValueError(f"{out} exists and was made from something else; delete it or choose another name.")
    shutil.rmtree(_partial(out), ignore_errors=True)
    return True


def pack(
    out: Path,
    attributes: dict[str, Any],
    wells: pd.DataFrame,
    skipped: pd.DataFrame,
    read: Callable[[Any], np.ndarray],
    sites_per_shard: int = 64,
    workers: int = 2,
) -> Path:
    """Write a store, or go on with the one that an interrupted call left in `<out>.partial`; rename it at the end.

    Args:
        out: the Zarr group to be made; not there yet.
        attributes: as in this module's docstring, `fingerprint` included.
        wells: the wells table, a row an image. Its columns of numbers come back as numbers.
        skipped: `site_id, reason` of what is left out.
        read: a row of `wells` to (C, H, W) uint8 or uint16; called from several threads.
        sites_per_shard, workers: as for `write`.

    Raises:
        ValueError: when `<out>.partial` holds the beginning of something else.
        OSError: when the disk is full or `out` cannot be written; the finished shards are kept.
    """
    begun, first = _partial(out), read(wells.iloc[0])
    try:
        group = _start(begun, attributes, wells, skipped, first, sites_per_shard)
        _fill(group, begun, read, wells, sites_per_shard, workers, out.name)
        os.replace(begun / "store", out)
    except OSError as error:
        kept = len(list((begun / "done").glob("*.npz"))) if begun.is_dir() else 0
        raise OSError(
            error.errno,
            f"cannot write {out}: {error.strerror or error}. {kept} finished shard(s) are kept in {begun}; make room "
            "there (or the folder writable) and run the same command again",
        ) from error
    shutil.rmtree(begun)
    return out


def _partial(out: Path) -> Path:
    return out.with_name(out.name + ".partial")


def _start(
    begun: Path,
    attributes: dict[str, Any],
    wells: pd.DataFrame,
    skipped: pd.DataFrame,
    first: np.ndarray,
    sites_per_shard: int,
) -> zarr.Group:
    """Make the empty group in `<out>.partial/store`, or open the one that an interrupted run left there."""
    store = begun / "store"
    if (begun / "done").is_dir():  # made last: all the rest is there
        if _attributes(store)["fingerprint"] != attributes["fingerprint"]:
            raise ValueError(
                f"{begun} was left by an interrupted run over other sites or settings; delete it, or run that "
                "command again to finish it."
            )
        if _attributes(store)["format"] != attributes["format"]:
            raise ValueError(
                f"{begun} was begun by an older version, in format {_attributes(store)['format']} and not "
                f"{attributes['format']}; delete it and run the same command again."
            )
        for stray in store.rglob("*.partial"):  # a file that Zarr was writing when it was killed
            stray.unlink()
        return zarr.open_group(store, mode="r+")

    shutil.rmtree(store, ignore_errors=True)
    begun.mkdir(parents=True, exist_ok=True)
    channels, height, width = first.shape
    bins = np.iinfo(first.dtype).max // BIN_WIDTH[first.dtype.name] + 1
    h, w = chunks.side(height), chunks.side(width)
    chunk = (1, channels, h, w)
    shard = (sites_per_shard, channels, math.ceil(height / h) * h, math.ceil(width / w) * w)
    zstd = ZstdCodec(level=chunks.LEVEL)
    numeric = {c: d.name for c, d in wells.drop(columns=[*COLUMNS]).dtypes.items() if d.kind in "iuf"}
    group = zarr.create_group(store, attributes=attributes | ({"numeric": numeric} if numeric else {}))
    shape = (len(wells), *first.shape)
    group.create_array("images", shape=shape, chunks=chunk, shards=shard, dtype=first.dtype, compressors=zstd)
    histograms = (len(attributes["plates"]), channels, bins)
    group.create_array("histograms", shape=histograms, chunks=histograms, dtype="int64", compressors=zstd)
    for table, name in ((wells, "wells.csv"), (skipped, "skipped.csv")):
        table.to_csv(store / name, index=False, quoting=csv.QUOTE_ALL)  # a name may hold anything, line ends too
    (begun / "done").mkdir()
    return group


def _fill(
    group: zarr.Group,
    begun: Path,
    read: Callable[[Any], np.ndarray],
    wells: pd.DataFrame,
    sites_per_shard: int,
    workers: int,
    name: str,
) -> None:
    """Write the shards that are not yet done, then the histograms. A done shard leaves its share of them in `done`."""
    images, plates, done = group["images"], group.attrs["plates"], begun / "done"
    plate = wells["plate_id"].map({plate_id: p for p, plate_id in enumerate(plates)}).to_numpy()
    shares = [done / f"{start:09d}.npz" for start in range(0, len(wells), sites_per_shard)]

    def shard(share: Path) -> None:
        start = int(share.stem)
        rows = wells[start : start + sites_per_shard]
        block = np.empty((len(rows), *images.shape[1:]), images.dtype)
        for site, row in zip(block, rows.itertuples(), strict=True):
            site[...] = read(row)
        file = begun / "store" / "images" / chunks.key(start // sites_per_shard)
        files.write(file, chunks.encode(block, images.chunks[1:], sites_per_shard))
        present, counts = _histograms(block, plate[rows.index])
        part = io.BytesIO()
        np.savez(part, plates=present, counts=counts)
        files.write(share, part.getvalue())

    todo = [share for share in shares if not share.exists()]
    pool = ThreadPoolExecutor(workers)
    try:
        futures = as_completed([pool.submit(shard, share) for share in todo])
        for future in tqdm(futures, f"packing {name}", len(shares), initial=len(shares) - len(todo), unit="shard"):
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)

    histograms = np.zeros(group["histograms"].shape, np.int64)
    for share in shares:
        with np.load(share) as part:
            histograms[part["plates"]] += part["counts"]
    group["histograms"][:] = histograms


def _histograms(images: np.ndarray, plate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixel counts of (N, C, H, W) integers: the plates among them, and (plates, C, bins)."""
    width = BIN_WIDTH[images.dtype.name]
    bins = np.iinfo(images.dtype).max // width + 1
    plates = np.unique(plate)
    counts = np.zeros((len(plates), images.shape[1], bins), np.int64)
    for site, p in zip(images, np.searchsorted(plates, plate), strict=True):
        for c, channel in enumerate(site):
            counts[p, c] += np.bincount(channel.ravel() // width, minlength=bins)
    return plates, counts


def _simulation(root: Path) -> dict[str, Any] | None:
    """What the simulator says of its own screen; None for a real one."""
    path = root / "simulation.json"
    return json.loads(path.read_text()) if path.exists() else None


# ---- reading ----


class Shards:
    """A screen at rest, as `write` left it, on this machine or far away. `len()` is its number of sites.

    Holds nothing but its path until something is asked for, so it is cheap to pickle and every process opens its own.

    Args:
        path: the Zarr group; a folder, or an address that fsspec knows: `s3://bucket/screen.zarr`, `gs://…`, `https://…`
            from a server that answers byte ranges. Keys and endpoints are those of fsspec's own configuration.

    Attributes:
        path: the same, a Path for a folder and a str for an address.
        channels: names of the C channels.
        pixel_um: side of a pixel in micrometres.
        simulated: whether the images come from a simulation.
        layout: name of the dataset's layout.
        format: 1 or 2, of the files.
        shape: (C, H, W) of a site.
        dtype: uint8 or uint16.
        fingerprint: of all that it was made from.

    Raises:
        ValueError: when `path` is no such group, an unfinished one, or an address that cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path: Path | str = path.rstrip("/") if isinstance(path, str) and "://" in path else Path(path)
        if ".partial" in PurePosixPath(self.path).suffixes or _interrupted(self.path):
            raise ValueError(f"{self.path}: its writing was interrupted; run the same command again.")
        attributes = _attributes(self.path)
        self.format = attributes.get("format")
        if self.format not in READABLE:
            raise ValueError(
                f"{self.path}: shards of format {self.format}, but this version reads "
                f"{' and '.join(map(str, READABLE))}; write them anew."
            )
        self.channels = tuple(attributes["channels"])
        self.pixel_um = float(attributes["pixel_um"])
        self.simulated = bool(attributes["simulated"])
        self.layout = str(attributes["layout"])
        self.fingerprint = str(attributes["fingerprint"])
        self._plates = list(attributes["plates"])
        self._numeric = dict(attributes.get("numeric", {}))
        self._images = chunks.Images(
            json.loads(_bytes(self.path, "images/zarr.json")),
            lambda key, start, stop: _bytes(self.path, f"images/{key}", start, stop),
            f"{self.path}/images",
            sparse=self.format == 1,
        )
        self._length, *shape = self._images.shape
        self.shape = tuple(shape)
        self.dtype = self._images.dtype
        self._memory: np.ndarray | None = None

    def __len__(self) -> int:
        return self._length

    def __reduce__(self) -> tuple[type[Shards], tuple[Path | str]]:
        return Shards, (self.path,)

    def read(self, i: int) -> np.ndarray:
        """The images of site `i`: (C, H, W) integers."""
        return self._window(i, 0, 0, *self.shape[1:])

    def read_crop(self, i: int, y: int, x: int, size: int) -> np.ndarray:
        """`read(i)[:, y : y + size, x : x + size]`, by unpacking the chunks alone that it touches.

        Raises:
            ValueError: the crop does not lie within the site.
        """
        _, height, width = self.shape
        if not (0 <= y <= height - size and 0 <= x <= width - size and size > 0):
            raise ValueError(f"a crop of {size} pixels from ({y}, {x}) on does not lie in images of {height}x{width}.")
        return self._window(i, y, x, size, size)

    def _window(self, i: int, y: int, x: int, height: int, width: int) -> np.ndarray:
        i = range(len(self))[i]  # from the end if negative; IndexError where there is none
        if self._memory is not None:
            return self._memory[i, :, y : y + height, x : x + width]
        return self._images.read(i, i + 1, y, y + height, x, x + width)[0]

    def read_many(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The images of several sites, in the order asked for: (N, C, H, W) integers."""
        if self._memory is None and len(indices) > 1 and (np.diff(indices) == 1).all() and 0 <= indices[0]:
            return self._run(range(len(self))[indices[0]], range(len(self))[indices[-1]] + 1)
        images = np.empty((len(indices), *self.shape), self.dtype)
        for image, i in zip(images, indices, strict=True):
            image[...] = self.read(i)
        return images

    def _run(self, first: int, stop: int) -> np.ndarray:
        """Neighbours, which lie in the same files: far fewer requests."""
        _, height, width = self.shape
        return self._images.read(first, stop, 0, height, 0, width)

    def preload(self, max_bytes: int) -> bool:
        """Keep all images in this process's memory if they take no more than `max_bytes`; say whether they do."""
        if self._memory is None and len(self) * int(np.prod(self.shape)) * self.dtype.itemsize <= max_bytes:
            self._memory = self._run(0, len(self))
        return self._memory is not None

    @cached_property
    def wells(self) -> pd.DataFrame:
        """The wells table; row i belongs to `read(i)`."""
        text = pd.read_csv(io.BytesIO(_bytes(self.path, "wells.csv")), dtype=str, keep_default_na=False)
        concentration = text["concentration_uM"].replace("", "nan").astype(float)
        types = {"plate": int, "site": int} | self._numeric
        floats = [column for column, dtype in types.items() if dtype == "float64"]
        wells = text.assign(**text[floats].replace("", "nan")).astype(types).assign(concentration_uM=concentration)
        return validate(wells, f"{self.path}/wells.csv")

    @cached_property
    def skipped(self) -> pd.DataFrame:
        """`site_id, reason` of the sites that were left out."""
        return pd.read_csv(io.BytesIO(_bytes(self.path, "skipped.csv")), dtype=str, keep_default_na=False)

    @cached_property
    def histograms(self) -> np.ndarray:
        """(plates, C, bins) pixel counts; plates in the order in which `wells` names them first."""
        path = self.path / "histograms" if isinstance(self.path, Path) else f"{self.path}/histograms"
        return zarr.open_array(path, mode="r")[:]

    @cached_property
    def limits(self) -> np.ndarray:
        """(C, 2) float32: lower and upper grey value of each channel, percentiles 0.1 and 99.9 of the whole screen."""
        return self._limits(self.histograms.sum(0))

    @cached_property
    def statistics(self) -> pd.DataFrame:
        """Grey values per plate and channel: mean, sd, p01, p50, p99 and the fraction of pixels in the last bin.

        Exact for uint8; within a bin of 16 grey values for uint16.
        """
        width = BIN_WIDTH[self.dtype.name]
        values = np.arange(self.histograms.shape[-1]) * width + (width - 1) / 2
        rows = []
        for plate_id, plate in zip(self._plates, self.histograms, strict=True):
            for channel, counts in zip(self.channels, plate, strict=True):
                mean = np.average(values, weights=counts)
                rows.append(
                    {
                        "plate_id": plate_id,
                        "channel": channel,
                        "mean": mean,
                        "sd": np.average((values - mean) ** 2, weights=counts) ** 0.5,
                        **{f"p{p:02d}": values[_percentile(counts, p)] for p in (1, 50, 99)},
                        "saturated": counts[-1] / counts.sum(),
                    }
                )
        return pd.DataFrame(rows)

    def _limits(self, histograms: np.ndarray) -> np.ndarray:
        width = BIN_WIDTH[self.dtype.name]
        low, high = (np.array([_percentile(counts, p) for counts in histograms]) for p in PERCENTILES)
        high = np.maximum(high, low + 1)  # a channel of one grey value still gets a range to divide by
        return np.stack([low, high], axis=1).astype(np.float32) * width  # [C2]


def _percentile(counts: np.ndarray, percent: float) -> int:
    """The first bin at or below which `percent` of the counts lie."""
    cumulative = counts.cumsum()
    return int(np.searchsorted(cumulative, percent / 100 * cumulative[-1]))


def _interrupted(path: Path | str) -> bool:
    """Whether `write` began this folder and has not finished it."""
    return isinstance(path, Path) and _partial(path).exists() and not path.exists()


def _attributes(path: Path | str) -> dict[str, Any]:
    """The attributes of the group at `path`; ValueError when it is no group of ours."""
    try:
        content = _bytes(path, "zarr.json")
    except OSError:
        content = None
    try:
        attributes = json.loads(content or "{}")["attributes"]
    except (KeyError, ValueError):
        attributes = {}
    if "fingerprint" not in attributes:
        there = path.exists() if isinstance(path, Path) else content is not None
        found = "something else is there" if there else "no such file or folder"
        raise ValueError(f"{path}: not shards written by `gandl shard`; {found}.")
    return attributes


def _bytes(group: Path | str, name: str, start: int | None = None, stop: int | None = None) -> bytes:
    """The content of a file of a group, in a folder or at an address, or its bytes from `start` to before `stop`.

    A negative `start` counts from the end.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the address cannot be read: no package for its kind of storage, no permission, no connection.
    """
    if isinstance(group, Path):
        with open(group / name, "rb") as file:
            first, last, _ = slice(start, stop).indices(os.fstat(file.fileno()).st_size)
            file.seek(first)
            return file.read(max(last - first, 0))
    try:
        store, path = fsspec.core.url_to_fs(f"{group}/{name}")
        return store.cat_file(path, start=start, end=stop)  # by name: the second one of S3 is a version
    except FileNotFoundError:
        raise
    except ImportError as error:
        raise ValueError(f"{group}: no package for this kind of storage is installed ({error}).") from None
    except Exception as error:  # each kind of storage raises its own
        raise ValueError(f"{group}: cannot be read ({type(error).__name__}: {error}).") from error
