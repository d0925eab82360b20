"""What makes a discriminator's features good: one choice changed at a time, everything else as in the default preset.

    python benchmarks/what_matters.py SCREEN.zarr OUT --images 16000

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

import pandas as pd
import torch
import tyro

from gandl_lib import checkpoints
from gandl_lib.embed import embed
from gandl_lib.evaluate.separability import TASKS, separability
from gandl_lib.methods.gandl import GANDL, PRESETS, GANDLConfig
from gandl_lib.methods.intensity import Intensity, IntensityConfig
from gandl_lib.nn.stylegan2 import TAPS
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
    "R1 weight x 10": (replace(BASE, r1_gamma=10 * BASE.gamma), {}),
    "R1 weight / 10": (replace(BASE, r1_gamma=BASE.gamma / 10), {}),
    "no Lipschitz penalty": (replace(BASE, lipschitz_weight=0.0), {}),
    "no turns and flips": (BASE, {"rotate": False}),
    "twice as wide": (network(width_base=1024, width_max=256), {}),
    "batch 16": (replace(BASE, batch=16), {}),
}


@dataclass(frozen=True)
class Args:
    shards: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    images: int = 16_000
    seed: int = 0
    threads: int = 1
    variants: tuple[str, ...] = tuple(VARIANTS)


def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    shards = Shards(args.shards)
    shards.preload(max_bytes=4 * 2**30)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "what_matters.csv"
    rows = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=["variant"])
    if "intensity" not in set(rows["variant"]):
        found = score(Intensity(IntensityConfig(), len(shards.channels)), shards, args.seed)
        rows = found.assign(variant="intensity", n_seen=0, tap="", minutes=0.0)
    for variant in args.variants:
        if variant in set(rows["variant"]):
            continue
        config, options = VARIANTS[variant]
        PRESETS[variant] = config  # `train` knows presets by their names
        run = args.out / "runs" / "".join(c if c.isalnum() else "-" for c in variant)
        weights = train("gandl", shards, run, preset=variant, config=TrainConfig(args.images, 4, args.seed, **options))
        trained, header = checkpoints.load_weights(weights)
        torch.manual_seed(args.seed)
        untrained = GANDL(config, len(shards.channels))
        for method, n_seen, minutes in ((untrained, 0, 0.0), (trained, header["n_seen"], header["minutes"])):
            for tap in TAPS:
                method.config = replace(method.config, tap=tap)
                found = score(method, shards, args.seed)
                rows = pd.concat([rows, found.assign(variant=variant, n_seen=n_seen, tap=tap, minutes=minutes)])
        print(rows[rows["variant"] == variant].drop(columns=["method", "task"]).to_string(index=False), flush=True)
        partial = file.with_suffix(".partial")
        first = ["variant", "n_seen", "tap"]
        rows[first + [c for c in rows if c not in first]].to_csv(partial, index=False, float_format="%.5g")
        partial.replace(file)
    record = {
        "command": shlex.join(sys.argv),
        "screen": {"simulated": shards.simulated, "sites": len(shards)},
        "seed": args.seed,
        "threads": args.threads,
        "finished": time.strftime("%Y-%m-%d"),
        **checkpoints.environment(),
    }
    (args.out / "what_matters.provenance.json").write_text(json.dumps(record, indent=1) + "\n")


def score(method: torch.nn.Module, shards: Shards, seed: int) -> pd.DataFrame:
    """The rows of separability.csv for C+ vs C-, on all control sites."""
    controls = shards.wells["role"].isin(["C+", "C-"]).to_numpy()
    profiles = embed(method, shards, provenance={"method": "x"}, sites=controls, progress=False)
    return separability(profiles, tasks={"C+ vs C-": TASKS["C+ vs C-"]}, seed=seed, shuffled=False)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
