"""Scores with their intervals, and whether one lies above another.

**Who beats whom.** Two scores a and b with 95 % intervals of half-widths h_a and h_b, each towards the other, differ if

    |a - b| > sqrt(h_a^2 + h_b^2)

the 95 % interval of a difference of two independent estimates. Scores of two methods on the same wells usually rise
and fall together, so this errs on the side of "cannot be told from". A fixed number (the majority rate, a published
value) has half-width zero. A perfect score on n wells has a bootstrap interval of width zero, which is the bootstrap's
limit and no certainty: its lower end is taken as 1 - 3/n (the rule of three).

Two methods that were judged on the same wells are compared well by well (`paired`); this rule is for all else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

BEATS, SAME, BELOW = VERDICTS = "beats", "cannot be told from", "falls below"


@dataclass(frozen=True)
class Score:
    """A value with its 95 % interval; `n_wells` are those it was measured on, if known."""

    value: float
    low: float
    high: float
    n_wells: int | None = None

    @classmethod
    def of(cls, row: Any) -> Score:
        """From a row of separability.csv or zero_shot_summary.csv (a namedtuple of `itertuples`)."""
        n = getattr(row, "n_test_wells", getattr(row, "n_wells", None))
        return cls(row.accuracy, row.ci_low, row.ci_high, None if n is None else int(n))

    @property
    def reach(self) -> tuple[float, float]:
        """Half-widths downwards and upwards, a perfect or hopeless score's by the rule of three."""
        low, high = self.low, self.high
        if self.n_wells:
            low = min(low, 1 - 3 / self.n_wells) if self.value == 1 else low
            high = max(high, 3 / self.n_wells) if self.value == 0 else high
        return max(self.value - low, 0.0), max(high - self.value, 0.0)

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({100 * self.low:.0f} to {100 * self.high:.0f})"


def verdict(a: Score, b: Score | float) -> str:
    """How score `a` stands to score or number `b`: `BEATS`, `SAME` or `BELOW` (see this module's docstring)."""
    if not isinstance(b, Score):
        b = Score(b, b, b)
    towards = (a.reach[0], b.reach[1]) if a.value > b.value else (a.reach[1], b.reach[0])
    if not abs(a.value - b.value) > np.hypot(*towards):
        return SAME
    return BEATS if a.value > b.value else BELOW


def explained(profiles: AnnData, column: str) -> float:
    """Share of the features' total variance that lies between groups of `column` (0..1; features standardised)."""
    X = np.asarray(profiles.X, np.float64)
    X = X[:, X.std(axis=0) > 0]
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    groups = pd.DataFrame(X).groupby(profiles.obs[column].to_numpy())
    return float((groups.transform("mean").to_numpy() ** 2).sum() / max((X**2).sum(), 1e-12))
