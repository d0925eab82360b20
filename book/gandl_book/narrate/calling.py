"""Which hits to believe: chapter 11. Every conclusion is made from the table it follows from."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from gandl_lib.evaluate.hits import (
    ALPHA,
    CALLERS,
    DEFAULT,
    OF_ANY,
    OF_CELLS,
    OF_CELLS_WITH_POSITIVE,
    PERMUTATIONS,
    WITH_POSITIVE,
)
from gandl_lib.plots.page import Output, name
from gandl_lib.plots.words import count, hundredths, listing, points, say

ASKS = {
    "distance": "How far are the means, in units of how wells scatter? (Mahalanobis, shrunken covariance)",
    "replicates": "Do its wells find each other among the controls? (mean average precision)",
    "energy": "Are its wells and the controls one cloud? (energy distance)",
    "ks": "Does any single feature differ? (Kolmogorov-Smirnov, largest of all)",
    "efficacy": "How far on the way from C- to C+? (axis, one-sided)",
    "reversal": "How much of the signature is undone? (earth mover's distance to C+, one-sided)",
    "off-signature": "What changes beside the signature? (earth mover's distance from C-)",
    "brightness": "Is it brighter or dimmer? (mean of the channels' means)",
    "cell-count": "Are there fewer cells, or more?",
    "cell-energy": "The energy distance, of single cells instead of wells' means",
    "cell-ks": "The largest Kolmogorov-Smirnov statistic, of single cells",
    "cell-reversal": "How much of the signature is undone, by the cloud of cells",
    "cell-off-signature": "What changes beside it, in the cloud of cells",
}


BY_CELL = "-cells"
"""What ends the name of a method that was asked of single cells (`benchmarks/hit_calling.py`)."""


def what_callers_ask() -> pd.DataFrame:
    """A line a caller."""
    needs = {c: "C-" for c in CALLERS} | {c: "C-, C+" for c in WITH_POSITIVE}
    needs |= {c: "C-, cells" for c in OF_CELLS} | {c: "C-, C+, cells" for c in OF_CELLS_WITH_POSITIVE}
    return pd.DataFrame([{"caller": c, "its question": ASKS[c], "needs": needs[c]} for c in CALLERS])


def floors(controls: tuple[int, ...] = (4, 8, 16, 32), wells: tuple[int, ...] = (1, 2, 3, 4)) -> pd.DataFrame:
    """The smallest p that there can be: wells of a dose on one plate among its controls."""
    rows = []
    for m in controls:
        ways = {n: min(math.comb(m + n, n), PERMUTATIONS + 1) for n in wells}
        rows.append({"C- wells": m, **{count(n, "well"): f"{1 / w:.2g}" for n, w in ways.items()}})
    return pd.DataFrame(rows)


def called(table: pd.DataFrame, truth: pd.DataFrame | None) -> Output:
    """How many doses each caller calls on a live screen, and how many of them by the truth do nothing."""
    inert = set()
    if truth is not None:
        still = truth[~truth["effective"].astype(bool) & truth["toxic_uM"].isna()]
        inert = set(zip(still["cell_type"], still["compound"], strict=True))
    said, wrong = [], []
    for caller in [c for c in CALLERS if c in set(table["caller"])]:
        one = table[(table["caller"] == caller) & table["hit"].astype(bool)]
        said.append(f"{caller} {len(one)}")
        if n_inert := sum(pair in inert for pair in zip(one["cell_type"], one["compound"], strict=True)):
            wrong.append(f"{caller} {n_inert}")
    n = table.groupby("caller").size().max()
    hits = f"Of {n} compounds and doses each caller calls hits (q < {ALPHA:g}): {listing(said)}."
    if truth is None:
        return say(hits)
    return say(hits, f"Of compounds that do nothing are {listing(wrong) if wrong else 'none of them'}.")


def _rows(table: pd.DataFrame, measure: str, method: str, controls: int, replicates: int) -> pd.DataFrame:
    wanted = {"measure": measure, "method": method, "controls": controls, "replicates": replicates}
    return table[np.logical_and.reduce([table[k] == v for k, v in wanted.items()])]


def screens_of(table: pd.DataFrame) -> int:
    """How many simulated screens a recorded table stands on; one that does not say so stands on draws of one."""
    said = table.loc[table["measure"] == "fpr_of_screens", "n"]
    return int(said.max()) if len(said) else 1


def whose_wells(table: pd.DataFrame) -> Output:
    """Which screens the recorded table stands on, and what its intervals are over."""
    if (n := screens_of(table)) > 1:
        return say(
            f"One screen is one throw of dice, so {n} were simulated: the quick profile's kind, other seeds, one site "
            "a well. The shipped network has seen none of them. Intervals are over screens, and in each over compounds "
            f"and doses; {n} screens tell them roughly."
        )
    return say(
        "All wells are of one simulated screen, the one that the shipped network has learnt from, drawn several "
        "times. So intervals, which are over compounds and doses, tell nothing of another screen."
    )


def error_rates(table: pd.DataFrame) -> Output:
    """Do p-values keep their promise on what does nothing, over all screens and in each?"""
    table = table[table["caller"].isin(CALLERS)]  # one that is wrong on purpose has a sentence of its own
    fpr, each = (table[table["measure"] == measure] for measure in ("fpr", "fpr_of_screens"))
    broken = fpr[fpr["low"] > ALPHA]
    held = f"In {len(fpr) - len(broken)} of {len(fpr)} combinations of method, caller and design the interval of the "
    held += f"false-positive rate reaches {100 * ALPHA:g} % or lies below it."
    single = "All doses of a draw are compared with the same few controls, so that one unlucky set of them moves all p "
    if each.empty:
        single += "together: over many screens 5 % hold, in a single one much more or nothing may be called."
    else:
        worst = each.sort_values("high").iloc[-1]
        single += (
            f"together: in a single screen the rate can be {100 * worst['high']:.0f} % ({worst['caller']} by "
            f"{name(worst['method'])}, {worst['controls']:.0f} controls, {worst['replicates']:.0f} wells)."
        )
    if broken.empty:
        return say(held, "**No caller breaks its promise.**", single)
    worst = broken.sort_values("value").iloc[-1]
    names = listing(sorted(set(broken["caller"])))
    return say(
        held,
        f"**Above it: {names}**, at worst {100 * worst['value']:.0f} % ({worst['caller']} by {name(worst['method'])}, "
        f"{worst['controls']:.0f} controls, {worst['replicates']:.0f} wells).",
        single,
    )


def power_table(table: pd.DataFrame, controls: int = 32, replicates: int = 3) -> pd.DataFrame:
    """A line a method and caller: power by effect in percent, with intervals; of sites, not of cells."""
    part = table[(table["measure"] == "power") & (table["controls"] == controls) & (table["replicates"] == replicates)]
    part = part[~part["method"].str.endswith(BY_CELL)]
    return pd.DataFrame(
        [
            {"method": name(method), "caller": caller, **_by_effect(one)}
            for (method, caller), one in part.groupby(["method", "caller"], sort=False)
        ]
    )


def _by_effect(rows: pd.DataFrame) -> dict[str, str]:
    """Power in percent with its interval, by effect, of rows of one method, caller and design."""
    by = rows.set_index("effect")
    return {
        e: "{:.0f} ({:.0f} to {:.0f})".format(*(100 * by.loc[e, column] for column in ("value", "low", "high")))
        for e in ("slight", "half", "strong", "kills")
        if e in by.index
    }


def by_cell(table: pd.DataFrame, method: str = "gandl", controls: int = 32, replicates: int = 3) -> pd.DataFrame:
    """Power where callers see a well's mean over sites or over single cells, or the cloud of these; a line a caller."""
    rows = []
    for of, callers, seen in (
        (method, (*OF_ANY, *WITH_POSITIVE), "sites, mean"),
        (method + BY_CELL, (*OF_ANY, *WITH_POSITIVE), "cells, mean"),
        (method + BY_CELL, (*OF_CELLS, *OF_CELLS_WITH_POSITIVE), "cells, cloud"),
    ):
        part = _rows(table, "power", of, controls, replicates)
        for caller in callers:
            found = _by_effect(part[part["caller"] == caller])
            if found:
                rows.append({"seen": seen, "caller": caller, **found})
    return pd.DataFrame(rows)


