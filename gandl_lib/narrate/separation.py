"""Linear separability: who beats whom, on which wells."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from gandl_lib.evaluate.leaks import ZONE
from gandl_lib.figures import Output, name
from gandl_lib.narrate.words import (
    BEATS,
    BELOW,
    INTENSITY,
    METHOD,
    SAME,
    SHUFFLED,
    UNTRAINED,
    Score,
    listing,
    method_scores,
    percent,
    points,
    say,
    spread,
    verdict,
)


def beside(scores: Mapping[str, Score], method: str = METHOD, majority: float | None = None) -> str:
    """How a method stands to its baselines, in one sentence; empty if it has no score."""
    if method not in scores:
        return ""
    mine, others = scores[method], [m for m in (UNTRAINED, INTENSITY) if m in scores and m != method]
    said = {BEATS: [], SAME: [], BELOW: []}
    for other in others:
        said[verdict(mine, scores[other])].append(f"{name(other)} ({scores[other]})")
    if majority is not None:
        said[verdict(mine, majority)].append(f"the majority rate of {percent(majority)}")
    parts = [f"{outcome} {listing(what)}" for outcome, what in said.items() if what]
    parts[-1:] = [f"and {part}" if len(parts) > 1 else part for part in parts[-1:]]
    return f"{name(method)} reaches **{mine}**" + (f", which {', '.join(parts)}." if parts else ".")


def separability(scores: pd.DataFrame, split: str = "well", normalisation: str = "all", method: str = METHOD) -> Output:
    """A list of what each task's row says, with the warnings that its controls call for."""
    lines, shuffled, unbeaten, worse = [], [], [], []
    for task, part in scores[scores["split"] == split].groupby("task", sort=False):
        rows = part[part["normalisation"].isin([normalisation, "none"])]
        found, majority = method_scores(rows), rows["majority_rate"].iloc[0]
        lines.append(f"**{task}.** {beside(found, method, majority)}")
        if UNTRAINED in found and method in found:
            outcome = verdict(found[method], found[UNTRAINED])
            unbeaten += [task] * (outcome == SAME)
            worse += [task] * (outcome == BELOW)
        shuffled += list(rows.loc[rows["method"] == SHUFFLED, "balanced_accuracy"])
    text = points(*lines).bundle["text/markdown"]
    if unbeaten:
        text += f"\n\n**Training has bought nothing that these wells could show** on {listing(unbeaten)}: the same"
        text += " network with random weights does as well."
    if worse:
        text += f"\n\n**Training has done harm** on {listing(worse)}: random weights do better."
    if shuffled:
        lowest, highest = percent(min(shuffled)), percent(max(shuffled))
        found_ = lowest if lowest == highest else f"{lowest} to {highest}"
        good = max(shuffled) < 0.65
        outcome = "as it should" if good else "**which is too far above one half: labels leak somewhere**"
        text += f"\n\nTrained on shuffled labels, the same machine has a balanced accuracy of {found_}, {outcome}."
    return Output(markdown=text, plain=text.replace("**", ""))


def held_out_plates(scores: pd.DataFrame, method: str = METHOD, normalisation: str = "all") -> Output:
    """What is lost when whole plates are held out instead of wells, by one method."""
    rows = scores[(scores["method"] == method) & scores["normalisation"].isin([normalisation, "none"])]
    sentences = []
    for task, part in rows.groupby("task", sort=False):
        by = {row.split: Score.of(row) for row in part.itertuples()}
        if {"well", "plate"} <= set(by):
            words = {BEATS: "more than", SAME: "not to be told from", BELOW: "less than"}
            word = words[verdict(by["plate"], by["well"])]
            new, known = by["plate"], by["well"]
            sentences.append(f"**{task}.** {new} on plates never seen, {word} {known} on wells of known plates.")
    return points(*sentences) if sentences else say("This screen has too few plates to hold any out.")


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


def leaks(position: pd.DataFrame, zones: pd.DataFrame) -> Output:
    """What position alone can do, and whether the images know it (evaluate/leaks.py)."""
    alone = {row.split: Score.of(row) for row in position.itertuples()}
    sentences = [
        f"A machine that knows the row and column of a well, and no image, reaches **{score}** with {split}s held out."
        for split, score in alone.items()
    ]
    for row in zones.itertuples():
        score = Score.of(row)
        knows = "no sign of knowing where a well lies"
        if verdict(score, row.majority_rate) == BEATS:
            knows = "**it knows to some degree where a well lies**, and part of its other scores may come from there"
        majority = percent(row.majority_rate)
        sentences.append(f"{ZONE}, by {name(row.method)}: {score}, majority rate {majority}: {knows}.")
    return points(*sentences)


def cell_types_normalised(right: pd.DataFrame, wrong: pd.DataFrame) -> Output:
    """HRCE vs VERO without and with the mistake of normalising per plate; one row each."""
    good, bad = (Score.of(next(t.itertuples())) for t in (right, wrong))
    fall = {
        BELOW: "**The normalisation has removed the very thing that was asked for**; what remains looks honest.",
        SAME: "Here the mistake goes unnoticed; it is one all the same.",
        BEATS: "Here the mistake even seems to help; it is one.",
    }[verdict(bad, good)]
    return say(f"As it is: {good}. After normalising each plate: {bad}. {fall}")
