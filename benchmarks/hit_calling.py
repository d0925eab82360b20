"""Which way to call a hit is to be believed? Every caller of `gandl evaluate hits` where the truth is known.

    python benchmarks/hit_calling.py OUT.csv SCREEN [SCREEN ...]

A SCREEN is a folder as the workflow leaves results/quick: data/screen/truth.csv, and profiles/<method>.h5ad of each of
`METHODS`, and of `OF_CELLS` where cells are asked too. One of another seed, one site a well instead of two so that it
takes half as long, is made by

    gandl simulate $S/data/screen --screen quick --seed $SEED
    gandl shard $S/data/screen $S/screen.zarr --where "cell_type == 'HRCE' and site == 1"
    gandl embed gandl_lib/weights/gandl-quick32.safetensors $S/screen.zarr $S/profiles/gandl.h5ad --name gandl
    gandl embed gandl-random $S/screen.zarr $S/profiles/gandl-random.h5ad --preset quick32
    gandl embed intensity $S/screen.zarr $S/profiles/intensity.h5ad
    gandl embed cell-count $S/screen.zarr $S/profiles/cell-count.h5ad
    gandl cells $S/screen.zarr $S/cells.zarr --size 32 --no-masks

and its cells by the same three commands with $S/cells.zarr, `--name gandl-cells` and so on.

Screens differ by their seed: other cells, plates, places and constants of compounds, of one kind and one calibration.
The shipped weights were trained on the screen of seed 0 and on no other, so on others they are judged where they learnt
nothing. A compound of one screen is another compound than its namesake in the next.

Of a screen's wells (HRCE) a screener has some, drawn `DRAWS` times: of each plate `controls` wells of C- and as many of
C+ (30 where there are no more), of each dose of a compound `replicates` of its wells, each on another plate.

What does nothing: compounds that the truth calls neither effective nor toxic, and *blanks*, made of C- wells that are
no one's controls in that draw. What does something: doses by how much of the infection is gone (`effect`: 0.1 to 0.35,
to 0.65, to 1; no more than a twentieth of the cells dying), and doses that kill more than a third of the cells.
Plates are normalised by all their wells first. 199 permutations, so that 5 % is one of their p.

Single cells are asked by one more caller, `INDEPENDENT`, which is wrong on purpose: Welch's t-test of each feature
between cells of a dose and of its controls, as if cells were replicates, times the number of features.

    fpr              of what does nothing, the share with p <= 0.05
    power            of what does something, the share called by the threshold at which that caller calls 5 % of what
                     does nothing in this design, all screens together: equal error, so that callers can be compared;
                     between two p, at random
    fpr_of_screens, power_of_screens   the same of each screen by itself: the middle one, the lowest, the highest
    lead             power less that of `other`, the default caller, on the same doses
    false_discoveries  of the hits by q < 0.05 over all doses of a draw, the share that does nothing
    kappa            Cohen's, of two callers' calls at those thresholds, over all doses
    milliseconds     a compound and dose, 9,999 permutations, all controls; the machine was busy, so ratios count

Intervals (95 %) by bootstrap over screens, and within each over compounds and doses (a blank is its own), the threshold
found anew each time. The doses of a draw share its controls, so screens are what varies; a few of them tell an interval
roughly, and too narrow.
"""

from __future__ import annotations

import itertools
import json
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from anndata import AnnData
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from gandl_lib import checkpoints, files, profiles
from gandl_lib.evaluate import hits
from gandl_lib.evaluate.bootstrap import LEVEL

METHODS = ("gandl", "gandl-random", "intensity", "cell-count")
OF_CELLS = ("gandl-cells", "gandl-random-cells", "intensity-cells")
"""The same on crops around single cells, a row a cell."""
INDEPENDENT = "cells-as-replicates"
CALLERS = (*hits.CALLERS, INDEPENDENT)
DESIGNS = ((4, 3), (8, 3), (16, 3), (32, 3), (32, 2), (32, 1))
"""(C- wells a plate, wells of a compound and dose)"""
EFFECTS = {"slight": (0.1, 0.35), "half": (0.35, 0.65), "strong": (0.65, 1.01)}
CELL_TYPE, BLANK = "HRCE", "blank"
TRUTH = Path("data", "screen", "truth.csv")
ALIKE = ("method", "config", "seed", "checkpoint_sha256", "ways", "crop_px")
"""What of an embedding has to be the same in all screens."""
DRAWS, PERMUTATIONS, BOOTSTRAPS = 1, 199, 1000
HEADER = ("measure", "method", "caller", "other", "controls", "replicates", "effect", "value", "low", "high", "n")


