"""Which compounds do something? Several ways to call a hit, side by side in one table.

For each compound and dose the question is whether its wells could be negative controls (C-) of their own plates. Each
*caller* asks it in another way (`callers` has their formulas). Of any embedding:

* `distance`     Mahalanobis' distance from the controls.
* `replicates`   mean average precision: its wells find each other among the controls.
* `energy`       energy distance between its wells and the controls.
* `ks`           the largest Kolmogorov-Smirnov statistic of a single feature.

Where there are positive controls (C+), of which the axis and the signature know in which direction a cure lies:

* `efficacy`     place on the axis from C- to C+ (`axes`), one-sided; with its 95 % t interval over wells.
* `reversal`     earth mover's distance to C+ along the *signature*, the features in which C+ and C- differ (single
                 Kolmogorov-Smirnov tests, 5 % false discoveries): 1 - distance / distance of C-, one-sided. 0 lies
                 with C-, 1 with C+. 1 less this is the published reversal score's "on" part.
* `off-signature`  earth mover's distance from C- along all other features: the "off" part, what changes *beside*.

Where rows are single cells (`gandl cells`), those that compare distributions are asked of the clouds of cells too, and
not of wells' means alone (`clouds`): `cell-energy`, `cell-ks`, and with C+ `cell-reversal` and `cell-off-signature`,
along the same signature. Wells are permuted, never cells.

And the plain ones, for the methods that are one number or have one:

* `brightness`   mean of the channels' mean intensities, of the method `intensity`.
* `cell-count`   of the method `cell-count`.

**How sure.** If a compound does nothing, its wells and the controls of its plate might have swapped labels. So labels
are permuted among them, each plate by itself: all ways if they are no more than `PERMUTATIONS` + 1, else that many at
random. p is the share of permutations, the true labels among them, that score as high as the true labels. All that a
score takes from the wells besides their labels (covariance, means, normalisation `all`) is the same whichever way
labels fall; `controls` and `tvn` are fitted on other controls, which are not judged. So p holds for any number of wells
and features, provided a plate's wells are alike but for what was added: an effect of position that sets controls apart
(in columns of their own, say) is found like any other.

**Controls that taught cannot judge.** An axis, or a signature, fits the controls that it was made from better than any
others, and a compound that does nothing would lie apart from them. The three callers that need C+ therefore compare
with those C- only that no fit has seen, a quarter of all, and `n_controls` says how few that leaves.

**How sure one can be.** p is never below `p_floor`, one over the number of permutations: a well on each of two plates
with two controls each has 9, and nothing can be found. Where there is no p, or none that could make a hit, `reason`
says why.

**One rule for many.** `q_value` is Benjamini & Hochberg's over all compounds *and doses* of one method, caller and
cell type; a `hit` has q < 0.05. Doses of a compound go up and down together, and so do compounds judged by the same
controls; under such positive dependence the rule still holds (Benjamini & Yekutieli 2001). A hit of a caller that knows
no C+ does *something*: what kills is a hit too.

`DEFAULT` is the caller to take where nothing speaks for another. It was chosen on one simulated screen and judged on
others of its kind (chapter 11, where what it finds on a real plate stands beside: as many doses by an untrained network
as by a trained one).

References: Kalinin et al. 2025 (mAP and permutations); Ledoit & Wolf 2004; Szekely & Rizzo 2013 (energy); Westfall &
Young 1993 (largest statistic); Phipson & Smyth 2010 (no p is 0); buscar, of the Way lab (on and off reversal scores).
"""

from __future__ import annotations

import itertools
import json
import math
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import stats
from tqdm import tqdm

from gandl_lib.evaluate import callers, clouds
from gandl_lib.evaluate.axes import efficacy
from gandl_lib.evaluate.clouds import Distances, Shares
from gandl_lib.evaluate.reference import normalise_apart
from gandl_lib.evaluate.replicates import GROUP
from gandl_lib.profiles import aggregate, arms, by_method, is_negative_control
from gandl_lib.splits import by_well

