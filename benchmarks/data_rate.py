"""Images a second of the data path against images a second of training, measured in one run.

The data path is that of `train`: shards preloaded where they fit, crops cut, scaled and laid by `TrainingCrops` with
the usual number of workers, batches brought to the device. Training is GAN-DL's step on a batch that lies there
already, in whole periods of 16 iterations, so that every lazy penalty has its share. The two take turns on the same
number of threads, so that a machine that speeds up or slows down does it to both; the ratio is the median over rounds
of data / training. Each has the machine to itself here: where the network computes on the same cores, making an image
costs training about 1 / ratio of its time at most.

    python benchmarks/data_rate.py SCREEN.zarr --presets quick32 quick64 --seconds 20
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from training_speed import ALLOCATOR

from gandl_lib.methods import lookup
from gandl_lib.methods.gandl import GANDL
from gandl_lib.shards import Shards
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


def rate(work: Callable[[], int], seconds: float) -> float:
    """Images a second of `work`, which returns how many it has done, called until the time is over."""
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


if __name__ == "__main__":
    args = tyro.cli(Args, description=__doc__)
    if not ALLOCATOR.items() <= os.environ.items():  # malloc reads these once, as a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})
    main(args)
