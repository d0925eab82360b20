"""Mechanisms from real pixels: who finds them, and whether training helped."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pandas as pd

from gandl_lib.plots.page import Output, name
from gandl_lib.plots.words import listing, points, say

FIELDS, CELLS = "bbbc021-fields", "bbbc021-cells"
SCREENS = {FIELDS: "fields", CELLS: "single cells"}
TAPS = {"penultimate": "the published tap", "all blocks": "all blocks together"}
PLATE, DEFAULT = "bbbc013", "default"
BARS = ("texture", "intensity", "cell-count")
"""What learns nothing and stands beside every network."""


def real_pixels_source(provenance: dict[str, Any]) -> Output:
    """That the rows are recorded, of when, and after how much training."""
    crops = provenance["crops_seen"].get("gandl", 0)
    return say(
        f"**Recorded** on {provenance['finished']} (`benchmarks/real_mechanisms.py`), for trainings take longer than a",
        f"page: on single cells every model saw {provenance['cells_seen_in_training']:,} cells, on fields GAN-DL saw",
        f"{crops:,} crops. No weights trained on BBBC021 are shipped: its licence excludes commercial use.",
    )


def real_pixels(scores: pd.DataFrame) -> Output:
    """A sentence a screen (NSC, first recipe): who finds most, and each learnt method beside itself untrained."""
    sentences = []
    for dataset, part in scores[scores["protocol"] == "NSC"].groupby("dataset", sort=False):
        rows = part[part["recipe"] == part["recipe"].iloc[0]].set_index("method")
        top = rows["n_correct"].idxmax()
        text = (
            f"**{SCREENS[dataset].capitalize()}**, {rows['n_treatments'].iloc[0]} treatments by"
            f" {rows['n_compounds'].iloc[0]} compounds: most by {name(top)}, {_right(rows.loc[top])}; mechanisms dealt"
            f" at random {100 * rows['shuffled'].iloc[0]:.0f} %, the largest one"
            f" {100 * rows['majority_rate'].iloc[0]:.0f} %."
        )
        for learnt, beside in PAIRS.items():
            if {learnt, beside} <= set(rows.index):
                gain = int(rows.loc[learnt, "n_correct"] - rows.loc[beside, "n_correct"])
                found = f"{name(learnt)} finds {rows.loc[learnt, 'n_correct']}, {_more(gain)} untrained."
                text += f" {found[0].upper()}{found[1:]}"
        apart = [name(m) for m in rows.index if rows.loc[m, "compounds_high"] < rows.loc[top, "compounds_low"]]
        text += (
            f" Intervals leave no doubt about {listing(apart)} only."
            if apart
            else " No interval lies wholly below its interval."
        )
        sentences.append(text)
    return points(*sentences)


PAIRS = {
    "dcgan": "dcgan-random",
    "lsgan": "dcgan-random",
    "wgan-gp": "dcgan-random",
    "vae": "vae-random",
    "gandl": "gandl-random",
    "gandl-blocks": "gandl-random-blocks",
}
"""Who is the untrained self of whom."""


def _right(row: pd.Series) -> str:
    return f"{row['n_correct']} ({100 * row['compounds_low']:.0f} to {100 * row['compounds_high']:.0f} %)"


def _more(gain: int) -> str:
    return f"{abs(gain)} {'more than' if gain > 0 else 'fewer than'}" if gain else "as many as"


def real_pixels_table(scores: pd.DataFrame) -> pd.DataFrame:
    """A row a screen, method and recipe; a column a protocol."""
    rows = []
    for (dataset, method, recipe), part in scores.groupby(["dataset", "method", "recipe"], sort=False):
        by = part.set_index("protocol")
        rows.append(
            {
                "screen": SCREENS[dataset],
                "method": name(method),
                "recipe": recipe,
                "NSC": f"{by.loc['NSC', 'n_correct']} of {by.loc['NSC', 'n_treatments']}",
                "95 %, over compounds": _right(by.loc["NSC"]).split(" ", 1)[1].strip("()"),
                "NSCB": f"{by.loc['NSCB', 'n_correct']} of {by.loc['NSCB', 'n_treatments']}",
            }
        )
    return pd.DataFrame(rows)


# ---- what training did ----


WAYS = {"global": "by z-scores", "sphered": "sphered"}
"""Normalisations that pages compare by, and what they call them."""


def asked(table: pd.DataFrame, protocol: str = "NSC", normalisation: str = "global") -> pd.DataFrame:
    """Rows of real_cells.csv by one way to ask."""
    return table[(table["protocol"] == protocol) & (table["normalisation"] == normalisation)]


def trained_and_not(
    table: pd.DataFrame, variant: str, layer: str, dataset: str = FIELDS, normalisation: str = "global"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of a variant on a screen: after the most crops that all its seeds have seen, and untrained."""
    protocol = "controls" if dataset == PLATE else "NSC"
    rows = asked(table[table["dataset"] == dataset], protocol, normalisation)
    rows = rows[(rows["variant"] == variant) & (rows["layer"] == layer)]
    return longest(rows), rows[rows["n_seen"] == 0]


