"""The screens this library can read: one module a layout, chosen by the header of `metadata.csv`.

Every layout module offers the same few names: `CHANNELS`, `PIXEL_UM`, `COLUMNS`, `parse`, `wells` and `read`.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from gandl_lib.datasets import rxrx1, rxrx19a
from gandl_lib.datasets._recursion import METADATA, header, select

__all__ = ["LAYOUTS", "METADATA", "open_layout", "select"]

LAYOUTS = {"rxrx19a": rxrx19a, "rxrx1": rxrx1}


def open_layout(root: str | Path) -> ModuleType:
    """Return the layout module whose columns the `metadata.csv` in `root` has.

    Raises:
        ValueError: when there is no metadata.csv, or its header fits no layout.
    """
    path = Path(root) / METADATA
    found = header(path)
    for layout in LAYOUTS.values():
        if set(layout.COLUMNS) <= set(found):
            return layout
    expected = "; ".join(f"{name} needs {','.join(layout.COLUMNS)}" for name, layout in LAYOUTS.items())
    raise ValueError(f"{path}: its columns fit no known layout. Found {','.join(found)}. Expected: {expected}.")
