"""Linear separability: who beats whom, on which wells."""

from __future__ import annotations

import pandas as pd

from gandl_lib.evaluate.leaks import SITE, ZONE
from gandl_lib.evaluate.scores import BEATS, BELOW, SAME, Score, verdict
from gandl_lib.plots.page import Output, name
from gandl_lib.plots.words import count, listing, percent, points, say, spread


def eight_ways(measured: pd.DataFrame) -> pd.DataFrame:
    """A table for readers: accuracy by the number of ways in which each crop was laid, and what it costs.

    Args:
        measured: what `benchmarks/eight_ways.py` writes.
    """
    told = measured.assign(
        method=measured["method"].map(name),
        split=measured["split"] + "s",
        ways=measured["ways"].map({1: "as they lie"}).fillna(measured["ways"].astype(str) + " ways"),
    )
    wide = spread(told, ["method", "split"], "ways").rename(columns={"split": "held out"})
    seconds = told.groupby("ways", sort=False)["cpu_seconds_a_site"].mean()
    price = {k: f"{value:.1f}" for k, value in (seconds / seconds["as they lie"]).items()}
    return pd.concat([wide, pd.DataFrame([{"method": "time, as they lie = 1", "held out": "", **price}])])


def leaks(position: pd.DataFrame, zones: pd.DataFrame, sites: pd.DataFrame) -> Output:
    """What position alone can do, and which methods know where a well, or a site in it, lies (evaluate/leaks.py).

    Args:
        position, zones, sites: of the functions of these names.
    """
    alone = {row.split: Score.of(row) for row in position.itertuples()}
    sentences = [
        f"A machine that knows the row and column of a well, and no image, reaches **{score}** with {split}s held out."
        for split, score in alone.items()
    ]
    alike = {
        ZONE: "there are no C- wells, or half of them or more lie farthest out",
        SITE: "no well here has two sites, each with a profile",
    }
    for (task, why), rows in zip(alike.items(), (zones, sites), strict=True):
        if rows.empty:
            sentences.append(f"**{task}**: not asked, for {why}.")
            continue
        knowing = [row for row in rows.itertuples() if verdict(Score.of(row), row.majority_rate) == BEATS]
        told = f"**{task}**, majority rate {percent(rows['majority_rate'].iloc[0])}: "
        if not knowing:
            told += f"{count(len(rows), 'method')} asked, and no sign that any knows."
        else:
            said = listing([f"{name(row.method)} ({Score.of(row)})" for row in knowing])
            told += (
                f"**known to some degree** to {said}, and part of their other scores may come from there; no sign of "
                f"it in {len(rows) - len(knowing)} of {len(rows)}."
            )
        sentences.append(told)
    return points(*sentences)


def cell_types_normalised(right: pd.DataFrame, wrong: pd.DataFrame) -> Output:
    """HRCE vs VERO without and with the mistake of normalising per plate; one row each, or none to be judged."""
    if right.empty:
        return say("This build has no controls of both HRCE and VERO, so the question cannot be put to it.")
    good, bad = (Score.of(next(t.itertuples())) for t in (right, wrong))
    fall = {
        BELOW: "**The normalisation has removed the very thing that was asked for**; what remains looks honest.",
        SAME: "Here the mistake goes unnoticed; it is one all the same.",
        BEATS: "Here the mistake even seems to help; it is one.",
    }[verdict(bad, good)]
    return say(f"As it is: {good}. After normalising each plate: {bad}. {fall}")
