"""Sentences that book and report share, made from the tables they speak of: no rerun leaves a false one behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gandl_lib.evaluate.hits import DEFAULT
from gandl_lib.evaluate.scores import BEATS, BELOW, SAME, Score, verdict
from gandl_lib.plots.page import Output, name
from gandl_lib.plots.words import (
    INTENSITY,
    METHOD,
    SHUFFLED,
    TEXTURE,
    UNTRAINED,
    count,
    listing,
    method_scores,
    number,
    percent,
    points,
    say,
    thousands,
)

PLAIN = {TEXTURE: "plain texture", INTENSITY: "brightness alone"}
"""What learns nothing and looks at the image all the same, as sentences call it."""
DIM = 0.75
"""Wells of a compound that are less than this part as bright in the nuclear channel as C- wells hold fewer cells."""


def control_separation(table: pd.DataFrame | None, method: str = METHOD) -> Output:
    """How far apart the controls lie (controls.csv of `gandl screen`), in words."""
    if table is None or table.empty:
        return say("The screen has not enough wells of both controls, so nothing can be measured between them.")
    sentences = []
    for row in table[(table["method"] == method) & table["plate_id"].eq("all plates")].itertuples():
        if row.z_prime > 0.5:
            meaning = "single wells can be trusted"
        elif row.auroc > 0.9:
            meaning = "they lie apart, but single wells err; believe means of several"
        elif row.ssmd_low > 0:
            meaning = "**they overlap widely; only means of many wells mean anything**"
        else:
            meaning = "**they cannot be told apart; nothing below that rests on them means anything**"
        sentences.append(
            f"In {row.cell_type} the controls have an SSMD of {row.ssmd:.1f} ({row.ssmd_low:.1f} to"
            f" {row.ssmd_high:.1f}), a Z′ of {row.z_prime:.2f} and an AUROC of {row.auroc:.2f}: {meaning}."
        )
    return say(*sentences)


def control_table(table: pd.DataFrame | None) -> pd.DataFrame | None:
    """controls.csv of `gandl screen` for readers; None where there is none."""
    if table is None:
        return None
    columns = {
        "method": table["method"].map(name),
        "cell type": table["cell_type"],
        "plate": table["plate_id"],
        "C+ wells": table["n_positive"],
        "C- wells": table["n_negative"],
        "SSMD (95 %)": [f"{row.ssmd:.2f} ({row.ssmd_low:.2f} to {row.ssmd_high:.2f})" for row in table.itertuples()],
        "Z′": table["z_prime"],
        "AUROC": table["auroc"],
    }
    return pd.DataFrame(columns)


def edge_effects(table: pd.DataFrame | None, p: float = 0.01) -> Output:
    """How many plates show an edge effect in which quantity, after Bonferroni's correction."""
    if table is None or table["p_value"].notna().sum() == 0:
        return say("Too few wells lie on either side of the edge to say whether it matters.")
    tested = table.dropna(subset=["p_value"])
    found = tested[tested["p_value"] < p / len(tested)]
    if found.empty:
        return say(
            f"No edge effect stands out among {len(tested)} comparisons of outer with inner wells (p < {p:g}, corrected"
            " for their number)."
        )
    words = [
        f"{row.quantity.replace('intensity_', 'intensity of ')} on {row.plate_id} ({row.edge_difference_sd:+.1f} SD)"
        for row in found.reindex(found["edge_difference_sd"].abs().sort_values(ascending=False).index)[:6].itertuples()
    ]
    return say(
        f"**Outer wells differ from inner ones** in {len(found)} of {len(tested)} comparisons (p < {p:g}, corrected for"
        f" their number): {listing(words)}."
    )


