"""Small plates of somebody's own, simulated, for tests of the whole way."""

from __future__ import annotations

import re
from pathlib import Path

from gandl_lib.simulate import screens as simulated

SMALL = simulated.Screen(
    image_px=40,
    sites=1,
    experiments=(("HRCE-1", 2),),
    mock=6,
    uv=0,
    blank=0,
    untreated=6,
    compounds=2,
    doses_uM=(0.1, 1.0, 10.0, 100.0),
    replicates=2,
    strength=3.0,
)
"""Two plates of 20 wells, a site each."""


def small(root: Path, **columns: str | None) -> Path:
    """Write it; `columns` replace names in screen.toml, None removes the line."""
    simulated.simulate(root, SMALL, layout="own", jobs=1)
    path = root / "screen.toml"
    text = path.read_text()
    for key, value in columns.items():
        line = "" if value is None else f'{key} = "{value}"\n'
        text = re.sub(rf"^{key} = .*\n", line, text, flags=re.MULTILINE)
    path.write_text(text)
    return root


def without_controls(root: Path) -> Path:
    """Nobody wrote down which wells are controls."""
    path = root / "screen.toml"
    path.write_text(re.sub(r"\[controls\]\n(.+\n)*", "", path.read_text()))
    return root
