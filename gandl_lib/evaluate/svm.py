"""The one linear classifier of the evaluation: a soft-margin SVM on features standardised over the training rows.

    min_w,b  1/2 |(w, b)|^2 + (cost / n) sum_i c_i max(0, 1 - y_i (w . x_i + b))^2,    c_i inverse to class frequency

The cost is counted per training set, not per row, so one grid serves 50 sites and 60,000. It is chosen by an inner
cross-validation over wells of the training rows, for no single value serves 20 features and 5,120: with independent
features a small cost is best, while classes told apart by small differences of correlated features, as networks make
them, need a large one. Newton steps in the primal take a few iterations at any of these costs, where coordinate descent
in the dual gives up at the large ones. The solver stops at a gradient 1 % of its first, when the classes it can tell
apart are told apart; the digits after that took longer and scored no better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.svm import LinearSVC

COSTS = (0.1, 1.0, 10.0, 100.0, 1000.0)
DEFAULT_COST = 1.0
PATIENCE = 2
INNER_FOLDS = 3
INNER_ROWS = 4000  # enough to rank the costs; the choice would otherwise take longer than the fit
TOLERANCE = 1e-2
FEW_ROWS = 2  # with so many features a row, going over to the rows' own directions pays


@dataclass(frozen=True)
class Classifier:
    """A fitted SVM with the (D,) means and standard deviations of the features it was fitted on."""

    mean: np.ndarray
    sd: np.ndarray
    svm: LinearSVC

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """(N,) for two classes, positive for the second in sorted order; (N, classes) for more."""
        return self.svm.decision_function((X - self.mean) / self.sd)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(N,) classes."""
        return self.svm.predict((X - self.mean) / self.sd)


class TrainingRows:
    """Rows to fit to, made ready once for fits at several costs.

    Args:
        X: (N, D).
        y: (N,) classes.
    """

    def __init__(self, X: np.ndarray, y: np.ndarray):
        self.mean, self.sd = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
        self.sd[self.sd == 0] = 1
        self.y, self.Z, self.directions = y, (X - self.mean) / self.sd, None
        if FEW_ROWS * len(X) <= X.shape[1]:
            # The best w is a sum of rows, so it is looked for in the N directions that the rows span.
            U, s, self.directions = np.linalg.svd(self.Z, full_matrices=False)  # (N, D)
            self.Z = U * s

    def fit(self, cost: float, seed: int = 0) -> Classifier:
        n = len(self.Z)
        svm = LinearSVC(C=cost / n, class_weight="balanced", dual=False, tol=TOLERANCE, random_state=seed)
        svm.fit(self.Z, self.y)
        if self.directions is not None:
            svm.coef_, svm.n_features_in_ = svm.coef_ @ self.directions, self.directions.shape[1]
        return Classifier(self.mean, self.sd, svm)


def fit(X: np.ndarray, y: np.ndarray, cost: float, seed: int = 0) -> Classifier:
    """Fit to X (N, D) and classes y (N,)."""
    return TrainingRows(X, y).fit(cost, seed)


def choose_cost(X: np.ndarray, y: np.ndarray, wells: np.ndarray, seed: int = 0) -> float:
    """The cost of `COSTS` with the best balanced accuracy on held-out wells, the smallest of equals.

    They are tried from the smallest on, until `PATIENCE` of them in a row were no better than the best before.

    With fewer than two wells in a class nothing can be held out and `DEFAULT_COST` is returned.
    """
    y, wells = np.asarray(y), np.asarray(wells)
    if len(y) > INNER_ROWS:
        names = pd.unique(wells)
        kept = np.random.default_rng(seed).permutation(names)[: max(1, len(names) * INNER_ROWS // len(y))]
        rows = np.isin(wells, kept)
        X, y, wells = X[rows], y[rows], wells[rows]
    folds = well_folds(y, wells, INNER_FOLDS, seed)
    if not folds:
        return DEFAULT_COST

    learnt = [(TrainingRows(X[train], y[train]), X[test], y[test]) for train, test in folds]

    def score(cost: float) -> float:
        return sum(balanced_accuracy(truth, rows.fit(cost, seed).predict(held)) for rows, held, truth in learnt)

    scores = []
    for cost in COSTS:
        scores.append(score(cost))
        # The largest costs take longest by far, and nothing is to be had there once two steps have brought no more.
        if len(scores) - scores.index(max(scores)) > PATIENCE:
            break
    return COSTS[scores.index(max(scores))]


def balanced_accuracy(y: np.ndarray, guess: np.ndarray) -> float:
    """Mean over the classes of y (N,) of the share recognised."""
    return float(np.mean([np.mean(guess[y == c] == c) for c in np.unique(y)]))


def well_folds(y: np.ndarray, wells: np.ndarray, n_folds: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """(train, test) indices of up to `n_folds` folds over wells, classes in proportion; [] if a class has one well."""
    n_wells = pd.DataFrame({"y": y, "well": wells}).groupby("y", observed=True)["well"].nunique()
    n_folds = min(n_folds, n_wells.min())
    if n_folds < 2 or len(n_wells) < 2:
        return []
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(y, y, wells)
    return [(train, test) for train, test in folds if set(y[train]) == set(y) and len(test)]


def shuffle_between_wells(y: np.ndarray, wells: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels permuted from well to well; rows of one well keep one common label."""
    codes, _ = pd.factorize(np.asarray(wells))
    _, first = np.unique(codes, return_index=True)
    return rng.permutation(np.asarray(y)[first])[codes]
