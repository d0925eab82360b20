"""What all sentences share: scores with their intervals, and how they are put in words.

**Who beats whom.** Two scores a and b with 95 % intervals of half-widths h_a and h_b, each towards the other, differ if

    |a - b| > sqrt(h_a^2 + h_b^2)

the 95 % interval of a difference of two independent estimates. Scores of two methods on the same wells usually rise
and fall together, so this errs on the side of "cannot be told from". A fixed number (the majority rate, a published
value) has half-width zero. A perfect score on n wells has a bootstrap interval of width zero, which is the bootstrap's
limit and no certainty: its lower end is taken as 1 - 3/n (the rule of three).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gandl_lib.plots.page import Output, name

BEATS, SAME, BELOW = VERDICTS = "beats", "cannot be told from", "falls below"
LEARNT = {"": "none", "role": "C+, C-"}
"""Columns of the wells table whose labels a method learnt, as the chapters call them; others go by their own name."""
METHOD, UNTRAINED, INTENSITY, SHUFFLED = "gandl", "gandl-random", "intensity", "shuffled labels"


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


def say(*sentences: str) -> Output:
    """Sentences as a paragraph of Markdown."""
    text = " ".join(s.strip() for s in sentences if s and s.strip())
    return Output(markdown=text, plain=text.replace("**", ""))


def points(*sentences: str) -> Output:
    """Sentences as a list of Markdown."""
    text = "\n".join(f"- {s.strip()}" for s in sentences if s and s.strip())
    return Output(markdown=text, plain=text.replace("**", ""))


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def listing(words: Sequence[str]) -> str:
    """`a, b and c`."""
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def count(n: int, one: str, many: str | None = None) -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def method_scores(rows: pd.DataFrame) -> dict[str, Score]:
    return {row.method: Score.of(row) for row in rows.itertuples()}


def read(path: Path | None) -> pd.DataFrame | None:
    """A table of the workflow or of book/reference; None where there is none."""
    return pd.read_csv(path) if path is not None and Path(path).is_file() else None


def percents(scores: pd.DataFrame) -> pd.DataFrame:
    """A wide table for readers: one line a method and task, accuracies as text with their intervals."""
    columns = {"method": scores["method"].map(name)}
    if "task" in scores and scores["task"].nunique() > 1:
        columns["task"] = scores["task"]
    if "split" in scores:
        columns["held out"] = scores["split"] + "s"
    if "normalisation" in scores:
        columns["normalised"] = scores["normalisation"]
    columns["accuracy (95 %)"] = [str(Score.of(row)) for row in scores.itertuples()]
    for column, title in (("balanced_accuracy", "balanced"), ("majority_rate", "majority")):
        columns[title] = scores[column].map(percent)
    if "auroc" in scores:
        columns["AUROC"] = scores["auroc"].map("{:.3f}".format)
    return pd.DataFrame(columns)


def spread(scores: pd.DataFrame, lines: Sequence[str], columns: str) -> pd.DataFrame:
    """A wide table of scores as text: a line each value of `lines`, a column each value of `columns`, as they come."""
    told = scores.assign(score=[str(Score.of(row)) for row in scores.itertuples()])
    wide = told.pivot(index=list(lines), columns=columns, values="score")[list(told[columns].unique())]
    return wide.reset_index().rename_axis(columns=None)


def present(wanted: Sequence[str], table: pd.DataFrame, column: str = "method") -> list[str]:
    """Those of `wanted` that a table has; its first value where it has none, for smaller builds have fewer rows.

    Raises:
        ValueError: `wanted` is empty.
    """
    if not wanted:
        raise ValueError(f"name at least one {column}; there are {', '.join(table[column].unique())}.")
    known = list(table[column].unique())
    return [value for value in wanted if value in known] or known[:1]
