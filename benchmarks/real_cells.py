"""Does training make GAN-DL better at real cells? Every network beside itself untrained, on BBBC021's mechanisms.

    gandl shard $GANDL_DATA/bbbc021/fields fields.zarr
    gandl shard $GANDL_DATA/bbbc013 plate.zarr
    gandl shard $GANDL_DATA/bbbc021/cells cells.zarr
    nice -n 15 python benchmarks/real_cells.py fields.zarr OUT --plate plate.zarr --cells cells.zarr

55 treatments of the fields, each given the mechanism of the one most like it by cosine, other compounds only (NSC):
networks of quick32's size, one setting changed at a time, before their first step and after so many crops, several
seeds. Each is read layer by layer, with global or plate-wise z-scores, all features or their first 15 principal
components. `--cells` asks the same of single cells, with the network of chapter 07 (cell48). `--plate` adds the same
choices on BBBC013 (Z' of its controls), with the shipped network that was trained there: what is chosen on one of the
two can be judged on the other.

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
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import tyro

from gandl_lib import checkpoints, files, shards
from gandl_lib.embed import open_method
from gandl_lib.evaluate import svm
from gandl_lib.evaluate.moa import PROTOCOLS, leading, nearest, treatments, z_scored
from gandl_lib.methods import lookup
from gandl_lib.methods.contrad import PRESETS as CONTRAD
from gandl_lib.methods.gandl import PRESETS, GANDLConfig
from gandl_lib.screen.quality import z_prime
from gandl_lib.shards import Shards
from gandl_lib.train import TrainConfig, train
from gandl_lib.views import crop_grid, scale

BASE = PRESETS["quick32"]
LARGE = replace(BASE, batch=16, network=replace(BASE.network, resolution=64, width_base=1024))
VARIANTS = {
    "default": ("gandl", BASE, 1),
    "half resolution": ("gandl", BASE, 2),
    "crops of 64 px": ("gandl", LARGE, 1),
    "ContraD": ("contrad", CONTRAD["quick32"], 1),
}
"""Method, configuration, and by how much the fields are shrunk first."""
REFERENCES = ("texture", "intensity", "cell-count")
COMPONENTS = (0, 15)
"""Principal components kept; 0: all features."""
HEADER = ("dataset", "variant", "n_seen", "seed", "layer", "normalisation", "components", "protocol", "correct", "of",
          "z_prime")  # fmt: skip


@dataclass(frozen=True)
class Args:
    fields: tyro.conf.Positional[Path]
    out: tyro.conf.Positional[Path]
    cells: Path | None = None
    plate: Path | None = None
    plate_weights: Path = Path("weights/gandl-bbbc013.safetensors")
    images: tuple[int, ...] = (3_000, 6_000, 12_000, 24_000, 60_000)
    cells_images: tuple[int, ...] = (4_096,)
    cells_seeds: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (0, 1, 2)
    untrained: int = 6
    """Seeds of the untrained networks: their spread is what a difference has to exceed."""
    variants: tuple[str, ...] = ("default", "half resolution")
    plate_variants: tuple[str, ...] = ()
    """Trained on the plate as well, to be judged where they were not looked for."""
    plate_images: tuple[int, ...] = (6_000,)
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
    """Crops along the side: 4 of BBBC021's fields, whole or shrunk, 10 of BBBC013's; a single cell is one."""
    return 1 if "site_of" in store.wells else max(4, min(store.shape[1:]) // 64)


def shrunk(store: Shards, by: int, out: Path) -> Shards:
    """The same fields with pixels `by` times as large, as a store of its own."""
    if by == 1:
        return store
    fingerprint = shards.fingerprint([store.fingerprint, by])
    if not shards.is_written(out, fingerprint):
        place = {site: i for i, site in enumerate(store.wells["site_id"])}

        def read(row) -> np.ndarray:
            image = torch.from_numpy(store.read(place[row.site_id])).float()
            return F.avg_pool2d(image, by).round().to(torch.uint8).numpy()

        attributes = {
            "format": shards.FORMAT,
            "layout": store.layout,
            "simulated": store.simulated,
            "channels": list(store.channels),
            "pixel_um": store.pixel_um * by,
            "plates": list(store.wells["plate_id"].unique()),
            "fingerprint": fingerprint,
        }
        shards.pack(out, attributes, store.wells, store.skipped, read)
    return Shards(out)


# ---- what is asked ----


def by_plate(X: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """z-scores within each plate."""
    Z = np.empty(X.shape)
    for one in np.unique(plate):
        Z[plate == one] = z_scored(X[plate == one])
    return Z


def components(X: np.ndarray, n: int) -> np.ndarray:
    """Rows on their first `n` principal components; 0: as they are."""
    return leading(X, n) if 0 < n < X.shape[1] else X


def mechanisms(X: np.ndarray, wells: pd.DataFrame) -> Iterator[dict]:
    """Treatments right, by both protocols and every choice of normalisation and components.

    Fields are averaged to wells first.
    """
    codes = pd.factorize(wells["well_id"])[0]
    X = pd.DataFrame(X).groupby(codes).mean().to_numpy()
    wells = wells.drop_duplicates("well_id")
    for normalisation, Z in {"global": z_scored(X), "plate": by_plate(X, wells["plate_id"].to_numpy())}.items():
        for n in COMPONENTS:
            mean, table = treatments(components(Z, n), wells)
            moa = table["moa"].to_numpy()
            for protocol in PROTOCOLS:
                place, possible = nearest(mean, table, protocol)
                right = int((moa[place] == moa)[possible].sum())
                yield {"normalisation": normalisation, "components": n, "protocol": protocol, "correct": right,
                       "of": int(possible.sum())}  # fmt: skip


def controls(X: np.ndarray, wells: pd.DataFrame) -> Iterator[dict]:
    """Z' of BBBC013's controls, each scored by a linear classifier of the others, along its unit normal."""
    known = wells["role"].isin(["C+", "C-"]).to_numpy()
    positive = wells["role"].to_numpy()[known] == "C+"
    Z = z_scored(X)
    for n in COMPONENTS:
        P, score = components(Z, n)[known], np.zeros(known.sum())
        for i in range(len(P)):
            rest = np.arange(len(P)) != i
            model = svm.fit(P[rest], positive[rest], svm.DEFAULT_COST)
            score[i] = model.decision_function(P[[i]])[0] / np.linalg.norm(model.svm.coef_)
        value = z_prime(score[positive], score[~positive])
        yield {"normalisation": "global", "components": n, "protocol": "controls", "z_prime": value}


# ---- the run ----


def networks(args: Args) -> Iterator[tuple[str, int, int, dict[str, np.ndarray]]]:
    """Variant, crops seen, seed and features on the fields: references, untrained networks, then ever longer runs."""
    fields, folder = Shards(args.fields), args.out / "features"
    fields.preload(max_bytes=4 * 2**30)
    for name in REFERENCES:
        yield name, 0, 0, files.kept(folder / f"{name}.npz", lambda name=name: layers(built(name, None, 0, 3), fields))
    stores = {}
    for variant in args.variants:
        method, config, by = VARIANTS[variant]
        stores[variant] = shrunk(fields, by, args.out / f"fields-{by}.zarr")
        stores[variant].preload(max_bytes=4 * 2**30)
        lookup(method)[0].presets[variant] = config  # `train` knows presets by their names
        for seed in range(args.untrained):
            file = folder / f"{plain(variant)}-{seed}-0.npz"
            found = files.kept(file, lambda m=method, c=config, s=seed, v=variant: layers(built(m, c, s, 3), stores[v]))
            yield variant, 0, seed, found
    for n_seen, variant, seed in product(args.images, args.variants, args.seeds):
        method, run = VARIANTS[variant][0], args.out / "runs" / f"{plain(variant)}-{seed}"

        def trained(variant=variant, method=method, run=run, n_seen=n_seen, seed=seed) -> dict[str, np.ndarray]:
            options = TrainConfig(n_seen, ticks=1, seed=seed)
            weights = train(method, stores[variant], run, preset=variant, config=options)
            return layers(checkpoints.load_weights(weights)[0], stores[variant])

        yield variant, n_seen, seed, files.kept(folder / f"{plain(variant)}-{seed}-{n_seen}.npz", trained)


def of_cells(args: Args) -> Iterator[tuple[str, int, int, dict[str, np.ndarray]]]:
    """The same on single cells."""
    store, folder, config = Shards(args.cells), args.out / "features", PRESETS["cell48"]
    store.preload(max_bytes=4 * 2**30)
    for name in REFERENCES[:2]:
        file = folder / f"cells-{name}.npz"
        yield name, 0, 0, files.kept(file, lambda name=name: layers(built(name, None, 0, 3), store))
    for seed in range(args.untrained):
        file = folder / f"cells-{seed}-0.npz"
        yield "cell48", 0, seed, files.kept(file, lambda s=seed: layers(built("gandl", config, s, 3), store))
    for n_seen, seed in product(args.cells_images, args.cells_seeds):

        def trained(n_seen=n_seen, seed=seed) -> dict[str, np.ndarray]:
            run, options = args.out / "runs" / f"cells-{seed}", TrainConfig(n_seen, ticks=1, seed=seed)
            weights = train("gandl", store, run, preset="cell48", config=options)
            return layers(checkpoints.load_weights(weights)[0], store)

        yield "cell48", n_seen, seed, files.kept(folder / f"cells-{seed}-{n_seen}.npz", trained)


def of_plate(args: Args) -> Iterator[tuple[str, int, int, dict[str, np.ndarray]]]:
    """The same on BBBC013: the shipped network, and the same configuration untrained."""
    plate, folder = Shards(args.plate), args.out / "features"
    shipped, header = open_method(str(args.plate_weights), plate.channels)
    file = folder / "bbbc013-shipped.npz"
    yield "shipped", header["n_seen"], header["seed"], files.kept(file, lambda: layers(shipped, plate))
    for seed in range(args.untrained):
        file = folder / f"bbbc013-{seed}-0.npz"
        found = files.kept(file, lambda s=seed: layers(built("gandl", shipped.config, s, len(plate.channels)), plate))
        yield "shipped", 0, seed, found
    for variant in args.plate_variants:
        yield from of_plate_trained(args, plate, variant)


def of_plate_trained(args: Args, plate: Shards, variant: str) -> Iterator[tuple[str, int, int, dict[str, np.ndarray]]]:
    """A variant untrained and trained on BBBC013 as it is, whatever the variant shrinks."""
    method, config, _ = VARIANTS[variant]
    lookup(method)[0].presets[variant] = config
    plate.preload(max_bytes=4 * 2**30)
    for seed in range(args.untrained):
        file = args.out / "features" / f"bbbc013-{plain(variant)}-{seed}-0.npz"
        yield (
            variant,
            0,
            seed,
            files.kept(file, lambda s=seed: layers(built(method, config, s, len(plate.channels)), plate)),
        )
    for n_seen, seed in product(args.plate_images, args.seeds):

        def trained(n_seen=n_seen, seed=seed) -> dict[str, np.ndarray]:
            run, options = (
                args.out / "runs" / f"bbbc013-{plain(variant)}-{seed}",
                TrainConfig(n_seen, ticks=1, seed=seed),
            )
            return layers(checkpoints.load_weights(train(method, plate, run, preset=variant, config=options))[0], plate)

        file = args.out / "features" / f"bbbc013-{plain(variant)}-{seed}-{n_seen}.npz"
        yield variant, n_seen, seed, files.kept(file, trained)


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
    parts = [("bbbc021-fields", mechanisms, Shards(args.fields).wells, networks(args))]
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
