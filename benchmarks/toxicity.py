"""Does the rule that keeps killers off the list of hits (`gandl_lib.evaluate.toxicity`) hold where it was not set?

    python benchmarks/toxicity.py OUT.csv NAME=EMBEDDINGS[,TRUTH.csv] ...

EMBEDDINGS is a folder with `gandl.h5ad`, `intensity.h5ad` and `cell-count.h5ad` of one screen, from `gandl embed` or
`gandl screen`; TRUTH the truth.csv of a simulated one, without which every flag is counted as false. Each screen is
asked by both methods under four rules: none, off-axis distance alone, cell count alone, and both (the library's).

A dose is *deadly* where the simulation kills at least half of the cells (dose >= toxic_uM), *harmless* where it kills
fewer than 4 % (dose <= toxic_uM / 3, or no toxic_uM), and is not judged between. A *killer* is a compound that is
deadly at a dose tested. A hit is *right* if the truth calls the compound effective.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro

from gandl_lib import checkpoints, files, profiles
from gandl_lib.evaluate import axes, dose_response

RULES = {"none": ("off", "cell_count"), "off axis": ("cell_count",), "cells": ("off",), "both": ()}
"""What each rule does not get to see."""
METHODS = ("gandl", "intensity")


@dataclass(frozen=True)
class Args:
    out: tyro.conf.Positional[Path]
    screens: tyro.conf.Positional[tuple[str, ...]]
    seed: int = 0


def judge(scores: pd.DataFrame, truth: pd.DataFrame | None) -> list[dict]:
    """A row a method of `scores` (`axes.efficacy`) and rule."""
    rows = []
    for method, one in scores.groupby("method", sort=False):
        for rule, hidden in RULES.items():
            seen = one.drop(columns=[c for c in hidden if c in one])
            curves, doses = dose_response.curves(seen), dose_response.points(seen)
            if truth is not None:
                curves, doses = (t.merge(truth, on=["cell_type", "compound"], suffixes=("", "_true"))
                                 for t in (curves, doses))  # fmt: skip
            kills = doses["toxic_uM"] if truth is not None else pd.Series(np.nan, doses.index)
            deadly = doses["concentration_uM"] >= kills
            harmless = ~(doses["concentration_uM"] > kills / 3)
            pairs = pd.MultiIndex.from_frame(doses[["cell_type", "compound"]])
            compounds = pd.DataFrame({"deadly": deadly.to_numpy(), "flag": doses["suspect"].to_numpy()}, pairs)
            compounds = compounds.groupby(level=[0, 1]).any()
            called = curves["hit"].astype(bool)
            right = called & (curves["effective"].astype(bool) if truth is not None else False)
            rows.append({
                "method": method, "rule": rule,
                "deadly_doses": deadly.sum(), "deadly_flagged": (deadly & doses["suspect"]).sum(),
                "harmless_doses": harmless.sum(), "harmless_flagged": (harmless & doses["suspect"]).sum(),
                "killers": compounds["deadly"].sum(),
                "killers_flagged": (compounds["deadly"] & compounds["flag"]).sum(),
                "others": (~compounds["deadly"]).sum(),
                "others_flagged": (~compounds["deadly"] & compounds["flag"]).sum(),
                "hits": called.sum(), "hits_right": right.sum() if truth is not None else np.nan,
                "hits_false": (called & ~right).sum() if truth is not None else np.nan,
                "effective": curves["effective"].astype(bool).sum() if truth is not None else np.nan,
                "set_aside": curves["suspicious"].astype(bool).sum(),
                "hits_named": "; ".join(f"{r.compound} in {r.cell_type}" for r in curves[called].itertuples()),
            })  # fmt: skip
    return rows


def main(args: Args) -> None:
    rows, sources = [], {}
    for screen in args.screens:
        name, _, where = screen.partition("=")
        folder, _, truth = where.partition(",")
        read = [profiles.read(Path(folder, f"{method}.h5ad")) for method in (*METHODS, axes.COUNTS)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a plate without order, and of compounds of few doses
            scores = axes.efficacy(read, seed=args.seed)
            scores = scores[scores["method"].isin(METHODS)]
            found = judge(scores, pd.read_csv(truth) if truth else None)
        rows += [{"screen": name} | row for row in found]
        sources[name] = {p.uns and json.loads(p.uns["provenance"])["method"]: json.loads(p.uns["provenance"])
                         for p in read}  # fmt: skip
        print(pd.DataFrame(rows)[-len(found) :].drop(columns=["hits_named"]).to_string(index=False), flush=True)
    files.write(args.out, pd.DataFrame(rows).to_csv(index=False))
    kept = ("checkpoint", "checkpoint_sha256", "preset", "ways", "n_seen", "simulated")
    about = {n: {m: {k: p[k] for k in kept if k in p} for m, p in of.items()} for n, of in sources.items()}
    said = {"script": "benchmarks/toxicity.py", "seed": args.seed, **checkpoints.environment(), "screens": about}
    files.write_json(args.out.with_suffix(".provenance.json"), said, indent=1)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
