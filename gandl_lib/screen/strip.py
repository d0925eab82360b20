"""What the axis of a screen looks like, where the network was trained on that screen: `explain`, for the report.

OUT/axis_effects.csv, axis_moves.csv    what changes along the axis, and how far cells moved on it
OUT/axis_cells.npz                      cells on their way from C- to C+, and the real ones some of them began as
OUT/notes/axis.json                     whether there are these, and why not; written last
OUT/axis.partial/                       finished parts, until all of this is written
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.exceptions import ConvergenceWarning

from gandl_lib import explain, files
from gandl_lib.screen import quality
from gandl_lib.shards import Shards

IMAGES, INVERTED = 64, 16
"""Cells drawn and real cells drawn again: with `quick32` half a minute in all."""


class Strip(NamedTuple):
    """What was found, or why nothing was."""

    why_not: str | None
    effects: pd.DataFrame | None = None
    moves: pd.DataFrame | None = None
    groups: dict[str, np.ndarray] | None = None
    """drawn, redrawn -> (3, 5, C, R, R) in [-1, 1]"""
    real: np.ndarray | None = None
    """(3, C, R, R) in [-1, 1], which the redrawn ones began as"""


def make(run: str | Path, shards: Shards, embedded: AnnData, out: Path, seed: int = 0) -> None:
    """Write the files of this module's docstring, where a screen's controls were compared; what is there stays.

    Of several cell types the one whose controls lie farthest apart is taken.

    Args:
        run: the training on this screen.
        embedded: a row a site, by this network.
        out: the screen's results, as far as `controls.csv`.

    Raises:
        ValueError: `axis.partial` was begun with something else. What the axis or the generator do not allow is noted.
    """
    noted = out / "notes" / "axis.json"
    controls = pd.read_csv(out / "controls.csv") if (out / "controls.csv").exists() else pd.DataFrame()
    if controls.empty or (noted.exists() and (json.loads(noted.read_text())["why_not"] or _whole(out))):
        return
    mine = controls["method"] == json.loads(embedded.uns["provenance"])["method"]
    apart = controls[mine & (controls["plate_id"] == quality.ALL)].dropna(subset=["ssmd"])
    cell_type = None if apart.empty else str(apart.loc[apart["ssmd"].idxmax(), "cell_type"])
    kept, why_not = files.partial_path(out / "axis"), None
    print("Moving cells from C- to C+.", flush=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            effects, moves, cells, real = explain.explain(
                run,
                shards,
                embedded,
                cell_type=cell_type,
                images=IMAGES,
                invert_images=INVERTED,
                seed=seed,
                folder=kept,
            )
    except ValueError as error:
        if kept.exists():  # a refusal leaves none: this is about the folder
            raise
        why_not = str(error)
    else:
        files.write(out / "axis_effects.csv", effects.to_csv(index=False))
        files.write(out / "axis_moves.csv", moves.to_csv(index=False))
        with files.replacing(out / "axis_cells.npz") as partial, open(partial, "wb") as file:
            np.savez_compressed(file, drawn=cells[: -len(real)], redrawn=cells[-len(real) :], real=real)
        files.unclaim(kept, explain.RECORD)
    files.write_json(noted, {"why_not": why_not})


def read(out: Path) -> Strip | None:
    """What `make` left in a screen's results; None where it was not asked."""
    noted = out / "notes" / "axis.json"
    if not noted.exists():
        return None
    if why_not := json.loads(noted.read_text())["why_not"]:
        return Strip(why_not)
    with np.load(out / "axis_cells.npz") as found:
        groups, real = {name: found[name] for name in ("drawn", "redrawn")}, found["real"]
    return Strip(None, *(pd.read_csv(out / f"axis_{name}.csv") for name in ("effects", "moves")), groups, real)


def _whole(out: Path) -> bool:
    return all((out / name).exists() for name in ("axis_effects.csv", "axis_moves.csv", "axis_cells.npz"))
