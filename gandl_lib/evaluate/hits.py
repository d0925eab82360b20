"""Hits without a positive control: does a compound at a dose do anything that its plate's negative controls do not?

Most screens have DMSO and compounds and nothing to say where cured cells should lie, so there is no axis. What is left
is to ask, for each compound and dose, whether its wells could be negative controls. Two *callers* answer:

* `replicates`  Do its wells find each other among the controls? Their mean average precision (`evaluate.replicates`).
* `distance`    Does it lie away from them? Per plate, the mean of its n_a wells minus that of the k_a controls;
                averaged over plates with weights n_a to d; then the length of d by Mahalanobis, sqrt(d' S^-1 d). S is
                the covariance of these wells about their plate's mean, shrunk as Ledoit & Wolf (2004) say, because
                there are fewer wells than features. The compound's own wells are in S, so the distance grows less than
                in proportion to a strong effect.

**How sure.** If a compound does nothing, its wells and the controls of its plate might have swapped labels. So labels
are permuted among them, each plate by itself: all ways if they are no more than `PERMUTATIONS` + 1, else that many at
random. p is the share of permutations, the true labels among them, that score as high as the true labels. S is the same
whichever way labels fall, and so is the normalisation `all`; `controls` and `tvn` are fitted on other controls, which
are not judged. So p holds for any number of wells and features, provided a plate's wells are alike but for what was
added: an effect of position that sets controls apart (in columns of their own, say) is found like any other.

**How sure one can be.** p is never below `p_floor`, one over the number of permutations: a well on each of two plates
with two controls each has 9, and nothing can be found. `q_value` is Benjamini & Hochberg's over the compounds and doses
of one method, caller and cell type; a `hit` has q < 0.05. Where there is no p, or none that could make a hit, `reason`
says why. A hit does *something*: what kills is a hit too.

References: Kalinin et al. 2025 (mAP and permutations); Ledoit & Wolf 2004; Phipson & Smyth 2010 (no p is 0).
"""

from __future__ import annotations

import itertools
import math
import zlib

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import stats
from sklearn.covariance import ledoit_wolf_shrinkage
from tqdm import tqdm

from gandl_lib.evaluate.reference import normalise_apart
from gandl_lib.evaluate.replicates import GROUP
from gandl_lib.profiles import aggregate, arms, by_method, is_negative_control
from gandl_lib.splits import by_well

CALLERS = ("replicates", "distance")
PERMUTATIONS = 9_999
ALPHA = 0.05
CHUNK = 4_000_000  # numbers at a time

HEADER = ("method", "caller", *GROUP, "score", "by_chance", "p_value", "q_value", "hit", "p_floor", "n_wells",
          "n_controls", "reason")  # fmt: skip


def hits(profiles: AnnData | list[AnnData], normalisation: str = "all", seed: int = 0) -> pd.DataFrame:
    """One row a method, caller, cell type, compound and dose (NaN where none is known), with the columns `HEADER`.

    `score` is a mean average precision or a distance, `by_chance` its mean over permutations; `n_controls` counts the
    negative controls on the plates of the compound and dose.

    Raises:
        ValueError: bad profiles, or no treated well shares a plate with a negative control.
    """
    tables = []
    for method, p in by_method(profiles, ("well_id", "plate_id", "role", *GROUP)).items():
        normalised, reference = normalise_apart(p, normalisation, by_well(p.obs, seed=seed), seed)
        wells = aggregate(normalised[~reference])
        obs = wells.obs.reset_index(drop=True)
        negative, treated = is_negative_control(obs), (obs["role"] == "treated").to_numpy()
        arm = arms(obs)
        if not np.isin(arm[treated], arm[negative]).any():
            found = ", ".join(f"{role}: {n}" for role, n in obs["role"].value_counts().items())
            raise ValueError(
                f"{method}: no treated well shares its plate with a negative control (C-, or untreated where a screen "
                f"has no C-), so nothing can be judged; found wells {found}."
            )
        rows = []
        groups = obs[treated].groupby(GROUP, dropna=False, observed=True).groups
        for group, members in tqdm(groups.items(), desc=f"hits of {method}", disable=None):
            members = obs.loc[members].sort_values("well_id").index.to_numpy()
            controls = obs[negative & np.isin(arm, arm[members])].sort_values("well_id").index.to_numpy()
            pool = np.r_[members, controls]
            rng = np.random.default_rng([seed, zlib.crc32("\n".join(obs["well_id"][pool]).encode())])
            for caller, judged in zip(CALLERS, _judge(wells.X[pool], arm[pool], len(members), rng), strict=True):
                rows.append({"method": method, "caller": caller, **dict(zip(GROUP, group, strict=True)), **judged})
        tables.append(pd.DataFrame(rows))
    table = pd.concat(tables, ignore_index=True)
    table["q_value"] = np.nan
    for _, tested in table[table["p_value"].notna()].groupby(["method", "caller", "cell_type"], observed=True):
        table.loc[tested.index, "q_value"] = stats.false_discovery_control(tested["p_value"], method="bh")
    table["hit"] = table["q_value"] < ALPHA
    return table.sort_values(["method", "caller", *GROUP], kind="stable", ignore_index=True)[list(HEADER)]


