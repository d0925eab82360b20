"""What all simulated screens share: chance by name, the folder's mark, and whole files."""

from __future__ import annotations

import hashlib

import numpy as np


def rng(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed and the names alone."""
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    return np.random.default_rng(np.random.SeedSequence([seed, *np.frombuffer(digest, np.uint32)]))


RECORD = "simulation.json"
"""The mark of a simulated screen's folder: what it was made with."""