def brightness(tables: Mapping[str, pd.DataFrame], method: str = METHOD) -> pd.Series:
    """Mean intensity of the first channel in wells of each compound at its best dose, as a part of that of C- wells.

    Returns:
        (cell type, compound) -> ratio, named after the channel; empty without controls. The first channel is DNA where
        there is one, and then this is close to a count of cells.
    """
    wells = tables["wells"]
    channels = [c for c in wells if c.startswith("intensity_")]
    channel = "intensity_DNA" if "intensity_DNA" in channels else channels[0]
    if not wells["role"].eq("C-").any() or "efficacy" not in wells:
        return pd.Series(dtype=float, name=channel.removeprefix("intensity_"))
    control = wells[wells["role"] == "C-"].groupby(["cell_type", "plate_id"])[channel].mean()
    treated = wells[wells["role"] == "treated"].join(control.rename("of_control"), ["cell_type", "plate_id"])
    treated = treated.assign(ratio=treated[channel] / treated["of_control"])
    keys = ["cell_type", "compound", "concentration_uM"]
    doses = treated.groupby(keys, dropna=False)[["efficacy", "ratio"]].mean().reset_index().dropna(subset=["efficacy"])
    best = doses.sort_values("efficacy").drop_duplicates(["cell_type", "compound"], keep="last")
    return best.set_index(["cell_type", "compound"])["ratio"].rename(channel.removeprefix("intensity_"))


def beyond(efficacy: pd.DataFrame, curves: pd.DataFrame | None, method: str = METHOD) -> Output:
    """Why efficacy goes beyond +1, which is only the mean of the C+ wells."""
    mine = efficacy[efficacy["method"] == method]
    sentences = []
    for cell_type, part in mine.groupby("cell_type", observed=True):
        healthy = part.loc[part["role"] == "C+", "efficacy"].dropna()
        if len(healthy) < 2:
            continue
        low, high = healthy.quantile([0.025, 0.975])
        sentence = f"+1 is the *mean* of the C+ wells of {cell_type}, not a ceiling: 95 % of these wells lie between"
        sentence += f" {low:.1f} and {high:.1f}."
        if curves is not None:
            of = curves[(curves["method"] == method) & (curves["cell_type"] == cell_type)]
            over = of[of["efficacy_max"] > high]
            if len(over):
                names = listing(list(over.nlargest(5, "efficacy_max")["compound"]))
                more = f" and {len(over) - 5} more" if len(over) > 5 else ""
                sentence += (
                    f" Beyond that lie {names}{more}. This is not better than healthy: it is scatter of few wells, or"
                    " a look that neither control has, such as that of dying cells."
                )
        sentences.append(sentence.replace("*mean*", "mean"))
    return say(*sentences)


def picture_doubts(table: pd.DataFrame) -> Output:
    """Wells that are out of focus or saturated (pictures.csv of `gandl screen`), in words."""
    found = table[table["doubt"].fillna("").ne("")]
    if found.empty:
        return say(f"None of {table['well_id'].nunique()} wells is out of focus beside its like, or saturated.")
    parts = []
    for doubt in ("out of focus", "saturated"):
        wells = found[found["doubt"].str.contains(doubt)]
        if len(wells):
            names = listing([f"{row.well} of {row.plate_id} ({row.channel})" for row in wells.head(6).itertuples()])
            more = f" and {len(wells) - 6} more" if len(wells) > 6 else ""
            parts.append(f"**{doubt.capitalize()}:** {names}{more}.")
    return say(*parts)


