"""Setups of learning paradigms: what an interval supports, and what not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gandl_book import figures
from gandl_lib.evaluate.distances import ALL
from gandl_lib.evaluate.scores import BEATS, BELOW, SAME, Score, verdict
from gandl_lib.plots.page import Output, name
from gandl_lib.plots.words import (
    INTENSITY,
    METHOD,
    TEXTURE,
    UNTRAINED,
    count,
    hundredths,
    listing,
    points,
    say,
    thousands,
)

if TYPE_CHECKING:
    from anndata import AnnData


def setups(table: pd.DataFrame) -> pd.DataFrame:
    """paradigms.csv for readers: a line a setup, intervals in words."""
    table = figures.tidy_setups(table)

    def with_interval(value: str, ends: str) -> list[str | None]:
        return [
            None if np.isnan(v) else f"{v:.2f} ({low:.2f} to {high:.2f})"
            for v, low, high in zip(table[value], table[f"{ends}_low"], table[f"{ends}_high"], strict=True)
        ]

    return pd.DataFrame(
        {
            "setup": [figures.setup_name(row) for row in table.itertuples()],
            "D(S1, S2)": table["distance_similar"],
            "d (95 %)": with_interval("normalised_d", "d"),
            "accuracy (95 %)": with_interval("accuracy", "accuracy"),
            "precision": table["precision"],
            "recall": table["recall"],
            "ROC-AUC (95 %)": with_interval("roc_auc", "auc"),
            "clusters": table["n_clusters"],
            "not noise": table["not_noise"],
            "silhouette": table["silhouette"],
            "1 / DB": table["davies_bouldin_inverse"],
            "training, s": table["train_seconds"],
            "memory, MB": table["peak_memory_MB"],
        }
    )


def _setup_scores(table: pd.DataFrame, value: str, ends: str) -> dict[str, Score]:
    table = figures.tidy_setups(table)
    return {
        figures.setup_name(row): Score(getattr(row, value), getattr(row, f"{ends}_low"), getattr(row, f"{ends}_high"))
        for row in table.itertuples()
    }


def _two_digits(score: Score) -> str:
    value, low, high = map(hundredths, (score.value, score.low, score.high))
    return f"{value} ({low} to {high})"


def paradigm_exam(table: pd.DataFrame, value: str, ends: str, what: str) -> Output:
    """Who is first among the setups, and which of the other rows that one cannot be told from.

    Args:
        table: paradigms.csv.
        value, ends: a metric, and the beginning of the names of its interval's columns.
        what: the metric in words.
    """
    table = figures.tidy_setups(table)
    scores = _setup_scores(table, value, ends)
    trained = {figures.setup_name(row) for row in table.itertuples() if row.augment is not None and not row.published}
    trained = {setup for setup in trained if not np.isnan(scores[setup].value)}
    if not trained:
        return say(f"This screen cannot tell the {what} of any setup.")
    best = max(sorted(trained), key=lambda setup: scores[setup].value)
    rivals = [setup for setup in trained - {best} if verdict(scores[best], scores[setup]) == SAME]
    sentences = [f"Of {count(len(trained), 'setup')}, **{best}** has the highest {what}, {_two_digits(scores[best])}."]
    if rivals:
        sentences.append(
            f"{len(rivals)} of the other {len(trained) - 1} cannot be told from it: there is no winner among them."
        )
    else:
        sentences.append("Every other setup falls below it.")
    others = {other: other for other in (*map(name, (METHOD, UNTRAINED, TEXTURE, INTENSITY)), "shuffled features")}
    for other, called in ({"untrained encoder": "the untrained encoder"} | others).items():
        if other in scores:
            how = {BEATS: "beats", SAME: "cannot be told from", BELOW: "falls below"}[
                verdict(scores[best], scores[other])
            ]
            sentences.append(f"It {how} {called}, {_two_digits(scores[other])}.")
    return say(*sentences)


def paradigm_choices(table: pd.DataFrame, value: str, ends: str, what: str) -> Output:
    """Whether augmentation and multi-crop help: mean differences within pairs of setups that differ in that alone."""
    table = figures.tidy_setups(table)
    table = table[[a is not None and not p for a, p in zip(table["augment"], table["published"], strict=True)]]
    sentences = []
    for column, other, words in (("augment", "multi_crop", "Augmentation"), ("multi_crop", "augment", "Multi-crop")):
        half = (table[f"{ends}_high"] - table[f"{ends}_low"]) / 2
        wide = table.assign(half=half).pivot_table(
            index=["paradigm", other], columns=column, values=[value, "half"], dropna=False
        )
        if {(value, True), (value, False)} <= set(wide) and len(wide.dropna()):
            wide = wide.dropna()
            gain = float((wide[value, True] - wide[value, False]).mean())
            h = float(np.sqrt((wide["half", True] ** 2 + wide["half", False] ** 2).sum()) / len(wide))
            verdict_ = "more" if abs(gain) > h else "no more"
            between = f"({gain - h:+.3f} to {gain + h:+.3f})"
            pairs = count(len(wide), "pair")
            sentences.append(
                f"{words} changes {what} by {gain:+.3f} {between} on average over {pairs}: "
                f"{verdict_} than the chance of wells explains."
            )
    if sentences:
        sentences.append("The chance of another start of training is not in these intervals.")
    return say(*sentences)


def choices_of_paradigms(setup: AnnData | None) -> pd.DataFrame | None:
    """What the paper states of its setups, what it leaves open, and what this build uses.

    Args:
        setup: the profiles of any of the trained setups; its provenance has the configuration.
    """
    if setup is None:
        return None
    import torch

    from gandl_lib.methods.paradigms import AUGMENT_SHARE, WINDOWS

    made = json.loads(setup.uns["provenance"])
    c, open_ = made["config"], "not published"
    adam = torch.optim.Adam([torch.zeros(1)])
    rows = [
        ("maps after the four convolutions", "64, 32, 16, 8", ", ".join(map(str, c["widths"]))),
        ("image side (pixels)", "64", c["resolution"]),
        ("features", "2048", c["widths"][3] * (c["resolution"] // 4) ** 2),
        ("hidden layer of the classifier", "256", c["hidden"]),
        ("hidden layer of BYOL's projector and predictor", "2048", c["projector_hidden"]),
        ("BYOL's projection", "64", c["projection"]),
        ("BYOL's slow copy keeps of itself", "0.8", c["ema"]),
        ("Adam learning rate", "0.0001", f"{c['learning_rate']:g}"),
        ("Adam β₁, β₂", open_, ", ".join(map(str, adam.defaults["betas"]))),
        ("batch", "256", c["batch"]),
        ("images seen", f"{thousands(770_000)}, 50 times", thousands(made["n_seen"])),
        ("end of training", "early stopping", "after so many images"),
        ("multi-crop, sides of the windows", "2 of 1/2, 2 of 1/4", ", ".join(f"{share:g}" for share in WINDOWS)),
        ("augmentation, side of the resized crop", open_, "{:g} to {:g}".format(*AUGMENT_SHARE)),
    ]
    return pd.DataFrame(rows, columns=["", "paper", "this build"]).astype(str)


def by_class(distances_: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame | None:
    """d of every class of drugs, means over cell lines, a row a setup, in the order of paradigms.csv.

    The last column is the mean over the classes that do something, which is what paradigms.csv has.
    """
    if distances_.empty:
        return None
    wide = distances_.pivot_table(index="method", columns="drug_class", values="normalised_d", observed=True)
    wide = wide[[*(kind for kind in wide if kind != ALL), *(kind for kind in wide if kind == ALL)]]
    named = {row.method: figures.setup_name(row) for row in figures.tidy_setups(table).itertuples()}
    wide = (
        wide.reindex([method for method in named if method in wide.index]).rename(named).rename(columns={ALL: "mean"})
    )
    words = (wide.round(2) + 0.0).map("{:.2f}".format)  # no -0.00
    return words.rename_axis("setup").rename_axis(None, axis=1).reset_index()


def inert_drugs(distances_: pd.DataFrame) -> Output:
    """The check of d: drugs that do nothing are as far from each other as from the controls."""
    part = distances_[distances_["drug_class"] == "inert"]
    if part.empty:
        return say("This screen has no two drugs that are known to do nothing, so d cannot be checked on them.")
    zero = ((part["ci_low"] <= 0) & (part["ci_high"] >= 0)).sum()
    return say(
        f"The check: for pairs of drugs that do nothing, d has to be 0. Its interval holds 0 in {zero} of "
        f"{len(part)} cases (an embedding and a cell line each); the largest |d| is "
        f"{part['normalised_d'].abs().max():.3f}."
    )


def clusters_found(clustered: pd.DataFrame) -> Output:
    """What the clusters are: plates or drugs, and what shuffled features give."""
    sentences = []
    empty = clustered[clustered["n_clusters"] == 0]
    if len(empty):
        where = listing([f"{row.method} ({row.cell_type})" for row in empty.itertuples()][:6])
        sentences.append(f"**HDBSCAN found no cluster** in {len(empty)} of {len(clustered)} cases, among them {where}.")
    real = clustered[clustered["method"] != "shuffled features"]
    sentences.append(
        f"Mutual information of clusters, adjusted for chance, is {real['ami_drug'].median():.2f} with the class and "
        f"dose of drugs and {real['ami_plate'].median():.2f} with plates (medians; 1 would be the same partition)."
    )
    nothing = clustered[clustered["method"] == "shuffled features"]
    if len(nothing):
        sentences.append(
            f"Where every feature was shuffled, so that there is nothing to find, UMAP and HDBSCAN give "
            f"{nothing['n_clusters'].mean():.0f} clusters with a silhouette of {nothing['silhouette'].mean():.2f}; the "
            f"embeddings' own have a median of {real['silhouette'].median():.2f}. "
        )
        below = (real["silhouette"] <= nothing["silhouette"].max()).sum()
        sentences.append(
            f"{below} of {real['silhouette'].notna().sum()} silhouettes are no higher than that of nothing."
        )
    return say(*sentences)


def flaws(table: pd.DataFrame) -> Output:
    """What the known flaws alter, one sentence each (paradigms_flaws.csv)."""
    sentences = []
    for flaw, part in table.groupby("flaw", sort=False):
        part = part.dropna(subset="difference")
        if part.empty:
            continue
        metrics = []
        for metric, one in part.groupby("metric", sort=False):
            text = f"{figures.MEASURES[metric].partition(',')[0].partition(':')[0]} by {one['difference'].mean():+.3f}"
            if len(one) > 1:
                low, high = one["difference"].min(), one["difference"].max()
                text += f" on average ({low:+.3f} to {high:+.3f} over {len(one)} embeddings)"
            metrics.append(text)
        sentences.append(f"**{flaw[0].upper() + flaw[1:]}** moves {listing(metrics)}.")
    return points(*sentences)


def costs(table: pd.DataFrame) -> Output:
    """Table 1: what training takes."""
    table = figures.tidy_setups(table)
    part = table[[a is not None and not p for a, p in zip(table["augment"], table["published"], strict=True)]]
    if part.empty:
        return say("No setup was trained in this build.")
    mean = part.groupby("paradigm")["train_seconds"].mean().sort_values()
    ratio = part.groupby("multi_crop")["train_seconds"].mean()
    sentences = [
        "Seconds of training, mean over setups: "
        + ", ".join(f"{figures.PARADIGM_NAMES.get(k, k)} {v:.0f}" for k, v in mean.items())
        + ".",
    ]
    if {True, False} <= set(ratio.index):
        sentences.append(
            f"Multi-crop takes {ratio[True] / ratio[False]:.1f} times as long, for five images instead of one."
        )
    images = part["images"].max()
    sentences.append(f"Every setup saw {thousands(images)} images, windows of multi-crop not counted.")
    return say(*sentences)


def beside_paper_paradigms(table: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Ranges over the four setups of every paradigm, ours beside those that the paper states."""
    table = figures.tidy_setups(table)
    ours = table[[a is not None and not p for a, p in zip(table["augment"], table["published"], strict=True)]]
    rows = []
    for row in published.itertuples():
        part = ours.loc[ours["paradigm"] == row.paradigm, row.metric].dropna()
        rows.append(
            {
                "paradigm": figures.PARADIGM_NAMES.get(row.paradigm, row.paradigm),
                "metric": figures.MEASURES[row.metric].partition(":")[0],
                "paper": f"{row.low:.2f} to {row.high:.2f}",
                "ours (simulated)": f"{part.min():.2f} to {part.max():.2f}" if len(part) else None,
            }
        )
    return pd.DataFrame(rows)
