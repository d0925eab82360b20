"""How numbers, methods and scores with their intervals are put in words, everywhere on book and report.

A comma parts thousands (305,520), a space that does not break stands before %, and nobody reads 1.3e+02.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gandl_lib.evaluate.scores import Score

LEARNT = {"": "none", "role": "C+, C-"}
"""Columns of the wells table whose labels a method learnt, as the chapters call them; others go by their own name."""
METHOD, UNTRAINED, TEXTURE, INTENSITY = "gandl", "gandl-random", "texture", "intensity"
SHUFFLED = "shuffled labels"
UNLEARNT = (UNTRAINED, "gandl-random-blocks", TEXTURE, INTENSITY)
"""What has learnt nothing, and so is what a trained network has to beat."""

NAMES = {
    "gandl": "GAN-DL",
    "gandl-live": "GAN-DL, trained in this build",
    "gandl-random": "untrained GAN-DL",
    "random_weights": "untrained network",
    "gandl-blocks": "all layers of GAN-DL",
    "gandl-random-blocks": "all untrained layers",
    "contrad": "ContraD",
    "gandl-cells": "GAN-DL of single cells",
    "gandl-random-cells": "untrained GAN-DL of single cells",
    "intensity": "intensity statistics",
    "intensity-cells": "intensity statistics of single cells",
    "cell-count": "cell count",
    "texture": "texture statistics",
    "classical": "classical measurement",
    "classical-ratio": "the same, no logarithm",
    "supervised": "supervised baseline",
    "imagenet-collapsed": "ImageNet-collapsed",
    "imagenet-concatenated": "ImageNet-concatenated",
    "convae": "ConvAE",
    "mae": "masked autoencoder",
    "transformer": "encoder from a folder",
    "baseline": "published baseline",
    "dcgan": "DCGAN",
    "lsgan": "LSGAN",
    "wgan-gp": "WGAN-GP",
    "vae": "VAE",
    "dcgan-random": "untrained DCGAN",
    "vae-random": "untrained VAE",
}
"""How methods are called in figures and text; others go by their own name."""


class Output:
    """What the last line of a notebook cell shows, in Jupyter, Colab and the book alike, with no package of theirs."""

    def __init__(self, **bundle: str):
        self.bundle = {f"text/{kind}": text for kind, text in bundle.items()}

    def __repr__(self) -> str:
        return self.bundle["text/plain"]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self.bundle


def name(method: str) -> str:
    """How a method is called on a page."""
    return NAMES.get(method, method)


def thousands(n: float) -> str:
    """A whole number, `305,520`, as the chapters' own text has it."""
    return f"{n:,.0f}"


def number(value: float, digits: int = 3) -> str:
    """So many significant digits, without powers of ten where these are enough: 0.123, 130, 12,300, 2.1e-07."""
    if np.isnan(value):
        return "–"
    if np.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size and not 1e-4 <= size < 1e7:
        return f"{value:.{digits}g}"
    rounded = float(f"{value:.{digits - 1}e}")
    if abs(rounded) >= 10 ** (digits - 1):
        return thousands(rounded) if abs(rounded) >= 1e4 else f"{rounded:.0f}"
    return f"{rounded:.{digits}g}"


def cell(value: Any) -> str:
    """One value of a table as text."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None:
        return "–"
    if isinstance(value, float | np.floating):
        return number(value)
    if isinstance(value, int | np.integer):
        return thousands(value) if abs(value) >= 10_000 else str(value)
    return str(value)


def say(*sentences: str) -> Output:
    """Sentences as a paragraph of Markdown."""
    text = " ".join(s.strip() for s in sentences if s and s.strip())
    return Output(markdown=tied(text), plain=text.replace("**", ""))


def points(*sentences: str) -> Output:
    """Sentences as a list of Markdown."""
    text = "\n".join(f"- {s.strip()}" for s in sentences if s and s.strip())
    return Output(markdown=tied(text), plain=text.replace("**", ""))


def tied(text: str) -> str:
    """A line must not end between a number and its percent sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def hundredths(value: float) -> str:
    """Two digits after the point, and no -0.00."""
    return f"{round(float(value), 2) + 0.0:.2f}"


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