def what_to_distrust(
    tables: Mapping[str, pd.DataFrame],
    sites: pd.DataFrame,
    simulated: bool,
    methods: Mapping[str, Mapping[str, Any]],
    notes: Sequence[str] = (),
) -> Output:
    """A list of what weakens the conclusions of this very screen.

    Args:
        tables: those of `gandl screen` by name.
        sites: the wells table.
        methods: provenance of each embedding.
        notes: what evaluations said they left out.
    """
    doubts = []
    if simulated:
        doubts.append("**The images are simulated.** Nothing here says anything about real cells.")
    mine = methods[METHOD]
    if "checkpoint" in mine and mine.get("trained_on_simulated") and not simulated:
        doubts.append(
            "**The network has never seen a real cell**: it learned from simulated images. Train it on this screen"
            " (`--train`) before you believe it over the intensity statistics."
        )
    scores = tables.get("separability")
    if scores is not None:
        found = method_scores(scores[scores["split"] == "well"].drop_duplicates("method"))
        for other, what in (*PLAIN.items(), (UNTRAINED, "the same network before its training")):
            if METHOD in found and other in found and verdict(found[METHOD], found[other]) != BEATS:
                doubts.append(
                    f"**{what.capitalize()} tells the controls apart as well** ({found[other]}, against"
                    f" {found[METHOD]}): this screen does not show that the network has learned anything that matters."
                )
    edges = tables.get("edge_effects")
    if edges is not None and (edges["p_value"] < 0.01 / max(1, edges["p_value"].notna().sum())).any():
        doubts.append("**Place matters on these plates.** A hit whose wells all lie at the edge may be evaporation.")
    curves = tables.get("dose_response")
    if curves is not None:
        called, dim = curves[(curves["method"] == METHOD) & curves["hit"].astype(bool)], brightness(tables)
        pairs = list(zip(called["cell_type"], called["compound"], strict=True))
        if thin := [compound for cell, compound in pairs if dim.get((cell, compound), 1.0) < DIM]:
            doubts.append(
                f"**Fewer cells?** At its best dose {listing(thin)} {'is' if len(thin) == 1 else 'are'} less than three"
                f" quarters as bright in {dim.name} as the C- wells. What kills cells can look like what heals them."
            )
    wells = sites.drop_duplicates("well_id")
    roles = wells["role"].value_counts()
    columns = {r: set(wells.loc[wells["role"] == r, "well"].str[-2:]) for r in ("C+", "C-") if r in roles}
    if len(columns) == 2 and not columns["C+"] & columns["C-"]:
        doubts.append(
            "**The two controls share no column of the plate**, so whatever differs from column to column separates"
            " them too, and no statistics can take that out again."
        )
    if wells["plate_id"].nunique() == 1:
        doubts.append("**One plate** cannot show what would happen on the next.")
    few = [f"{n} {role}" for role, n in roles.items() if role in ("C+", "C-") and n < 20]
    if few:
        doubts.append(f"**Few controls** ({listing(few)} wells): their own spread is hardly known.")
    lost = tables.get("skipped")
    if lost is not None and len(lost) > 0.05 * (len(lost) + len(sites)):
        doubts.append(f"**{len(lost)} of {len(lost) + len(sites)} sites were left out**; see why before reading on.")
    doubts += [f"{note.rstrip('.')}." for note in notes]
    doubts.append(
        "**A score is not a cure.** It says that a well looks more like C+ than like C- to one network. Fewer cells, or"
        " a compound that glows, can look like that too: look at the pictures, and repeat what you believe."
    )
    return points(*doubts)


def screen(shards: Any, whose: str = "This build's") -> Output:
    """What a `Shards` holds."""
    wells = shards.wells
    kind = "**simulated** images" if shards.simulated else "real images"
    roles = wells.drop_duplicates("well_id")["role"].value_counts()
    skipped = len(shards.skipped)
    treated = wells[wells["role"] == "treated"]
    _, height, width = shards.shape
    doses = treated["concentration_uM"].nunique()
    return say(
        f"{whose} screen holds {thousands(len(wells))} sites of {roles.sum()} wells on",
        f"{wells['plate_id'].nunique()} plates, {listing(sorted(wells['cell_type'].unique()))} cells: {kind}",
        f"of {height} × {width} pixels at {shards.pixel_um:g} µm, {shards.dtype}, {len(shards.channels)} channels",
        f"({listing(shards.channels)}).",
        f"By role: {listing([f'{n} {role}' for role, n in roles.items()])} wells.",
        f"The treated ones received {treated['compound'].nunique()} compounds at up to {doses} concentrations."
        if len(treated)
        else "",
        f"{count(skipped, 'site')} could not be used and {'was' if skipped == 1 else 'were'} left out."
        if skipped
        else "No site had to be left out.",
    )


