"""Mechanism of action by the nearest neighbour: the exam of CytoGAN (Goldsborough et al. 2017) and its peers.

A *treatment* is a compound at a dose, its profile the mean of its wells. It is given the mechanism of the treatment
that is most like it by cosine,

    NSC    among all treatments by other compounds       (not the same compound)
    NSCB   among those that share no batch with it either (nor the same batch)

NSC lets a treatment find a neighbour that was stained on the same day. For NSCB only treatments count whose mechanism
occurs in another batch at all; both numbers of treatments are in the table.

Intervals are Wilson's, on treatments as if they were independent; doses of one compound are not, so they are too
narrow if anything. `compounds_low` and `compounds_high` draw compounds anew instead, each with all its doses,
neighbours as they were found. `compound_accuracy` counts compounds, right where most of their doses are. The majority
rate guesses the mechanism with most treatments; shuffled mechanisms are dealt anew to compounds a hundred times.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.covariance import ledoit_wolf

from gandl_lib.profiles import aggregate, arms, by_method, is_negative_control, normalise

HEADER = ("method", "protocol", "accuracy", "n_treatments", "n_correct", "ci_low", "ci_high", "compound_accuracy",
          "n_compounds", "compounds_low", "compounds_high", "majority_rate", "shuffled", "recipe",
          "dataset")  # fmt: skip
CONFUSION_HEADER = ("method", "protocol", "true", "predicted", "count", "recipe", "dataset")
PROTOCOLS = ("NSC", "NSCB")
_TREATMENT = ["compound", "concentration_uM"]
N_SHUFFLES = 100
N_BOOTSTRAP = 2000


# ---- normalisation ----


def _pooled(p: AnnData) -> np.ndarray:
    """Each plate centred on its controls; one spread for all plates, from all controls."""
    X, control, plate = p.X.astype(float), is_negative_control(p.obs), arms(p.obs)
    for one in np.unique(plate):
        X[plate == one] -= X[(plate == one) & control].mean(axis=0)
    sd = X[control].std(axis=0)
    return X / np.where(sd > 0, sd, np.inf)


def _z(p: AnnData) -> np.ndarray:
    return normalise(p, "controls").X.astype(float)


def _without_orientation(p: AnnData) -> np.ndarray:
    return _z(p)[:, ~p.var_names.str.contains("Orientation")]


def _robust(p: AnnData) -> np.ndarray:
    """Median and 1.4826 x median absolute deviation of each plate's controls."""
    X, control, plate = p.X.astype(float), is_negative_control(p.obs), arms(p.obs)
    for one in np.unique(plate):
        rows = plate == one
        median = np.median(X[rows & control], axis=0)
        mad = 1.4826 * np.median(np.abs(X[rows & control] - median), axis=0)
        X[rows] = (X[rows] - median) / np.where(mad > 0, mad, np.inf)
    return X


def _selected(p: AnnData, correlation: float = 0.95) -> np.ndarray:
    """Of z-scores that run parallel (|r| above `correlation`), only the first."""
    X = _z(p)
    X = X[:, X.std(axis=0) > 0]
    r, kept = np.abs(np.corrcoef(X, rowvar=False)), []
    for j in range(X.shape[1]):
        if not (r[j, kept] > correlation).any():
            kept.append(j)
    return X[:, kept]


def _clipped(p: AnnData) -> np.ndarray:
    return np.clip(_z(p), -5, 5)


def sphere(X: np.ndarray, control: np.ndarray) -> np.ndarray:
    """(N, D) in coordinates in which the controls' covariance is one, shrunk by Ledoit and Wolf's estimate.

    The shrinkage makes it well defined with fewer control wells than features.
    """
    covariance, _ = ledoit_wolf(X[control])
    values, vectors = np.linalg.eigh(covariance)
    return (X - X[control].mean(axis=0)) @ (vectors / np.sqrt(values)) @ vectors.T


def _sphered(p: AnnData) -> np.ndarray:
    return sphere(_pooled(p), is_negative_control(p.obs))