OF_ANY = ("distance", "replicates", "energy", "ks")
WITH_POSITIVE = ("efficacy", "reversal", "off-signature")
OF_CELLS = ("cell-energy", "cell-ks")
OF_CELLS_WITH_POSITIVE = ("cell-reversal", "cell-off-signature")
OF_ONE_NUMBER = {"intensity": "brightness", "cell-count": "cell-count"}
"""Method to the caller that it alone is asked by."""
CALLERS = (*OF_ANY, *WITH_POSITIVE, *OF_ONE_NUMBER.values(), *OF_CELLS, *OF_CELLS_WITH_POSITIVE)
DEFAULT = "distance"

PERMUTATIONS = 9_999
ALPHA = 0.05

HEADER = ("method", "caller", *GROUP, "score", "score_low", "score_high", "by_chance", "p_value", "q_value", "hit",
          "p_floor", "n_wells", "n_controls", "reason")  # fmt: skip


@dataclass(frozen=True)
class Question:
    """How a caller scores wells, by which numbers of them (N, D) or (N,), against which controls (N,) bool.

    `reason` says why it cannot be asked, where that is so. `interval`: the score is a mean and has a t interval.
    """

    score: Callable[..., np.ndarray]
    values: np.ndarray
    controls: np.ndarray
    reason: str = ""
    interval: bool = False


def hits(
    profiles: AnnData | list[AnnData],
    normalisation: str = "all",
    seed: int = 0,
    only: tuple[str, ...] = CALLERS,
) -> pd.DataFrame:
    """One row a method, caller, cell type, compound and dose (NaN where none is known), with the columns `HEADER`.

    `score` is what the caller measures (`score_low`, `score_high`: its 95 % interval, where it has one), `by_chance`
    its mean over permutations; `n_controls` counts the negative controls it was compared with, on the plates of the
    compound and dose.

    Args:
        profiles: one table a method; rows are sites or wells, or single cells.
        normalisation: of plates, a name from `profiles.NORMALISATIONS`.
        seed: of permutations, and of the choice of controls that axis and signature are fitted on.
        only: the callers to ask, of those that the profiles allow.

    Raises:
        ValueError: bad profiles, an unknown caller, none that the profiles allow, or no treated well shares a plate
            with a negative control.
    """
    if unknown := [caller for caller in only if caller not in CALLERS]:
        raise ValueError(f"Unknown caller(s) {', '.join(unknown)}; choose from {', '.join(CALLERS)}.")
    rows = []
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
        X = wells.X.astype(np.float64)
        cells = _cells(normalised[~reference], obs) if set(only) & {*OF_CELLS, *OF_CELLS_WITH_POSITIVE} else None
        of_all = _of_any(method, p, X, negative, cells)
        needs_positive = set(only) & {*WITH_POSITIVE, *OF_CELLS_WITH_POSITIVE}
        learnt = _with_positive(p, obs, X, cells, normalisation, seed) if needs_positive else {}
        groups = obs[treated].groupby(GROUP, dropna=False, observed=True).groups
        for group, members in tqdm(groups.items(), desc=f"hits of {method}", disable=None):
            members = obs.loc[members].sort_values("well_id").index.to_numpy()
            beside = np.isin(arm, arm[members])
            draws: dict[bytes, tuple] = {}  # callers that compare with the same controls share their permutations
            for caller, question in (of_all | learnt.get(group[0], {})).items():
                if caller not in only:
                    continue
                controls = np.flatnonzero(question.controls & beside)
                controls = obs.loc[controls].sort_values("well_id").index.to_numpy()
                pool = np.r_[members, controls]
                if controls.tobytes() not in draws:
                    rng = np.random.default_rng([seed, zlib.crc32("\n".join(obs["well_id"][pool]).encode())])
                    draws[controls.tobytes()] = _labellings(arm[pool], len(members), rng)
                judged = _judge(question, pool, arm[pool], len(members), *draws[controls.tobytes()])
                rows.append({"method": method, "caller": caller, **dict(zip(GROUP, group, strict=True)), **judged})
    if not rows:
        raise ValueError(f"The profiles allow none of the callers {', '.join(only)}; see gandl_lib/evaluate/hits.py.")
    table = pd.DataFrame(rows).assign(q_value=np.nan)
    for _, tested in table[table["p_value"].notna()].groupby(["method", "caller", "cell_type"], observed=True):
        table.loc[tested.index, "q_value"] = stats.false_discovery_control(tested["p_value"], method="bh")
    table["hit"] = table["q_value"] < ALPHA
    order = table["caller"].map(CALLERS.index)
    table = table.assign(order=order).sort_values(["method", "order", *GROUP], kind="stable", ignore_index=True)
    return table[list(HEADER)]