def cells_as_replicates(table: pd.DataFrame, controls: int = 32, replicates: int = 3) -> Output:
    """What becomes of 5 % where cells are counted as if each were an experiment."""
    wrong = table[(table["measure"] == "fpr") & ~table["caller"].isin(CALLERS)]
    wrong = wrong[(wrong["controls"] == controls) & (wrong["replicates"] == replicates)]
    if wrong.empty:
        return say("The recorded table holds no cells.")
    rates = listing(
        f"{100 * row.value:.0f} % ({100 * row.low:.0f} to {100 * row.high:.0f}) by {name(row.method)}"
        for row in wrong.itertuples()
    )
    return say(
        "Cells of a well share its plate, its place and its pipette. A test that counts them as replicates "
        f"(Welch's t of each feature, corrected for their number) calls, of what does nothing, {rates}, "
        f"instead of {100 * ALPHA:g} %. So wells are permuted here, with all their cells."
    )


def cells_instead_of_sites(table: pd.DataFrame, caller: str = "efficacy", effect: str = "strong") -> Output:
    """What a caller finds by each method where crops cover a site, and where they are cut around cells."""
    part = table[(table["measure"] == "power") & (table["caller"] == caller) & (table["effect"] == effect)]
    part = part[(part["controls"] == 32) & (part["replicates"] == 3)].set_index("method")
    pairs = [(m, m + BY_CELL) for m in part.index if m + BY_CELL in part.index]
    if not pairs:
        return say("")

    def put(method: str) -> str:
        return "{:.0f} % ({:.0f} to {:.0f})".format(*(100 * part.loc[method, ["value", "low", "high"]].astype(float)))

    said = listing(f"by {name(a)} {put(a)} from whole sites and {put(b)} from single cells" for a, b in pairs)
    gained = [name(a) for a, b in pairs if part.loc[b, "low"] > part.loc[a, "high"]]
    verdict = (
        f"**Cutting cells out gains more than chance by {listing(gained)}**: the interval from cells lies above that "
        "from sites."
        if gained
        else "No interval from cells lies above that from sites."
    )
    return say(f"What {caller} finds of {effect} effects on these simulated screens, {said}.", verdict)