def longest(rows: pd.DataFrame) -> pd.DataFrame:
    """Of `rows` those after the most crops that all seeds have seen; none where none was trained."""
    after = rows[rows["n_seen"] > 0]
    seeds = after.groupby("n_seen")["seed"].nunique()
    return after[after["n_seen"] == (seeds.index[seeds == seeds.max()].max() if len(seeds) else -1)]


def training_on_real_cells(table: pd.DataFrame) -> Output:
    """By variant and tap: the untrained networks' spread, and whether trained ones leave it."""
    sentences = []
    rows = table[table["layer"].isin(list(TAPS)) & table["dataset"].isin(list(SCREENS))]
    for dataset, variant in dict.fromkeys(zip(rows["dataset"], rows["variant"], strict=True)):
        for layer, called in TAPS.items():
            found = [_trained(table, variant, layer, dataset, normalisation) for normalisation in WAYS]
            if any(found):
                title = f"**{SCREENS[dataset].capitalize()}, {variant}, {called}:** "
                sentences.append(title + " ".join(text for text in found if text))
    return points(*sentences)


def _trained(table: pd.DataFrame, variant: str, layer: str, dataset: str, normalisation: str) -> str:
    after, before = trained_and_not(table, variant, layer, dataset, normalisation)
    if before.empty:
        return ""
    text = (
        f"{WAYS[normalisation]}, {len(before)} untrained networks find {_range(before)} of"
        f" {before['of'].iloc[0]:.0f}, {before['correct'].mean():.1f} on average"
    )
    if after.empty:
        return f"{text}; none was trained."
    seeds = f"{len(after)} find {_range(after)}, {after['correct'].mean():.1f} on average"
    seeds = seeds if len(after) > 1 else f"one finds {_range(after)}"
    return f"{text}, and after {after['n_seen'].iloc[0]:,} crops {seeds}: {_verdict(after, before)}."


def _range(rows: pd.DataFrame) -> str:
    low, high = rows["correct"].min(), rows["correct"].max()
    return f"{low:.0f} to {high:.0f}" if low < high else f"{low:.0f}"


def _most(*rows: pd.DataFrame) -> str:
    return f"{pd.concat(rows)['correct'].max():.0f}"


def _ahead(after: pd.DataFrame, before: pd.DataFrame, column: str = "correct") -> bool:
    """Whether every trained network is above every untrained one."""
    return after[column].min() > before[column].max()


def _verdict(after: pd.DataFrame, before: pd.DataFrame) -> str:
    if _ahead(after, before):
        return "every trained one finds more than every untrained one"
    if _ahead(before, after):
        return "**every trained one finds fewer** than every untrained one"
    return "**within what another untrained seed does**"


def chosen_elsewhere(table: pd.DataFrame) -> Output:
    """Layer and normalisation chosen on one screen by trained networks, and what they are worth on the other."""
    rows = table[(table["variant"] == DEFAULT) & table["normalisation"].isin(list(WAYS))]
    plate = rows[(rows["dataset"] == PLATE) & (rows["protocol"] == "controls")]
    fields = rows[(rows["dataset"] == FIELDS) & (rows["protocol"] == "NSC")]
    if longest(plate).empty or longest(fields).empty:
        return say("Settings were not chosen on another screen: one of the two is not in the table.")
    how = ["layer", "normalisation"]
    z, right = longest(plate).groupby(how)["z_prime"].mean(), longest(fields).groupby(how)["correct"].mean()
    z_before = plate[plate["n_seen"] == 0].groupby(how)["z_prime"].agg(["min", "max"])
    before = fields[fields["n_seen"] == 0].groupby(how)["correct"]
    here, there = z.idxmax(), right.idxmax()
    return points(
        f"**Chosen on BBBC013, judged on the fields:** {_setting(here)} has the largest Z′ there ({z[here]:.2f})."
        f" On the fields it finds {right[here]:.1f} of {fields['of'].iloc[0]:.0f} trained, {before.mean()[here]:.1f}"
        " untrained.",
        f"**Chosen on the fields, judged on BBBC013:** {_setting(there)} finds most ({right[there]:.1f}). On BBBC013"
        f" its Z′ is {z[there]:.2f} trained, and untrained {z_before.loc[there, 'min']:.2f} to"
        f" {z_before.loc[there, 'max']:.2f}.",
        *(
            f"**Looked for on the fields: {variant}**, all blocks together.{_judged_on_plate(table, variant)}"
            for variant in table.loc[table["dataset"] == PLATE, "variant"].unique()
            if variant not in (DEFAULT, *BARS)
        ),
    )


