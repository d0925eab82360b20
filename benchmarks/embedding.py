"""Sites a second of three ways to embed large sites, and how well their features agree, in one run.

    overlapping     crops that overlap by half, each laid in two ways: `gandl embed --ways 2 --exact`
    side by side    what `gandl embed --ways 2` does from `embed.MANY` crops a side on
    convolutional   the convolutions run once over the site as it lies, and windows are taken from the last maps
                    (heads that average over positions, tap "penultimate"): less work than the first as well, but the
                    zeros that convolutions put around a crop are missing, and they reach all of a small crop's maps

Large sites are mosaics of a screen's sites, each of one role and plate, so that they differ as wells do. Agreement is,
for each feature, the correlation over mosaics with `overlapping`; the three take turns site by site, and rates are
those of their median site. The convolutional way lays the site in one way, so its work is that of `side by side`.

    python benchmarks/embedding.py SCREEN.zarr gandl_lib/weights/gandl-quick32.safetensors
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from gandl_lib.embed import crop_plan, open_method
from gandl_lib.methods.gandl import GANDL
from gandl_lib.nn.layers import SLOPE
from gandl_lib.shards import Shards
from gandl_lib.views import crop_grid, lay, scale

WAYS = 2


@dataclass(frozen=True)
class Args:
    shards: tyro.conf.Positional[Path]
    weights: tyro.conf.Positional[Path]
    pixels: tuple[int, ...] = (640, 1024)
    mosaics: int = 16
    threads: int = 1
    seed: int = 0


def mosaic(shards: Shards, pixels: int, random: np.random.Generator) -> Tensor:
    """(C, H, W) in [-1, 1]: sites of one role and plate, drawn at random and set side by side."""
    like = shards.wells.groupby(["role", "plate_id"]).indices
    like = [rows for (role, _), rows in sorted(like.items()) if role in ("C+", "C-")]
    rows = like[random.integers(len(like))]
    side = -(-pixels // min(shards.shape[1:]))
    sites = shards.read_many(random.choice(rows, side**2, replace=len(rows) < side**2))
    sites = sites.reshape(side, side, *shards.shape).transpose(2, 0, 3, 1, 4)  # [YXCHW] -> [CYHXW]
    field = sites.reshape(len(shards.channels), side * shards.shape[1], side * shards.shape[2])
    return scale(field[:, :pixels, :pixels], shards.limits)


def by_crops(method: GANDL, exact: bool) -> Callable[[Tensor], Tensor]:
    def embed(site: Tensor) -> Tensor:
        side, laid = crop_plan(site.shape[-1], method.crop_px, WAYS, exact)
        crops = lay(crop_grid(site[None], method.crop_px, side), side, WAYS)[:: WAYS // laid]
        return torch.cat([method.embed(part) for part in crops.split(64)]).mean(dim=0)

    return embed


def convolutional(method: GANDL) -> Callable[[Tensor], Tensor]:
    D = method.discriminator

    def embed(site: Tensor) -> Tensor:
        x = D.maps(method.see(site[None]))[-1]
        stddev = D.real_stddev.expand(1, 1, *x.shape[2:])
        a = F.leaky_relu(D.conv(torch.cat([x, stddev], dim=1)), SLOPE)
        small = method.config.network.smallest
        windows = F.avg_pool2d(a, small, small // 2)[0].flatten(1).T  # of half-overlapping windows: [PF]
        return F.leaky_relu(D.dense(windows), SLOPE).mean(dim=0)

    return embed


@torch.no_grad()
def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    shards = Shards(args.shards)
    method, _ = open_method(str(args.weights), shards.channels)
    ways = {"overlapping": by_crops(method, True), "side by side": by_crops(method, False)}
    if isinstance(method, GANDL) and method.config.network.head == "pool" and method.config.tap == "penultimate":
        ways["convolutional"] = convolutional(method)
    print("| pixels | way | sites/s | ratio | correlation: median | 5 % of features below |")
    print("|---|---|---|---|---|---|")
    for pixels in args.pixels:
        random = np.random.default_rng(args.seed)
        found, seconds = {way: [] for way in ways}, {way: [] for way in ways}
        for _ in range(args.mosaics):
            site = mosaic(shards, pixels, random)
            for way, embed in ways.items():
                begun = time.perf_counter()
                found[way].append(embed(site).numpy())
                seconds[way].append(time.perf_counter() - begun)
        exact = np.stack(found["overlapping"])
        for way in ways:
            pairs = zip(np.stack(found[way]).T, exact.T, strict=True)
            agreement = [np.corrcoef(a, b)[0, 1] for a, b in pairs]
            ratio = statistics.median(o / s for o, s in zip(seconds["overlapping"], seconds[way], strict=True))
            rate, low = 1 / statistics.median(seconds[way]), np.quantile(agreement, 0.05)
            row = f"| {pixels} | {way} | {rate:.2f} | {ratio:.1f} | {np.median(agreement):.4f} | {low:.3f} |"
            print(row, flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