# ---- what each caller measures ----


def _cells(p: AnnData, wells: pd.DataFrame) -> tuple[Distances, Shares] | None:
    """The single cells of `wells`, by their row there; None where rows of p are no cells."""
    if not {"site_of", "cell"} <= set(p.obs):  # a mean over a site's cells still knows the site, and no cell
        return None
    well = pd.Index(wells["well_id"]).get_indexer(p.obs["well_id"].astype(str))
    return Distances(p.X, well, arms(wells)), Shares.of(p.X, well)


def _of_any(
    method: str, p: AnnData, X: np.ndarray, negative: np.ndarray, cells: tuple[Distances, Shares] | None
) -> dict[str, Question]:
    """The callers that need no C+; X (N, D) are the normalised wells of p, which has a row a site or a cell."""
    asked = {name: Question(getattr(callers, name), X, negative) for name in OF_ANY}
    if X.shape[1] == 1:
        asked["replicates"] = Question(callers.replicates, X, negative, "one number has no direction to agree in")
    if method in OF_ONE_NUMBER:
        # The first of each channel's statistics is its mean; a cell count is one number to begin with.
        channels = len(json.loads(p.uns["provenance"]).get("limits", ())) if method == "intensity" else 1
        known = channels > 0 and X.shape[1] % channels == 0
        means = X[:, :: X.shape[1] // channels] if known else X
        reason = "" if known else "the profiles do not say which of their columns are channels' means"
        asked[OF_ONE_NUMBER[method]] = Question(callers.difference, means.mean(axis=1), negative, reason)
    if cells is not None:
        (distances, shares), number = cells, np.arange(len(X))
        asked["cell-energy"] = Question(partial(clouds.energy, distances), number, negative)
        asked["cell-ks"] = Question(partial(clouds.ks, shares), number, negative)
    return asked


def _with_positive(
    p: AnnData, obs: pd.DataFrame, X: np.ndarray, cells: tuple[Distances, Shares] | None, normalisation: str, seed: int
) -> dict[str, dict[str, Question]]:
    """By cell type, the callers that need C+: axis and signature from controls that they are not compared with."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*(no axis|do not lie in order)")  # the rows say so
            table = efficacy(p, normalisation, seed).set_index("well_id")
    except ValueError:  # no cell type has enough controls of both kinds
        return {}
    table = table.reindex(obs["well_id"])
    on_axis, split, role = table["efficacy"].to_numpy(), table["split"].to_numpy(), table["role"].to_numpy()
    learnt = {}
    for cell_type in table["cell_type"].dropna().unique():
        mine = (table["cell_type"] == cell_type).to_numpy()
        unseen = mine & (role == "C-") & (split == "test")
        sick, healthy = (mine & (role == r) & (split == "train") for r in ("C-", "C+"))
        p_values = np.ones(X.shape[1])
        varies = X[sick | healthy].std(axis=0) > 0
        p_values[varies] = stats.ks_2samp(X[sick][:, varies], X[healthy][:, varies], axis=0, method="asymp").pvalue
        signature = stats.false_discovery_control(p_values) < ALPHA
        unordered = "the axis does not order unseen controls" if np.isnan(on_axis[mine]).all() else ""
        everything = "every feature is in the signature" if signature.all() else ""
        well = mine & (role == "C+")
        learnt[cell_type] = {
            "efficacy": Question(callers.mean, on_axis, unseen, unordered, interval=True),
            "reversal": _reversal(callers.earth_mover, X[:, signature], X[well][:, signature], sick, unseen),
            "off-signature": Question(callers.earth_mover, X[:, ~signature], unseen, everything),
        }
        if cells is not None:
            number, on, off = np.arange(len(X)), cells[1].along(signature), cells[1].along(~signature)
            to = on.below[well].mean(axis=0)
            learnt[cell_type] |= {
                "cell-reversal": _reversal(partial(clouds.earth_mover, on), number, to, sick, unseen),
                "cell-off-signature": Question(partial(clouds.earth_mover, off), number, unseen, everything),
            }
    return learnt


def _reversal(
    earth_mover: Callable[..., np.ndarray], values: np.ndarray, target: np.ndarray, sick: np.ndarray, unseen: np.ndarray
) -> Question:
    """How near the target, of C+, things come, where 0 is as near as `sick`, the C- wells that taught, (N,) bool.

    Args:
        values: (N, ...), what `earth_mover` takes of wells; `target`, what it takes as `to`; both of the signature.
    """
    if not target.shape[-1]:
        return Question(earth_mover, values, unseen, "no feature differs between C+ and C-")
    k = int(sick.sum())
    whole = earth_mover(values[sick], np.zeros(k, int), np.arange(k)[None], to=target)[0]

    def score(some: np.ndarray, arm: np.ndarray, draws: np.ndarray) -> np.ndarray:
        return 1 - earth_mover(some, arm, draws, to=target) / whole

    return Question(score, values, unseen)


# ---- how sure ----


def _judge(
    question: Question, pool: np.ndarray, arm: np.ndarray, n: int, draws: np.ndarray, every: bool
) -> dict[str, object]:
    """Score and p of one caller: the first n of the m wells `pool` are the compound's, the others controls.

    Args:
        arm: (m,) int, 0, 1, ...; draws, every: of `_labellings`.
    """
    row = {"score": np.nan, "score_low": np.nan, "score_high": np.nan, "by_chance": np.nan, "p_value": np.nan,
           "p_floor": np.nan, "n_wells": n, "n_controls": len(pool) - n, "reason": question.reason}  # fmt: skip
    if question.reason:
        return row
    arm = np.unique(arm, return_inverse=True)[1]
    compared = np.bincount(arm[n:], minlength=arm.max() + 1)[arm] > 0  # (m,): its arm has controls
    if not compared[:n].any():
        return row | {"reason": "no negative control on its plates"}
    if question.score is callers.replicates:  # a well without controls asks nothing, and is still a right answer
        if n < 2:
            return row | {"reason": "one well has no replicate to find"}
    else:
        draws = (np.cumsum(compared) - 1)[draws[:, compared[draws[0]]]]
        pool, arm = pool[compared], np.unique(arm[compared], return_inverse=True)[1]
    values = question.values[pool]
    scores = question.score(values, arm, draws)
    as_high = scores >= scores[0] - 1e-10 * max(np.abs(scores).max(), 1e-300)
    row["score"], row["by_chance"] = scores[0], scores.mean() if every else scores[1:].mean()
    row["p_value"], row["p_floor"] = as_high.mean(), 1 / len(draws)
    if question.interval and draws.shape[1] > 1:
        mine = values[draws[0]]
        half = stats.t.ppf(1 - ALPHA / 2, len(mine) - 1) * mine.std(ddof=1) / math.sqrt(len(mine))
        row["score_low"], row["score_high"] = scores[0] - half, scores[0] + half
    if row["p_floor"] >= ALPHA:
        row["reason"] = f"{len(draws)} ways to give out the labels allow no p below {row['p_floor']:.2g}"
    return row


def _labellings(arm: np.ndarray, n: int, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """(B, n) int, the wells that are the compound's by each way to give out the labels within arms; are these all?

    The first row is the truth, 0 ... n-1; columns go by arm.
    """
    pools = [np.flatnonzero(arm == a) for a in np.unique(arm)]
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
