"""How far a straight line tells two classes of wells apart: Table 1 of Mascolini et al. (2022).

A linear soft-margin SVM (`svm.py`) is trained on control sites and scored on sites of wells, or plates, it never saw.
Beside the accuracy stands what is needed to judge it: the rate of the larger class, balanced accuracy, area under the
ROC curve, a 95 % interval by bootstrap over wells, and the same SVM trained on labels shuffled between wells.

* **Cell types are judged without plate normalisation** (features standardised over the training rows only): a plate
  holds one cell type, so a per-plate mean *is* the cell type, and normalising removes what is asked for. Those rows say
  `none` in the normalisation column, whatever was asked.
* **Normalisations that read labels** (`controls`, `tvn`) are fitted on reference wells, C- wells of every plate that
  are neither trained on nor scored (`reference.py`).
* **`plate` rows pool their folds**: accuracy and balanced accuracy over all scored sites, AUROC as the mean over folds
  weighted by sites, for decision values of different SVMs share no scale; n_train_wells is the mean over folds.
* **Methods that learnt the very labels of a task** on training wells (their provenance names `label`) are judged on the
  test wells of the same seed only: by plate they would be asked about plates whose labels they know.
* **Shuffled labels** are shuffled eight times or once a fold, at the cost chosen for the true ones. Their interval is
  over wells, not over shuffles: where classes form clusters, few shuffles may still leave the mean some way off chance.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from gandl_lib.evaluate import bootstrap, svm
from gandl_lib.evaluate.reference import normalise_apart
from gandl_lib.profiles import NORMALISATIONS, by_method
from gandl_lib.splits import by_plate, by_well

SPLITS = ("well", "plate")
SHUFFLED = "shuffled labels"
N_SHUFFLES = 8  # a single shuffle of well-separated clusters is a coin toss
MAX_PLATE_FOLDS = 4  # of a screen with 57 plates, fourteen or fifteen are held out at a time

DECISIONS_HEADER = ("method", "task", "split", "normalisation", "well_id", "positive", "value")
HEADER = ("method", "task", "split", "normalisation", "accuracy", "ci_low", "ci_high", "balanced_accuracy", "auroc",
          "majority_rate", "n_train_wells", "n_test_wells", "n_test_sites", "seed")  # fmt: skip


@dataclass(frozen=True)
class Task:
    """Two values of an obs column to be told apart, among control wells (C+ and C-), of one cell type if given."""

    column: str
    positive: str
    negative: str
    cell_type: str | None = None

    def rows(self, obs: pd.DataFrame) -> np.ndarray:
        """(N,) bool: the rows of `obs` that take part."""
        rows = obs["role"].isin(["C+", "C-"]) & obs[self.column].isin([self.positive, self.negative])
        if self.cell_type is not None:
            rows &= obs["cell_type"] == self.cell_type
        return rows.to_numpy()


TASKS = {
    "C+ vs C-": Task("role", "C+", "C-"),
    "HRCE vs VERO": Task("cell_type", "HRCE", "VERO"),
    "C+ vs C-, HRCE": Task("role", "C+", "C-", "HRCE"),
    "C+ vs C-, VERO": Task("role", "C+", "C-", "VERO"),
}


def separability(
    profiles: AnnData | list[AnnData],
    normalisation: Sequence[str] = ("all",),
    splits: Sequence[str] = SPLITS,
    seed: int = 0,
    n_bootstrap: int = 1000,
    tasks: Mapping[str, Task] = TASKS,
    shuffled: bool = True,
) -> pd.DataFrame:
    """Accuracy of linear SVMs at site level, one row per method, task, split and normalisation.

    Args:
        profiles: one table a method; rows are sites, obs needs well_id, plate_id, role, cell_type.
        normalisation: names from `profiles.NORMALISATIONS`, applied to tasks within a plate.
        splits: `well` (a quarter of the control wells held out) and `plate` (plates held out in turn).
        tasks: name to `Task`; those whose classes are absent are left out with a warning.
        shuffled: add rows of method "shuffled labels", from the features of the first profiles.

    Returns:
        Table with the columns `HEADER`; accuracies, rates and interval ends in 0..1.

    Raises:
        ValueError: bad profiles, unknown split or normalisation, a plate that cannot be normalised, or no task at all.
    """
    return judged(profiles, normalisation, splits, seed, n_bootstrap, tasks, shuffled)[0]


def judged(
    profiles: AnnData | list[AnnData],
    normalisation: Sequence[str] = ("all",),
    splits: Sequence[str] = SPLITS,
    seed: int = 0,
    n_bootstrap: int = 1000,
    tasks: Mapping[str, Task] = TASKS,
    shuffled: bool = True,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`separability`, and besides it every single decision that it counts.

    Returns:
        The table, and decisions with the columns `DECISIONS_HEADER`, one row a scored site: whether it is `positive`,
        and the SVM's `value`, above 0 where it says so. Shuffled labels are not among the methods.
    """
    normalisation = [normalisation] if isinstance(normalisation, str) else list(normalisation)
    for name, known, given in (("split", SPLITS, splits), ("normalisation", NORMALISATIONS, normalisation)):
        if unknown := [g for g in given if g not in known]:
            raise ValueError(f"Unknown {name}(s) {', '.join(map(repr, unknown))}; choose from {', '.join(known)}.")
    named = by_method(profiles, ("well_id", "plate_id", "role", "cell_type"))
    possible = {method: _possible(tasks, p.obs, method) for method, p in named.items()}
    if not any(possible.values()):
        raise ValueError(
            f"None of the tasks {', '.join(tasks)} is possible: it takes control wells (role C+ or C-) of two classes; "
            f"found roles {_counts(named, 'role')} and cell types {_counts(named, 'cell_type')}."
        )

    def score(method: str) -> tuple[list[dict], list[pd.DataFrame]]:
        """The rows of one method, and of shuffled labels if it is the first; and the method's decisions."""
        p, rows, decisions, done = named[method], [], [], None
        test_wells = by_well(p.obs, seed=seed)
        jobs = [
            (how, name)
            for name, task in possible[method].items()
            for how in (["none"] if task.column == "cell_type" else normalisation)
        ]
        for how, name in sorted(jobs):
            if how != done:  # sorted jobs: each normalisation is computed once, and one is held at a time
                done, (normalised, reference) = how, normalise_apart(p, how, test_wells, seed)
            task = tasks[name]
            used = task.rows(p.obs) & ~reference
            data = _Data(
                X=normalised.X[used],
                y=(p.obs.loc[used, task.column] == task.positive).to_numpy(),
                wells=p.obs.loc[used, "well_id"].to_numpy(),
                seed=seed,
            )
            for split in splits:
                if _has_learnt(p, task, split, seed):
                    continue
                folds = _folds(split, p.obs[used], data.y, test_wells[used])
                if not folds:
                    warnings.warn(
                        f"{method}: no split by {split} for task {name!r}; its row is left out.", stacklevel=2
                    )
                    continue
                costs = [svm.choose_cost(data.X[train], data.y[train], data.wells[train], seed) for train, _ in folds]
                key = {"task": name, "split": split, "normalisation": how}
                scores, decided = data.score(folds, costs, n_bootstrap)
                rows.append({"method": method, **key, **scores})
                decisions.append(decided.assign(method=method, **key))
                if shuffled and method == next(iter(named)):
                    repeats = -(-N_SHUFFLES // len(folds))
                    scores, _ = data.score(folds * repeats, costs * repeats, n_bootstrap, shuffled=True)
                    rows.append({"method": SHUFFLED, **key, **scores})
            progress.update()
        return rows, decisions

    n_jobs = sum(len(normalisation) if t.column != "cell_type" else 1 for f in possible.values() for t in f.values())
    with tqdm(total=n_jobs, desc="separability", disable=None) as progress, ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(score, named))  # the SVM's solver lets go of Python's lock
    rows = [row for rows, _ in found for row in rows]
    order = {
        "method": [*named, SHUFFLED],
        "task": list(tasks),
        "split": list(splits),
        "normalisation": [*NORMALISATIONS],
    }
    table = pd.DataFrame(rows, columns=HEADER)
    table = table.sort_values(list(order), key=lambda c: c.map(order[c.name].index), ignore_index=True)
    decisions = [one for _, parts in found for one in parts] or [pd.DataFrame(columns=DECISIONS_HEADER)]
    return table, pd.concat(decisions, ignore_index=True)[list(DECISIONS_HEADER)]


