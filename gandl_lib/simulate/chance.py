"""Chance by name: what a simulated plate, well or site draws depends on the seed and on its own name alone."""

from __future__ import annotations

import hashlib

import numpy as np

RECORD = "simulation.json"
"""The mark of a simulated screen's folder: what it was made with."""


def rng(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed and the names alone."""
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    return np.random.default_rng(np.random.SeedSequence([seed, *np.frombuffer(digest, np.uint32)]))