def _setting(how: tuple[str, str]) -> str:
    layer, normalisation = how
    return f"{TAPS.get(layer, layer)}, {WAYS[normalisation]},"


def real_cells_in_short(table: pd.DataFrame) -> list[str]:
    """For a newcomer: what GAN-DL did on real mechanisms, beside itself untrained and plain statistics.

    Four sentences, and one for all other variants that were trained from at least as many starts.
    """
    fields = table[table["dataset"] == FIELDS]
    bar = asked(fields[fields["variant"] == "texture"]).iloc[0]
    after, before = trained_and_not(table, DEFAULT, "penultimate")
    all_after, all_before = trained_and_not(table, DEFAULT, "all blocks")
    of, seen = int(bar["of"]), int(after["n_seen"].iloc[0]) if len(after) else 0
    return [
        f"On real cells (BBBC021, {of} treatments) GAN-DL as published, read after {seen:,} crops of training, finds"
        f" the mechanism of {_range(after)}; the same network before its first step finds {_range(before)}.",
        f"Read from all its layers it finds {_range(all_after)}, untrained {_range(all_before)}:"
        f" {_verdict(all_after, all_before)}.",
        f"Plain statistics, which learn nothing, find {_bars(asked(fields))}; the best of these trained networks"
        f" finds {_most(after, all_after)}, the best untrained one {_most(before, all_before)}.",
        *_sphered(table, fields),
        *_other_variants(table, len(all_after)),
    ]


def _bars(rows: pd.DataFrame) -> str:
    """`texture statistics 40, intensity 24 and cell count 6`, as far as they are in the table."""
    found = rows[rows["variant"].isin(BARS)].drop_duplicates("variant").set_index("variant")["correct"]
    return listing([f"{name(bar)} {found[bar]:.0f}" for bar in BARS if bar in found])


def _sphered(table: pd.DataFrame, fields: pd.DataFrame) -> Iterator[str]:
    after, before = trained_and_not(table, DEFAULT, "all blocks", normalisation="sphered")
    if len(after) and len(before):
        yield (
            "Sphered, so that directions in which most wells differ count for little:"
            f" {_bars(asked(fields, normalisation='sphered'))}, all layers untrained {_range(before)}, trained"
            f" {_range(after)}: {_verdict(after, before)}."
        )


def _other_variants(table: pd.DataFrame, seeds: int) -> Iterator[str]:
    """Where training of the other variants is beyond doubt; chapter 07 has their numbers."""
    rows, told = table[(table["dataset"] == FIELDS) & (table["n_seen"] > 0)], []
    for variant in rows.loc[rows["variant"] != DEFAULT, "variant"].unique():
        compared, ahead = 0, []
        for (way, how), (layer, tap) in product(WAYS.items(), TAPS.items()):
            after, before = trained_and_not(table, variant, layer, normalisation=way)
            if len(after) >= seeds and len(before):
                compared += 1
                if _ahead(after, before):
                    ahead.append(f"{tap} {how} ({_range(after)} against {_range(before)})")
        if compared:
            told.append(f"{variant} by {listing(ahead)}" if ahead else f"{variant} **nowhere**")
    if told:
        yield (
            "Where every trained network of another variant finds more than every untrained one:"
            f" {'; '.join(told)} (chapter 07)."
        )


def _judged_on_plate(table: pd.DataFrame, variant: str) -> str:
    """What a variant is worth on BBBC013, trained there; empty where it was not."""
    after, before = trained_and_not(table, variant, "all blocks", PLATE)
    if after.empty or before.empty:
        return ""
    low, high = after["z_prime"].min(), after["z_prime"].max()
    bars = asked(table[(table["dataset"] == PLATE) & table["variant"].isin(BARS)], "controls")
    bars = listing([f"{name(row.variant)} {row.z_prime:.2f}" for row in bars.itertuples()])
    return (
        f" Judged on BBBC013, trained on {after['n_seen'].iloc[0]:,} crops of that plate: Z′ {low:.2f}"
        + (f" to {high:.2f} from {len(after)} starts" if len(after) > 1 else " from one start")
        + f", untrained {before['z_prime'].min():.2f} to {before['z_prime'].max():.2f}"
        + (f", {bars}" if bars else "")
        + ("." if _ahead(after, before, "z_prime") else ": **no more than another untrained seed**.")
    )
