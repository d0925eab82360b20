"""What the screen is, and what its plates do to it."""

from __future__ import annotations

import pandas as pd

from gandl_lib.plots.page import Output
from gandl_lib.plots.words import method_scores, say


def plate_effects(statistics: pd.DataFrame) -> Output:
    """How much brighter a channel's brightest plate is than its dimmest (`Shards.statistics`)."""
    means = statistics.pivot(index="channel", columns="plate_id", values="mean")
    ratio = (means.max(axis=1) / means.min(axis=1)).sort_values()
    worst, best = ratio.index[-1], ratio.index[0]
    return say(
        f"The worst channel is {worst}: its brightest plate, {means.loc[worst].idxmax()}, is on average",
        f"**{ratio[worst]:.2f} times** as bright as its dimmest, {means.loc[worst].idxmin()}.",
        f"The steadiest, {best}, still varies by a factor of {ratio[best]:.2f}." if best != worst else "",
    )


def calibration(measured: pd.DataFrame | None, task: str = "C+ vs C-") -> Output:
    """Whether the simulated screen is as hard as it should be (benchmarks/calibrate.py)."""
    if measured is None:
        return say("This build has no calibration table; `python benchmarks/calibrate.py` makes one.")
    scores = method_scores(measured[measured["task"] == task])
    sentences = []
    if "intensity" in scores:
        found = scores["intensity"]
        kept = "which keeps to" if found.value < 0.85 else "which **breaks**"
        sentences.append(f"Intensity statistics reach {found}, {kept} the limit of 85 %.")
    if "supervised" in scores:
        found = scores["supervised"]
        kept = "above" if found.value > 0.95 else "**short of**"
        sentences.append(f"The small network trained on the labels reaches {found}, {kept} the 95 % asked for.")
    if "random_weights" in scores:
        sentences.append(f"The same network untrained: {scores['random_weights']}.")
    if "position" in scores:
        sentences.append(
            f"And a machine that is told only the row and column of a well: **{scores['position']}**. "
            "That is the confounded layout, without one pixel."
        )
    return say(*sentences)