RECIPES: dict[str, Callable[[AnnData], np.ndarray]] = {
    "z-score on DMSO": _z,
    "z-score, no orientation": _without_orientation,
    "z-score on all wells": lambda p: normalise(p, "all").X.astype(float),
    "robust z-score": _robust,
    "z-score, spread of all plates": _pooled,
    "z-score, clipped at 5": _clipped,
    "z-score, features selected": _selected,
    "sphered": _sphered,
    "TVN": lambda p: normalise(p, "tvn").X.astype(float),
}
"""Ways to take plates out, (N, D) -> (N, D'). The first is Ljosa's; all others are looked at on the same treatments."""
COMPARED = ("z-score on DMSO", "sphered")
"""The recipes by which methods are compared: with nine of each, the luckiest would win."""


def z_scored(X: np.ndarray) -> np.ndarray:
    """(N, D), each feature less its mean and by its spread over the rows; one that does not vary becomes 0."""
    X = X.astype(float)
    sd = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(sd > 1e-9, sd, np.inf)


def sphered_on_all(X: np.ndarray) -> np.ndarray:
    """(N, D) z-scores in which all directions vary alike, as far as so many rows can tell."""
    return sphere(z_scored(X), np.ones(len(X), bool))


WITHOUT_CONTROLS: dict[str, Callable[[AnnData], np.ndarray]] = {
    "z-score, screen as a whole": lambda p: z_scored(p.X),
    "sphered on all wells": lambda p: sphered_on_all(p.X),
}
"""By which methods are compared where plates have no DMSO to be taken out on: what plates do stays in.

Sphering on all wells in place of controls counts directions for little that most wells differ along, drugs' and plates'
alike.
"""


# ---- the exam ----


