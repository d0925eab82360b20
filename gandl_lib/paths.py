"""Names of files that come from elsewhere: from archives, from metadata. None of them may lead out of its folder."""

from __future__ import annotations

from pathlib import Path


def is_unsafe(name: str) -> bool:
    """Whether a path from elsewhere is anything but plain names joined by `/`, and so might lead out of its folder."""
    parts = name.split("/")
    return not name.isprintable() or "\\" in name or ":" in name or any(part in ("", ".", "..") for part in parts)


def inside(root: Path, name: str) -> Path:
    """The file `name` below `root`; ValueError, with the rest of a sentence about it, where it leads elsewhere.

    A link is followed: one that stays inside is a file like any other, one that leads out is refused.
    """
    if is_unsafe(name):
        raise ValueError("is no plain path below the data folder (names joined by /, without .. or a drive)")
    path = root / name
    try:
        outside = not path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        outside = True
    if outside:
        raise ValueError("is a link that leads out of the data folder; copy the file there")
    return path
