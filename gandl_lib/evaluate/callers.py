"""Ways to ask whether a compound's wells could be negative controls: labelled wells in, a score a labelling out.

Every caller is a function of m wells and B ways to say which n of them are the compound's, and returns B scores, high
where the labelled wells stand apart. `hits` makes p-values of them; nothing here knows of compounds, plates or doses.

    X         (m, D) features of the wells, or x (m,) one number of each
    arm       (m,) int, the plate of each (or its plate and cell type): what was normalised together
    draws     (B, n) int, the labelled wells of each labelling, as many of each arm in all of them

* `replicates`   Do its wells find each other among the controls? Mean average precision (Kalinin et al. 2025).
* `distance`     How far do they lie from the controls? Per arm, the mean of its n_a wells minus that of the k_a
                 controls; averaged over arms with weights n_a to d; then Mahalanobis' length of d, sqrt(d' S^-1 d).
                 S is the covariance of these wells about their arm's mean, shrunk as Ledoit & Wolf (2004) say, because
                 there are fewer wells than features. The compound's own wells are in S, so the distance grows less
                 than in proportion to a strong effect.
* `energy`       Are the two samples one cloud? Szekely & Rizzo's (2013) energy distance of the wells about their arm's
                 mean, 2 E|x - y| - E|x - x'| - E|y - y'|, with Euclidean lengths.
* `ks`           Does any single feature differ? The largest Kolmogorov-Smirnov statistic of all features. Permuting the
                 largest one is the correction for having looked at all of them (Westfall & Young 1993), and a less
                 wasteful one than Bonferroni's where features go together.
* `earth_mover`  How much work turns one sample into another? Wasserstein's distance along each feature, averaged over
                 features; from the controls, or from a third sample (`reversal` is made of it, see `hits`).
* `mean`, `difference`   of a single number: its mean over the labelled wells, one-sided; the size of the difference of
                 means, d as above, two-sided.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import numpy as np
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf_shrinkage

CHUNK, IN_CACHE = 4_000_000, 1 << 18  # numbers at a time


def replicates(X: np.ndarray, arm: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(B,) mean average precision of each labelling, as `evaluate.replicates.average_precision` has it of one query.

    Wells of arms without controls ask nobody and are right answers all the same.
    """
    compared = (np.bincount(arm) > np.bincount(arm[draws[0]], minlength=arm.max() + 1))[arm]  # (m,)
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


