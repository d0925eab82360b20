"""CytoGAN's exam on real cells: the recorded rows of chapter 07, moa.csv for parts of BBBC021.

    python benchmarks/real_mechanisms.py cells.zarr OUT --fields fields.zarr --features OUT_OF_REAL_CELLS

`cells.zarr` and `fields.zarr` are made by `gandl shard $GANDL_DATA/bbbc021/cells` and `.../fields`. On the single cells
the four CytoGAN models and GAN-DL train on equally many and stand beside themselves untrained; on the fields GAN-DL's
rows are those of `real_cells.py` (its default variant and first seed, after as many crops as it has come to). Besides
the tables OUT gets `fields_texture.csv`: the texture statistics of every well of the fields, small enough to travel
with the book.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro
from anndata import AnnData

from gandl_lib import checkpoints, files
from gandl_lib.embed import embed_taps
from gandl_lib.evaluate.moa import compare
from gandl_lib.methods import lookup
from gandl_lib.profiles import aggregate
from gandl_lib.shards import Shards
from gandl_lib.train import TrainConfig, train

LEARNT = {"dcgan": "small", "vae": "small", "gandl": "cell48", "lsgan": "small", "wgan-gp": "small"}
BESIDE = ("texture", "intensity")
ORDER = ("dcgan", "lsgan", "wgan-gp", "vae", "gandl", "gandl-blocks", "dcgan-random", "vae-random", "gandl-random",
         "gandl-random-blocks", "texture", "intensity", "cell-count")  # fmt: skip
"""In which rows stand. The three GANs of CytoGAN begin with the same network: one untrained row serves them."""


@dataclass(frozen=True)
class Args:
    cells: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    fields: Path | None = None
    features: Path | None = None
    images: int = 4096
    seed: int = 0


def built(name: str, preset: str | None, seed: int) -> torch.nn.Module:
    cls, config = lookup(name, preset)
    torch.manual_seed(seed)
    return cls(config, 3)


def read(method: torch.nn.Module, name: str, store: Shards) -> Iterator[AnnData]:
    """Profiles of every cell, and of GAN-DL also from all its blocks."""
    taps = ("penultimate", "blocks") if method.taps else (None,)
    found = embed_taps(method, store, taps, provenance={"method": name}, progress=False)
    for tap, profiles in found.items():
        called = f"{name}-blocks" if tap == "blocks" else name
        profiles.uns["provenance"] = json.dumps(json.loads(profiles.uns["provenance"]) | {"method": called})
        yield profiles


def of_cells(args: Args) -> Iterator[AnnData]:
    store = Shards(args.cells)
    store.preload(max_bytes=2**30)
    for name in BESIDE:
        yield from read(built(name, None, args.seed), name, store)
    for name in ("dcgan", "vae", "gandl"):
        yield from read(built(name, LEARNT[name], args.seed), f"{name}-random", store)
    for name, preset in LEARNT.items():
        config = TrainConfig(args.images, ticks=4, seed=args.seed)
        weights = train(name, store, args.out / "runs" / name, preset=preset, config=config)
        yield from read(checkpoints.load_weights(weights)[0], name, store)


def of_fields(args: Args) -> Iterator[AnnData]:
    """From the features that `real_cells.py` kept."""
    wells = Shards(args.fields).wells
    folder = args.features / "features"
    longest = max(int(path.stem.rpartition("-")[2]) for path in folder.glob("default-0-*.npz"))
    sources = {name: (name, "") for name in ("texture", "intensity", "cell-count")}
    for row, n_seen in {"gandl-random": 0, "gandl": longest}.items():
        sources |= {row: (f"default-0-{n_seen}", "penultimate"), f"{row}-blocks": (f"default-0-{n_seen}", "all blocks")}
    for row, (file, layer) in sources.items():
        with np.load(folder / f"{file}.npz") as found:
            profiles = AnnData(found[layer], obs=wells.set_axis(wells.index.astype(str)))
        n_seen = longest if row in ("gandl", "gandl-blocks") else 0
        profiles.uns["provenance"] = json.dumps({"method": row, "simulated": False, "n_seen": n_seen})
        if row == "texture":
            written = aggregate(profiles, "well_id")
            columns = ["well_id", "plate_id", "batch", "compound", "concentration_uM", "moa"]
            table = pd.concat([written.obs[columns].reset_index(drop=True), pd.DataFrame(written.X)], axis=1)
            files.write(args.out / "fields_texture.csv", table.to_csv(index=False, float_format="%.6g"))
        yield profiles


def main(args: Args) -> None:
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    parts = {"bbbc021-cells": list(of_cells(args))}
    if args.fields:
        parts["bbbc021-fields"] = list(of_fields(args))
    scores, seen = [], {}
    for dataset, profiles in parts.items():
        made = [json.loads(p.uns["provenance"]) for p in profiles]
        seen[dataset] = {one["method"]: one.get("n_seen") for one in made}
        in_order = [profiles[i] for i in sorted(range(len(made)), key=lambda i: ORDER.index(made[i]["method"]))]
        scores.append(compare(in_order, args.seed, dataset)[0])
    files.write(args.out / "moa_real_cells.csv", pd.concat(scores).to_csv(index=False, float_format="%.4g"))
    record = {
        "command": shlex.join(["python", *sys.argv]),
        "finished": time.strftime("%Y-%m-%d"),
        "simulated": False,
        "seed": args.seed,
        "cells_seen_in_training": args.images,
        "crops_seen": seen.get("bbbc021-fields", {}),
        **checkpoints.environment(),
    }
    files.write(args.out / "moa_real_cells.provenance.json", json.dumps(record, indent=1) + "\n")
    print(pd.concat(scores).to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