def hits(curves: pd.DataFrame, method: str = METHOD, truth: pd.DataFrame | None = None) -> Output:
    """How many compounds are called hits, and how many of them rightly so where the truth is known."""
    part = curves[curves["method"] == method]
    sentences = []
    for cell_type, one in part.groupby("cell_type"):
        if one["efficacy_max"].isna().all():
            sentences.append(f"In {cell_type} {name(method)} has no axis, and so no efficacy and no hits.")
            continue
        called = one[one["hit"].astype(bool)]
        sentence = (
            f"In {cell_type} {name(method)} calls {count(len(called), 'hit')} among {count(len(one), 'compound')}"
        )
        if truth is not None:
            true = truth[(truth["cell_type"] == cell_type) & truth["effective"].astype(bool)]["compound"]
            right = called["compound"].isin(true).sum()
            missed = len(set(true) - set(called["compound"]))
            sentence += (
                f", {right} of them rightly by the truth of the simulation; it misses {missed} of {len(true)} that help"
            )
        sentences.append(sentence + ".")
    return say(*sentences)


def suspicious(curves: pd.DataFrame, method: str = METHOD) -> Output:
    """Compounds that would be hits by their efficacy and are not called so, for what else they do."""
    part = curves[curves["method"] == method]
    found = part[part["suspicious"].eq(True)] if "suspicious" in part else part[:0]
    if found.empty:
        return say("No compound passes the threshold by wells that look like neither control.")
    names = listing([f"{row.compound} in {row.cell_type}" for row in found.itertuples()][:8])
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return say(
        f"**Not called hits, although they pass the threshold: {names}{more}.** The doses that do it "
        f"lie farther beside "
        "the axis than any control, or hold fewer cells: what kills cells can look like what heals them."
    )


def first_in_line(curves: pd.DataFrame, dim: pd.Series, n: int = 3) -> Output:
    """The best hits, each with its warning."""
    part = curves[(curves["method"] == METHOD) & curves["hit"].astype(bool)].nlargest(n, "efficacy_max")
    if part.empty:
        return say("")
    named = [f"{row.compound}" + (f" (**but**: {w})" if (w := warning(row, dim)) else "") for row in part.itertuples()]
    return say(f"First in line: {listing(named)}.")


def usable(tables: Mapping[str, pd.DataFrame]) -> Output:
    """Whether a screen can be believed, and why: the first thing its report says."""
    controls = tables.get("controls")
    if controls is None or controls.empty:
        return say(
            "**Verdict: no hits by efficacy.** There are not enough wells of both controls, so "
            "nothing says which way is "
            "better. What stands out from the negative controls is listed under hits, if there are such controls."
        )
    overall = controls[controls["plate_id"].eq("all plates")]
    mine, reasons = overall[overall["method"] == METHOD], []
    worst = mine.sort_values("auroc").iloc[0]
    apart = f"Z′ {worst['z_prime']:.2f}, AUROC {worst['auroc']:.2f} in {worst['cell_type']}"
    if worst["z_prime"] > 0.5:
        verdict_ = f"**Verdict: usable well by well.** The controls lie apart ({apart})."
    elif worst["auroc"] > 0.9:
        verdict_ = (
            f"**Verdict: usable, by means of several wells.** The controls lie apart, but single wells err ({apart})."
        )
    elif worst["ssmd_low"] > 0:
        verdict_ = (
            f"**Verdict: hardly usable.** The controls overlap widely ({apart}); only means of many "
            f"wells mean anything."
        )
    else:
        verdict_ = f"**Verdict: not usable.** The controls cannot be told apart ({apart})."
    for cell_type, part in overall.groupby("cell_type", sort=False):
        by = part.set_index("method")["ssmd"]
        plain = by[by.index.isin(list(PLAIN))].dropna()
        if METHOD in by and len(plain) and plain.max() >= by[METHOD]:
            reasons.append(
                f"In {cell_type} {PLAIN[plain.idxmax()]} separates the controls better (SSMD {plain.max():.1f} against "
                f"{by[METHOD]:.1f}): believe it over the network."
            )
    curves = tables.get("dose_response")
    if curves is not None and "suspicious" in curves:
        part = curves[(curves["method"] == METHOD) & curves["suspicious"].eq(True)]
        if len(part):
            reasons.append(f"{count(len(part), 'compound')} that look like hits do something else than cure.")
    return say(verdict_, *reasons)


