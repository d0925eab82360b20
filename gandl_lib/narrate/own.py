"""A plate of somebody's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from gandl_lib.figures import Output, name
from gandl_lib.narrate.words import BEATS, INTENSITY, METHOD, UNTRAINED, listing, method_scores, points, say, verdict


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
        for other, what in ((INTENSITY, "brightness alone"), (UNTRAINED, "the same network before its training")):
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
        if thin := [compound for cell, compound in pairs if dim.get((cell, compound), 1.0) < 0.75]:
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
