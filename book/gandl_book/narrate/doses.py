"""Axes, efficacy scores, hits and their curves."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gandl_lib.evaluate.scores import BEATS, Score, verdict
from gandl_lib.plots.page import Output, name
from gandl_lib.plots.sentences import suspicious, warning
from gandl_lib.plots.words import METHOD, UNLEARNT, count, listing, number, percent, points, say


def find_compound(wanted: str, curves: pd.DataFrame, method: str = METHOD) -> str:
    """The compound of a dose-response table that `wanted` means: its name in any case, or a beginning only it has.

    Empty means the hit with the highest efficacy under `method`, if there is any one without a warning and with an
    EC50; without hits, the best of those that no warning speaks against.

    Raises:
        ValueError: no such compound, or several; with the nearest names.
    """
    known = sorted(curves["compound"].unique())
    if not wanted:
        mine = curves[curves["method"] == method]
        sure = [warning(row) is None for row in mine.itertuples()]
        ranked = mine.assign(hit=mine["hit"].astype(bool), sure=sure, fitted=mine["ec50_uM"].notna())
        order = ["hit", "sure", "fitted", "efficacy_max"] if ranked["hit"].any() else ["sure", "efficacy_max"]
        return ranked.sort_values(order, ascending=False)["compound"].iloc[0]
    lower = {compound.lower(): compound for compound in known}
    if wanted.lower() in lower:
        return lower[wanted.lower()]
    begin = [compound for compound in known if compound.lower().startswith(wanted.lower())]
    if len(begin) == 1:
        return begin[0]
    near = begin or [lower[n] for n in difflib.get_close_matches(wanted.lower(), lower, 5, 0.4)] or known
    what = "is not one compound but several" if begin else "is no compound of this screen"
    raise ValueError(f"compound {wanted!r} {what}; nearest of its {len(known)}: {', '.join(near[:5])}.")


def axes(positions: pd.DataFrame, method: str = METHOD) -> Output:
    """Where unseen control wells lie on the E2 axis of each cell type, and whether its scale can be trusted.

    Args:
        positions: axes.csv, or efficacy.csv with its score renamed to `on` and E2 as its task.
    """
    part = positions[(positions["method"] == method) & (positions["task"] == "E2")]
    sentences = []
    for cell_type, one in part.groupby("cell_type"):
        if one["on"].isna().all():
            sentences.append(
                f"**{cell_type}.** {name(method)} **does not order control wells it has not seen by more than chance**:"
                " no axis."
            )
            continue
        test = one[one["split"].eq("test") & one["role"].isin(["C+", "C-"])]
        right = ((test["on"] > 0) == (test["role"] == "C+")).mean()
        majority = test["role"].value_counts(normalize=True).max()
        half = 1.96 * np.sqrt(max(right * (1 - right), 1e-4) / len(test))
        trusted = verdict(Score(right, right - half, right + half, len(test)), majority) == BEATS
        means = one.groupby("role")["on"].mean()
        where = [f"{role} wells at {means[role]:.2f}" for role in ("treated", "UV") if role in means]
        sentences.append(
            f"**{cell_type}.** {round(right * len(test))} of {len(test)} test wells lie on their own side of 0;"
            f" on average {listing(where)}."
            + (
                ""
                if trusted
                else f" **That is no better than always answering the larger class ({percent(majority)}): the scale is"
                " stretched noise, and no score read off it means anything.**"
            )
        )
    return points(*sentences)


def efficacy(scores: pd.DataFrame, method: str = METHOD) -> Output:
    """`axes` of efficacy.csv."""
    return axes(scores.assign(on=scores["efficacy"], task="E2"), method)


def against_truth(compared: pd.DataFrame | None) -> Output:
    """What dose_truth.csv says of GAN-DL and its baselines."""
    if compared is None:
        return say("Nobody knows the truth of a real screen, so there is nothing to compare with.")
    sentences = []
    for cell_type, part in compared.groupby("cell_type", sort=False):
        by = part.set_index("method")["auroc"].dropna()
        if METHOD not in by:
            others = listing([f"{name(m)} {by[m]:.2f}" for m in by.index])
            theirs = f", where the area under the ROC curve is {others}" if others else ""
            sentences.append(f"In {cell_type} {name(METHOD)} has no ranking to judge{theirs}.")
            continue
        rivals = by.drop(METHOD)
        plainest = [m for m in UNLEARNT if m in rivals]
        told = dict.fromkeys([*plainest, *rivals.nlargest(1).index])  # what has learnt nothing, and the best
        others = [f"{name(m)} {by[m]:.2f}" for m in told]
        best = rivals.max() if len(rivals) else -np.inf
        order = "ahead of" if by[METHOD] > best else "level with" if by[METHOD] == best else "**behind** the best of"
        beside_ = f", {order} {listing(others)}" if others else ""
        n = part.set_index("method")["n_compounds"].iloc[0]
        sentences.append(
            f"In {cell_type} the area under the ROC curve of {name(METHOD)}'s efficacy for truly effective compounds is"
            f" {by[METHOD]:.2f}{beside_} (one half is chance; with {n} compounds differences of a tenth mean little)."
        )
    return say(*sentences)


def compound(
    curves: pd.DataFrame, cell_type: str, compound: str, truth: pd.DataFrame | None = None, method: str = METHOD
) -> Output:
    """Everything the table knows of one compound in one cell type, for GAN-DL, in words."""
    chosen = curves.query("method == @method and cell_type == @cell_type and compound == @compound")
    if chosen.empty or chosen["efficacy_max"].isna().all():
        return say(f"{name(method)} has no efficacy scores of {compound} in {cell_type}.")
    row = next(chosen.itertuples())
    called = "a **hit**" if row.hit else "**suspicious**, and no hit" if _suspicious(row) else "**no hit**"
    sentences = [
        f"{compound} in {cell_type} is {called}: q = {row.q_value:.2g}, highest mean efficacy {row.efficacy_max:.2f}."
    ]
    if np.isfinite(row.ec50_uM):
        sentences.append(f"Its EC50 is {number(row.ec50_uM, 2)} µM ({interval(row)}), Hill slope {row.hill:.2g}.")
    elif isinstance(row.ec50_censored, str) and row.ec50_censored:
        side = "above the highest" if row.ec50_censored.startswith(">") else "below the lowest"
        sentences.append(f"Its EC50 lies {side} dose tested, so there is no number to give.")
    else:
        sentences.append("Its doses do not make a curve that differs from a flat line.")
    if np.isfinite(row.toxic_from_uM):
        sentences.append(f"From {row.toxic_from_uM:g} µM on it looks toxic.")
    if isinstance(reason := getattr(row, "toxic_reason", None), str) and reason:
        sentences.append(f"**What speaks against it:** {reason}.")
    elif np.isfinite(getattr(row, "off_axis", np.nan)):
        fewer = ", and has no fewer cells," if np.isfinite(getattr(row, "cells", np.nan)) else ""
        sentences.append(f"At its best dose it lies no farther off the axis{fewer} than controls do.")
    if truth is not None:
        true = next(truth.query("cell_type == @cell_type and compound == @compound").itertuples(), None)
        if true is not None:
            what = (
                f"it helps, EC50 {number(true.ec50_uM, 2)} µM"
                if true.effective
                else "it does nothing for infected cells"
            )
            toxic = f", and kills half from about {number(true.toxic_uM, 2)} µM" if np.isfinite(true.toxic_uM) else ""
            sentences.append(f"The truth of the simulation: {what}{toxic}.")
    return say(*sentences)


def compounds_in_words(
    curves: pd.DataFrame, compound_: str, truth: pd.DataFrame | None = None, method: str = METHOD
) -> Output:
    """`compound` for every cell type it was tested in."""
    each = [compound(curves, cell_type, compound_, truth, method) for cell_type, _ in compounds_of(curves, compound_)]
    return say(*(one.bundle["text/markdown"] for one in each))


def compounds_of(curves: pd.DataFrame, compound: str) -> list[tuple[str, str]]:
    """(cell type, compound) of every cell type in which it was tested."""
    return [
        (cell_type, compound) for cell_type in sorted(curves.loc[curves["compound"] == compound, "cell_type"].unique())
    ]


def rise_and_fall(curves: pd.DataFrame, n: int = 4, method: str = METHOD) -> list[tuple[str, str]]:
    """(cell type, compound) of those that pass the threshold and then turn toxic, best first."""
    part = curves[(curves["method"] == method) & (curves["efficacy_max"] > 0)].dropna(subset=["toxic_from_uM"])
    best = part.nlargest(n, "efficacy_max")
    return list(zip(best["cell_type"], best["compound"], strict=True))


def turned(curves: pd.DataFrame, method: str = METHOD) -> Output:
    """How many compounds rise over the threshold and fall again, and which rise where something else than a cure is."""
    found = rise_and_fall(curves, len(curves), method)
    compounds = curves[curves["method"] == method]["compound"].nunique()
    if found:
        names = listing([f"{compound} in {cell_type}" for cell_type, compound in found[:6]])
        more = f" and {len(found) - 6} more" if len(found) > 6 else ""
        first = f"{name(method)} sees {len(found)} rise and fall, among {compounds} compounds: {names}{more}."
    else:
        first = f"{name(method)} sees no compound that rises over the threshold and falls again in this run."
    return say(first, suspicious(curves, method).bundle["text/markdown"])


def set_aside(curves: pd.DataFrame, n: int = 4, method: str = METHOD) -> list[tuple[str, str]]:
    """(cell type, compound) of those that rise and fall, then of those that are suspicious, best first."""
    part = curves[curves["method"] == method].dropna(subset=["efficacy_max"])
    doubtful = part[np.array([_suspicious(row) for row in part.itertuples()], bool)].nlargest(n, "efficacy_max")
    pairs = [*rise_and_fall(curves, n, method), *zip(doubtful["cell_type"], doubtful["compound"], strict=True)]
    return list(dict.fromkeys(pairs))[:n]


def hits_with_doubts(curves: pd.DataFrame, method: str = METHOD, n: int = 12) -> pd.DataFrame:
    """The compounds with the highest efficacy, and beside each how far off the axis it lies and how many cells it has.

    Both are medians over the wells of the compound's best dose, in brackets the limit that the controls of its cell
    type set (`gandl_lib.evaluate.toxicity`).
    """
    part = curves[curves["method"] == method].dropna(subset=["efficacy_max"])
    rows = []
    for row in part.nlargest(n, "efficacy_max").itertuples():
        censored = row.ec50_censored if isinstance(row.ec50_censored, str) and row.ec50_censored else None
        doubt = f"{number(row.toxic_from_uM, 2)} (falls)" if np.isfinite(row.toxic_from_uM) else None
        if np.isfinite(getattr(row, "suspect_from_uM", np.nan)):
            doubt = number(row.suspect_from_uM, 2)
        rows.append(
            {
                "compound": row.compound,
                "cell type": row.cell_type,
                "called": "hit" if row.hit else "suspicious" if _suspicious(row) else "no hit",
                "suspect from (µM)": doubt,
                "off the axis": _measured(row, "off_axis", lambda x: number(x, 2)),
                "cells, of C-": _measured(row, "cells", lambda share: f"{100 * share:.0f} %"),
                "efficacy": f"{row.efficacy_max:.2f}",
                "EC50 (µM)": f"{number(row.ec50_uM, 2)} ({interval(row)})" if np.isfinite(row.ec50_uM) else censored,
            }
        )
    return pd.DataFrame(rows)


def _measured(row: Any, what: str, form: Callable[[float], str]) -> str | None:
    value, limit = getattr(row, what, np.nan), getattr(row, f"{what}_limit", np.nan)
    if not np.isfinite(value):
        return None
    return f"{form(value)} ({form(limit)})" if np.isfinite(limit) else form(value)


def _suspicious(row: Any) -> bool:
    return getattr(row, "suspicious", False) in (True, "True")


def interval(row: Any) -> str:
    """The 95 % interval of an EC50 in words."""
    low, high = row.ec50_low, row.ec50_high
    no_low, no_high = not np.isfinite(low) or low == 0, not np.isfinite(high)
    if no_low and no_high:
        return "interval open at both ends"
    return (
        f"up to {number(high, 2)}"
        if no_low
        else f"from {number(low, 2)}"
        if no_high
        else f"{number(low, 2)} to {number(high, 2)}"
    )


def killers(curves: pd.DataFrame, truth: pd.DataFrame | None, methods: Sequence[str]) -> Output:
    """How many compounds that kill each method notices, and how many of them it calls hits, by the truth."""
    if truth is None:
        return say("Which compounds kill is not known on a real screen; cell counts and the off-axis are all there is.")
    both = curves.merge(truth, on=["cell_type", "compound"], suffixes=("", "_true"))
    sentences = []
    for method in dict.fromkeys(methods):
        one = both[both["method"] == method]
        toxic, hit = one["toxic_uM"].notna(), one["hit"].astype(bool)
        fall, suspect = one["toxic_from_uM"].notna(), one["suspect_from_uM"].notna()
        only = toxic & ~one["effective"].astype(bool)
        if one.empty or one["efficacy_max"].isna().all():
            continue
        sentences.append(
            f"{name(method)}: of {toxic.sum()} that kill, {(fall & toxic).sum()} are found by the fall of their curve "
            f"and {(suspect & toxic).sum()} by off-axis distance or cell count; of {(~toxic).sum()} that do not, "
            f"{(fall & ~toxic).sum()} and {(suspect & ~toxic).sum()} are flagged. {(hit & only).sum()} of the "
            f"{only.sum()} that kill and do not help are called hits."
        )
    return points(*sentences)


def hit_scores(published: pd.DataFrame) -> pd.DataFrame:
    """`paper("hit_scores")` with a column an experiment."""
    wide = published.pivot(index="compound", columns="experiment", values="hit_score")
    return wide.loc[published["compound"].unique()].reset_index().rename_axis(columns=None)


def truth_table(compared: pd.DataFrame | None) -> pd.DataFrame | None:
    """dose_truth.csv for readers; None where nobody knows the truth."""
    if compared is None:
        return None
    names = {
        "n_effective": "effective",
        "auroc": "AUROC of efficacy",
        "precision": "precision of hits",
        "recall": "recall",
        "n_ec50": "EC50s fitted",
        "log10_ec50_error": "median |log10 error|",
        "ec50_coverage": "truth within interval",
        "suspect_recall": "toxicity found",
        "suspect_false_alarms": "false alarms",
    }
    names = {column: title for column, title in names.items() if column in compared}
    shown = compared.assign(method=compared["method"].map(name))
    return shown[["method", "cell_type", *names]].rename(columns={"cell_type": "cell type", **names})


def toxicity_table(judged: pd.DataFrame) -> pd.DataFrame:
    """book/reference/toxicity.csv for readers."""

    def of(part: str, whole: str) -> list[str]:
        return [f"{a} of {b}" if b else "–" for a, b in zip(judged[part], judged[whole], strict=True)]

    known = judged["hits_right"].notna()
    right = [f"{r:.0f} right, {f:.0f} false" if k else "not known" for r, f, k in
             zip(judged["hits_right"], judged["hits_false"], known, strict=True)]  # fmt: skip
    return pd.DataFrame(
        {
            "screen": judged["screen"],
            "method": judged["method"].map(name),
            "rule": judged["rule"],
            "deadly doses flagged": of("deadly_flagged", "deadly_doses"),
            "harmless doses flagged": of("harmless_flagged", "harmless_doses"),
            "compounds falsely flagged": of("others_flagged", "others"),
            "hits": judged["hits"],
            "of these": right,
        }
    )


def toxicity_judged(judged: pd.DataFrame, method: str = METHOD) -> Output:
    """What the rule for toxic doses does on each screen it was judged on, in words."""
    sentences = []
    for screen, part in judged[judged["method"] == method].groupby("screen", sort=False):
        by = part.set_index("rule")
        none, both = by.loc["none"], by.loc["both"]
        if both["deadly_doses"] == 0:
            sentences.append(
                f"**{screen}.** {both['harmless_flagged']} of {both['harmless_doses']} doses are flagged, of"
                f" {both['others_flagged']} of {both['others']} compounds; hits go from {none['hits']} to"
                f" {both['hits']}."
            )
            continue
        lost = none["hits_right"] - both["hits_right"]
        price = (
            "no true hit is lost"
            if lost == 0
            else f"**{count(int(lost), 'true hit')} of {none['hits_right']:.0f} is lost**"
        )
        alone = [f"{by.loc[rule, 'deadly_flagged']} by {rule}" for rule in ("off axis", "cells")]
        sentences.append(
            f"**{screen}.** {both['deadly_flagged']} of {both['deadly_doses']} deadly doses are flagged"
            f" ({listing(alone)} alone), and {both['harmless_flagged']} of {both['harmless_doses']} harmless ones;"
            f" false hits go from {none['hits_false']:.0f} to {both['hits_false']:.0f}, and {price}."
        )
    return points(*sentences)
