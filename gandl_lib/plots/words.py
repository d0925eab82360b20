"""How scores with their intervals are put in words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gandl_lib.evaluate.scores import Score
from gandl_lib.plots.page import Output, name

LEARNT = {"": "none", "role": "C+, C-"}
"""Columns of the wells table whose labels a method learnt, as the chapters call them; others go by their own name."""
METHOD, UNTRAINED, INTENSITY, SHUFFLED = "gandl", "gandl-random", "intensity", "shuffled labels"


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


def plain(value: float, digits: int = 2) -> str:
    """A number with so many digits that count, and never with an exponent between 0.001 and a million."""
    if not np.isfinite(value) or value == 0 or not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits}g}"
    return f"{value:.{max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))}f}"


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
