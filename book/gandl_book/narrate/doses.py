"""Axes, efficacy scores, hits and their curves."""

from __future__ import annotations

import difflib

import numpy as np
import pandas as pd

from gandl_lib.evaluate.scores import BEATS, Score, verdict
from gandl_lib.plots.page import Output, name
from gandl_lib.plots.sentences import _end
from gandl_lib.plots.words import METHOD, count, listing, percent, points, say


def find_compound(wanted: str, curves: pd.DataFrame, method: str = METHOD) -> str:
    """The compound of a dose-response table that `wanted` means: its name in any case, or a beginning only it has.

    Empty means the one with the highest efficacy under `method`, if it has any.

    Raises:
        ValueError: no such compound, or several; with the nearest names.
    """
    known = sorted(curves["compound"].unique())
    if not wanted:
        ranked = curves[curves["method"] == method].sort_values("efficacy_max", ascending=False)
        return ranked["compound"].iloc[0]
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
            sentences.append(f"In {cell_type} {name(METHOD)} has no ranking to judge.")
            continue
        others = [f"{name(m)} {by[m]:.2f}" for m in by.index if m != METHOD]
        best = by.drop(METHOD).max() if len(by) > 1 else -np.inf
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
    called = "a **hit**" if row.hit else "**no hit**"
    sentences = [
        f"{compound} in {cell_type} is {called}: q = {row.q_value:.2g}, highest mean efficacy {row.efficacy_max:.2f}."
    ]
    if np.isfinite(row.ec50_uM):
        ends = f"{_end(row.ec50_low)} to {_end(row.ec50_high)}"
        sentences.append(f"Its EC50 is {row.ec50_uM:.3g} µM ({ends}), Hill slope {row.hill:.2g}.")
    elif isinstance(row.ec50_censored, str) and row.ec50_censored:
        side = "above the highest" if row.ec50_censored.startswith(">") else "below the lowest"
        sentences.append(f"Its EC50 lies {side} dose tested, so there is no number to give.")
    else:
        sentences.append("Its doses do not make a curve that differs from a flat line.")
    if np.isfinite(row.toxic_from_uM):
        sentences.append(f"From {row.toxic_from_uM:g} µM on it looks toxic.")
    if truth is not None:
        true = next(truth.query("cell_type == @cell_type and compound == @compound").itertuples(), None)
        if true is not None:
            what = f"it helps, EC50 {true.ec50_uM:.3g} µM" if true.effective else "it does nothing for infected cells"
            toxic = f", and kills half from about {true.toxic_uM:.3g} µM" if np.isfinite(true.toxic_uM) else ""
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
    """How many compounds rise over the threshold and fall again."""
    found, compounds = (
        rise_and_fall(curves, len(curves), method),
        curves[curves["method"] == method]["compound"].nunique(),
    )
    if not found:
        return say(f"{name(method)} sees no compound that rises over the threshold and falls again in this run.")
    names = listing([f"{compound} in {cell_type}" for cell_type, compound in found[:6]])
    more = f" and {len(found) - 6} more" if len(found) > 6 else ""
    return say(f"{name(method)} sees {len(found)} rise and fall, among {compounds} compounds: {names}{more}.")


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
        "toxic_recall": "toxicity found",
        "toxic_false_alarms": "false alarms",
    }
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
