"""What every screen on a disk offers, however it lies there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd


class Sites(NamedTuple):
    """What looking at every image of a screen found."""

    wells: pd.DataFrame
    """The wells table of the complete sites."""
    skipped: pd.DataFrame
    """`site_id, reason` of those left out."""
    odd: pd.DataFrame
    """`what, count, first`: what was noticed and not left out."""


@dataclass(frozen=True)
class Layout:
    """One screen in its folder, read by the rules of its layout."""

    root: Path
    name: str
    """Of the layout: rxrx19a, rxrx1, bbbc021 or own. Stores keep it."""
    channels: tuple[str, ...]
    parse: Callable[[], pd.DataFrame]
    """The wells table, images unseen; ValueError naming what is wrong with it."""
    look: Callable[[str | None, int], Sites]
    """`where` (a pandas query over the wells table, or None) and threads that decode images, to `Sites`."""
    read: Callable[[Any], np.ndarray]
    """A row of the wells table to its images: (C, H, W), uint8 or uint16 as in its files; ValueError naming a file."""
    measure: Callable[[], float]
    """The side of a pixel in micrometres; ValueError where nobody says it."""

    @cached_property
    def pixel_um(self) -> float:
        """Side of a pixel in micrometres."""
        return self.measure()

    def wells(self, where: str | None = None, workers: int = 2) -> Sites:
        """The complete sites, those left out and why, and what is odd.

        Args:
            where: pandas query over the wells table; the images of other sites are not even looked at.
            workers: threads that decode images, where images are decoded.

        Raises:
            ValueError: as `parse`, or when no site is complete.
        """
        return self.look(where, workers)


def odd(notes: list[tuple[str, str]]) -> pd.DataFrame:
    """(what, where) counted: `what, count, first`."""
    counts: dict[str, tuple[int, str]] = {}
    for what, where in notes:
        n, first = counts.get(what, (0, where))
        counts[what] = n + 1, first
    rows = [(what, n, first) for what, (n, first) in counts.items()]
    return pd.DataFrame(rows, columns=["what", "count", "first"])


def of_module(name: str, root: str | Path, table: Path, module: dict[str, Any]) -> Layout:
    """The layout of a public dataset from its module's `CHANNELS`, `PIXEL_UM`, `parse`, `wells` and `read`.

    Args:
        table: the file that `parse` is given.
        module: the module's `globals()`; its functions are looked up when they are called.
    """
    root = Path(root)
    return Layout(
        root=root,
        name=name,
        channels=module["CHANNELS"],
        parse=lambda: module["parse"](table),
        look=lambda where, workers: Sites(*module["wells"](root, where), odd([])),
        read=lambda row: module["read"](root, row),
        measure=lambda: module["PIXEL_UM"],
    )