def hits_without_axis(table: pd.DataFrame, method: str = METHOD) -> Output:
    """What `gandl evaluate hits` found, in words: by the default caller, and beside it the others."""
    part = table[(table["method"] == method) & table["p_value"].notna()]
    one = part[part["caller"] == DEFAULT]
    called = one[one["hit"].astype(bool)]
    sentences = [
        f"By {DEFAULT} from the negative controls, the default caller, {count(len(called), 'dose')} of "
        f"{called['compound'].nunique()} compounds stand out, among {len(one)} judged (5 % false discoveries)"
        + (f"; with so few wells no p can be below {one['p_floor'].max():.2g}." if len(one) else ".")
    ]
    others = part[part["caller"] != DEFAULT].groupby("caller", sort=False)["hit"].sum()
    if len(others):
        sentences.append(f"Other callers: {listing([f'{caller} {n:.0f}' for caller, n in others.items()])}.")
    return say(*sentences)


def hits_without_axis_table(table: pd.DataFrame, method: str = METHOD, n: int = 25) -> pd.DataFrame:
    """hits.csv for readers: by the default caller, the clearest first, and who else calls them."""
    part = table[(table["method"] == method) & table["p_value"].notna()]
    dose = part["compound"] + "\n" + part["concentration_uM"].astype(str) + "\n" + part["cell_type"]
    others = part[(part["caller"] != DEFAULT) & part["hit"].astype(bool)]
    also = others["caller"].groupby(dose).agg(", ".join)
    part = part[part["caller"] == DEFAULT].sort_values(["q_value", "p_value"])[:n]
    return pd.DataFrame(
        {
            "compound": part["compound"],
            "dose (µM)": part["concentration_uM"],
            f"{DEFAULT} (by chance)": [
                f"{s:.2f} ({c:.2f})" for s, c in zip(part["score"], part["by_chance"], strict=True)
            ],
            "q": part["q_value"].map("{:.2g}".format),
            "stands out": part["hit"].astype(bool),
            "also called by": dose[part.index].map(also),
        }
    )


def top(curves: pd.DataFrame, n: int = 6, method: str = METHOD) -> list[tuple[str, str]]:
    """(cell type, compound) of the hits with the highest efficacy, or of the best compounds where nothing is a hit."""
    part = curves[curves["method"] == method].dropna(subset=["efficacy_max"])
    best = part.assign(hit=part["hit"].astype(bool)).sort_values(["hit", "efficacy_max"], ascending=False).head(n)
    return list(zip(best["cell_type"], best["compound"], strict=True))


def _end(value: float) -> str:
    return "open" if not np.isfinite(value) or value == 0 else number(value, 2)


