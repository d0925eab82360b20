"""What it is worth to look at each crop in more than one of the eight ways it can lie: separability, and the cost.

    python benchmarks/eight_ways.py OUT.csv SCREEN.zarr [SCREEN.zarr ...]

GAN-DL's shipped weights and the same network untrained, C+ against C-, wells and plates held out. The weights were
trained on the quick screen of seed 0; a screen of another seed is one they have never seen.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
import tyro

from gandl_lib.embed import embed, open_method
from gandl_lib.evaluate.separability import TASKS, separability
from gandl_lib.shards import Shards

WEIGHTS = Path(__file__).parents[1] / "weights" / "gandl-quick32.safetensors"
TASK = "C+ vs C-"


@dataclass(frozen=True)
class Args:
    out: tyro.conf.Positional[Path]
    screens: tyro.conf.Positional[tuple[Path, ...]]
    threads: int = 1


def main(args: Args) -> None:
    torch.set_num_threads(args.threads)
    tables = []
    for path in args.screens:
        shards = Shards(path)
        controls = shards.wells["role"].isin(["C+", "C-"]).to_numpy()
        for source, preset in ((str(WEIGHTS), None), ("gandl-random", "quick32")):
            method, header = open_method(source, shards.channels, preset)
            for ways in (1, 2, 4, 8):
                begun = time.process_time()
                found = embed(method, shards, provenance=header, sites=controls, ways=ways)
                seconds = (time.process_time() - begun) / controls.sum()
                table = separability([found], tasks={TASK: TASKS[TASK]}, shuffled=False)
                about = {"screen": path.stem, "ways": ways, "cpu_seconds_a_site": round(seconds, 4)}
                tables.append(table.assign(**about))
                print(json.dumps(about | dict(zip(table["split"], table["accuracy"], strict=True))), flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    partial = args.out.with_name(args.out.name + ".partial")
    pd.concat(tables, ignore_index=True).to_csv(partial, index=False)
    partial.replace(args.out)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
