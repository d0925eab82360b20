"""Accuracy against the number of labelled wells: what an embedding is for when labels are few.

The question and the test wells are those of "C+ vs C-" in `separability`; of the training wells only some are given
their labels, drawn so that each class and cell type keeps its share. Every size is drawn several times.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from tqdm import tqdm

from gandl_lib.evaluate import svm
from gandl_lib.evaluate.reference import normalise_apart
from gandl_lib.evaluate.separability import TASKS, Task, _has_learnt
from gandl_lib.profiles import by_method
from gandl_lib.splits import by_well

SIZES = (8, 16, 32, 64, 128)
DRAWS = 4
HEADER = ("method", "n_wells", "accuracy", "lowest", "highest", "balanced_accuracy", "majority_rate", "n_test_wells")


def probe_size(
    profiles: AnnData | list[AnnData],
    normalisation: str = "all",
    seed: int = 0,
    task: Task = TASKS["C+ vs C-"],
    sizes: tuple[int, ...] = SIZES,
) -> pd.DataFrame:
    """One row a method and number of labelled wells: mean, lowest and highest accuracy of `DRAWS` draws.

    The last size is all training wells, drawn once. The SVM's cost is chosen on the first draw of a size.

    Raises:
        ValueError: bad profiles, or no wells of both classes.
    """
    rows = []
    for method, p in tqdm(
        by_method(profiles, ("well_id", "plate_id", "role", "cell_type")).items(), desc="probe size", disable=None
    ):
        if _has_learnt(p, task, "plate", seed):
            continue  # it knows the labels that are to be few
        test = by_well(p.obs, seed=seed)
        normalised, reference = normalise_apart(p, normalisation, test, seed)
        used = task.rows(p.obs) & ~reference
        X, obs, test = normalised.X[used], p.obs[used], test[used]
        y, wells = (obs[task.column] == task.positive).to_numpy(), obs["well_id"].to_numpy()
        train = obs[~test].drop_duplicates("well_id")
        if train[task.column].nunique() < 2 or not test.any():
            raise ValueError(f"{method}: the number of labels can only be varied where both classes have wells.")
        for n in [*(s for s in sizes if s < len(train)), len(train)]:
            found, cost = [], None
            for draw in range(DRAWS if n < len(train) else 1):
                chosen = _draw(train, task.column, n, np.random.default_rng((seed, n, draw)))
                rows_ = ~test & np.isin(wells, chosen)
                cost = cost or svm.choose_cost(X[rows_], y[rows_], wells[rows_], seed)
                guess = svm.fit(X[rows_], y[rows_], cost, seed).predict(X[test])
                found.append((np.mean(guess == y[test]), svm.balanced_accuracy(y[test], guess)))
            accuracy, balanced = np.array(found).T
            majority = max(y[test].mean(), 1 - y[test].mean())
            scores = accuracy.mean(), accuracy.min(), accuracy.max(), balanced.mean(), majority
            rows.append((method, n, *scores, len(set(wells[test]))))
    return pd.DataFrame(rows, columns=HEADER)


def _draw(wells: pd.DataFrame, column: str, n: int, rng: np.random.Generator) -> np.ndarray:
    """`n` of the wells: classes and cell types in proportion and, where n allows, one at least of each combination."""
    shuffled = wells.iloc[rng.permutation(len(wells))]
    place = shuffled.groupby([shuffled[column], shuffled["cell_type"]]).cumcount()
    size = shuffled.groupby([shuffled[column], shuffled["cell_type"]])["well_id"].transform("size")
    # The k-th of a group of s comes at (k + 1/2) / s: any beginning of the list holds groups in proportion. The first
    # of every group goes before all others.
    order = np.lexsort(((place + 0.5) / size, place > 0))
    return shuffled["well_id"].to_numpy()[order[:n]]