def distance(X: np.ndarray, arm: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(B,) Mahalanobis distance of each labelling from the rest.

    About its arm's mean, a compound's sum is minus that of the controls, so that the difference of the means in an arm
    of m_a wells is m_a / k_a times the compound's mean.
    """
    X, factor = _centred(X, arm), _factor(arm, draws)
    if not X.any():
        return np.zeros(len(draws))
    shrinkage = ledoit_wolf_shrinkage(X, assume_centered=True)
    squares, U = np.linalg.eigh(X @ X.T)  # wells differ in these directions only, and there are few of them
    s = np.sqrt(np.maximum(squares, 0))
    mean_variance = squares.sum() / X.size
    variance = (1 - shrinkage) * s**2 / len(X) + shrinkage * mean_variance
    keep = s > s[-1] * max(X.shape) * np.finfo(np.float32).eps
    W = factor[:, None] * U[:, keep] * s[keep] / np.sqrt(variance[keep])  # (m, r)
    return np.linalg.norm(_sums(W, draws), axis=1)


def energy(X: np.ndarray, arm: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(B,) energy distance between the labelled wells and the rest, each well about its arm's mean."""
    X = _centred(X, arm)
    return between(cdist(X, X), draws)


def between(apart: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(B,) energy distance of the labelled from the rest, of m things `apart` (m, m) from each other and themselves."""
    m, n = len(apart), draws.shape[1]
    within = np.diag(apart)[draws].sum(axis=1)  # sum over pairs of labelled ones
    for i in range(n):
        for j in range(i):
            within += 2 * apart[draws[:, i], draws[:, j]]
    to_all = apart.sum(axis=1)[draws].sum(axis=1)
    among_others = apart.sum() - 2 * to_all + within
    return 2 * (to_all - within) / (n * (m - n)) - within / n**2 - among_others / (m - n) ** 2


def ks(X: np.ndarray, arm: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(B,) the largest Kolmogorov-Smirnov statistic of any feature, labelled wells against the rest.

    With F of all m wells, that between n labelled ones and the others is m / (m - n) times that between the labelled
    ones and all: max_k max(k/n - F(x_k), F(x_k-) - (k-1)/n) over the k-th smallest labelled one, ties included. It
    takes few different values, so that many labellings would share the first place; of equals the one whose features
    differ more on average goes first. That adds less than a tenth of the smallest step.
    """
    m, n = len(X), draws.shape[1]
    at_most, less = stats.rankdata(X, "max", axis=0), stats.rankdata(X, "min", axis=0) - 1  # (m, D)
    k = np.arange(1, n + 1)[:, None, None]
    value = np.maximum(k * m - at_most * n, less * n - (k - 1) * m)  # (n, m, D), n m times the statistic: whole numbers
    largest = np.empty(len(draws))
    for at, found in _by_order(X, value, draws):
        of_feature = reduce(np.maximum, found)  # (b, D)
        largest[at] = of_feature.max(axis=1) + 0.1 * of_feature.mean(axis=1, dtype=float) / (n * m)
    return largest / (n * (m - n))


def earth_mover(X: np.ndarray, arm: np.ndarray, draws: np.ndarray, to: np.ndarray | None = None) -> np.ndarray:
    """(B,) earth mover's distance from the labelled wells to the rest, or to `to` (t, D): the mean over features.

    Between the k-th and the next of n labelled values, k/n lies below; so with A_k(x) the integral of |k/n - F| up to x
    the work is the sum over k of A_k(x_k+1) - A_k(x_k), and each labelled well adds a number that depends on its
    value and its rank only. As F of all wells is a mixture, the work to the rest is m / (m - n) times that to all.
    """
    m, n = len(X), draws.shape[1]
    other = X if to is None else to
    both = np.concatenate([X, other])  # (g, D)
    order = np.argsort(both, axis=0)
    gaps = np.diff(np.take_along_axis(both, order, axis=0), axis=0)  # (g-1, D), 0 between equal values
    F = np.cumsum(order >= m, axis=0)[:-1] / len(other)  # below each gap
    place = np.argsort(order, axis=0)[:m]  # (m, D)

    def integral(k: int) -> np.ndarray:  # (g, D): A_k on the grid
        return np.concatenate([np.zeros((1, X.shape[1])), np.cumsum(np.abs(k / n - F) * gaps, axis=0)])

    value, before = np.empty((n, *X.shape)), integral(0)
    for k in range(1, n + 1):
        after = integral(k)
        value[k - 1] = np.take_along_axis(before - after, place, axis=0)
        before = after
    work = np.empty(len(draws))
    for at, found in _by_order(X, value, draws):
        work[at] = sum(one.sum(axis=1, dtype=float) for one in found) / X.shape[1] + before[-1].mean()
    return work * m / (m - n) if to is None else work


def mean(x: np.ndarray, arm: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(B,) mean of x (m,) over the labelled wells."""
    return x[draws].mean(axis=1)


def difference(x: np.ndarray, arm: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(B,) size of the difference of means between the labelled wells and the rest of their arms, x (m,)."""
    return np.abs(_sums(_factor(arm, draws) * _centred(x[:, None], arm)[:, 0], draws))


def _centred(X: np.ndarray, arm: np.ndarray) -> np.ndarray:
    """(m, D) about the mean of all wells of the arm, which is the same however they are labelled."""
    return X - means(X, arm)[arm]


def means(X: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(G, D) mean of the rows of each group, (m,) int; every number from 0 to G - 1 has some."""
    return np.stack([np.bincount(group, column) for column in X.T], axis=1) / np.bincount(group)[:, None]


def _factor(arm: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(m,) what a labelled well's value about its arm's mean counts for in the weighted difference of means."""
    n_arm, n_labelled = np.bincount(arm), np.bincount(arm[draws[0]], minlength=arm.max() + 1)
    return (n_arm / (n_arm - n_labelled))[arm] / draws.shape[1]


def _sums(W: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(B, …) sum of W (m, …) over the labelled wells."""
    total = np.zeros((len(draws), *W.shape[1:]))
    for members in draws.T:
        total += W[members]
    return total


def _by_order(X: np.ndarray, value: np.ndarray, draws: np.ndarray) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """Some labellings at a time, and n times (b, D): value[k, i, d], i being the k-th smallest labelled well in d.

    `value` (n, m, D) is the same for wells of equal X (m, D), so that it does not matter which of them goes first.
    """
    (B, n), D = draws.shape, X.shape[1]
    order = np.argsort(X, axis=0)
    rank = np.argsort(order, axis=0).astype(np.int32)  # (m, D)
    value = np.take_along_axis(value, order[None], axis=1).reshape(n, -1).astype(np.float32)  # by rank
    columns = np.arange(D, dtype=np.int32)
    step = max(1, IN_CACHE // D)
    for start in range(0, B, step):
        at = slice(start, start + step)
        ranks = [rank[members] for members in draws[at].T]  # n of (b, D)
        for k in range(1, n):  # sorted by insertion: of few wells it is faster than `sort`
            for j in range(k, 0, -1):
                ranks[j - 1], ranks[j] = np.minimum(ranks[j - 1], ranks[j]), np.maximum(ranks[j - 1], ranks[j])
        yield at, [value[k].take(ranks[k] * D + columns) for k in range(n)]
