"""Whole files or none, folders that remember what they were begun with, and checksums: once, for every stage.

A file is written beside its place as `<name>.partial` and then renamed, so nothing half-made ever has its final name.
A folder that takes long to fill holds a small JSON record of what it was begun with; the same command goes on there,
and another one is refused. What is kept in it only until the command has finished goes with `unclaim`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def partial_path(path: Path) -> Path:
    """Where a file or folder lies until it is whole."""
    return path.with_name(path.name + ".partial")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A file beside `path` to write to; it takes the name of `path` at the end, or goes if the writing fails.

    Raises:
        OSError: the disk is full or the folder not writable; says which file, and what to do.
    """
    path = Path(path)
    partial = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        why = error.strerror or error
        raise OSError(
            error.errno, f"cannot write {path} ({why}); make room there and run the same command again"
        ) from error
    finally:
        if partial.is_file():
            partial.unlink()


def write(path: str | Path, content: bytes | str) -> None:
    """Write a whole file, text in UTF-8."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: str | Path, content: Any, **options: Any) -> None:
    """Write `content` as JSON that ends in a line end; `options` go to `json.dumps`."""
    write(path, json.dumps(content, **{"indent": 1} | options) + "\n")


def kept(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays by their names from a file (.npz), which is made where there is none: nothing is made twice."""
    import numpy as np  # not with every command

    if not path.exists():
        made = make()
        with replacing(path) as partial, open(partial, "wb") as file:
            np.savez(file, **made)
    with np.load(path) as found:
        return dict(found)


def sha256(path: str | Path) -> str:
    """The checksum of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_ours(folder: Path, record: str) -> bool:
    """Whether `folder` holds the file `record`, and so was begun by us; False where it is new or empty.

    Raises:
        ValueError: it is a file, or holds other things.
    """
    path = folder / record
    if path.is_file():
        return True
    if folder.exists() and (not folder.is_dir() or any(p.suffix != ".partial" for p in folder.iterdir())):
        raise ValueError(f"{folder} exists, is not empty and holds no {record}. Choose another folder.")
    return False


def claim(folder: Path, record: str, begun: dict[str, Any], *, ignore: Collection[str] = ()) -> None:
    """Write what a folder is begun with to `folder/record`, or check that it says the same.

    Args:
        folder: made if it is not there.
        record: name of the JSON file.
        begun: all that decides what the folder will hold.
        ignore: keys that may differ.

    Raises:
        ValueError: the folder was begun with something else, or holds other things.
    """
    begun = json.loads(json.dumps(begun))
    if is_ours(folder, record):
        before = json.loads((folder / record).read_text())
        differing = [key for key in begun if key not in ignore and before.get(key) != begun[key]]
        if differing:
            raise ValueError(
                f"{folder} was begun with another {' and another '.join(differing)}. Choose another folder or remove "
                "this one."
            )
        return
    write_json(folder / record, begun)


def unclaim(folder: Path, record: str) -> None:
    """Remove a claimed folder of files, its record last: what a kill leaves of it is claimed still, or empty."""
    for path in folder.iterdir():
        if path.name != record:
            path.unlink()
    (folder / record).unlink()
    folder.rmdir()