@dataclass(frozen=True)
class Args:
    out: tyro.conf.Positional[Path]
    """Every draw leaves its rows beside it and is not judged again."""
    screens: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of different names, each with profiles/ and data/screen/truth.csv."""


def effects(wells: pd.DataFrame, truth: pd.DataFrame) -> pd.Series:
    """What each well's compound does at its dose: nothing, slight, half, strong, kills; NaN for what lies between."""
    known = wells.merge(truth[truth["cell_type"] == CELL_TYPE].drop(columns="cell_type"), "left", "compound")
    dose = known["concentration_uM"].to_numpy()
    gone = (known["emax"] / (1 + (known["ec50_uM"] / dose) ** known["hill"])).fillna(0.0)
    dying = (1 / (1 + (known["toxic_uM"] / dose) ** 3)).fillna(0.0)
    found = pd.Series(np.nan, wells.index, dtype=object)
    found[(known["effective"].ne(True) & known["toxic_uM"].isna()).to_numpy()] = "nothing"
    for name, (low, high) in EFFECTS.items():
        found[((gone >= low) & (gone < high) & (dying < 0.05)).to_numpy()] = name
    found[(dying > 1 / 3).to_numpy()] = "kills"
    return found


def drawn(p: AnnData, controls: int, replicates: int, rng: np.random.Generator) -> AnnData:
    """The wells of one screener: some controls of each plate, some wells of each dose, blanks of unused C- wells."""
    obs = p.obs.drop_duplicates("well_id").set_index("well_id", drop=False)
    order = pd.Series(rng.permutation(len(obs)), obs.index)
    turn = order.groupby([obs["plate_id"], obs["role"]], observed=True).rank(method="first")
    mine = obs["role"].isin(["C+", "C-"]) & (turn <= controls)
    spare = obs[(obs["role"] == "C-") & (turn > max(k for k, _ in DESIGNS))]
    number = order[spare.index].groupby(spare["plate_id"], observed=True).rank(method="first").astype(int)
    plates = sorted(obs["plate_id"].unique())
    blanks = []
    for k in range(1, number.max() + 1):  # one well on each of `replicates` plates, another plate left out each time
        here = spare[number == k].set_index("plate_id", drop=False)
        away = [plates[(k + j) % len(plates)] for j in range(replicates)]
        blanks += [(index, k) for index in spare.index[(number == k) & spare["plate_id"].isin(away)] if len(here)]
    at, k = zip(*blanks, strict=True)
    obs.loc[list(at), "role"] = "treated"
    obs.loc[list(at), "compound"] = [f"{BLANK}-{j}" for j in k]
    obs.loc[list(at), "concentration_uM"] = 1.0
    treated = obs["role"] == "treated"
    one = order.groupby([obs["compound"], obs["concentration_uM"]], observed=True).rank(method="first")
    mine |= treated & (one <= replicates)
    chosen = p[p.obs["well_id"].map(mine).to_numpy(bool)].copy()
    for column in ("role", "compound", "concentration_uM"):
        chosen.obs[column] = chosen.obs["well_id"].map(obs[column]).to_numpy()
    return chosen


def independent(p: AnnData) -> pd.DataFrame:
    """The columns of `hits` that are judged, of `INDEPENDENT`; p holds normalised cells."""
    control, rows = (p.obs["role"] == "C-").to_numpy(), []
    for group, of in p.obs[p.obs["role"] == "treated"].groupby(list(hits.GROUP), observed=True):
        beside = control & p.obs["plate_id"].isin(of["plate_id"].unique()).to_numpy()
        each = stats.ttest_ind(p[of.index].X, p.X[beside], axis=0, equal_var=False).pvalue
        p_value = min(1.0, np.nanmin(each) * p.n_vars)
        rows.append(dict(zip(hits.GROUP, group, strict=True)) | {"p_value": p_value})
    found = pd.DataFrame(rows).assign(caller=INDEPENDENT, p_floor=0.0)
    return found.assign(hit=stats.false_discovery_control(found["p_value"], method="bh") < hits.ALPHA)