def treatments(X: np.ndarray, obs: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """Mean profiles (T, D) of treatments with a known mechanism, and their compound, dose, moa and set of batches.

    Raises:
        ValueError: no mechanism known, a compound with two mechanisms, or a mechanism with a single compound.
    """
    known = obs["moa"].ne("").to_numpy()
    if not known.any():
        raise ValueError("no well has a mechanism: does the table of mechanisms name the compounds as the wells do?")
    part = obs[known]
    two = part.groupby("compound")["moa"].nunique()
    if (two > 1).any():
        raise ValueError(f"{', '.join(two.index[two > 1])}: more than one mechanism.")
    members = part.groupby("moa")["compound"].nunique()
    if (members < 2).any():
        alone = ", ".join(members.index[members < 2])
        raise ValueError(f"{alone}: one compound only, so no other can be its neighbour; leave the mechanism out.")
    group = part.groupby(_TREATMENT, sort=False)
    mean = pd.DataFrame(X[known]).groupby(group.ngroup().to_numpy()).mean().to_numpy()
    table = group.agg(moa=("moa", "first"), batches=("batch", frozenset)).reset_index()
    return mean, table


def nearest(mean: np.ndarray, table: pd.DataFrame, protocol: str) -> tuple[np.ndarray, np.ndarray]:
    """(T,) place of the nearest neighbour that `protocol` allows, and (T,) bool: whether its mechanism could be found.

    Raises:
        ValueError: unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; choose from {', '.join(PROTOCOLS)}.")
    compound, moa, batches = table["compound"].to_numpy(), table["moa"].to_numpy(), list(table["batches"])
    allowed = compound[:, None] != compound
    if protocol == "NSCB":
        allowed &= ~np.array([[bool(a & b) for b in batches] for a in batches])
    unit = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    place = np.where(allowed, unit @ unit.T, -np.inf).argmax(axis=1)
    return place, (allowed & (moa[:, None] == moa)).any(axis=1)


def moa(X: np.ndarray, obs: pd.DataFrame, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of one set of profiles by both protocols, and who was taken for whom.

    Args:
        X: (N, D) normalised profiles of wells.
        obs: compound, concentration_uM, moa ("" where unknown) and batch of each.

    Returns:
        Tables with the columns `HEADER` and `CONFUSION_HEADER`, less method, recipe and dataset.
    """
    mean, table = treatments(X, obs)
    mechanism, rows, counts = table["moa"].to_numpy(), [], []
    of_compound, codes = table.drop_duplicates("compound")["moa"].to_numpy(), pd.factorize(table["compound"])[0]
    for protocol in PROTOCOLS:
        place, possible = nearest(mean, table, protocol)
        right = (mechanism[place] == mechanism)[possible]
        per_compound = pd.Series(right).groupby(table["compound"].to_numpy()[possible]).mean() > 0.5
        rng, by_chance = np.random.default_rng(seed), []
        for _ in range(N_SHUFFLES):
            dealt = rng.permutation(of_compound)[codes]
            by_chance.append(np.mean((dealt[place] == dealt)[possible]))
        majority = pd.Series(mechanism[possible]).value_counts(normalize=True).max()
        n, k = len(right), int(right.sum())
        rows.append((protocol, k / n, n, k, *wilson(k, n), per_compound.mean(), len(per_compound),
                     *over_compounds(right, table["compound"].to_numpy()[possible], seed), majority,
                     np.mean(by_chance)))  # fmt: skip
        pairs = pd.DataFrame({"true": mechanism[possible], "predicted": mechanism[place][possible]})
        counts.append(pairs.value_counts().reset_index().assign(protocol=protocol))
    return pd.DataFrame(rows, columns=HEADER[1:-2]), pd.concat(counts, ignore_index=True)[list(CONFUSION_HEADER[1:-2])]


def wilson(k: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of k right answers among n."""
    p, w = k / n, z**2 / n
    half = z * np.sqrt(p * (1 - p) / n + w / (4 * n))
    return (p + w / 2 - half) / (1 + w), (p + w / 2 + half) / (1 + w)


def over_compounds(right: np.ndarray, compound: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the share of treatments that are right, compounds drawn with replacement."""
    counts = pd.DataFrame({"right": right, "n": 1}).groupby(compound).sum().to_numpy()  # (compounds, 2)
    drawn = np.random.default_rng(seed).integers(0, len(counts), (N_BOOTSTRAP, len(counts)))
    k, n = counts[drawn].sum(axis=1).T
    return tuple(np.quantile(k / n, [0.025, 0.975]))


def compare(profiles: list[AnnData], seed: int = 0, dataset: str | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`moa` of every method's profiles, of real cells and of simulated ones, by recipes.

    Rows that are parts of a well (sites, cells) are averaged to wells first. Several methods of one dataset are
    compared by `COMPARED`, or by `WITHOUT_CONTROLS` where a plate has fewer than two control wells; one alone is looked
    at by all of `RECIPES`.

    Args:
        profiles: one a method.
        seed: of shuffles and intervals.
        dataset: what the tables call the screen, if it is one; else "simulated" where the profiles' provenance says
            so, and "real".

    Returns:
        Tables with the columns `HEADER` and `CONFUSION_HEADER`.

    Raises:
        ValueError: a column is missing, two methods of one name, a plate without controls, or as `treatments`.
    """
    profiles = list(by_method(profiles, ("well_id", "plate_id", "role", "batch", "moa", *_TREATMENT)).values())
    made = [json.loads(p.uns["provenance"]) for p in profiles]
    datasets = [dataset or ("simulated" if one.get("simulated") else "real") for one in made]
    scores, counts = [], []
    for p, one, of in zip(profiles, made, datasets, strict=True):
        wells = aggregate(p, "well_id")
        per_plate = pd.Series(is_negative_control(wells.obs)).groupby(wells.obs["plate_id"].to_numpy()).sum()
        if per_plate.min() < 2 and dataset is not None:
            recipes = WITHOUT_CONTROLS
        else:
            recipes = RECIPES if datasets.count(of) == 1 else {recipe: RECIPES[recipe] for recipe in COMPARED}
        for recipe, prepared in recipes.items():
            found = moa(prepared(wells), wells.obs, seed)
            for tables, table in zip((scores, counts), found, strict=True):
                tables.append(table.assign(method=one["method"], recipe=recipe, dataset=of))
    return (
        pd.concat(scores, ignore_index=True)[list(HEADER)],
        pd.concat(counts, ignore_index=True)[list(CONFUSION_HEADER)],
    )
