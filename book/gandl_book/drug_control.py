"""Drug against control by a small network of two layers, per cell line: Figure 4 of Dmitrenko et al. (2022).

Two linear layers with a ReLU between, trained with stochastic gradient descent; learning rate, momentum and weight
decay are those of a grid that do best on validation wells. The grid starts every point anew (`corrected`). The authors'
public code goes on from where the last point ended (`as published`), and takes the area under the ROC curve from the
guessed labels instead of the scores (`auc_from_labels`).

Features are normalised per plate and turned to their principal axes over the training rows. Many drugs do nothing, in a
simulated screen as in a real one, so nobody can be right on all of them. The rate of the larger class stands beside the
accuracy, and intervals, over wells, are given of accuracy and AUC.
"""

from __future__ import annotations

import warnings
from copy import deepcopy
from itertools import product

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import precision_score, recall_score, roc_auc_score
from sklearn.neural_network import MLPClassifier

from gandl_lib.evaluate import bootstrap, svm
from gandl_lib.evaluate.drugs import drugs_and_controls
from gandl_lib.profiles import by_method, normalise
from gandl_lib.splits import by_well

HIDDEN = 32
EPOCHS = 60  # after 20, one that goes on from the last point is ahead for no better reason than having seen more
COMPONENTS = 64  # of those few hundred wells the rest is noise, and most of the time
GRID = {"learning_rate_init": (0.003, 0.03), "momentum": (0.5, 0.9), "alpha": (1e-4, 1e-1)}
VARIANTS = ("corrected", "as published")
HEADER = ("method", "cell_type", "variant", "accuracy", "ci_low", "ci_high", "precision", "recall", "roc_auc",
          "auc_low", "auc_high", "auc_from_labels", "balanced_accuracy", "majority_rate", "n_train_wells",
          "n_test_wells")  # fmt: skip


def drug_control(
    profiles: AnnData | list[AnnData], normalisation: str = "all", seed: int = 0, n_bootstrap: int = 200
) -> pd.DataFrame:
    """One row (`HEADER`) per method, cell type and variant; a drug is the positive class.

    Raises:
        ValueError: bad profiles, no drugs or no controls, or fewer than four wells of either in a cell type.
    """
    rows = []
    for method, p in by_method(profiles, ("well_id", "plate_id", "cell_type", "role")).items():
        p = normalise(drugs_and_controls(p, method), normalisation)
        for cell_type, obs in p.obs.groupby("cell_type", observed=True):
            wells = obs.groupby("role", observed=True)["well_id"].nunique().reindex(["treated", "C-"], fill_value=0)
            if wells.min() < 4:
                raise ValueError(
                    f"{method}: drug against control in {cell_type} takes four wells of both; found "
                    f"{wells['treated']} of drugs and {wells['C-']} of controls."
                )
            here = p[(p.obs["cell_type"] == cell_type).to_numpy()]
            for found in _cell_type(here, seed, n_bootstrap):
                rows.append({"method": method, "cell_type": cell_type, **found})
    return pd.DataFrame(rows, columns=HEADER)


def _cell_type(p: AnnData, seed: int, n_bootstrap: int) -> list[dict]:
    y, wells, test = (p.obs["role"] == "treated").to_numpy(), p.obs["well_id"].to_numpy(), by_well(p.obs, seed=seed)
    learn = ~test
    choose = np.zeros_like(test)
    choose[learn] = by_well(p.obs[learn], 0.25, seed)
    n = min(COMPONENTS, learn.sum() - 1, p.n_vars)
    axes = PCA(n, random_state=seed).fit(p.X[learn])
    X = axes.transform(p.X) / max(np.sqrt(axes.explained_variance_.mean()), 1e-12)
    rows = []
    for variant in VARIANTS:
        network = search(X, y, learn & ~choose, choose, seed, anew=variant == "corrected")
        score = network.predict_proba(X[test])[:, 1]
        guess, truth = score > 0.5, y[test]
        low, high = bootstrap.interval(guess == truth, wells[test], n_bootstrap, seed)
        auc_low, auc_high = _auc_interval(truth, score, wells[test], n_bootstrap, seed)
        rows.append(
            {
                "variant": variant,
                "accuracy": np.mean(guess == truth),
                "ci_low": low,
                "ci_high": high,
                "precision": precision_score(truth, guess, zero_division=0),
                "recall": recall_score(truth, guess),
                "roc_auc": roc_auc_score(truth, score),
                "auc_low": auc_low,
                "auc_high": auc_high,
                "auc_from_labels": roc_auc_score(truth, guess),
                "balanced_accuracy": svm.balanced_accuracy(truth, guess),
                "majority_rate": max(truth.mean(), 1 - truth.mean()),
                "n_train_wells": len(set(wells[learn])),
                "n_test_wells": len(set(wells[test])),
            }
        )
    return rows


def search(X: np.ndarray, y: np.ndarray, learn: np.ndarray, choose: np.ndarray, seed: int, anew: bool) -> MLPClassifier:
    """The network of the grid's best point by balanced accuracy on rows `choose` (N,) bool, taught on rows `learn`.

    Args:
        anew: begin every point with weights of its own; otherwise with those of the point before.
    """
    best, best_score, network = None, -1.0, None
    for point in product(*GRID.values()):
        if anew or network is None:
            network = MLPClassifier(
                (HIDDEN,),
                solver="sgd",
                max_iter=EPOCHS,
                batch_size=min(64, int(learn.sum())),
                random_state=seed,
                warm_start=True,
            )
        network.set_params(**dict(zip(GRID, point, strict=True)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a fixed number of epochs, as published
            network.fit(X[learn], y[learn])
        score = svm.balanced_accuracy(y[choose], network.predict(X[choose]))
        if score > best_score:
            best_score, best = score, deepcopy(network)  # further fitting leaves the copy alone
    return best


def _auc_interval(y: np.ndarray, score: np.ndarray, wells: np.ndarray, n: int, seed: int) -> tuple[float, float]:
    """95 % interval of the area under the ROC curve, wells drawn again; draws of one class are passed over.

    The area is the share of pairs of a positive and a negative that are in order, ties counting half. Scores are sorted
    once for all draws.
    """
    codes, names = pd.factorize(wells)
    _, place = np.unique(score, return_inverse=True)
    rng, values = np.random.default_rng(seed), []
    for _ in range(n):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[codes]
        positive, negative = np.bincount(place, times * y), np.bincount(place, times * ~y)
        if positive.any() and negative.any():
            below = np.cumsum(negative) - negative / 2
            values.append(positive @ below / (positive.sum() * negative.sum()))
    if not values:
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - bootstrap.LEVEL) / 2, (1 + bootstrap.LEVEL) / 2])
    return float(low), float(high)


def tables(
    profiles: list[AnnData], normalisation: tuple[str, ...], truth: pd.DataFrame | None, seed: int
) -> dict[str, pd.DataFrame]:
    """`gandl evaluate drug-control`, as `gandl_lib.evaluate.EVALUATIONS` has the others."""
    return {"{out}": drug_control(profiles, normalisation[0], seed)}