def judged(p: AnnData, truth: pd.DataFrame, controls: int, replicates: int, draw: int) -> pd.DataFrame:
    """hits.csv of one draw, with `effect`; doses whose effect lies between the classes are not asked."""
    method = json.loads(p.uns["provenance"])["method"]
    only = ("cell-count",) if method == "cell-count" else hits.CALLERS
    one = drawn(p, controls, replicates, np.random.default_rng([draw, controls, replicates]))
    what = effects(one.obs.reset_index(drop=True), truth)
    what[one.obs["compound"].str.startswith(BLANK).to_numpy()] = "nothing"
    one = one[what.notna().to_numpy() | one.obs["role"].isin(["C+", "C-"]).to_numpy()].copy()
    table = hits.hits(one, "none", draw, only)
    if method in OF_CELLS:
        table = pd.concat([table, independent(one).assign(method=method)], ignore_index=True)
    known = effects(table, truth)
    known[table["compound"].str.startswith(BLANK)] = "nothing"
    return table.assign(effect=known, controls=controls, replicates=replicates, draw=draw)


def calls(p: np.ndarray, nothing: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Chance of each row to be called at the threshold that calls 5 % of what does nothing.

    Args:
        p: (N,), nothing: (N,) bool. weights: (B, N), how often each row is there; the result has their shape.
    """
    order = np.flatnonzero(nothing)[np.argsort(p[nothing], kind="stable")]
    so_far = weights[:, order].cumsum(axis=1)
    too_many = so_far > hits.ALPHA * so_far[:, -1:]  # from the first p on that would be too many
    level = p[order][too_many.argmax(axis=1)][:, None]
    below = (weights[:, order] * (p[order] < level)).sum(axis=1, keepdims=True)
    equal = (weights[:, order] * (p[order] == level)).sum(axis=1, keepdims=True)
    at_level = (hits.ALPHA * so_far[:, -1:] - below) / np.maximum(equal, 1)
    return np.where(p < level, 1.0, np.where(p == level, at_level, 0.0))


def resampled(rows: pd.DataFrame, n: int = BOOTSTRAPS, seed: int = 0) -> np.ndarray:
    """(1 + n, N) how often each of N rows is there: first each once, then screens and groups in them drawn anew."""
    group, names = pd.factorize(rows["group"])
    screen_of = rows.groupby(group)["screen"].first().to_numpy()
    members = [np.flatnonzero(screen_of == screen) for screen in pd.unique(screen_of)]
    rng = np.random.default_rng(seed)
    times = np.ones((1 + n, len(names)))
    for b in range(1, 1 + n):
        some = [members[k] for k in rng.integers(len(members), size=len(members))]
        drawn = np.concatenate([groups[rng.integers(len(groups), size=len(groups))] for groups in some])
        times[b] = np.bincount(drawn, minlength=len(names))
    return times[:, group]


def mean(values: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Mean and interval of values, (N,), or (1 + n, N) where resampling changes them; weights (1 + n, N)."""
    with np.errstate(invalid="ignore"):  # a resampling without any of these rows has no mean
        means = (weights * values).sum(axis=1) / weights.sum(axis=1)
    low, high = np.nanquantile(means[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"value": means[0], "low": low, "high": high}


def of_screens(values: np.ndarray, screens: pd.Series) -> dict[str, float]:
    """The middle, lowest and highest of the screens' own means; values (N,)."""
    means = pd.Series(values).groupby(screens.to_numpy()).mean()
    return {"value": means.median(), "low": means.min(), "high": means.max(), "n": len(means)}


def measured(table: pd.DataFrame, n_bootstrap: int = BOOTSTRAPS) -> pd.DataFrame:
    """The table of this benchmark, without the times; of rows of `judged` with their `screen`."""
    group = table["screen"].astype(str) + " " + table["compound"] + " " + table["concentration_uM"].map("{:g}".format)
    blank = table["compound"].str.startswith(BLANK)
    table = table.assign(group=group + np.where(blank, " " + table["draw"].astype(str), ""))
    rows = []
    for (method, controls, replicates), design in table.groupby(["method", "controls", "replicates"]):
        index = ["screen", "draw", "group", "effect", "caller"]
        asked = design.set_index(index)[["p_value", "hit", "p_floor"]].unstack()
        of = asked.index.to_frame(index=False)
        p = asked["p_value"].fillna(1.0).reset_index(drop=True)  # who cannot say is never sure
        weights, nothing = resampled(of, n_bootstrap), (of["effect"] == "nothing").to_numpy()
        called = {c: calls(p[c].to_numpy(), nothing, weights) for c in CALLERS if c in p}
        about = {"method": method, "controls": controls, "replicates": replicates}
        for caller in called:
            row = about | {"caller": caller, "effect": "nothing", "n": of["group"][nothing].nunique()}
            false = (p[caller] <= hits.ALPHA).to_numpy(float)[nothing]
            rows.append(row | {"measure": "fpr"} | mean(false, weights[:, nothing]))
            rows.append(row | {"measure": "fpr_of_screens"} | of_screens(false, of["screen"][nothing]))
            for effect in sorted(set(of["effect"]) - {"nothing"}):
                part = (of["effect"] == effect).to_numpy()
                found = called[caller][:, part]
                row |= {"effect": effect, "n": of["group"][part].nunique()}
                rows.append(row | {"measure": "power"} | mean(found, weights[:, part]))
                rows.append(row | {"measure": "power_of_screens"} | of_screens(found[0], of["screen"][part]))
                if hits.DEFAULT in called and caller != hits.DEFAULT:
                    lead = mean(found - called[hits.DEFAULT][:, part], weights[:, part])
                    rows.append(row | {"measure": "lead", "other": hits.DEFAULT} | lead)
            hit = asked["hit"][caller].eq(True).to_numpy()
            row = about | {"caller": caller, "n": of["group"][hit].nunique()}
            if hit.any():
                wrong = mean(nothing[hit].astype(float), weights[:, hit])
                rows.append(row | {"measure": "false_discoveries"} | wrong)
            floor = asked["p_floor"][caller].median()
            rows.append(row | {"measure": "p_floor", "value": floor, "n": len(of)})
        for caller, other in itertools.combinations(called, 2):
            value = cohen_kappa_score(called[caller][0] > 0.5, called[other][0] > 0.5)
            rows.append(about | {"measure": "kappa", "caller": caller, "other": other, "value": value, "n": len(of)})
    return pd.DataFrame(rows).reindex(columns=HEADER)


def timed(method: str, p: AnnData, some: int = 14) -> pd.DataFrame:
    """Milliseconds of a caller on some compounds and doses; reading the axis and the signature is in it once."""
    groups = p.obs.loc[p.obs["role"] == "treated", ["compound", "concentration_uM"]].drop_duplicates()[:some]
    mine = p.obs[["compound", "concentration_uM"]].merge(groups, "left", indicator=True)["_merge"].eq("both")
    p = p[(mine.to_numpy() | p.obs["role"].isin(["C+", "C-"]).to_numpy())].copy()
    rows = []
    of_cells = (*hits.OF_CELLS, *hits.OF_CELLS_WITH_POSITIVE) if method in OF_CELLS else ()
    for caller in of_cells or (*hits.OF_ANY, *hits.WITH_POSITIVE):
        started = time.perf_counter()
        hits.hits(p, "none", only=(caller,))
        milliseconds = 1000 * (time.perf_counter() - started) / len(groups)
        rows.append({"measure": "milliseconds", "method": method, "caller": caller, "value": milliseconds, "n": some})
    return pd.DataFrame(rows).reindex(columns=HEADER)


def of_screen(folder: Path) -> tuple[dict[str, AnnData], pd.DataFrame]:
    """Normalised wells, or cells, by method, and the truth, of a simulated screen.

    Raises:
        ValueError: something is missing from the folder, or it has no wells of `CELL_TYPE`.
    """
    truth = folder / TRUTH
    by_cell = OF_CELLS if any((folder / "profiles" / f"{name}.h5ad").is_file() for name in OF_CELLS) else ()
    wanted = {name: folder / "profiles" / f"{name}.h5ad" for name in (*METHODS, *by_cell)}
    if missing := [str(path) for path in (truth, *wanted.values()) if not path.is_file()]:
        raise ValueError(f"{folder} lacks {', '.join(missing)}; the first lines of this script say how they are made.")
    normalised = {}
    for name, path in wanted.items():
        p = profiles.read(path)
        p = p[(p.obs["cell_type"] == CELL_TYPE).to_numpy()].copy()
        if not p.n_obs:
            raise ValueError(f"{path} has no wells of {CELL_TYPE}.")
        p = profiles.normalise(p, "all")
        p = p if name in OF_CELLS else profiles.aggregate(p)
        normalised[name] = p[~p.obs["role"].eq("blank").to_numpy()].copy()
        normalised[name].obs["site"] = 1
    return normalised, pd.read_csv(truth)


def main(args: Args) -> None:
    names = [folder.resolve().name for folder in args.screens]
    if len(set(names)) < len(names):
        raise ValueError(f"Screens are told apart by their folders' names; found {', '.join(names)}.")
    loaded = {
        name: of_screen(folder) for name, folder in zip(names, args.screens, strict=True)
    }  # all, before long work
    first = {method: json.loads(p.uns["provenance"]) for method, p in loaded[names[0]][0].items()}
    if unlike := [name for name in names if set(loaded[name][0]) != set(first)]:
        raise ValueError(f"{', '.join(unlike)} and {names[0]} do not hold profiles of the same methods.")
    screens, tables = {}, []
    for name, folder in zip(names, args.screens, strict=True):
        normalised, truth = loaded[name]
        alike = {}
        for method, p in normalised.items():
            made = json.loads(p.uns["provenance"])
            alike[method] = {key: made.get(key) for key in ALIKE}
            if differing := [key for key in ALIKE if made.get(key) != first[method].get(key)]:
                raise ValueError(f"{folder}: {method} differs from that of {names[0]} in its {', '.join(differing)}.")
        seed = json.loads((folder / "data" / "screen" / "simulation.json").read_text())["seed"]
        screens[name] = {"seed": seed, "truth_sha256": files.sha256(folder / TRUTH)}
        parts = args.out.with_suffix(".draws") / name
        files.claim(parts, "draws.json", {"permutations": PERMUTATIONS, "screen": screens[name], "embedded": alike})
        hits.PERMUTATIONS = PERMUTATIONS
        for draw, design, method in itertools.product(range(DRAWS), DESIGNS, first):
            kept = parts / f"{method}-{design[0]}-{design[1]}-{draw}.csv"
            if not kept.exists():
                with files.replacing(kept) as partial:
                    judged(normalised[method], truth, *design, draw).to_csv(partial, index=False)
                print(kept, flush=True)
            tables.append(pd.read_csv(kept).assign(screen=name))
        hits.PERMUTATIONS = 9_999
    table = measured(pd.concat(tables, ignore_index=True))
    clocked = [timed(name, p) for name, p in loaded[names[0]][0].items() if name in ("gandl", "gandl-cells")]
    table = pd.concat([table, *clocked], ignore_index=True)
    with files.replacing(args.out) as partial:
        table.to_csv(partial, index=False, float_format="%.4g")
    record = {
        "command": shlex.join(["python", *sys.argv]),
        "simulated": True,
        "cell_type": CELL_TYPE,
        "screens": screens,
        "profiles_of_the_first_screen": first,
        "draws_a_screen": DRAWS,
        "permutations": PERMUTATIONS,
        "finished": time.strftime("%Y-%m-%d"),
        **checkpoints.environment(),
    }
    files.write_json(args.out.with_suffix(".provenance.json"), record, indent=1)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
