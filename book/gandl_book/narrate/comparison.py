"""Counterparts beside GAN-DL: differences, costs, few labels, replicates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gandl_book.figures import against
from gandl_lib.plots.page import Output, name
from gandl_lib.plots.words import LEARNT, METHOD, listing, method_scores, percent, points, say, spread, thousands

if TYPE_CHECKING:
    from anndata import AnnData


def counterparts(profiles: Sequence[AnnData], wanted: Sequence[str]) -> Output:
    """Which of the rows that a chapter tells of this build lacks, and why a row may be lacking."""
    have = {json.loads(p.uns["provenance"])["method"] for p in profiles}
    lacking = [m for m in wanted if m not in have]
    if not lacking:
        return say("All of them are part of this build.")
    why = "its profile does not ask for them"
    if any(m.startswith("imagenet") for m in lacking):
        why = (
            "either its profile does not ask for them, or no ImageNet weights could be had where it was made (a file "
            "in `$GANDL_WEIGHTS`, or a network to fetch one). Random weights under that name would be a lie, so there "
            "is no row at all"
        )
    return say(f"This build lacks {listing([name(m) for m in lacking])}: {why}.")


def pairs(
    paired: pd.DataFrame | None, method: str = METHOD, task: str = "C+ vs C-", split: str = "well", level: float = 0.05
) -> Output:
    """Who leads `method`, who follows it, and whose difference is within noise, on the same wells (paired.csv)."""
    rows = pd.DataFrame() if paired is None else against(paired, method, task)
    if rows.empty:
        return say(f"There is nothing to compare {name(method)} with in this build.")
    rows = rows[rows["split"] == split]
    if rows.empty:
        return say(f"In this build no {split} could be held out, so there is no such comparison.")
    said: dict[str, list[str]] = {"better": [], "worse": [], "within noise": []}
    for row in rows.sort_values("difference", ascending=False).itertuples():
        which = _outcome(row, level)
        p = "p < 0.001" if row.p_value < 0.001 else f"p = {row.p_value:.2g}"
        said[which].append(f"{name(row.other)} ({100 * row.difference + 0.0:+.1f} points, {p})")
    parts = [
        f"{title}: {listing(said[which])}."
        for which, title in (
            ("better", "**Better than it**"),
            ("worse", "**Worse than it**"),
            ("within noise", "**Within noise, to be called neither**"),
        )
        if said[which]
    ]
    n, by_chance = len(rows), level * len(rows)
    return say(
        f"{task}, {split}s held out, compared well by well with {name(method)} ({rows['n_wells'].iloc[0]} wells).",
        *parts,
        f"Of {n} comparisons of equals, {by_chance:.1f} would look real by chance at this level of {level:g}.",
    )


def _outcome(row: Any, level: float) -> str:
    return "within noise" if row.p_value > level else "better" if row.difference > 0 else "worse"


def second_seed(
    scores: pd.DataFrame,
    paired: pd.DataFrame | None,
    scores_again: pd.DataFrame,
    paired_again: pd.DataFrame,
    method: str = METHOD,
    task: str = "C+ vs C-",
    level: float = 0.05,
) -> Output:
    """How far `method` moved where all was made anew, and which comparisons with it come out alike.

    Args:
        scores, paired: separability.csv and paired.csv of this build.
        scores_again, paired_again: the same of the other one.
    """
    if paired is None:
        return say(f"There is nothing to compare {name(method)} with in this build.")
    found = [
        {(row.split, row.other): _outcome(row, level) for row in against(table, method, task).itertuples()}
        for table in (paired, paired_again)
    ]
    sentences = []
    for split in ("well", "plate"):
        both = [other for at, other in found[0] if at == split and (at, other) in found[1]]
        pair = {other: (found[0][split, other], found[1][split, other]) for other in both}
        if not pair:
            continue
        reached = [method_scores(one_task(table, task, split))[method] for table in (scores, scores_again)]
        alike = sum(a == b for a, b in pair.values())
        unsure = [f"{name(other)} ({a} here, {b} there)" for other, (a, b) in pair.items() if a != b]
        unsure = [words for words in unsure if "within noise" in words]
        reversed_ = [name(other) for other, outcomes in pair.items() if set(outcomes) == {"better", "worse"}]
        said = [f"**{split.capitalize()}s held out.** {name(method)} reads {reached[0]} here, {reached[1]} there."]
        there = method_scores(one_task(scores_again, task, split))
        best = max(there, key=lambda m: there[m].value)
        said += [f"Highest there is {name(best)} with {there[best]}."] if best != method else []
        said += [f"{alike} of {len(pair)} comparisons come out the same way."]
        said += [f"Sure in one screen only: {listing(unsure)}."] if unsure else []
        said.append(f"**Reversed: {listing(reversed_)}.**" if reversed_ else "No sure difference turns round.")
        sentences.append(" ".join(said))
    return points(*sentences)


def cost_table(cost: pd.DataFrame) -> pd.DataFrame:
    """cost.csv for readers."""

    def number(value: float, form: str) -> str:
        return "not recorded" if not np.isfinite(value) else "–" if value == 0 else format(value, form)

    rows = [
        {
            "method": name(row.method),
            "training (minutes)": number(row.minutes, ".1f"),
            "images seen": number(row.images, ",.0f"),
            "peak memory (MB)": number(row.peak_memory_MB, ",.0f"),
            "dimensions": row.dimensions,
            "labels learnt": LEARNT.get(row.labels, row.labels) if isinstance(row.labels, str) else "none",
        }
        for row in cost.itertuples()
    ]
    return pd.DataFrame(rows)


def few_labels(table: pd.DataFrame | None) -> pd.DataFrame | None:
    """How many labels each method needs to beat the majority rate in every draw, and where it ends (probe_size.csv)."""
    if table is None or table.empty:
        return None
    rows = []
    for one, part in table.groupby("method", sort=False):
        enough, last = part[part["lowest"] > part["majority_rate"]], part.iloc[-1]
        never = enough.empty
        rows.append(
            {
                "method": name(one),
                "labelled wells it takes": "never" if never else f"{enough['n_wells'].min():.0f}",
                "accuracy there": None if never else percent(enough.iloc[0].accuracy),
                f"accuracy with all {last.n_wells:.0f}": percent(last.accuracy),
            }
        )
    return pd.DataFrame(rows)


def errors(counts: pd.DataFrame | None) -> pd.DataFrame | None:
    """Both kinds of error of a two-class confusion table (method, true, predicted, count), a row a method."""
    if counts is None or counts.empty:
        return None
    rows = []
    for method, one in counts.groupby("method", sort=False):
        by = one.set_index(["true", "predicted"])["count"]
        row = {"method": name(method)}
        for true, other in (("C-", "C+"), ("C+", "C-")):
            n = by.get(true, pd.Series(dtype=float)).sum()
            row[f"{true} taken for {other}"] = f"{by.get((true, other), 0):.0f} of {n:.0f}"
        rows.append(row)
    return pd.DataFrame(rows)


def beside_each_other(scores: pd.DataFrame, task: str = "C+ vs C-") -> pd.DataFrame:
    """separability.csv for one task: a row a method, a column each way of normalising and of holding out."""
    part = scores[(scores["task"] == task) & (scores["method"] != "shuffled labels")]
    several = part["normalisation"].nunique() > 1
    how = part["split"] + "s held out" + (", by " + part["normalisation"] if several else "")
    wide = spread(part.assign(method=part["method"].map(name), how=how), ["method"], "how")
    order = pd.Categorical(wide["method"], [name(m) for m in dict.fromkeys(part["method"])], ordered=True)
    return wide.assign(k=order).sort_values("k").drop(columns="k")


def replicates(table: pd.DataFrame | None) -> pd.DataFrame | None:
    """How well replicates find each other, a row a method: over all doses, at the highest one, and by chance."""
    if table is None or table.empty:
        return None
    top = table["concentration_uM"] == table["concentration_uM"].max()
    by_method = table.groupby("method", sort=False)
    shown = {
        "all doses": by_method["mean_average_precision"].mean(),
        "highest dose": table[top].groupby("method")["mean_average_precision"].mean(),
        "random ranking": by_method["by_chance"].mean(),
    }
    return pd.DataFrame(shown).rename(name, axis=0).rename_axis("method").reset_index()


def one_task(table: pd.DataFrame | None, task: str = "C+ vs C-", split: str = "well") -> pd.DataFrame | None:
    """The rows of separability.csv or confusion.csv for one task and split; None where there is no table."""
    if table is None:
        return None
    return table[(table["task"] == task) & (table["split"] == split) & table["normalisation"].isin(["all", "none"])]


def published(measured: pd.DataFrame) -> Output:
    """What reading published embeddings takes (book/reference/published.csv)."""
    row = measured.iloc[0]
    return say(
        f"All of RxRx19a, {thousands(row['sites'])} sites of {row['features']:.0f} features in a table of",
        f"{row['csv_MB'] / 1000:.1f} GB, becomes profiles in {row['processor_seconds'] / 60:.1f} minutes of one",
        f"processor core and at most {row['peak_memory_MB'] / 1000:.1f} GB of memory",
        "(measured on a simulated table of that size).",
        "`--where` takes a part, say one cell type.",
    )
