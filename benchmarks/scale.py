"""Speed and memory of every stage at N and at 4 N sites: the first must not fall, the second must not grow.

Every stage runs in a process of its own, on one core, over a screen in RxRx19a's layout. A few sites are simulated; the
others are hard links to them, so that the decoder sees real files and making them takes no time. `MB` is the largest
resident memory beyond what the imports took, and `kB a site` how much of it three more N sites added: the table of
wells and, for `embed`, the profiles; a site of 128 pixels is 82 kB. `parts` is `embed` in parts, one after the other.

    python benchmarks/scale.py --pixels 128 --sites 256 --method gandl-random --preset quick32
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tyro

STAGES = ("decode", "shard", "read", "embed", "parts", "join")


@dataclass(frozen=True)
class Args:
    pixels: int = 128
    sites: int = 256  # more than a batch or a shard holds, or memory still grows with these
    parts: int = 4
    method: str = "intensity"
    preset: str | None = None


def make(folder: Path, sites: int, pixels: int) -> Path:
    """A screen of `sites` sites of which eight are different; its folder."""
    from gandl_lib.simulate import screens as simulated

    counts = {"mock": 2, "uv": 0, "blank": 0, "untreated": 2, "compounds": 0, "replicates": 0}
    screen = simulated.Screen(image_px=pixels, sites=2, experiments=(("VERO-1", 1),), **counts)
    once = folder / "eight"
    if not once.exists():
        simulated.simulate(once, screen, jobs=1)
    wells = pd.read_csv(once / "metadata.csv", dtype=str, keep_default_na=False)
    root, rows = folder / f"{sites}", []
    for k in range(sites):
        row = wells.iloc[k % len(wells)].copy()
        plate, site = str(1 + k // 1000), str(1 + k % 1000)
        images = root / "images" / row["experiment"] / f"Plate{plate}"
        images.mkdir(parents=True, exist_ok=True)
        old = once / "images" / row["experiment"] / f"Plate{row['plate']}"
        for c in range(1, 6):
            os.link(old / f"{row['well']}_s{row['site']}_w{c}.png", images / f"{row['well']}_s{site}_w{c}.png")
        row["plate"], row["site"] = plate, site
        row["well_id"] = f"{row['experiment']}_{plate}_{row['well']}"
        row["site_id"] = f"{row['well_id']}_{site}"
        rows.append(row)
    pd.DataFrame(rows).to_csv(root / "metadata.csv", index=False)
    return root


def stage(name: str, root: Path, args: Args) -> tuple[float, float]:
    """Run one stage: seconds, and megabytes at most beyond those at its start."""
    import torch

    from gandl_lib import datasets, profiles
    from gandl_lib.embed import embed, open_method
    from gandl_lib.shards import Shards, write

    torch.set_num_threads(1)
    store, parts = root.with_suffix(".zarr"), [root.with_suffix(f".{k}.h5ad") for k in range(1, args.parts + 1)]
    if name == "decode":
        layout = datasets.open_layout(root)
        wells = layout.parse()
    elif name in ("read", "embed", "parts"):
        shards = Shards(store)
        method, made = open_method(args.method, shards.channels, args.preset)
        embed(method, shards, provenance=made, sites=shards.wells.index.to_numpy() == 0, progress=False)
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    if name == "decode":
        for row in wells.itertuples():
            layout.read(row)
    elif name == "shard":
        write(root, store, workers=1)
    elif name == "read":
        for i in range(len(shards)):
            shards.read(i)
    elif name == "embed":
        embed(method, shards, provenance=made, progress=False)
    elif name == "parts":
        for k, path in enumerate(parts, 1):
            profiles.write(embed(method, shards, provenance=made, part=(k, len(parts)), progress=False), path)
    else:
        profiles.join(parts, root.with_suffix(".h5ad"))
    seconds = time.perf_counter() - begun
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main(args: Args) -> None:
    print(f"{args.pixels} x {args.pixels} pixels, five channels; {args.method} {args.preset or ''}\n")
    print("| stage | sites | sites/s on a core | of the decoder's speed | MB | kB a site |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        roots = {n: make(Path(folder), n, args.pixels) for n in (args.sites, 4 * args.sites)}
        decoder: dict[int, float] = {}
        for name in STAGES:
            memory = {}
            for n, root in roots.items():
                worker = [sys.executable, __file__, "--worker", json.dumps([name, str(root), vars(args)])]
                run = subprocess.run(worker, capture_output=True, text=True)
                if run.returncode:
                    sys.exit(run.stderr)
                seconds, memory[n] = json.loads(run.stdout.splitlines()[-1])
                decoder.setdefault(n, n / seconds)
                small = memory[args.sites]
                grown = "" if n == args.sites else f"{1024 * (memory[n] - small) / (n - args.sites):.1f}"
                speed = n / seconds
                print(
                    f"| {name} | {n} | {speed:.1f} | {speed / decoder[n]:.2f} | {memory[n]:.0f} | {grown} |", flush=True
                )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        name, root, settings = json.loads(sys.argv[2])
        print(json.dumps(stage(name, Path(root), Args(**settings))))
    else:
        main(tyro.cli(Args, description=__doc__))
