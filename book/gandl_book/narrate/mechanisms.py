"""Mechanisms of action."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gandl_book.figures.mechanisms import PROPERTIES
from gandl_lib.evaluate.scores import BEATS, BELOW, VERDICTS, Score, verdict
from gandl_lib.plots.page import Output, name
from gandl_lib.plots.words import INTENSITY, TEXTURE, count, listing, method_scores, percent, points, say

RANDOM = ("dcgan-random", "gandl-random")
"""Networks before their first step, each beside those that begin like it."""
UNLEARNT = (*RANDOM, TEXTURE, INTENSITY)
"""What has learnt nothing of cells, in the order in which it is told of."""
PUBLISHED = {"CytoGAN DCGAN": "dcgan", "CytoGAN WGAN": "wgan-gp", "CytoGAN LSGAN": "lsgan", "CytoGAN VAE": "vae"}
"""How the paper's table calls models that are built here."""
NO_IMAGES = "**Not part of this build**: its profile trains no models of cells."


# ---- real profiles, by recipes ----


def of_recipes(fresh: pd.DataFrame | None, recorded: pd.DataFrame) -> pd.DataFrame:
    """Rows on real cells of moa.csv or its confusion, each called by its recipe; recorded ones where there are none."""
    rows = recorded if fresh is None else fresh[fresh["dataset"] == "real"]
    rows = recorded if rows.empty else rows
    return rows.assign(method=rows["recipe"])


