"""Training, and what an embedding depends on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gandl_lib.evaluate.scores import BEATS, BELOW, SAME, VERDICTS, Score, explained, verdict
from gandl_lib.plots.page import Output, name
from gandl_lib.plots.words import LEARNT, listing, percent, points, say, spread, thousands

if TYPE_CHECKING:
    from anndata import AnnData


def probe(stats: pd.DataFrame, n_wells: int, longer: pd.DataFrame | None = None) -> Output:
    """What training did to the linear probe, first tick (untrained) against last; and of a longer run, if there is one.

    Args:
        stats: of stats.jsonl.
        n_wells: wells that the probe tests on, for how far chance alone would move it.
        longer: of a recorded run, n_seen and probe_accuracy.
    """
    text = [f"**The run of this page:** {_probed(stats, n_wells)}"]
    if longer is not None:
        text.append(f"**The shipped run, which the next chapters use:** {_probed(longer, n_wells)}")
    return points(*text)


def _probed(stats: pd.DataFrame, n_wells: int) -> str:
    first, last, best = stats["probe_accuracy"].iloc[0], stats["probe_accuracy"].iloc[-1], stats["probe_accuracy"].max()
    half = [_by_chance(p, n_wells) for p in (first, last)]
    before, after = (Score(p, p - h, p + h, n_wells) for p, h in zip((first, last), half, strict=True))
    outcome = {
        BEATS: "Training has taught the network something that a straight line can use.",
        SAME: "**That is no more than chance could do: so far training has bought nothing** that this probe can see.",
        BELOW: "**Training has made the features worse** for this purpose than the architecture's random ones.",
    }[verdict(after, before)]
    at = stats.loc[stats["probe_accuracy"].idxmax(), "n_seen"]
    return (
        f"before its first step the network's features give {percent(first)}; after "
        f"{thousands(stats['n_seen'].iloc[-1])} images {percent(last)} (highest {percent(best)}, at {thousands(at)}). "
        f"With about {n_wells} test wells, chance alone moves a single point by ± {100 * max(half):.0f} points. "
        f"{outcome}"
    )


def precisions(curves: pd.DataFrame) -> Output:
    """Whether training in half precision has cost accuracy, over all points of two curves after the first.

    Args:
        curves: precision ("fp32", "bf16"), n_seen, probe_accuracy, and n_test_wells of the probe.
    """
    by = curves.pivot(index="n_seen", columns="precision", values="probe_accuracy").iloc[1:]
    apart, chance = (by["bf16"] - by["fp32"]).mean(), _by_chance(by["fp32"].iloc[-1], curves["n_test_wells"].iloc[0])
    outcome = (
        "That is no more than chance moves a single point by: half precision has cost nothing that this probe can see."
        if abs(apart) < chance
        else "**Half precision has cost accuracy.**"
        if apart < 0
        else "Half precision was ahead, and one such pair of trainings does not say why."
    )
    fp32, bf16 = (percent(by[precision].iloc[-1]) for precision in ("fp32", "bf16"))
    return say(
        f"After {thousands(by.index[-1])} images bf16 reads {bf16} and fp32 {fp32}; over all {len(by)} points bf16",
        f"lies {100 * abs(apart):.1f} points {'below' if apart < 0 else 'above'} on average",
        f"(chance: ± {100 * chance:.0f} points a point). {outcome}",
    )


def _by_chance(accuracy: float, n_wells: int) -> float:
    """Half the 95 % interval of an accuracy on so many wells."""
    return 1.96 * float(np.sqrt(max(accuracy * (1 - accuracy), 1e-4) / n_wells))


def what_matters(measured: pd.DataFrame, split: str) -> Output:
    """Which choices made a difference, each variant against the default, and where training bought nothing.

    Args:
        measured: what `benchmarks/what_matters.py` writes.
        split: which of its rows.
    """
    part, sentences = measured[measured["split"] == split], []
    for tap, title in (("penultimate", "The published layer"), ("blocks", "All layers")):
        of = part[part["tap"] == tap]
        found = {row.variant: Score.of(row) for row in of[of["n_seen"] > 0].itertuples()}
        untrained = {row.variant: Score.of(row) for row in of[of["n_seen"] == 0].itertuples()}
        base = found.pop("default")
        groups = {v: [f"{k} ({percent(s.value)})" for k, s in found.items() if verdict(s, base) == v] for v in VERDICTS}
        says = [f"**{title}.** The default reaches {base}, untrained {untrained['default']}."]
        for v, words in ((BELOW, "Worse"), (BEATS, "Better"), (SAME, "Not to be told from it")):
            says += [f"{words}: {listing(groups[v])}."] if groups[v] else []
        lost = [k for k, s in {"default": base, **found}.items() if verdict(s, untrained[k]) != BEATS]
        says += [f"Training has bought nothing sure with: {listing(lost)}."] if lost else []
        sentences.append(" ".join(says))
    return points(*sentences)


def trained_longer(measured: pd.DataFrame) -> pd.DataFrame:
    """A table for readers: variants of a network by images seen, the accuracy on each screen with its interval.

    Args:
        measured: rows of separability.csv with `variant`, `n_seen` and `screen`.
    """
    told = measured.assign(where=measured["screen"] + "; " + measured["split"] + "s held out")
    wide = spread(told, ["variant", "n_seen"], "where").rename(columns={"n_seen": "images seen"})
    return wide.assign(**{"images seen": wide["images seen"].map("{:,}".format)})


def probe_size(wells: pd.DataFrame) -> tuple[float, int]:
    """Majority rate among the control sites of a wells table, and about how many wells the running probe tests on."""
    from gandl_lib.train import PROBE_SITES

    controls = wells[wells["role"].isin(["C+", "C-"])]
    probed = min(1.0, PROBE_SITES / max(len(controls), 1))
    rates = controls["role"].value_counts(normalize=True)
    return float(rates.max()), max(1, round(controls["well_id"].nunique() * probed / 4))


def choices(config: Any, channels: int) -> pd.DataFrame:
    """What the paper states of its network, what it leaves open, and what this run uses (a `GANDLConfig`)."""
    network, open_ = config.network, "not published"
    rows = [
        ("channels", "5", channels),
        ("mapping layers", "3", network.mapping_layers),
        ("latent and style", "512", network.latent),
        ("layer before the verdict = embedding", "512", network.features),
        ("Adam learning rate", "0.0001", f"{config.learning_rate:g}"),
        ("image side (pixels)", open_, network.resolution),
        ("features of the finest layer", open_, network.width(network.resolution)),
        ("features of a layer, at most", open_, network.width_max),
        ("batch", open_, config.batch),
        ("Adam β₁, β₂", open_, f"0, {config.beta2:g}"),
        ("weight of R1, γ", open_, f"{config.gamma:.3g}"),
        ("weight of the Lipschitz penalty, λ", open_, f"{config.lipschitz_weight:g}"),
        ("steps from one R1 and Lipschitz penalty to the next", open_, config.r1_every),
        ("weight of path length", open_, f"{config.path_weight:g}"),
        ("steps from one path length to the next", open_, config.path_every),
        ("share by which the mean path length moves", open_, f"{config.path_decay:g}"),
        ("the discriminator's fakes are the generator's", open_, "yes" if config.share_fakes else "no"),
        ("half-life of the average (thousand images)", open_, f"{config.ema_kimg:g}"),
        ("style mixing", open_, f"{config.style_mixing:g}"),
    ]
    return pd.DataFrame(rows, columns=["", "paper", "this run"]).astype(str)


def batch_mates(together: np.ndarray, alone: np.ndarray, what: str = "embedding") -> Output:
    """Whether images embedded in one batch get what they get alone: (B, D) twice, or (B,) twice."""
    together, alone = np.asarray(together, np.float64), np.asarray(alone, np.float64)
    apart = np.abs(together - alone).max() / max(np.abs(alone).max(), 1e-12)
    same = "does not depend" if apart < 1e-4 else "**depends**"
    return say(f"The {what} of an image {same} on the other images of its batch: relative difference {apart:.1e}.")


def methods(profiles: Sequence[AnnData]) -> pd.DataFrame:
    """One row a method: dimensions, and what it has seen, from the profiles' provenance."""
    rows = []
    for p in profiles:
        made = json.loads(p.uns["provenance"])
        minutes = made.get("minutes")
        rows.append(
            {
                "method": name(made["method"]),
                "dimensions": p.n_vars,
                "images seen in training": "–"
                if made.get("n_seen") is None and "n_seen" in made
                else made.get("n_seen", 0),
                "labels learnt": LEARNT.get(made.get("label", ""), made.get("label", "")),
                "training (minutes)": "–" if not minutes else f"{minutes:.1f}",
                "looks at": f"{made['crops']} crops of {made['crop_px']} px" if made.get("crop_px") else "whole sites",
            }
        )
    return pd.DataFrame(rows)


def plate_variance(before: AnnData, after: AnnData) -> Output:
    """What per-plate normalisation does to the share of variance between plates, and between roles."""
    plate, role = [[explained(p, column) for p in (before, after)] for column in ("plate_id", "role")]
    n_plates, n_roles = (before.obs[c].nunique() for c in ("plate_id", "role"))
    chance = [(n - 1) / (before.n_obs - 1) for n in (n_plates, n_roles)]
    return say(
        f"Before normalisation **{percent(plate[0])}** of the variance lies between the {n_plates} plates (by",
        f"chance: {percent(chance[0])}), and {percent(role[0])} between the {n_roles} roles ({percent(chance[1])}).",
        f"Afterwards it is {percent(plate[1])} and {percent(role[1])}.",
        "That is no more than chance: in all dimensions together the roles do not stand out."
        if role[1] < 1.2 * chance[1]
        else "What one looks for has become easier to see."
        if role[1] > role[0]
        else "The roles have not gained by it.",
    )
