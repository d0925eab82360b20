"""Cell types that no method was trained on."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from gandl_book.figures.scores import PUBLISHED
from gandl_lib.evaluate.scores import BEATS, BELOW, SAME, VERDICTS, verdict
from gandl_lib.plots.page import Output, name
from gandl_lib.plots.sentences import beside
from gandl_lib.plots.words import METHOD, SHUFFLED, UNTRAINED, listing, method_scores, percent, say


def zero_shot(summary: pd.DataFrame | None, where: str) -> Output:
    """How the cell types were told apart; `where` names the cells, "simulated" included."""
    if summary is None:
        return say(f"There are no {where} in this build.")
    found = method_scores(summary)
    majority, n = summary["majority_rate"].iloc[0], summary["n_wells"].iloc[0]
    sentences = [f"On {where} ({n} wells), {beside(found, majority=majority)}"]
    if SHUFFLED in found:
        ok = "as it should be" if verdict(found[SHUFFLED], majority) != BEATS else "**and that is too much**"
        sentences.append(f"With shuffled labels: {found[SHUFFLED]}, {ok}.")
    if UNTRAINED in found and METHOD in found and verdict(found[METHOD], found[UNTRAINED]) != BEATS:
        sentences.append("**Training has bought nothing here**: random weights tell these cell types apart as well.")
    return say(*sentences)


def zero_shot_table(summaries: Mapping[str, pd.DataFrame | None], published: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on unseen cell types: a row a method, a column a set of cells, and one for what the paper has."""
    ours = {theirs: name(method) for method, theirs in reversed(PUBLISHED.items())}
    theirs = {ours.get(row.method, row.method): percent(row.accuracy) for row in published.itertuples()}
    columns = {t: {name(m): str(s) for m, s in method_scores(x).items()} for t, x in summaries.items() if x is not None}
    columns["the paper, real RxRx1 cells"] = theirs
    methods = dict.fromkeys(method for column in columns.values() for method in column)
    told = {title: [column.get(method) for method in methods] for title, column in columns.items()}
    return pd.DataFrame({"method": list(methods)} | told)


def ranks(summary: pd.DataFrame | None, where: str, method: str = METHOD) -> Output:
    """Who of zero_shot_summary.csv stands above `method`, below it, or within noise, by their intervals."""
    if summary is None:
        return say(f"There are no {where} in this build.")
    found = {m: score for m, score in method_scores(summary).items() if m != SHUFFLED}
    if method not in found:
        return say(f"{name(method)} is not among the methods that were shown {where}.")
    mine = found.pop(method)
    groups = {
        v: [f"{name(m)} ({percent(s.value)})" for m, s in found.items() if verdict(s, mine) == v] for v in VERDICTS
    }
    parts = [
        f"{title}: {listing(groups[v])}."
        for v, title in ((BEATS, "**Above it**"), (BELOW, "**Below it**"), (SAME, "**Not to be told from it**"))
        if groups[v]
    ]
    return say(f"On {where} {name(method)} reaches {mine}.", *parts)


def mistaken(counts: pd.DataFrame | None, n: int = 2) -> pd.DataFrame | None:
    """zero_shot.csv by method: how many sites are wrong, and the `n` commonest mistakes."""
    if counts is None:
        return None
    rows = []
    for method, one in counts[counts["method"] != SHUFFLED].groupby("method", sort=False):
        wrong = one[one["true"] != one["predicted"]].nlargest(n, "count").query("count > 0")
        columns = zip(wrong["true"], wrong["predicted"], wrong["count"], strict=True)
        commonest = [f"{true} taken for {other} ({k:.0f})" for true, other, k in columns]
        total = one.loc[one["true"] != one["predicted"], "count"].sum()
        rows.append(
            {
                "method": name(method),
                "wrong": f"{total:.0f} of {one['count'].sum():.0f}",
                "commonest": "; ".join(commonest) or None,
            }
        )
    return pd.DataFrame(rows)