def hit_table(
    curves: pd.DataFrame, method: str = METHOD, n: int = 12, brightness: pd.Series | None = None
) -> pd.DataFrame:
    """The compounds with the highest efficacy, with what a screener wants to know of each, warnings included.

    Args:
        brightness: of `brightness`, where it is known.
    """
    part = curves[curves["method"] == method].dropna(subset=["efficacy_max"]).nlargest(n, "efficacy_max")
    rows = []
    for row in part.itertuples():
        ec50 = (
            f"{_end(row.ec50_uM)} ({_end(row.ec50_low)} to {_end(row.ec50_high)})" if np.isfinite(row.ec50_uM) else None
        )
        censored = row.ec50_censored if isinstance(row.ec50_censored, str) and row.ec50_censored else None
        rows.append(
            {
                "cell type": row.cell_type,
                "compound": row.compound,
                "hit": bool(row.hit),
                "warning": warning(row, brightness),
                "highest efficacy": f"{row.efficacy_max:.2f}",
                "EC50 (µM)": ec50 or censored,
                "q": f"{row.q_value:.1g}",
            }
            | (
                {"cells, of C-": percent(row.cells)}
                if getattr(row, "cells", np.nan) == getattr(row, "cells", 0)
                else {}
            )
        )
    return pd.DataFrame(rows)


def warning(row: Any, brightness: pd.Series | None = None) -> str | None:
    """What to know before a compound is believed (a row of dose_response.csv); None where nothing speaks against it."""
    said = []
    if isinstance(reason := getattr(row, "toxic_reason", None), str) and reason:
        said.append(reason)
    elif np.isfinite(row.toxic_from_uM):
        said.append(f"looks toxic from {row.toxic_from_uM:.3g} µM")
    dim = np.nan if brightness is None else brightness.get((row.cell_type, row.compound), np.nan)
    if dim < DIM:
        said.append(f"{100 * dim:.0f} % of the {brightness.name} of C- wells")
    return "; ".join(said) or None


def beside(scores: Mapping[str, Score], method: str = METHOD, majority: float | None = None) -> str:
    """How a method stands to its baselines, in one sentence; empty if it has no score."""
    if method not in scores:
        return ""
    mine, others = scores[method], [m for m in (UNTRAINED, TEXTURE, INTENSITY) if m in scores and m != method]
    said = {BEATS: [], SAME: [], BELOW: []}
    for other in others:
        said[verdict(mine, scores[other])].append(f"{name(other)} ({scores[other]})")
    if majority is not None:
        said[verdict(mine, majority)].append(f"the majority rate of {percent(majority)}")
    parts = [f"{outcome} {listing(what)}" for outcome, what in said.items() if what]
    parts[-1:] = [f"and {part}" if len(parts) > 1 else part for part in parts[-1:]]
    return f"{name(method)} reaches **{mine}**" + (f", which {', '.join(parts)}." if parts else ".")


def against_untrained(
    scores: Mapping[str, Score], paired: pd.DataFrame | None, task: str, split: str, method: str = METHOD
) -> str:
    """How a method stands to the same network untrained: well by well where paired.csv has them, else by intervals.

    Two methods judged on the same wells mostly err on the same wells; intervals of each alone call too much a tie.
    """
    if paired is not None:
        rows = paired[(paired["task"] == task) & (paired["split"] == split)]
        both = rows[rows["method"].isin([method, UNTRAINED]) & rows["other"].isin([method, UNTRAINED])]
        if len(both):
            row = both.iloc[0]
            ahead = row["difference"] if row["method"] == method else -row["difference"]
            return SAME if row["p_value"] > 0.05 else BEATS if ahead > 0 else BELOW
    return verdict(scores[method], scores[UNTRAINED])


def separability(
    scores: pd.DataFrame,
    split: str = "well",
    normalisation: str = "all",
    method: str = METHOD,
    paired: pd.DataFrame | None = None,
) -> Output:
    """A list of what each task's row says, with the warnings that its controls call for.

    Args:
        paired: paired.csv, by which trained and untrained are compared.
    """
    lines, shuffled, unbeaten, worse = [], [], [], []
    for task, part in scores[scores["split"] == split].groupby("task", sort=False):
        rows = part[part["normalisation"].isin([normalisation, "none"])]
        found, majority = method_scores(rows), rows["majority_rate"].iloc[0]
        lines.append(f"**{task}.** {beside(found, method, majority)}")
        if UNTRAINED in found and method in found:
            outcome = against_untrained(found, paired, task, split, method)
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