def clouds_against_means(table: pd.DataFrame, method: str = "gandl") -> Output:
    """Whether looking at clouds of cells finds more than the distance of their means, as far as intervals tell."""
    lead = table[(table["measure"] == "lead") & (table["method"] == method + BY_CELL) & (table["replicates"] == 3)]
    lead = lead[lead["caller"].isin(OF_CELLS) & lead["effect"].isin(["slight", "half", "strong"])]
    if lead.empty:
        return say("")

    def where(rows: pd.DataFrame) -> str:
        return listing(
            f"{row.caller} on {row.effect} effects with {row.controls:.0f} controls, {100 * row.value:+.0f} points "
            f"({100 * row.low:+.0f} to {100 * row.high:+.0f})"
            for row in rows.itertuples()
        )

    ahead, behind = lead[lead["low"] > 0], lead[lead["high"] < 0]
    first = f"**No cloud of cells finds more than the {DEFAULT} of their means** beyond its interval"
    if len(ahead):
        first = f"**Clouds of cells find more than the {DEFAULT} of their means** in {len(ahead)} of {len(lead)} "
        first += f"comparisons by {name(method)}: {where(ahead)}"
    rest = f"; less in {len(behind)} of {len(lead)}." if len(behind) else "."
    return say(first + rest)


def agreement(table: pd.DataFrame, method: str, controls: int = 32, replicates: int = 3) -> pd.DataFrame:
    """Cohen's kappa of every pair of callers."""
    part = _rows(table, "kappa", method, controls, replicates)
    both = pd.concat([part, part.rename(columns={"caller": "other", "other": "caller"})])
    order = [c for c in CALLERS if c in set(both["caller"])]
    wide = both.pivot_table(index="caller", columns="other", values="value").reindex(index=order, columns=order)
    wide = wide.map(lambda v: "" if np.isnan(v) else hundredths(v))
    return wide.rename_axis(columns=None).reset_index()


def best(table: pd.DataFrame, among: tuple[str, ...], method: str, controls: int, effect: str = "strong") -> pd.Series:
    """Power of each caller of `among`, the highest first."""
    part = _rows(table, "power", method, controls, 3)
    part = part[(part["effect"] == effect) & part["caller"].isin(among)]
    return part.set_index("caller")["value"].sort_values(ascending=False)


