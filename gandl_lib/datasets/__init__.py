"""The screens this library can read: one module a layout, chosen by the header of `metadata.csv`.

BBBC021 and BBBC013 have tables of their own, whose names are enough to know them by. Every layout offers the same few
names: `CHANNELS`, `PIXEL_UM`, `wells` and `read`. That of somebody's own plate (`own`) is an object, made from the
description beside its table; a folder with such a description is read by it and no other.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from gandl_lib.datasets import bbbc013, bbbc021, own, rxrx1, rxrx19a
from gandl_lib.datasets._recursion import METADATA, header, select

__all__ = ["LAYOUTS", "METADATA", "open_layout", "select"]

LAYOUTS = {"rxrx19a": rxrx19a, "rxrx1": rxrx1}
"""Those with a `metadata.csv`."""


def open_layout(root: str | Path) -> ModuleType | own.Own:
    """Return the layout that the description in `root` makes, or the module whose table lies in it.

    Raises:
        ValueError: when there is no metadata.csv, its header fits no layout, or the description is wrong.
    """
    if own.find(root):
        return own.open_folder(root)
    if bbbc021.find(root):
        return bbbc021
    if bbbc013.find(root):
        return bbbc013
    path = Path(root) / METADATA
    found = header(path)
    for layout in LAYOUTS.values():
        if set(layout.COLUMNS) <= set(found):
            return layout
    expected = "; ".join(f"{name} needs {','.join(layout.COLUMNS)}" for name, layout in LAYOUTS.items())
    raise ValueError(
        f"{path}: its columns fit no known layout. Found {','.join(found)}. Expected: {expected}; "
        f"or a {own.MAPPINGS[0]} beside it that says what its columns mean (chapter 09 of the book)."
    )
