"""Stores in object storage: a store made here is sent there whole, and shows only when all of it has arrived.

Object storage has no rename, so a name cannot be given at the end. What makes a folder of objects a store is its
`zarr.json`; that is sent last. Until then `Shards` finds no store there, and an interrupted sending is gone on with: an
object that is there with the right length and the right content is not sent again.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from tqdm import tqdm

LAST = "zarr.json"
TRIES = 5
WAIT_S = 0.5
T = TypeVar("T")


def is_address(path: str | Path) -> bool:
    """Whether this names something that fsspec reaches, and not a file or folder here."""
    return "://" in str(path)


def send(store: Path, address: str) -> None:
    """Copy the finished store `store` to `address`, its `zarr.json` last; every object is read back and compared.

    Args:
        store: a folder that `shards.write` has finished.
        address: where to, as `Shards` takes it: `s3://bucket/screen.zarr`. The bucket must be there.

    Raises:
        ValueError: something else is there, the address cannot be written to, or what arrived is not what was sent.
    """
    address = address.rstrip("/")
    if holds(address, json.loads((store / LAST).read_text())["attributes"]["fingerprint"]):
        return
    files, path, _ = look(address)
    names = sorted(p.relative_to(store).as_posix() for p in store.rglob("*") if p.is_file())
    names.sort(key=lambda name: name == LAST)  # a stable sort: this one moves to the end
    for name in tqdm(names, f"sending {address.rpartition('/')[2]}", unit="file"):
        _send_one(files, store / name, f"{path}/{name}", f"{address}/{name}")


def look(address: str) -> tuple[Any, str, bytes | None]:
    """The file system and path of `address`, and the `zarr.json` there: None where there is none yet.

    Raises:
        ValueError: no package for this kind of storage, no such bucket, refused, or no answer.
    """
    try:
        files, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{address}: no package for this kind of storage is installed ({error}).") from None
    return files, path, attempt(address, lambda: files.cat_file(f"{path}/{LAST}"), missing=None)


def holds(address: str, fingerprint: str) -> bool:
    """Whether the store at `address` is there already, made from what `fingerprint` stands for.

    Raises:
        ValueError: something else is there; and as for `look`.
    """
    there = look(address)[2]
    if there is not None and _fingerprint(there) != fingerprint:
        raise ValueError(f"{address} is there and was made from something else; delete it or choose another name.")
    return there is not None


def _send_one(files: Any, source: Path, target: str, address: str) -> None:
    content = source.read_bytes()
    arrived = attempt(address, lambda: files.cat_file(target), missing=b"")
    if arrived == content and content:
        return
    attempt(address, lambda: files.pipe_file(target, content))
    arrived = attempt(address, lambda: files.cat_file(target), missing=b"")
    if arrived != content:
        raise ValueError(
            f"{address}: {len(arrived)} bytes arrived that are not the {len(content)} sent "
            f"(sha256 {hashlib.sha256(content).hexdigest()[:12]}); run the same command again."
        )


def attempt(address: str, action: Callable[[], T], **otherwise: T) -> T:
    """What `action` returns; tried again where a server is busy, slow or breaks off, with longer and longer waits.

    Args:
        address: what messages name.
        action: reads or writes something there.
        missing: returned instead of an error if there is no such object.

    Raises:
        ValueError: refused (permission, expired keys, no such bucket), or `TRIES` tries were in vain.
    """
    for again in reversed(range(TRIES)):
        try:
            return action()
        except FileNotFoundError as error:
            if re.search(r"bucket does not exist|NoSuchBucket", str(error)):
                raise ValueError(f"{address}: there is no such bucket ({error}); make it first.") from error
            if "missing" in otherwise:
                return otherwise["missing"]
            raise
        except PermissionError as error:
            raise ValueError(
                f"{address}: refused ({error}); are the keys expired, or without permission for this?"
            ) from error
        except Exception as error:  # each kind of storage raises its own
            if not again:
                raise ValueError(f"{address}: failed {TRIES} times ({type(error).__name__}: {error}).") from error
            time.sleep(WAIT_S * 2 ** (TRIES - 1 - again))
    raise AssertionError("unreachable")


def _fingerprint(content: bytes) -> str | None:
    try:
        return json.loads(content)["attributes"].get("fingerprint")
    except (KeyError, ValueError, AttributeError):
        return None
