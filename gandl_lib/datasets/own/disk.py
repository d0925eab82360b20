"""The table against the disk: which file a name means, which lies there unnamed, and which was probably meant."""

from __future__ import annotations

import difflib
import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

STAR = "\0"
"""Stands in a name for the `*` of its template; no table holds this character."""
IMAGES = (".tif", ".tiff", ".png", ".bmp")
"""Endings of files that might be read."""
_THUMB = re.compile(r"_?thumb|(?:^|/)\._", re.IGNORECASE)
NEAR = 3
"""So many names are shown for one that is missing."""


def plain(name: str, root: Path) -> str:
    r"""A name as tables write it, relative to the folder, with `/`: from `\\`, `./`, `//`, a full path.

    What leads out of the folder stays as it is, for whoever opens it to refuse.
    """
    if not name:
        return name
    forward = name.replace("\\", "/")
    for folder in dict.fromkeys((os.path.abspath(root), os.path.realpath(root))):
        inside = forward.removeprefix(folder.rstrip("/") + "/")
        if inside != forward and forward.startswith("/"):
            forward = inside
            break
    parts = [part for part in forward.split("/") if part != "."]
    shortened = "/".join(part for k, part in enumerate(parts) if part or k == 0)
    return shortened if shortened else name


class Folder:
    """What lies below a data folder; listed once, when it is first asked for."""

    def __init__(self, root: Path, follow_links: bool = False):
        self.root, self.follow_links = root, follow_links

    @cached_property
    def names(self) -> list[str]:
        """Every file below the folder, with `/`, in order."""
        return sorted(self._walk())

    @cached_property
    def images(self) -> list[str]:
        """Files that might be images of the screen: by their endings, without thumbnails."""
        return [n for n in self.names if n.lower().endswith(IMAGES) and not is_thumbnail(n)]

    @cached_property
    def _by_folder(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.names:
            found.setdefault(posixpath.dirname(name), []).append(name)
        return found

    @cached_property
    def _in_small(self) -> dict[str, str]:
        return {name.lower(): name for name in reversed(self.names)}

    def matching(self, name: str) -> list[str]:
        """Files that a name with one `STAR` fits; thumbnails only if the name says so."""
        pattern = re.compile("[^/]*".join(map(re.escape, name.split(STAR))))
        folder = posixpath.dirname(name)
        candidates = self.names if STAR in folder else self._by_folder.get(folder, [])
        wants = is_thumbnail(name)
        return [n for n in candidates if pattern.fullmatch(n) and (wants or not is_thumbnail(n))]

    def near(self, name: str) -> str:
        """What was probably meant by a name that is not there, as the rest of a sentence; empty if nothing is near."""
        if (other := self._in_small.get(name.lower())) is not None:
            return f"{other} is there: capital letters count"
        folder, base = posixpath.split(name)
        stem = posixpath.splitext(base)[0].lower()
        here = self._by_folder.get(folder, [])
        begun = [n for n in here if posixpath.basename(n).lower().startswith(stem) and not is_thumbnail(n)]
        if begun:
            close = begun[:NEAR]
        else:
            close = difflib.get_close_matches(name, here[:2000] or self.images[:2000], NEAR, 0.7)
        if not close:
            return ""
        star = " (one * in files stands for what no table knows)" if begun else ""
        return f"near it {'lies' if len(close) == 1 else 'lie'} {', '.join(close)}{star}"

    def unnamed(self, named: Iterable[str]) -> list[str]:
        """Images that no row of the table names."""
        known = set(named)
        return [name for name in self.images if name not in known]

    def _walk(self) -> Iterator[str]:
        for folder, folders, names in os.walk(self.root, followlinks=self.follow_links):
            folders[:] = sorted(f for f in folders if not f.endswith((".zarr", ".partial")))
            below = os.path.relpath(folder, self.root).replace(os.sep, "/")
            yield from (name if below == "." else f"{below}/{name}" for name in names)


def is_thumbnail(name: str) -> bool:
    """Whether a file is a small copy for browsing, or a file manager's shadow of another."""
    return bool(_THUMB.search(name.rpartition("/")[2]))