def _judge(X: np.ndarray, arm: np.ndarray, n: int, rng: np.random.Generator) -> list[dict]:
    """A row for each of `CALLERS`: the first n of m wells X (m, D) are the compound's, the others controls."""
    X, (arm, sizes) = X.astype(np.float64), np.unique(arm, return_inverse=True, return_counts=True)[1:]
    n_controls = sizes - np.bincount(arm[:n], minlength=len(sizes))  # of each arm
    compared = n_controls[arm] > 0
    row = {"score": np.nan, "by_chance": np.nan, "p_value": np.nan, "p_floor": np.nan, "n_wells": n,
           "n_controls": len(X) - n}  # fmt: skip
    if not compared[:n].any():
        return [row | {"reason": "no negative control on its plates"} for _ in CALLERS]
    draws, every = _labellings(arm, n, rng)  # (B, n), the true labels first
    floor = 1 / len(draws)
    low = "" if floor < ALPHA else f"{len(draws)} ways to give out the labels allow no p below {floor:.2g}"
    rows = []
    for caller in CALLERS:
        if caller == "replicates" and n < 2:
            rows.append(row | {"reason": "one well has no replicate to find"})
            continue
        scores = _agreement(X, arm, compared, draws) if caller == "replicates" else _distance(X, arm, compared, draws)
        as_high = scores >= scores[0] - 1e-9 * max(abs(scores[0]), 1e-300)
        by_chance = scores.mean() if every else scores[1:].mean()
        rows.append(row | {"score": scores[0], "by_chance": by_chance, "p_value": as_high.mean(), "p_floor": floor,
                           "reason": low})  # fmt: skip
    return rows


def _labellings(arm: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """(B, n) int, the wells that are the compound's by each way to give out the labels within arms; are these all?

    The first row is the truth, 0 ... n-1.
    """
    pools = [np.flatnonzero(arm == a) for a in range(arm.max() + 1)]
    taken = [int((pool < n).sum()) for pool in pools]
    ways = math.prod(math.comb(len(pool), k) for pool, k in zip(pools, taken, strict=True))
    if ways <= PERMUTATIONS + 1:
        each = [list(itertools.combinations(pool, k)) for pool, k in zip(pools, taken, strict=True)]
        draws = np.array([list(itertools.chain(*parts)) for parts in itertools.product(*each)], int)
        return draws, True  # the compound's wells come first in each pool, and so does the truth among combinations
    truth = np.concatenate([pool[:k] for pool, k in zip(pools, taken, strict=True)])
    parts = [
        pool[np.argsort(rng.random((PERMUTATIONS, len(pool))), axis=1)[:, :k]]
        for pool, k in zip(pools, taken, strict=True)
    ]
    return np.vstack([truth, np.concatenate(parts, axis=1)]), False


def _agreement(X: np.ndarray, arm: np.ndarray, compared: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(B,) mean average precision of each labelling, as `replicates.average_precision` has it of one query."""
    unit = X / np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-12)
    similar = unit @ unit.T  # (m, m), [i, j] of answer i to query j
    same = (arm[:, None] == arm) & ~np.eye(len(X), dtype=bool)
    # Wells of a query's arm that are no further from it than the answer, whatever their label; then less the
    # compound's among them, and the wrong ones are left.
    everyone = np.empty(similar.shape, int)
    for j in range(len(X)):
        everyone[:, j] = same[:, j].sum() - np.searchsorted(np.sort(similar[same[:, j], j]), similar[:, j])
    B, n = draws.shape
    k = np.arange(1, n)[:, None]
    scores = np.empty(B)
    step = max(1, CHUNK // n**3)
    for start in range(0, B, step):
        at = draws[start : start + step]
        i, j = at[:, :, None], at[:, None, :]
        answers = similar[i, j]  # (b, n, n)
        ours = ((answers[:, :, None] >= answers[:, None]) & same[i, j][:, :, None]).sum(axis=1)  # (b, n, n)
        above = np.where(np.eye(n, dtype=bool), np.inf, everyone[i, j] - ours)
        above = np.sort(above, axis=1)[:, :-1]  # (b, n-1, n): the query itself is no answer
        precision = (k / (k + above)).mean(axis=1)  # (b, n)
        asks = compared[at]
        scores[start : start + step] = (precision * asks).sum(axis=1) / asks.sum(axis=1)
    return scores


def _distance(X: np.ndarray, arm: np.ndarray, compared: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(B,) distance of each labelling, as this module's docstring has it.

    About its arm's mean, a compound's sum is minus that of the controls, so that the difference of the means in an arm
    of m_a wells is m_a / k_a times the compound's mean.
    """
    means = np.stack([np.bincount(arm, column) for column in X.T], axis=1) / np.bincount(arm)[:, None]  # (arms, D)
    X = (X - means[arm]) * compared[:, None]
    n_members = np.bincount(arm[draws[0]], minlength=arm.max() + 1)
    n_arm = np.bincount(arm)
    factor = np.where(compared, n_arm[arm] / np.maximum(n_arm - n_members, 1)[arm], 0) / compared[draws[0]].sum()
    used = X[compared]
    if not used.any():
        return np.zeros(len(draws))
    shrinkage = ledoit_wolf_shrinkage(used, assume_centered=True)
    U, s, _ = np.linalg.svd(X, full_matrices=False)  # wells differ in these directions only
    mean_variance = (s**2).sum() / len(used) / X.shape[1]
    variance = (1 - shrinkage) * s**2 / len(used) + shrinkage * mean_variance
    keep = s > s[0] * max(X.shape) * np.finfo(np.float32).eps
    W = factor[:, None] * U[:, keep] * s[keep] / np.sqrt(variance[keep])  # (m, r)
    total = np.zeros((len(draws), W.shape[1]))
    for members in draws.T:
        total += W[members]
    return np.linalg.norm(total, axis=1)
