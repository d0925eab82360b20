"""Shards to profiles, written once for all methods."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from gandl_lib import checkpoints, files
from gandl_lib.methods import METHODS, Method, lookup
from gandl_lib.shards import Shards
from gandl_lib.views import crop_grid, lay, scale

MANY = 20
"""Crops that fit along the side of a site from which on they need not overlap: 640 pixels at 32."""


def open_method(
    source: str, channels: tuple[str, ...], preset: str | None = None, seed: int = 0, tap: str | None = None
) -> tuple[Method, dict[str, Any]]:
    """A method ready to embed, and where it came from.

    Args:
        source: a run folder, a weights file, or the name of a method with nothing to train.
        channels: names of the channels of the images to come.
        preset, seed: for a method by name.
        tap: where to read the network, instead of where its configuration says.

    Raises:
        ValueError: where the source cannot be had, or its channels are not those of the images.
    """
    method, header = _open(source, channels, preset, seed)
    if tap is not None:
        if not method.taps:
            raise ValueError(f"{header['method']} has no tap to choose; leave {tap!r} out.")
        method.config = replace(method.config, tap=tap)
        header["config"] = checkpoints.config_to_json(method.config)
    return method, header


def _open(source: str, channels: tuple[str, ...], preset: str | None, seed: int) -> tuple[Method, dict[str, Any]]:
    path = Path(source)
    if path.is_dir() or path.suffix == ".safetensors":
        file = path / "weights.safetensors" if path.is_dir() else path
        if path.is_dir() and not file.exists():
            raise ValueError(f"{path} holds no weights.safetensors: its training has not finished; run it again.")
        method, header = checkpoints.load_weights(file)
        if len(header["channels"]) != len(channels):
            raise ValueError(
                f"{file} was trained on the {len(header['channels'])} channels {', '.join(header['channels'])}; "
                f"these images have {len(channels)}: {', '.join(channels)}."
            )
        return method, header | {"checkpoint": file.name, "checkpoint_sha256": files.sha256(file)}
    cls, config = lookup(source, preset)
    if cls.trainable:
        named = ", ".join(n for n, c in METHODS.items() if not c.trainable)
        raise ValueError(f"{source!r} has to be trained first; give its run folder. Without training: {named}.")
    torch.manual_seed(seed)
    header = {"method": source, "config": checkpoints.config_to_json(config), "seed": seed, "n_seen": 0}
    method = cls(config, len(channels)).eval()
    return method, header | ({"pixel_um": method.pixel_um} if method.pixel_um else {})


def resample(images: Tensor, pixel_um: float, wanted_um: float | None) -> Tensor:
    """Bring (N, C, H, W) from pixels of `pixel_um` to those a network was trained on, so that cells keep their size.

    Nothing happens where both agree within 5 %, or where `wanted_um` is None.
    """
    if wanted_um is None or abs(pixel_um / wanted_um - 1) < 0.05:
        return images
    size = [round(side * pixel_um / wanted_um) for side in images.shape[2:]]
    return F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)


def cut(images: Tensor, tiles: int) -> Tensor:
    """(N, C, H, W) -> (N tiles^2, C, H // tiles, W // tiles), side by side, row by row, image by image."""
    n, c, height, width = images.shape
    h, w = height // tiles, width // tiles
    parts = images[:, :, : h * tiles, : w * tiles].reshape(n, c, tiles, h, tiles, w)
    return parts.permute(0, 2, 4, 1, 3, 5).reshape(n * tiles**2, c, h, w)


def crops_per_side(image_px: int, crop_px: int | None) -> int:
    """Crops along a side such that neighbours overlap by half: 3 for 64-pixel crops of 128-pixel sites."""
    return 1 if crop_px is None else max(1, math.ceil(2 * image_px / crop_px) - 1)


def crop_plan(image_px: int, crop_px: int | None, ways: int = 1, exact: bool = False) -> tuple[int, int]:
    """Crops along a side, and in how many ways each is laid.

    Crops overlap by half where a site holds few. From `MANY` on they lie side by side, and where more than one way is
    wanted each is laid in half as many, again others for the next crop. A network then sees every pixel once where
    it saw each eight times in two ways, and the mean over so many crops hardly changes (benchmarks/README.md).

    Running the convolutions over the site as a whole would be as much arithmetic, and worse: they put zeros around a
    crop, which in a network of 32 pixels reach every pixel of the last maps, and which a site has only at its edge.

    Args:
        image_px: side of a site, or of a tile of it.
        crop_px: side of a crop; None for a method that looks at whole sites.
        ways: as for `embed`.
        exact: overlap by half in all ways, however many crops there are.
    """
    if crop_px is None:
        return 1, 1
    if exact or image_px < MANY * crop_px:
        return crops_per_side(image_px, crop_px), ways
    return math.ceil(image_px / crop_px), max(1, ways // 2)


def embed(method: Method, shards: Shards, *, provenance: dict[str, Any], **options: Any) -> anndata.AnnData:
    """Profiles of sites, or of parts of them: the mean embedding of the crops of each. See `embed_taps`."""
    (profiles,) = embed_taps(method, shards, (None,), provenance=provenance, **options).values()
    return profiles


@torch.no_grad()
def embed_taps(
    method: Method,
    shards: Shards,
    taps: Sequence[str | None],
    *,
    provenance: dict[str, Any],
    sites: np.ndarray | None = None,
    part: tuple[int, int] | None = None,
    tiles: int = 1,
    ways: int = 1,
    exact: bool = False,
    batch: int = 64,
    progress: bool = True,
) -> dict[str | None, anndata.AnnData]:
    """Profiles of sites, or of parts of them: the mean embedding of crops of each, read at several taps in one pass.

    Holds the results, the wells table and two batches of images, however many sites there are.

    Args:
        method: anything behind the seam.
        taps: where to read a network that can be read in several places; None for where its configuration says.
        provenance: where the method came from; images are resampled to its `pixel_um` if it names one.
        sites: (N,) boolean, the sites wanted; None for all.
        part: (k, n) for the k-th of n nearly equal stretches of these sites, k from 1; `profiles.join` puts the n
            together again. Stretches end where batches do, so that every image meets the same batch mates as in one
            go, and the numbers are the same bits; where there are fewer batches than parts, some parts hold no row.
        tiles: cut each site into tiles x tiles parts and give each a row of its own: for few, large images.
        ways: in how many of the eight ways each crop is laid (`views.lay`), which multiplies the work; 1: as it lies.
            Methods that look at whole sites see them as they lie.
        exact: let crops overlap by half on large sites too, and lay each in all `ways` (`crop_plan`).
        batch: crops a forward pass; it does not change the result.

    Returns:
        For each tap an AnnData with X (rows, D) float32, obs = the wells table, uns["provenance"] a JSON string.

    Raises:
        ValueError: there is no such part, or no site; a method that looks at crops is asked for
            other than 1, 2, 4 or 8 ways; a tap is asked for twice, or of a method that has none.
    """
    rows = np.arange(len(shards)) if sites is None else np.flatnonzero(sites)
    size, trained_um = method.crop_px, provenance.get("pixel_um")
    shape = resample(torch.empty(1, 1, *shards.shape[1:]), shards.pixel_um, trained_um).shape[2:]
    side, laid = crop_plan(min(shape) // tiles, size, ways, exact)
    if len(set(taps)) != len(taps) or not taps:
        raise ValueError(f"taps must be one or more, each once; found {', '.join(map(str, taps)) or 'none'}.")
    if any(taps) and not method.taps:
        raise ValueError(f"{provenance['method']} has no tap to choose; leave {next(filter(None, taps))!r} out.")
    device = next((p.device for p in method.parameters()), torch.device("cpu"))
    was_training = method.training
    method.eval()
    per_read = max(1, batch // (side * tiles) ** 2)
    reads = range(0, len(rows), per_read)
    if part is not None:
        k, n = part
        if not 1 <= k <= n:
            raise ValueError(f"no part {k}/{n}: parts of {n} are 1 to {n}.")
        if not len(rows):
            raise ValueError(f"no part {k}/{n}: there is no site to embed.")
        reads = reads[(k - 1) * len(reads) // n : k * len(reads) // n]
        provenance = provenance | {"part": f"{k}/{n}"}
    # A part that holds no batch reads one all the same: only then is the number of features known.
    empty = not len(reads) and part is not None
    first, rows = reads.start, rows[:1] if empty else rows[reads.start : reads.stop]
    X = {}
    title = f"embed {provenance['method']} {provenance.get('part', '')}".rstrip()
    with tqdm(total=len(rows), desc=title, unit="site", disable=not progress) as bar, ThreadPoolExecutor(1) as reader:
        coming = reader.submit(shards.read_many, rows[:per_read])
        for start in range(0, len(rows), per_read):
            images = torch.from_numpy(coming.result())
            stop = start + len(images)
            coming = reader.submit(shards.read_many, rows[stop : stop + per_read])  # while these are embedded
            images = resample(scale(images.to(device), shards.limits), shards.pixel_um, trained_um)
            images = cut(images, tiles)
            if size is not None:
                images = lay(crop_grid(images, size, side), side, ways)
                images = images[:: ways // laid]  # half of each crop's ways, where they lie side by side
            found = [_read(method, crops, taps) for crops in images.split(batch)]
            for tap, features in zip(taps, map(torch.cat, zip(*found, strict=True)), strict=True):
                features = features.reshape((stop - start) * tiles**2, -1, features.shape[1]).mean(dim=1)
                if start == 0:  # only now is the number of features known
                    X[tap] = np.empty((len(rows) * tiles**2, features.shape[1]), np.float32)
                X[tap][start * tiles**2 : stop * tiles**2] = features.float().cpu().numpy()
            bar.update(stop - start)
    method.train(was_training)
    if empty:
        rows, X = rows[:0], {tap: features[:0] for tap, features in X.items()}
    obs = shards.wells.iloc[np.repeat(rows, tiles**2)]
    obs = obs.set_axis([str(k) for k in range(first * tiles**2, first * tiles**2 + len(obs))])
    made = {
        "crops": side**2,
        "tiles": tiles**2,
        "ways": laid,
        "crop_px": size,
        "simulated": shards.simulated,
        "limits": shards.limits.tolist(),
        **checkpoints.environment(),
    }
    profiles = {tap: anndata.AnnData(features, obs=obs.copy()) for tap, features in X.items()}
    for tap, of_tap in profiles.items():
        config = {"config": provenance["config"] | {"tap": tap}} if tap and "config" in provenance else {}
        of_tap.uns["provenance"] = json.dumps(provenance | config | made)
    return profiles


def _read(method: Method, crops: Tensor, taps: Sequence[str | None]) -> list[Tensor]:
    return [method.embed(crops)] if list(taps) == [None] else method.embed_taps(crops, taps)
