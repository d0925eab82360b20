"""Images a second of the data path against images a second of training, measured in one run.

The data path is that of `train`: shards preloaded where they fit, crops cut, scaled and laid by `TrainingCrops` with
the usual number of workers, batches brought to the device. Training is GAN-DL's step on a batch that lies there
already, in whole periods of 16 iterations, so that every lazy penalty has its share. The two take turns on the same
number of threads, so that a machine that speeds up or slows down does it to both; the ratio is the median over rounds
of data / training. Each has the machine to itself here: where the network computes on the same cores, making an image
costs training about 1 / ratio of its time at most.

A second table says what chunks bring where sites are large and lie on disk: 32-pixel training crops a second on one
thread (cut, scaled, laid), from stores whose chunk is a site, as format 1 has them, and of about 128 pixels, as
`gandl shard` writes now; the same for reading whole sites; and what the decoder alone does, on those chunks. The sites
are mosaics of the screen's, so that they pack as its images do. Again they take turns, and ratios are medians over
rounds.

    python benchmarks/data_rate.py SCREEN.zarr --presets quick32 quick64 --seconds 20
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
import torch
import tyro
from training_speed import ALLOCATOR

from gandl_lib import chunks
from gandl_lib.methods import lookup
from gandl_lib.methods.gandl import GANDL
from gandl_lib.shards import FORMAT, Shards, pack
from gandl_lib.train_config import TrainConfig
from gandl_lib.views import TrainingCrops


@dataclass(frozen=True)
class Args:
    shards: tyro.conf.Positional[Path]
    presets: tuple[str, ...] = ("quick32", "quick64")
    seconds: float = 20.0
    """Of data for each preset, over all rounds, and as many of training."""
    rounds: int = 4
    threads: int = 2
    pixels: tuple[int, ...] = (128, 640, 1024)
    """Sides of the sites of the second table."""
    crop: int = 32
    sites: int = 24


def rate(work: Callable[[], float], seconds: float) -> float:
    """Images, or whatever `work` returns the number of, a second: it is called until the time is over."""
    n, begun = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < seconds:
        n += work()
    return n / elapsed


def measure(method: GANDL, crops: TrainingCrops, args: Args) -> list[tuple[float, float]]:
    """Images a second of (data, training), round by round."""
    device, n, n_seen = method.mean_path_length.device, method.batch, 0
    fixed = crops.batch(0, n).to(device)

    def synchronised() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    def train(iterations: int = 16) -> int:
        for k in range(iterations):
            method.step(fixed, k * n)
        synchronised()
        return iterations * n

    def data() -> int:
        nonlocal n_seen
        n_seen += len(next(batches).to(device, non_blocking=True))
        synchronised()
        return n

    found, seconds = [], args.seconds / args.rounds
    train(2)
    for _ in range(args.rounds):
        with closing(crops.batches(n_seen, n, TrainConfig.workers)) as batches:
            data()  # untimed: nobody has begun it before it is asked for
            fed = rate(data, seconds)
        found.append((fed, rate(train, seconds)))
    return found


def packed(shards: Shards, pixels: int, sites: int, side_px: int, folder: Path) -> Shards:
    """A store of `sites` mosaics, in chunks of about `side_px`."""
    random, per_side = np.random.default_rng(0), -(-pixels // min(shards.shape[1:]))
    attributes = json.loads((shards.path / "zarr.json").read_text())["attributes"]
    attributes |= {"format": FORMAT, "fingerprint": f"{pixels} {side_px}"}
    wells = shards.wells.iloc[:sites].reset_index(drop=True)
    place = {site_id: k for k, site_id in enumerate(wells["site_id"])}
    chosen = random.integers(len(shards), size=(sites, per_side**2))

    def mosaic(row: object) -> np.ndarray:
        parts = shards.read_many(chosen[place[row.site_id]])
        parts = parts.reshape(per_side, per_side, *shards.shape).transpose(2, 0, 3, 1, 4)  # [YXCHW] -> [CYHXW]
        return parts.reshape(shards.shape[0], *(per_side * n for n in shards.shape[1:]))[:, :pixels, :pixels]

    before, chunks.SIDE_PX = chunks.SIDE_PX, side_px
    try:
        return Shards(pack(folder / f"{pixels}-{side_px}.zarr", attributes, wells, shards.skipped, mosaic, workers=1))
    finally:
        chunks.SIDE_PX = before


def reading(shards: Shards, pixels: int, args: Args) -> str:
    """A row of the second table."""
    with tempfile.TemporaryDirectory() as folder:
        stores = [packed(shards, pixels, args.sites, side, Path(folder)) for side in (10**6, chunks.SIDE_PX)]
        crops = [TrainingCrops(store, args.crop, TrainConfig.seed) for store in stores]
        corner = [
            store.read(0)[:, :side, :side] for store, side in zip(stores, (pixels, chunks.side(pixels)), strict=True)
        ]
        blocks = [imagecodecs.zstd_encode(np.ascontiguousarray(block), level=chunks.LEVEL) for block in corner]
        work = [partial(some.batch, 0, 16) for some in crops]
        work += [partial(store.read_many, range(0, args.sites, 2)) for store in stores]
        work += [partial(imagecodecs.zstd_decode, block) for block in blocks]
        done = [16, 16, args.sites // 2, args.sites // 2, corner[0].nbytes / 1e6, corner[1].nbytes / 1e6]
        for once in work:
            once()
        rounds = [
            [rate(lambda once=once, n=n: (once(), n)[1], 0.5) for once, n in zip(work, done, strict=True)]
            for _ in range(args.rounds)
        ]
    median = [statistics.median(found) for found in zip(*rounds, strict=True)]
    crop_ratio, site_ratio = (statistics.median(r[k + 1] / r[k] for r in rounds) for k in (0, 2))
    return (
        f"| {pixels} | {median[0]:.0f} | {median[1]:.0f} | {crop_ratio:.1f} | {median[2]:.0f} | {median[3]:.0f} | "
        f"{site_ratio:.2f} | {median[4]:.0f} | {median[5]:.0f} |"
    )


def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(TrainConfig.seed)
    configs = {preset: lookup("gandl", preset)[1] for preset in args.presets}
    shards = Shards(args.shards)
    shards.preload(max_bytes=4 * 2**30)
    shown = shards.wells["role"].ne("blank").to_numpy()
    print("| preset | crop pixels | data img/s | training img/s | ratio |")
    print("|---|---|---|---|---|")
    for preset, config in configs.items():
        method = GANDL(config, len(shards.channels)).to("cuda" if torch.cuda.is_available() else "cpu")
        crops = TrainingCrops(shards, method.crop_px, TrainConfig.seed, TrainConfig.rotate, shown)
        found = measure(method, crops, args)
        data, training = (statistics.median(rates) for rates in zip(*found, strict=True))
        ratio = statistics.median(fed / trained for fed, trained in found)
        print(f"| {preset} | {method.crop_px} | {data:.0f} | {training:.1f} | {ratio:.1f} |", flush=True)
    torch.set_num_threads(1)
    shards = Shards(args.shards)
    print()
    print(
        "| site pixels | crops/s, chunk a site | crops/s, chunks | ratio "
        "| sites/s, chunk a site | sites/s, chunks | ratio | decoder MB/s, a site | decoder MB/s, a chunk |"
    )
    print("|---" * 9 + "|")
    for pixels in args.pixels:
        print(reading(shards, pixels, args), flush=True)


if __name__ == "__main__":
    args = tyro.cli(Args, description=__doc__)
    if not ALLOCATOR.items() <= os.environ.items():  # malloc reads these once, as a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})
    main(args)
