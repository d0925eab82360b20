"""Does training make GAN-DL better at real cells? Every network beside itself untrained, on BBBC021's mechanisms.

    gandl shard $GANDL_DATA/bbbc021/fields fields.zarr
    gandl shard $GANDL_DATA/bbbc013 plate.zarr
    gandl shard $GANDL_DATA/bbbc021/cells cells.zarr
    nice -n 15 python benchmarks/real_cells.py fields.zarr OUT --plate plate.zarr --cells cells.zarr

55 treatments of the fields, each given the mechanism of the one most like it by cosine, other compounds only (NSC):
networks of quick32's size, one setting changed at a time, before their first step and after so many crops, several
seeds. Each is read layer by layer, with z-scores over all wells or over a plate's, or sphered on all wells. `--cells`
asks the same of single cells, with the network of chapter 07 (cell48). `--plate` asks the same choices on BBBC013 (Z'
of its controls), by networks that were trained there: what is chosen on one of the two can be judged on the other.

Features are kept in OUT, training resumes, and the tables are written anew after each network: the same command goes on
where it was, and a longer list of `--images` extends what is there. Each field is seen by 16 crops (BBBC013's by 100),
as they lie.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import tyro

from gandl_lib import checkpoints, files
from gandl_lib.evaluate import svm
from gandl_lib.evaluate.moa import PROTOCOLS, nearest, sphered_on_all, treatments, z_scored
from gandl_lib.methods import lookup
from gandl_lib.methods.contrad import PRESETS as CONTRAD
from gandl_lib.methods.gandl import PRESETS, GANDLConfig
from gandl_lib.screen.quality import z_prime
from gandl_lib.shards import Shards
from gandl_lib.train import TrainConfig, train
from gandl_lib.views import crop_grid, scale

VARIANTS = {
    "default": ("gandl", PRESETS["quick32"]),
    "crops of 64 px": ("gandl", PRESETS["quick64"]),
    "cell48": ("gandl", PRESETS["cell48"]),
    "ContraD": ("contrad", CONTRAD["quick32"]),
}
REFERENCES = ("texture", "intensity", "cell-count")
HEADER = ("dataset", "variant", "n_seen", "seed", "layer", "normalisation", "protocol", "correct", "of", "z_prime")


@dataclass(frozen=True)
class Args:
    fields: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    cells: Path | None = None
    plate: Path | None = None
    images: tuple[int, ...] = (6_000, 12_000, 24_000)
    cells_images: tuple[int, ...] = (4_096,)
    seeds: tuple[int, ...] = (0, 1, 2)
    untrained: int = 6
    """Seeds of the untrained networks: their spread is what a difference has to exceed."""
    variants: tuple[str, ...] = ("default", "crops of 64 px", "ContraD")
    plate_variants: tuple[str, ...] = ("default", "crops of 64 px")
    plate_images: tuple[int, ...] = (6_000, 12_000)
    threads: int = 1


# ---- features ----


@torch.no_grad()
def layers(method: torch.nn.Module, store: Shards) -> dict[str, np.ndarray]:
    """(N, D) float32 of every site at every layer: means over its crops."""
    method.eval()
    found: dict[str, list[torch.Tensor]] = {}
    size = method.crop_px
    for start in range(0, len(store), 4):
        images = scale(torch.from_numpy(store.read_many(np.arange(start, min(start + 4, len(store))))), store.limits)
        if size is None:
            read = {"": method.embed(images)}
        else:
            maps = method.discriminator.maps(method.see(crop_grid(images, size, per_side(store))))
            read = {f"block {k}": method.discriminator.read([m], "blocks") for k, m in enumerate(maps, 1)}
            read["all blocks"] = torch.cat(list(read.values()), dim=1)
            read["penultimate"] = method.discriminator.read(maps, "penultimate")
        for layer, x in read.items():
            found.setdefault(layer, []).append(x.float().unflatten(0, (len(images), -1)).mean(1))
    return {layer: torch.cat(parts).numpy() for layer, parts in found.items()}


def per_side(store: Shards) -> int:
    """Crops along the side: 4 of BBBC021's fields, 10 of BBBC013's; a single cell is one."""
    return 1 if "site_of" in store.wells else max(4, min(store.shape[1:]) // 64)


# ---- what is asked ----


def by_plate(X: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """z-scores within each plate."""
    Z = np.empty(X.shape)
    for one in np.unique(plate):
        Z[plate == one] = z_scored(X[plate == one])
    return Z


def mechanisms(X: np.ndarray, wells: pd.DataFrame) -> Iterator[dict]:
    """Treatments right, by both protocols and every normalisation; fields are averaged to wells first."""
    codes = pd.factorize(wells["well_id"])[0]
    X = pd.DataFrame(X).groupby(codes).mean().to_numpy()
    wells = wells.drop_duplicates("well_id")
    plates = by_plate(X, wells["plate_id"].to_numpy())
    for normalisation, Z in {"global": z_scored(X), "plate": plates, "sphered": sphered_on_all(X)}.items():
        mean, table = treatments(Z, wells)
        moa = table["moa"].to_numpy()
        for protocol in PROTOCOLS:
            place, possible = nearest(mean, table, protocol)
            right = int((moa[place] == moa)[possible].sum())
            yield {"normalisation": normalisation, "protocol": protocol, "correct": right, "of": int(possible.sum())}


def controls(X: np.ndarray, wells: pd.DataFrame) -> Iterator[dict]:
    """Z' of BBBC013's controls, each scored by a linear classifier of the others, along its unit normal."""
    known = wells["role"].isin(["C+", "C-"]).to_numpy()
    positive = wells["role"].to_numpy()[known] == "C+"
    for normalisation, Z in {"global": z_scored(X), "sphered": sphered_on_all(X)}.items():
        P, score = Z[known], np.zeros(known.sum())
        for i in range(len(P)):
            rest = np.arange(len(P)) != i
            model = svm.fit(P[rest], positive[rest], svm.DEFAULT_COST)
            score[i] = model.decision_function(P[[i]])[0] / np.linalg.norm(model.svm.coef_)
        value = z_prime(score[positive], score[~positive])
        yield {"normalisation": normalisation, "protocol": "controls", "z_prime": value}


# ---- the run ----


Network = tuple[str, int, int, dict[str, np.ndarray]]
"""Variant, crops seen, seed, and features by layer."""


def of_fields(args: Args) -> Iterator[Network]:
    fields = Shards(args.fields)
    yield from references(args, fields)
    yield from trainings(args, fields, args.variants, args.images)


def of_plate(args: Args) -> Iterator[Network]:
    plate = Shards(args.plate)
    yield from references(args, plate, "bbbc013-")
    yield from trainings(args, plate, args.plate_variants, args.plate_images, "bbbc013-")


def of_cells(args: Args) -> Iterator[Network]:
    cells = Shards(args.cells)
    yield from references(args, cells, "cells-", REFERENCES[:2])  # each counts one cell
    yield from trainings(args, cells, ("cell48",), args.cells_images, "cells-")


def references(args: Args, store: Shards, prefix: str = "", names: tuple[str, ...] = REFERENCES) -> Iterator[Network]:
    store.preload(max_bytes=4 * 2**30)
    for name in names:
        file = args.out / "features" / f"{prefix}{name}.npz"
        found = files.kept(file, lambda n=name: layers(built(n, None, 0, len(store.channels)), store))
        yield name, 0, 0, found


def trainings(
    args: Args, store: Shards, variants: tuple[str, ...], images: tuple[int, ...], prefix: str = ""
) -> Iterator[Network]:
    """Every variant untrained, then ever longer runs."""
    folder = args.out / "features"
    for variant in variants:
        method, config = VARIANTS[variant]
        lookup(method)[0].presets[variant] = config  # `train` knows presets by their names
        for seed in range(args.untrained):

            def untrained(method=method, config=config, seed=seed) -> dict[str, np.ndarray]:
                return layers(built(method, config, seed, len(store.channels)), store)

            yield variant, 0, seed, files.kept(folder / f"{prefix}{plain(variant)}-{seed}-0.npz", untrained)
    for n_seen, variant, seed in product(images, variants, args.seeds):
        name = f"{prefix}{plain(variant)}-{seed}"

        def trained(variant=variant, name=name, n_seen=n_seen, seed=seed) -> dict[str, np.ndarray]:
            run, options = args.out / "runs" / name, TrainConfig(n_seen, ticks=1, seed=seed)
            weights = train(VARIANTS[variant][0], store, run, preset=variant, config=options)
            return layers(checkpoints.load_weights(weights)[0], store)

        yield variant, n_seen, seed, files.kept(folder / f"{name}-{n_seen}.npz", trained)


def built(method: str, config: GANDLConfig | None, seed: int, channels: int) -> torch.nn.Module:
    """A method before its first step."""
    cls, default = lookup(method)
    torch.manual_seed(seed)
    return cls(config or default, channels)


def plain(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    if unknown := {*args.variants, *args.plate_variants} - set(VARIANTS):
        raise ValueError(f"unknown variant(s) {', '.join(sorted(unknown))}; there are {', '.join(VARIANTS)}.")
    parts = [("bbbc021-fields", mechanisms, Shards(args.fields).wells, of_fields(args))]
    if args.cells:
        parts.insert(0, ("bbbc021-cells", mechanisms, Shards(args.cells).wells, of_cells(args)))
    if args.plate:
        parts.insert(0, ("bbbc013", controls, Shards(args.plate).wells, of_plate(args)))
    rows: list[dict] = []
    for dataset, ask, wells, found in parts:
        for variant, n_seen, seed, features in found:
            who = {"dataset": dataset, "variant": variant, "n_seen": n_seen, "seed": seed}
            for layer, X in features.items():
                rows += [who | {"layer": layer} | answer for answer in ask(X, wells)]
            table = pd.DataFrame(rows).reindex(columns=list(HEADER))
            files.write(args.out / "real_cells.csv", table.to_csv(index=False, float_format="%.4g"))
            record = {
                "command": shlex.join(["python", *sys.argv]),
                "finished": time.strftime("%Y-%m-%d"),
                "simulated": False,
                **checkpoints.environment(),
            }
            files.write(args.out / "real_cells.provenance.json", json.dumps(record, indent=1) + "\n")
            print(time.strftime("%H:%M:%S"), *who.values(), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