def advice(table: pd.DataFrame, method: str = "gandl") -> Output:
    """What to take by default, from the powers at equal error."""
    counts = sorted(table.loc[table["measure"] == "power", "controls"].dropna().unique().astype(int))
    said = []
    for m in (counts[0], counts[-1]):
        with_, without = best(table, WITH_POSITIVE, method, m), best(table, OF_ANY, method, m)
        if with_.empty or without.empty:
            continue
        said.append(
            f"**{m} C- wells a plate.** With a positive control: {with_.index[0]} finds {100 * with_.iloc[0]:.0f} % of "
            f"the strong effects; without one: {without.index[0]} {100 * without.iloc[0]:.0f} %"
            + (
                f", and {DEFAULT} {100 * without[DEFAULT]:.0f} %."
                if DEFAULT in without and without.index[0] != DEFAULT
                else "."
            )
        )
    kills = best(table, CALLERS, method, counts[-1], "kills")
    if {"efficacy", DEFAULT} <= set(kills.index):
        fooled = kills["efficacy"] > 2 * ALPHA
        said.append(
            f"**What kills is not what cures.** Of doses that kill, {DEFAULT} calls {100 * kills[DEFAULT]:.0f} % and "
            f"efficacy {100 * kills['efficacy']:.0f} %: "
            + (
                "neither p tells death from a cure, "
                if fooled
                else "the axis tells the two apart here, the distance not, "
            )
            + "and a hit has to be looked at beside the axis and by its number of cells (chapter 05) before it is good."
        )
    said.append(
        f"`gandl screen` therefore calls by efficacy where there are both controls (chapter 05), and by **{DEFAULT}** "
        "where there is no C+; it names the caller in its report, and shows the others beside it. "
        f"{_against(table, method)}The choice rests on {count(screens_of(table), 'simulated screen')} of one kind; "
        "what it finds on real cells, trained, untrained and by cell count, stands above."
    )
    return points(*said)


def _against(table: pd.DataFrame, method: str) -> str:
    """Which callers that need no C+ lead the default one, and where it leads all of them, as far as intervals tell."""
    lead = table[(table["measure"] == "lead") & (table["method"] == method) & table["caller"].isin(OF_ANY)]
    lead = lead[lead["effect"].isin(["slight", "half", "strong"]) & (lead["replicates"] == 3)]
    if lead.empty:
        return ""

    def where(row: pd.Series) -> str:
        points = "{:.0f} points ({:.0f} to {:.0f})".format(*(100 * row[["value", "low", "high"]].astype(float)))
        return f"{row['caller']} on {row['effect']} effects with {row['controls']:.0f} controls, {points}"

    ahead = [where(row) for _, row in lead[lead["low"] > 0].iterrows()]
    by_design = lead.groupby(["effect", "controls"], sort=False)["high"].max()
    first = [f"{effect} effects with {m:.0f} controls" for (effect, m), high in by_design.items() if high < 0]
    sentence = "Of the others that need no C+, with three wells a dose and at equal error, "
    sentence += f"these lead it: {listing(ahead)}" if ahead else "none leads it beyond its interval"
    return sentence + (
        f"; it leads them all on {listing(first)}. " if first else "; nor does it lead them all anywhere. "
    )


def real_source(live: bool) -> Output:
    """Where the numbers of the real plate come from."""
    if live:
        return say("**Live:** these rows were computed by this page, from the profiles of chapter 10.")
    return say("**Recorded:** this build had no BBBC013; the rows are those of `book/reference/hits_bbbc013.csv`.")


def real_doses(table: pd.DataFrame) -> pd.DataFrame:
    """A line a method and caller: the doses of each drug that it calls hits, lowest first."""
    rows = []
    for (method, caller), one in table.groupby(["method", "caller"], sort=False):
        row = {"method": name(method), "caller": caller}
        for drug, part in one.groupby("compound"):
            factor, unit = (1000, "nM") if drug == "Wortmannin" else (1, "µM")
            hit = part[part["hit"].astype(bool)]["concentration_uM"] * factor
            row[f"{drug}, {unit}"] = f"{len(hit)} of {len(part)}, from {hit.min():.3g}" if len(hit) else "none"
        rows.append(row | {"smallest p": f"{one['p_floor'].min():.2g}"})
    return pd.DataFrame(rows)


def means_or_clouds(table: pd.DataFrame) -> Output:
    """On single cells of a real plate: doses found by the distance of wells' means, and by clouds of cells."""
    hit = table[table["hit"].astype(bool)].groupby(["method", "caller"]).size()
    said = []
    for method in table["method"].unique():
        by_clouds = {c: int(hit.get((method, c), 0)) for c in OF_CELLS}
        clouds = listing(f"{c} {n}" for c, n in by_clouds.items())
        said.append(f"{name(method)}: {DEFAULT} of the means {hit.get((method, DEFAULT), 0)}, {clouds}")
    n = len(table[["compound", "concentration_uM"]].drop_duplicates())
    more = [
        name(m)
        for m in table["method"].unique()
        if max(hit.get((m, c), 0) for c in OF_CELLS) > hit.get((m, DEFAULT), 0)
    ]
    verdict = (
        f"**Clouds find more doses than means by {listing(more)}.**"
        if more
        else "**Nowhere does looking at whole clouds find more doses than the distance of their means.**"
    )
    return say(f"Of {n} doses of both drugs are found, {'; '.join(said)}.", verdict)
