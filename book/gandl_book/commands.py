"""The commands and evaluations that only the book needs; `gandl` finds them by the entry point in pyproject.toml."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from gandl_lib.cli import app, write_table


@app.command
def generate(paths: Positional[tuple[Path, ...]], images: int = 2000, seed: int = 0) -> None:
    """How near generated images come to a screen's: FID, KID, precision, recall.

    Args:
        paths: run folders or weights files, then the screen's shards, and last, as with cp, the table to write (.csv).
        images: a side.
        seed: of latents and crops.
    """
    from gandl_book import generate as generating
    from gandl_lib.shards import Shards

    *sources, shards, out = paths
    if not sources or out.suffix != ".csv":
        raise ValueError(
            f"give runs or weights, then shards, then the .csv to write; found {' '.join(map(str, paths))}."
        )
    store = Shards(shards)
    store.preload(max_bytes=2**30)  # random crops of it, one by one, would unpack a site each
    write_table(generating.compare(sources, store, images, seed), out)


@app.command
def latents(paths: Positional[tuple[Path, ...]], seed: int = 0) -> None:
    """Arithmetic on latents, measured: does adding a vector to z make nuclei larger, or tubulin more?

    Writes OUT.csv, and the vectors beside it as OUT_directions.csv.

    Args:
        paths: run folders or weights files, then the shards of single cells, and last, as with cp, the table to write.
        seed: of latents and bootstraps.
    """
    from gandl_book import latents as adding
    from gandl_lib.shards import Shards

    *sources, shards, out = paths
    if not sources or out.suffix != ".csv":
        raise ValueError(
            f"give runs or weights, then shards, then the .csv to write; found {' '.join(map(str, paths))}."
        )
    table, directions = adding.arithmetic(sources, Shards(shards), seed=seed)
    write_table(directions, out.with_name(f"{out.stem}_directions.csv"))
    write_table(table, out)


@app.command
def classical(shards: Positional[Path], out: Positional[Path]) -> None:
    """Measure BBBC013 as image analysis does: the ratio of nuclear to cytoplasmic brightness, and the number of nuclei.

    Args:
        shards: store of BBBC013 made by `gandl shard`.
        out: profiles to write (.h5ad), with these two numbers as features.
    """
    from gandl_book import real_plate
    from gandl_lib import profiles
    from gandl_lib.shards import Shards

    profiles.write(real_plate.classical(Shards(shards)), out)