def confusion(decisions: pd.DataFrame, tasks: Mapping[str, Task] = TASKS) -> pd.DataFrame:
    """Scored sites counted by what they are and what they were taken for: method, task, ..., true, predicted, count."""
    names = {task: np.array([t.negative, t.positive]) for task, t in tasks.items()}
    key = ["method", "task", "split", "normalisation"]
    rows = []
    for group, part in decisions.groupby(key, sort=False):
        for true in (False, True):
            for guess in (False, True):
                n = int(((part["positive"] == true) & ((part["value"] > 0) == guess)).sum())
                name = names[group[1]]
                rows.append((*group, name[int(true)], name[int(guess)], n))
    return pd.DataFrame(rows, columns=[*key, "true", "predicted", "count"])


@dataclass(frozen=True)
class _Data:
    """One task's rows: X (N, D), y (N,) bool, wells (N,)."""

    X: np.ndarray
    y: np.ndarray
    wells: np.ndarray
    seed: int

    def score(
        self, folds: list, costs: list[float], n_bootstrap: int, shuffled: bool = False
    ) -> tuple[dict, pd.DataFrame]:
        """Train on each fold's first part, score its second, pool: the scores, and what was decided of every row."""
        rng = np.random.default_rng(self.seed)
        tested, values, aurocs, sizes = [], [], [], []
        for (train, test), cost in zip(folds, costs, strict=True):
            y = svm.shuffle_between_wells(self.y[train], self.wells[train], rng) if shuffled else self.y[train]
            value = svm.fit(self.X[train], y, cost, self.seed).decision_function(self.X[test])
            tested.append(np.flatnonzero(test))
            values.append(value)
            if len(set(self.y[test])) == 2:
                aurocs.append(roc_auc_score(self.y[test], value))
                sizes.append(len(value))
        rows, value = np.concatenate(tested), np.concatenate(values)
        y, wells = self.y[rows], self.wells[rows]
        low, high = bootstrap.interval((value > 0) == y, wells, n_bootstrap, self.seed)
        decided = pd.DataFrame({"well_id": wells, "positive": y, "value": value})
        scores = {
            "accuracy": np.mean((value > 0) == y),
            "ci_low": low,
            "ci_high": high,
            "balanced_accuracy": svm.balanced_accuracy(y, value > 0) if len(set(y)) == 2 else np.nan,
            "auroc": np.average(aurocs, weights=sizes) if aurocs else np.nan,
            "majority_rate": max(y.mean(), 1 - y.mean()),
            "n_train_wells": round(np.mean([len(set(self.wells[train])) for train, _ in folds])),
            "n_test_wells": len(set(wells)),
            "n_test_sites": len(set(rows)),
            "seed": self.seed,
        }
        return scores, decided


