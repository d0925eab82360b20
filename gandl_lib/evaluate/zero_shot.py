"""Cell types a method has never seen, told apart by a straight line: Fig. 6 of Mascolini et al. (2022).

The embedding was learnt on other cells; only a linear SVM (one against the rest) learns the new types, from wells it is
not scored on: cross-validation over wells with the classes in proportion, or, with fewer than ten wells in some class,
every well left out once. Features are standardised over the training rows and not normalised per plate: where a plate
holds one cell type, its mean is the answer. For the same reason a good score can in part be the plate's own look: no
split can tell a cell type from the experiment that alone contains it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import LeaveOneGroupOut
from tqdm import tqdm

from gandl_lib.evaluate import bootstrap, svm
from gandl_lib.evaluate.separability import SHUFFLED
from gandl_lib.profiles import by_method

FOLDS = 5
FEW_WELLS = 10

CONFUSION_HEADER = ("method", "true", "predicted", "count")
SUMMARY_HEADER = ("method", "accuracy", "ci_low", "ci_high", "n_wells", "n_rows", "balanced_accuracy", "majority_rate")


def zero_shot(
    profiles: AnnData | list[AnnData], seed: int = 0, n_bootstrap: int = 1000, shuffled: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Classify the cell type of every row (site or crop) by SVMs that saw no row of its well.

    Args:
        profiles: one table a method, of cells of two types or more; obs needs well_id and cell_type.
        shuffled: add method "shuffled labels" (types permuted between training wells, features of the first profiles).

    Returns:
        Confusion table (`CONFUSION_HEADER`): rows counted for every pair of types, zeros included. Summary
        (`SUMMARY_HEADER`): accuracy over rows with its 95 % interval by bootstrap over wells.

    Raises:
        ValueError: bad profiles, one cell type only, or a cell type with one well only.
    """
    named = by_method(profiles, ("well_id", "cell_type"))
    results = {}
    for i, (method, p) in enumerate(named.items()):
        y, wells = p.obs["cell_type"].to_numpy(), p.obs["well_id"].to_numpy()
        n_wells = p.obs.groupby("cell_type")["well_id"].nunique()
        if len(n_wells) < 2 or n_wells.min() < 2:
            found = ", ".join(f"{cell}: {n}" for cell, n in n_wells.items())
            raise ValueError(f"{method}: zero-shot needs two or more wells of two or more cell types; found {found}.")
        if n_wells.min() < FEW_WELLS:
            folds = list(LeaveOneGroupOut().split(y, y, wells))
        else:
            folds = svm.well_folds(y, wells, FOLDS, seed)

        rng = np.random.default_rng(seed)
        guesses = {name: np.empty_like(y) for name in [method, *[SHUFFLED] * (shuffled and i == 0)]}
        for train, test in tqdm(folds, desc=f"zero-shot of {method}", disable=None):
            X, cost = p.X[train], svm.choose_cost(p.X[train], y[train], wells[train], seed)
            for name, guess in guesses.items():
                labels = svm.shuffle_between_wells(y[train], wells[train], rng) if name == SHUFFLED else y[train]
                guess[test] = svm.fit(X, labels, cost, seed).predict(p.X[test])
        for name, guess in guesses.items():
            results[name] = _confusion(y, guess).assign(method=name), _summary(y, guess, wells, n_bootstrap, seed)

    names = [name for name in [*named, SHUFFLED] if name in results]
    confusion = pd.concat([results[name][0] for name in names], ignore_index=True)
    summary = pd.DataFrame([{"method": name, **results[name][1]} for name in names])
    return confusion[list(CONFUSION_HEADER)], summary[list(SUMMARY_HEADER)]


def _confusion(y: np.ndarray, guess: np.ndarray) -> pd.DataFrame:
    """Columns true, predicted, count: every pair of the classes of `y`, zeros included."""
    classes = sorted(set(y))
    matrix = pd.DataFrame(confusion_matrix(y, guess, labels=classes), classes, classes)
    return matrix.rename_axis("true").rename_axis("predicted", axis=1).stack().rename("count").reset_index()


def _summary(y: np.ndarray, guess: np.ndarray, wells: np.ndarray, n_bootstrap: int, seed: int) -> dict:
    low, high = bootstrap.interval(guess == y, wells, n_bootstrap, seed)
    return {
        "accuracy": np.mean(guess == y),
        "ci_low": low,
        "ci_high": high,
        "n_wells": len(set(wells)),
        "n_rows": len(y),
        "balanced_accuracy": svm.balanced_accuracy(y, guess),
        "majority_rate": pd.Series(y).value_counts(normalize=True).max(),
    }
