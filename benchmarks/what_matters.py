"""What makes a discriminator's features good: one choice changed at a time, everything else as in the default preset.

    python benchmarks/what_matters.py SCREEN.zarr OUT --images 10000

Each variant trains in OUT/runs/<variant> on the same images in the same order and is scored as Table 1 is (C+ vs C-,
wells and plates held out), at both taps, trained and before its first step. A row is written as soon as it is known and
not computed again; an interrupted variant goes on where it was. To be run on a screen that no choice was made on.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro

from gandl_lib import checkpoints
from gandl_lib.embed import embed
from gandl_lib.evaluate.separability import TASKS, separability
from gandl_lib.methods.gandl import GANDL, PRESETS, GANDLConfig
from gandl_lib.methods.intensity import Intensity, IntensityConfig
from gandl_lib.nn.stylegan2 import TAPS, StyleGAN2Config
from gandl_lib.shards import Shards
from gandl_lib.train import TrainConfig, train

BASE = PRESETS["quick32"]


def network(**changes) -> GANDLConfig:
    return replace(BASE, network=replace(BASE.network, **changes))


VARIANTS: dict[str, tuple[GANDLConfig, dict]] = {
    "default": (BASE, {}),
    "learning rate 1e-4 (paper)": (replace(BASE, learning_rate=1e-4), {}),
    "head flattened (StyleGAN2)": (network(head="flatten"), {}),
    "crops of 64 px": (replace(network(resolution=64, width_base=1024), batch=16), {}),
    "crops of 64 px, head flattened": (
        replace(network(resolution=64, width_base=1024, head="flatten"), batch=16),
        {},
    ),
    "R1 weight x 10": (replace(BASE, r1_gamma=10 * BASE.gamma), {}),
    "R1 weight / 10": (replace(BASE, r1_gamma=BASE.gamma / 10), {}),
    "no Lipschitz penalty": (replace(BASE, lipschitz_weight=0.0), {}),
    "arcsinh scaling": (replace(BASE, arcsinh=8.0), {}),
    "no turns and flips": (BASE, {"rotate": False}),
    "twice as wide": (network(width_base=1024, width_max=256), {}),
    "batch 16": (replace(BASE, batch=16), {}),
    "adaptive augmentation": (replace(BASE, ada_target=0.6, ada_kimg=20.0), {}),
    "bf16": (BASE, {"precision": "bf16-mixed"}),
}


@dataclass(frozen=True)
class Args:
    shards: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    images: int = 10_000
    seed: int = 0
    threads: int = 1
    variants: tuple[str, ...] = tuple(VARIANTS)


class AllTaps(torch.nn.Module):
    """A GAN-DL read at every tap in one pass, side by side."""

    def __init__(self, method: GANDL):
        super().__init__()
        self.method, self.crop_px = method, method.crop_px

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.method.discriminator.maps(self.method.see(images))
        return torch.cat([self.method.discriminator.read(maps, tap) for tap in TAPS], dim=1)


def score(method: torch.nn.Module, shards: Shards, args: Args, widths: dict[str, int]) -> pd.DataFrame:
    """Rows of separability.csv for C+ vs C- on all control sites, for each tap (its number of features)."""
    controls = shards.wells["role"].isin(["C+", "C-"]).to_numpy()
    found = embed(method, shards, provenance={"method": ""}, sites=controls, progress=False)
    ends = np.cumsum(list(widths.values()))
    taps = {tap: found[:, end - width : end].copy() for (tap, width), end in zip(widths.items(), ends, strict=True)}
    task = {"C+ vs C-": TASKS["C+ vs C-"]}
    tables = [separability(p, tasks=task, seed=args.seed, shuffled=False).assign(tap=t) for t, p in taps.items()]
    return pd.concat(tables).drop(columns=["method", "task", "normalisation"])


def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    shards = Shards(args.shards)
    shards.preload(max_bytes=4 * 2**30)
    channels = len(shards.channels)
    file = args.out / "what_matters.csv"
    rows = [pd.read_csv(file, keep_default_na=False)] if file.exists() else []

    def add(variant: str, n_seen: int, minutes: float, method: torch.nn.Module, widths: dict[str, int]) -> None:
        found = score(method, shards, args, widths)
        found.insert(0, "variant", variant), found.insert(1, "n_seen", n_seen), found.insert(2, "minutes", minutes)
        rows.append(found)
        print(found.to_string(index=False, float_format="%.3f"), flush=True)

    if not rows:
        intensity = Intensity(IntensityConfig(), channels)
        add("intensity", 0, 0.0, intensity, {"": intensity.embed(torch.zeros(1, channels, 8, 8)).shape[1]})
    untrained: dict[tuple[StyleGAN2Config, float | None], pd.DataFrame] = {}
    for variant in args.variants:
        if any((table["variant"] == variant).any() for table in rows):
            continue
        config, options = VARIANTS[variant]
        PRESETS[variant] = config  # `train` knows presets by their names
        run = args.out / "runs" / "".join(c if c.isalnum() else "-" for c in variant)
        torch.manual_seed(args.seed)
        fresh = GANDL(config, channels)
        widths = {tap: fresh.discriminator.features(torch.zeros(1, channels, *[fresh.crop_px] * 2), tap).shape[1]
                  for tap in TAPS}  # fmt: skip
        looks = config.network, config.arcsinh
        if looks in untrained:
            rows.append(untrained[looks].assign(variant=variant))
        else:
            add(variant, 0, 0.0, AllTaps(fresh), widths)
            untrained[looks] = rows[-1]
        weights = train("gandl", shards, run, preset=variant, config=TrainConfig(args.images, 1, args.seed, **options))
        trained, header = checkpoints.load_weights(weights)
        add(variant, header["n_seen"], header["minutes"], AllTaps(trained), widths)
        partial = file.with_suffix(".partial")
        pd.concat(rows).to_csv(partial, index=False, float_format="%.5g")
        partial.replace(file)
    record = {
        "command": shlex.join(["python", *sys.argv]),
        "screen": {"simulated": shards.simulated, "sites": len(shards)},
        "seed": args.seed,
        "threads": args.threads,
        "finished": time.strftime("%Y-%m-%d"),
        **checkpoints.environment(),
    }
    (args.out / "what_matters.provenance.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
