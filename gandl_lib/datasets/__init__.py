"""The screens this library can read: one module a layout, chosen by what lies in the folder.

A folder with a `screen.toml` is somebody's own plate (`own`). BBBC021 and BBBC013 have tables of their own, whose names
are enough to know them by. RxRx19a, RxRx1 and the parts of BBBC021 that others cut are told apart by the header of
`metadata.csv`. All are opened as a `Layout`.
"""

from __future__ import annotations

from pathlib import Path

from gandl_lib.datasets import bbbc013, bbbc021, bbbc021_parts, own, rxrx1, rxrx19a
from gandl_lib.datasets._recursion import METADATA, header, select
from gandl_lib.datasets.layout import Layout, Sites

__all__ = ["LAYOUTS", "METADATA", "Layout", "Sites", "open_layout", "select"]

LAYOUTS = {"rxrx19a": rxrx19a, "rxrx1": rxrx1}
"""Those with a `metadata.csv`."""


def open_layout(root: str | Path) -> Layout:
    """The screen that lies in `root`.

    Raises:
        ValueError: there is no such folder, no metadata.csv in it, its header fits no layout, or the description of its
            columns is wrong. Where an instrument's export is recognised, the message says how to draft both.
    """
    root = Path(root)
    if own.find(root):
        return own.open_folder(root)
    if bbbc021.find(root):
        return bbbc021.layout(root)
    if bbbc013.find(root):
        return bbbc013.layout(root)
    if bbbc021_parts.find(root):
        return bbbc021_parts.layout(root)
    path = root / METADATA
    if not path.is_file():
        raise ValueError(own.without_table(root))
    found = header(path)
    for layout in LAYOUTS.values():
        if set(layout.COLUMNS) <= set(found):
            return layout.layout(root)
    expected = "; ".join(f"{name} needs {','.join(layout.COLUMNS)}" for name, layout in LAYOUTS.items())
    raise ValueError(
        f"{path}: its columns fit no known layout. Found {','.join(found)}. Expected: {expected}; "
        f"or a {own.MAPPINGS[0]} beside it that says what its columns mean (chapter 09 of the book)."
    )
