"""What all simulated screens share: chance by name, the folder's mark, and whole files."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np


def rng(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed and the names alone."""
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    return np.random.default_rng(np.random.SeedSequence([seed, *np.frombuffer(digest, np.uint32)]))


def claim(out: Path, record: dict) -> None:
    """Write simulation.json, unless it is there and says the same; refuse a folder of other things."""
    path = out / "simulation.json"
    record = json.loads(json.dumps(record))
    if path.is_file():
        found = json.loads(path.read_text())
        differs = [key for key in record if key != "versions" and found.get(key) != record[key]]
        if differs:
            raise ValueError(
                f"{out} holds another simulation: its {', '.join(differs)} differ(s) from what was asked for. "
                "Choose another folder or remove this one."
            )
        return
    begun = path.with_name(path.name + ".partial")  # all that is there after a kill in the first write
    if out.exists() and (not out.is_dir() or set(out.iterdir()) - {begun}):
        raise ValueError(f"{out} exists, is not empty and holds no simulation.json. Choose another folder.")
    out.mkdir(parents=True, exist_ok=True)
    write(path, json.dumps(record, indent=1).encode())


def write(path: Path, content: bytes) -> None:
    """Write a file so that its name is never seen on part of it."""
    partial_path = path.with_name(path.name + ".partial")
    try:
        partial_path.write_bytes(content)
        os.replace(partial_path, path)
    finally:
        partial_path.unlink(missing_ok=True)
