"""The same thing done to many items, in several processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from typing import Any

from tqdm import tqdm


def for_each(do: Callable[[Any], Any], items: Sequence[Any], label: str, jobs: int | None) -> None:
    """`do` every item in one of `jobs` processes (all cores where not given), in any order, with a bar."""
    jobs = min(jobs or os.cpu_count() or 1, len(items))
    with tqdm(total=len(items), desc=label, unit="site") as bar:
        if jobs == 1:
            for item in items:
                do(item)
                bar.update()
        else:  # spawn: forking a process in which torch has started its threads may hang
            with multiprocessing.get_context("spawn").Pool(jobs) as pool:
                for _ in pool.imap_unordered(do, items, chunksize=8):
                    bar.update()
