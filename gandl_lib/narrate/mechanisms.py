"""Mechanisms of action."""

from __future__ import annotations

import pandas as pd

from gandl_lib.figures import Output
from gandl_lib.narrate.words import BEATS, BELOW, VERDICTS, Score, listing, method_scores, percent, points, say, verdict


def where_moa_comes_from(fresh: bool) -> Output:
    """Whether the table was made in this build or is the recorded one."""
    if fresh:
        return say("The table was made in this build, from the published profiles of real cells.")
    return say(
        "**The profiles are not on this machine** (`GANDL_DATA`), so what follows is the table of a recorded run on",
        "them, `book/reference/moa_bbbc021.csv`.",
    )


def moa(scores: pd.DataFrame) -> Output:
    """The anchor, and which recipes differ from it by more than their intervals."""
    sentences = []
    for protocol, part in scores.groupby("protocol", sort=False):
        found = method_scores(part.assign(n_test_wells=part["n_treatments"]))
        anchor, *others = found
        first = part.iloc[0]
        top = max(others, key=lambda m: found[m].value)
        groups = {v: [m for m in others if verdict(found[m], found[anchor]) == v] for v in VERDICTS}
        text = (
            f"**{protocol}.** {first['n_correct']} of {first['n_treatments']} by {anchor}, {found[anchor]}; mechanisms"
            f" dealt at random {percent(first['shuffled'])}. Highest is {top} with {found[top]}"
        )
        text += (
            ", beyond doubt better." if top in groups[BEATS] else ", which the intervals cannot tell from the anchor."
        )
        text += f" Worse: {listing(groups[BELOW])}." if groups[BELOW] else ""
        sentences.append(text)
    return points(*sentences)


def moa_table(scores: pd.DataFrame) -> pd.DataFrame:
    """moa.csv for readers."""
    return pd.DataFrame(
        {
            "method": scores["method"],
            "protocol": scores["protocol"],
            "right": scores["n_correct"].astype(str) + " of " + scores["n_treatments"].astype(str),
            "accuracy (95 %)": [str(Score.of(row)) for row in scores.itertuples()],
            "compounds": scores["compound_accuracy"].map(percent),
            "by chance": scores["shuffled"].map(percent),
        }
    )


def published_moa(published: pd.DataFrame) -> pd.DataFrame:
    """Published accuracies, a row a method and a column a protocol."""
    wide = published.pivot(index=["method", "source"], columns="protocol", values="accuracy")
    order = dict.fromkeys(zip(published["method"], published["source"], strict=True))
    wide = wide.reindex(order).map(lambda v: "–" if pd.isna(v) else percent(v))
    return wide.reset_index().rename_axis(columns=None)
