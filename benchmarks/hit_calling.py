"""Which way to call a hit is to be believed? Every caller of `gandl evaluate hits` where the truth is known.

    python benchmarks/hit_calling.py OUT.csv results/quick/profiles results/quick/data/screen/truth.csv

The wells are those of one simulated screen (images, embeddings and truth as the workflow makes them; HRCE). What is
drawn anew with every seed is which of them a screener had: of each plate `controls` wells of C- and as many of C+, of
each dose of a compound `replicates` of its wells, each on another plate. So seeds say how much the choice of wells
matters, not how much screens or trainings differ.

What does nothing: compounds that the truth calls neither effective nor toxic, and *blanks*, made of C- wells that are
no one's controls in that draw. What does something: doses by how much of the infection is gone (`effect`: 0.1 to 0.35,
to 0.65, to 1; no more than a twentieth of the cells dying), and doses that kill more than a third of the cells.
Plates are normalised by all their wells first. 199 permutations, so that 5 % is one of their p.

    fpr              of what does nothing, the share with p <= 0.05
    power            of what does something, the share called by the threshold at which that caller calls 5 % of what
                     does nothing in this design: equal error, so that callers can be compared; between two p, at random
    false_discoveries  of the hits by q < 0.05 over all doses of a draw, the share that does nothing
    kappa            Cohen's, of two callers' calls at those thresholds, over all doses
    milliseconds     a compound and dose, 9,999 permutations, all controls; the machine was busy, so ratios count

Intervals (95 %) by bootstrap over compounds and doses; a blank is its own. A power's does not hold the threshold's own.
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
from sklearn.metrics import cohen_kappa_score

from gandl_lib import checkpoints, files, profiles
from gandl_lib.evaluate import hits
from gandl_lib.evaluate.bootstrap import interval

METHODS = ("gandl", "gandl-random", "intensity", "cell-count")
DESIGNS = ((4, 3), (8, 3), (16, 3), (32, 3), (32, 2), (32, 1))
"""(C- wells a plate, wells of a compound and dose)"""
EFFECTS = {"slight": (0.1, 0.35), "half": (0.35, 0.65), "strong": (0.65, 1.01)}
CELL_TYPE, BLANK = "HRCE", "blank"
HEADER = ("measure", "method", "caller", "other", "controls", "replicates", "effect", "value", "low", "high", "n")


@dataclass(frozen=True)
class Args:
    out: tyro.conf.Positional[Path]
    folder: tyro.conf.Positional[Path]
    """Of profiles, <method>.h5ad."""
    truth: tyro.conf.Positional[Path]
    methods: tuple[str, ...] = METHODS
    """Every draw leaves its rows beside OUT and is not judged again, so that methods can be judged side by side."""
    seeds: int = 5
    permutations: int = 199


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
    obs = p.obs.copy()
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
    chosen = p[mine.to_numpy()].copy()
    chosen.obs = obs[mine]
    return chosen


def judged(p: AnnData, truth: pd.DataFrame, controls: int, replicates: int, seed: int) -> pd.DataFrame:
    """hits.csv of one draw, with `effect`; doses whose effect lies between the classes are not asked."""
    method = json.loads(p.uns["provenance"])["method"]
    only = ("cell-count",) if method == "cell-count" else hits.CALLERS
    one = drawn(p, controls, replicates, np.random.default_rng([seed, controls, replicates]))
    what = effects(one.obs.reset_index(drop=True), truth)
    what[one.obs["compound"].str.startswith(BLANK).to_numpy()] = "nothing"
    one = one[what.notna().to_numpy() | one.obs["role"].isin(["C+", "C-"]).to_numpy()].copy()
    table = hits.hits(one, "none", seed, only)
    known = effects(table, truth)
    known[table["compound"].str.startswith(BLANK)] = "nothing"
    return table.assign(effect=known, controls=controls, replicates=replicates, seed=seed)


def calls(one: pd.DataFrame) -> np.ndarray:
    """Chance of each row to be called at the threshold that calls 5 % of what does nothing (NaN p: never)."""
    p = one["p_value"].fillna(1.0).to_numpy()
    null = p[(one["effect"] == "nothing").to_numpy()]
    level = np.sort(null)[int(np.floor(hits.ALPHA * len(null)))]  # the first p that would be too many
    below, equal = np.mean(null < level), np.mean(null == level)
    return np.where(p < level, 1.0, np.where(p == level, (hits.ALPHA - below) / equal, 0.0))


def measured(table: pd.DataFrame) -> pd.DataFrame:
    """The table of this benchmark, without the times."""
    rows = []
    keys = ["method", "caller", "controls", "replicates"]
    table = table.assign(group=table["compound"] + " " + table["concentration_uM"].map("{:g}".format))
    blank = table["compound"].str.startswith(BLANK)
    table["group"] += np.where(blank, " " + table["seed"].astype(str), "")
    table["called"] = np.nan
    for _, one in table.groupby(keys):
        table.loc[one.index, "called"] = calls(one)
    for design, one in table.groupby(keys):
        about = dict(zip(keys, design, strict=True))

        def add(measure: str, part: pd.DataFrame, values: np.ndarray, effect: str = "", about: dict = about) -> None:
            if len(part):
                low, high = interval(values, part["group"].to_numpy())
                rows.append({"measure": measure, "effect": effect, "value": np.mean(values), "low": low, "high": high,
                             "n": part["group"].nunique(), **about})  # fmt: skip

        nothing = one[one["effect"] == "nothing"]
        add("fpr", nothing, (nothing["p_value"] <= hits.ALPHA).to_numpy(float), "nothing")
        for effect, part in one[one["effect"] != "nothing"].groupby("effect"):
            add("power", part, part["called"].to_numpy(), effect)
        found = one[one["hit"].astype(bool)]
        add("false_discoveries", found, (found["effect"] == "nothing").to_numpy(float))
        rows.append({"measure": "p_floor", "value": one["p_floor"].median(), "n": len(one), **about})
    for (method, controls, replicates), one in table.groupby(["method", "controls", "replicates"]):
        by = one.pivot_table(index=["group", "seed"], columns="caller", values="called")
        for k, caller in enumerate(by):
            for other in by.columns[k + 1 :]:
                value = cohen_kappa_score(by[caller] > 0.5, by[other] > 0.5)
                rows.append({"measure": "kappa", "method": method, "caller": caller, "other": other, "value": value,
                             "controls": controls, "replicates": replicates, "n": len(by)})  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=HEADER)


def timed(p: AnnData, some: int = 14) -> pd.DataFrame:
    """Milliseconds of a caller on some compounds and doses; reading the axis and the signature is in it once."""
    groups = p.obs.loc[p.obs["role"] == "treated", ["compound", "concentration_uM"]].drop_duplicates()[:some]
    mine = p.obs[["compound", "concentration_uM"]].merge(groups, "left", indicator=True)["_merge"].eq("both")
    p = p[(mine.to_numpy() | p.obs["role"].isin(["C+", "C-"]).to_numpy())].copy()
    rows = []
    for caller in (*hits.OF_ANY, *hits.WITH_POSITIVE):
        started = time.perf_counter()
        hits.hits(p, "none", only=(caller,))
        milliseconds = 1000 * (time.perf_counter() - started) / len(groups)
        rows.append({"measure": "milliseconds", "method": "gandl", "caller": caller, "value": milliseconds, "n": some})
    return pd.DataFrame(rows).reindex(columns=HEADER)


def main(args: Args) -> None:
    truth, tables = pd.read_csv(args.truth), []
    normalised = {}
    for name in METHODS:
        p = profiles.read(args.folder / f"{name}.h5ad")
        p = p[(p.obs["cell_type"] == CELL_TYPE).to_numpy()].copy()
        normalised[name] = profiles.aggregate(profiles.normalise(p, "all"))
        normalised[name] = normalised[name][~normalised[name].obs["role"].eq("blank").to_numpy()].copy()
        normalised[name].obs["site"] = 1
    hits.PERMUTATIONS = args.permutations
    parts = args.out.with_suffix(".draws")
    parts.mkdir(parents=True, exist_ok=True)
    for seed, design, name in itertools.product(range(args.seeds), DESIGNS, args.methods):
        kept = parts / f"{name}-{design[0]}-{design[1]}-{seed}.csv"
        if not kept.exists():
            with files.replacing(kept) as partial:
                judged(normalised[name], truth, *design, seed).to_csv(partial, index=False)
            print(kept, flush=True)
        tables.append(pd.read_csv(kept))
    hits.PERMUTATIONS = 9_999
    table = pd.concat([measured(pd.concat(tables, ignore_index=True)), timed(normalised["gandl"])], ignore_index=True)
    with files.replacing(args.out) as partial:
        table.to_csv(partial, index=False, float_format="%.4g")
    record = {
        "command": shlex.join(["python", *sys.argv]),
        "screen": {"simulated": True, "cell_type": CELL_TYPE, "truth_sha256": files.sha256(args.truth)},
        "profiles": {name: json.loads(p.uns["provenance"]) for name, p in normalised.items()},
        "seeds": args.seeds,
        "permutations": args.permutations,
        "finished": time.strftime("%Y-%m-%d"),
        **checkpoints.environment(),
    }
    files.write_json(args.out.with_suffix(".provenance.json"), record, indent=1)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