def where_moa_comes_from(fresh: pd.DataFrame | None) -> Output:
    """Whether the rows on real cells were made in this build or are the recorded ones."""
    if fresh is not None and (fresh["dataset"] == "real").any():
        return say("The first table was made in this build, from the published profiles of real cells.")
    return say(
        "**The profiles are not on this machine** (`GANDL_DATA`), so the first table is that of a recorded run on",
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
    """Rows of moa.csv for readers."""
    return pd.DataFrame(
        {
            "method": scores["method"].map(name),
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


# ---- simulated cells, by methods ----


def drugs(sites: Any | None, cells: Any | None) -> Output:
    """What the screen of drugs is, and what was cut out of it.

    Args:
        sites, cells: `Shards` of whole sites and of single cells; None where this build has none.
    """
    if sites is None or cells is None:
        return say(NO_IMAGES)
    wells, treated = sites.wells, sites.wells[sites.wells["moa"] != ""]
    treatments = treated.drop_duplicates(["compound", "concentration_uM"])
    per_site = cells.wells.groupby("site_of").size()
    px = cells.shape[1]
    return say(
        "**These images are simulated**, every one of them." if sites.simulated else "",
        f"{len(wells)} sites of {wells['well_id'].nunique()} wells, {count(wells['plate_id'].nunique(), 'plate')} of",
        f"{count(wells['batch'].nunique(), 'week')}; {len(treatments)} treatments by",
        f"{treated['compound'].nunique()} compounds with {treated['moa'].nunique()} mechanisms, and DMSO.",
        f"In them {len(cells)} cells were found, {per_site.median():.0f} in the median site, and cut out to {px} x",
        f"{px} pixels ({px * cells.pixel_um:.0f} µm).",
    )


def simulated(scores: pd.DataFrame | None) -> pd.DataFrame | None:
    """The rows of moa.csv on simulated cells; None where there are none."""
    found = None if scores is None else scores[scores["dataset"] == "simulated"]
    return None if found is None or found.empty else found


def models(scores: pd.DataFrame | None) -> Output:
    """Who finds mechanisms in simulated cells, protocol by protocol, by the first recipe; the other recipe's best."""
    if scores is None:
        return say(NO_IMAGES)
    sentences = []
    for _, part in scores.groupby("protocol", sort=False):
        by_recipe = {
            recipe: method_scores(rows.assign(n_test_wells=rows["n_treatments"]))
            for recipe, rows in part.groupby("recipe", sort=False)
        }
        (recipe, found), *others = by_recipe.items()
        learnt = [method for method in found if method not in UNLEARNT]
        top, row = max(learnt, key=lambda m: found[m].value), part.iloc[0]
        text = (
            f"**{row['protocol']}**, {row['n_treatments']} treatments, {recipe}: most by {name(top)}, {found[top]}; the"
            f" largest mechanism has {percent(row['majority_rate'])}, chance is {percent(row['shuffled'])}."
        )
        for bar in [method for method in UNLEARNT if method in found]:
            groups = {v: [name(m) for m in learnt if verdict(found[m], found[bar]) == v] for v in VERDICTS}
            stands = [f"{listing(groups[v])} {_verb(v, len(groups[v]))} it" for v in VERDICTS if groups[v]]
            text += f" Beside {name(bar)}, {found[bar]}: {'; '.join(stands)}."
        for other, values in others:
            best = max(values, key=lambda m: values[m].value)
            text += f" With profiles {other}, most by {name(best)}, {values[best]}."
        sentences.append(text)
    return points(*sentences)


def _verb(verdict: str, n: int) -> str:
    several = {BEATS: "beat", BELOW: "fall below"}
    return several.get(verdict, verdict) if n > 1 else verdict


def models_table(scores: pd.DataFrame | None, published: pd.DataFrame) -> pd.DataFrame | None:
    """Rows on simulated cells, and the papers' own number for the same model on real ones."""
    if scores is None:
        return None
    paper = paper_models(published).set_index(["method", "protocol"])["accuracy"]
    own = [paper.get((row.method, row.protocol)) for row in scores.itertuples()]
    table = moa_table(scores)
    table.insert(1, "recipe", scores["recipe"].to_numpy())
    return table.assign(**{"paper, real images": ["–" if v is None else percent(v) for v in own]})


def paper_models(published: pd.DataFrame) -> pd.DataFrame:
    """CytoGAN's published rows under the names that its models have here."""
    rows = published[published["method"].isin(PUBLISHED)]
    return rows.assign(method=rows["method"].map(PUBLISHED))


def confused(counts: pd.DataFrame | None, scores: pd.DataFrame | None, protocol: str = "NSC") -> pd.DataFrame | None:
    """Who is taken for whom by the learnt method that gets most right, by the first recipe; None without images."""
    scores = simulated(scores)
    if counts is None or scores is None:
        return None
    recipe = scores["recipe"].iloc[0]
    rows = scores[(scores["protocol"] == protocol) & (scores["recipe"] == recipe)]
    rows = rows[~rows["method"].isin(UNLEARNT)]
    best = rows.loc[rows["accuracy"].idxmax(), "method"]
    wanted = {"dataset": "simulated", "method": best, "recipe": recipe, "protocol": protocol}
    return counts[np.logical_and.reduce([counts[column] == value for column, value in wanted.items()])]


def budget(runs: dict[str, dict[str, Any]]) -> pd.DataFrame | None:
    """What each model was given: images, epochs, minutes. `runs`: method -> header of its weights."""
    if not runs:
        return None
    return pd.DataFrame(
        {
            "method": [name(method) for method in runs],
            "images seen": [header["n_seen"] for header in runs.values()],
            "times each cell": [f"{header['n_seen'] / header['sites']:.1f}" for header in runs.values()],
            "minutes": [f"{header['minutes']:.1f}" for header in runs.values()],
        }
    )


def arithmetic(tried: pd.DataFrame | None) -> Output:
    """Which directions do what they were found for: beyond their interval, and beyond every random direction."""
    if tried is None:
        return say(NO_IMAGES)
    sentences = []
    for column, part in tried.groupby("property", sort=False):
        works, fails, unknown = [], [], []
        end = part[part["step"] == part["step"].max()]
        for method, rows in end.groupby("method", sort=False):
            found = rows[rows["direction"] == "found"].iloc[0]
            if np.isnan(found["change"]):
                unknown.append(name(method))
                continue
            largest = rows.loc[rows["direction"] != "found", "change"].abs().max()
            start = part[(part["method"] == method) & (part["step"] == 0)].iloc[0]["value"]
            text = (
                f"{name(method)} {found['change']:+.3g} ({found['change_low']:.3g} to {found['change_high']:.3g}) from"
                f" {start:.3g}, random directions at most {largest:.2g}"
            )
            moved = found["change_low"] > 0 and not found["change"] <= largest
            (works if moved else fails).append(text)
        what = PROPERTIES.get(column, column)
        said = f"**{what[0].upper()}{what[1:]}**, a whole step: "
        said += f"moved by more than any random direction in {'; '.join(works)}. " if works else ""
        said += f"Not moved so in {'; '.join(fails)}. " if fails else ""
        said += f"No direction was found for {listing(unknown)}, which draws too few cells." if unknown else ""
        sentences.append(said)
    return points(*sentences, _lost(tried))


def _lost(tried: pd.DataFrame) -> str:
    """How many pictures had no nucleus to measure, if that was not a few."""
    rows = tried[(tried["direction"] == "found") & (tried["step"] == 0)].groupby("method", sort=False)["n_cells"].min()
    most = tried["n_cells"].max()
    bad = [f"{name(method)} ({n} of {most})" for method, n in rows.items() if n < 0.9 * most]
    return f"Pictures without a nucleus are left out; fewer than nine tenths remain of {listing(bad)}." if bad else ""
