"""Ways to call a hit that look at a well as a cloud of single cells, and not at its mean.

If one cell in five answers a drug, a well's mean hardly moves and the shape of its cloud does. What was said of one
well in `callers` is said here of its cells:

* `energy`       energy distance (Szekely & Rizzo 2013) of the compound's cells and the controls', each about the mean
                 of its arm's wells.
* `ks`           the largest Kolmogorov-Smirnov statistic of any feature.
* `earth_mover`  Wasserstein's distance along each feature, averaged over features; from the controls, or to a third
                 cloud.

**Wells are still what is counted.** Cells of a well share its plate, its place and its pipette, so they are no
replicates of an experiment. A well weighs the same however many cells it has, and labels are permuted by wells: who
permutes cells, or takes the p of a test that thinks them independent, finds differences between any two wells.

A labelling is a row of `draws`, as in `callers`; `at` (m,) int says which wells its numbers mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gandl_lib.evaluate.callers import between, means

LEVELS = 32
CHUNK = 1 << 23  # numbers at a time


class Distances:
    """How far cells of one well lie from those of another, on average; a pair of wells is measured once.

    Args:
        X: (N, D) cells. well: (N,) int, whose; every well from 0 to W - 1 has some.
        arm: (W,) int, what was normalised together.
    """

    def __init__(self, X: np.ndarray, well: np.ndarray, arm: np.ndarray) -> None:
        code = np.unique(arm, return_inverse=True)[1]
        centre = means(means(X, well), code)[code]
        order = np.argsort(well, kind="stable")
        self.X = (X[order] - centre[well[order]]).astype(np.float32)
        self.squares = (self.X**2).sum(axis=1)
        self.start = np.concatenate([[0], np.cumsum(np.bincount(well))])
        self.known = np.full((len(arm), len(arm)), np.nan, np.float32)

    def among(self, at: np.ndarray) -> np.ndarray:
        """(m, m) of the wells `at`, each and itself included."""
        for w in at:
            new = at[np.isnan(self.known[w, at])]
            if len(new):
                self.known[w, new] = self.known[new, w] = self._measure(w, new)
        return self.known[np.ix_(at, at)].astype(float)

    def _measure(self, w: int, others: np.ndarray) -> np.ndarray:
        mine = slice(self.start[w], self.start[w + 1])
        rows = np.concatenate([np.arange(self.start[o], self.start[o + 1]) for o in others])
        squared = self.squares[mine, None] - 2 * self.X[mine] @ self.X[rows].T + self.squares[rows]
        squared[np.arange(mine.start, mine.stop)[:, None] == rows] = 0  # a cell and itself, but for rounding
        sizes = self.start[others + 1] - self.start[others]
        first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        lengths = np.sqrt(np.maximum(squared, 0)).mean(axis=0, dtype=float)
        return np.add.reduceat(lengths, first) / sizes


@dataclass(frozen=True)
class Shares:
    """The share of each well's cells at or below some values of each feature: its distribution functions.

    What happens between two of the values, or beyond the last, is not seen.
    """

    grid: np.ndarray
    """(LEVELS, D) the values: quantiles of all cells."""
    below: np.ndarray
    """(W, LEVELS, D) float32."""

    @classmethod
    def of(cls, X: np.ndarray, well: np.ndarray) -> Shares:
        """Of cells X (N, D) and the well of each, (N,) int; every well from 0 to W - 1 has some."""
        grid = np.quantile(X, (np.arange(LEVELS) + 0.5) / LEVELS, axis=0).astype(X.dtype)
        order = np.argsort(well, kind="stable")
        parts = np.split(X[order], np.cumsum(np.bincount(well))[:-1])
        return cls(grid, np.stack([(x[:, None] <= grid).mean(axis=0, dtype=np.float32) for x in parts]))

    def along(self, features: np.ndarray) -> Shares:
        """Of some features, (D,) bool."""
        return Shares(self.grid[:, features], self.below[:, :, features])


def energy(distances: Distances, at: np.ndarray, arm: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(B,) energy distance between the cells of the labelled wells and those of the rest."""
    return between(distances.among(at), draws)


def ks(shares: Shares, at: np.ndarray, arm: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(B,) the largest Kolmogorov-Smirnov statistic of any feature, cells of the labelled wells against the rest.

    As the function of all wells is a mixture, that against the rest is m / (m - n) times that against all.
    """
    F, m, n = shares.below[at], len(at), draws.shape[1]
    found = [np.abs(part).max(axis=1) for part in _differences(F, F.mean(axis=0), draws)]
    return np.concatenate(found) * m / (m - n)


def earth_mover(
    shares: Shares, at: np.ndarray, arm: np.ndarray, draws: np.ndarray, to: np.ndarray | None = None
) -> np.ndarray:
    """(B,) earth mover's distance from the cells of the labelled wells to the rest, or to the shares `to` (LEVELS, D).

    By the trapezoids between the values at which shares are known.
    """
    F, m, n = shares.below[at], len(at), draws.shape[1]
    gaps = np.diff(shares.grid, axis=0)
    width = (np.pad(gaps, ((1, 0), (0, 0))) + np.pad(gaps, ((0, 1), (0, 0)))).ravel() / 2
    other = F.mean(axis=0) if to is None else to
    work = np.concatenate([np.abs(part) @ width for part in _differences(F, other, draws)]) / F.shape[2]
    return work * m / (m - n) if to is None else work


def _differences(F: np.ndarray, other: np.ndarray, draws: np.ndarray) -> Iterator[np.ndarray]:
    """Some labellings at a time, (b, LEVELS D): shares of the labelled among all, F (m, LEVELS, D), less `other`."""
    flat, other = F.reshape(len(F), -1), other.ravel()
    step = max(1, CHUNK // flat.shape[1])
    for start in range(0, len(draws), step):
        total = np.zeros((len(draws[start : start + step]), flat.shape[1]), np.float32)
        for members in draws[start : start + step].T:
            total += flat[members]
        yield total / draws.shape[1] - other