def _has_learnt(p: AnnData, task: Task, split: str, seed: int) -> bool:
    """Whether the method knows labels of wells that this row would test it on."""
    made = json.loads(p.uns["provenance"])
    return made.get("label") == task.column and (split != "well" or made.get("seed") != seed)


def _folds(split: str, obs: pd.DataFrame, y: np.ndarray, test_wells: np.ndarray) -> list:
    """(train, test) boolean masks over the task's rows."""
    if split == "well":
        parts = [(~test_wells, test_wells)]
    else:
        parts = [(~held, held) for _, held in by_plate(obs, y, MAX_PLATE_FOLDS)]
    return [(train, test) for train, test in parts if len(set(y[train])) == 2 and test.any()]


def _possible(tasks: Mapping[str, Task], obs: pd.DataFrame, method: str) -> dict[str, Task]:
    """The tasks both of whose classes are present; the others are named in a warning."""
    possible = {}
    for name, task in tasks.items():
        found = set(obs.loc[task.rows(obs), task.column])
        if absent := [c for c in (task.positive, task.negative) if c not in found]:
            where = f" among controls of {task.cell_type}" if task.cell_type else " among the controls"
            warnings.warn(f"{method}: task {name!r} left out, no {' and no '.join(absent)}{where}.", stacklevel=3)
        else:
            possible[name] = task
    return possible


def _counts(named: Mapping[str, AnnData], column: str) -> str:
    counts = pd.concat([p.obs[column] for p in named.values()]).value_counts()
    return ", ".join(f"{value} ({n})" for value, n in counts.items())
