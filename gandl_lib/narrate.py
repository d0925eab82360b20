"""Sentences that are made from the tables they speak of, so that no rerun leaves a false one behind.

**Who beats whom.** Two scores a and b with 95 % intervals of half-widths h_a and h_b, each towards the other, differ if

    |a - b| > sqrt(h_a^2 + h_b^2)

the 95 % interval of a difference of two independent estimates. Scores of two methods on the same wells usually rise
and fall together, so this errs on the side of "cannot be told from". A fixed number (the majority rate, a published
value) has half-width zero. A perfect score on n wells has a bootstrap interval of width zero, which is the bootstrap's
limit and no certainty: its lower end is taken as 1 - 3/n (the rule of three).

Every function takes a table as the workflow writes it and returns what a notebook cell shows.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gandl_lib import figures
from gandl_lib.evaluate.leaks import ZONE
from gandl_lib.figures import Output, against, name

if TYPE_CHECKING:
    from anndata import AnnData

BEATS, SAME, BELOW = _VERDICTS = "beats", "cannot be told from", "falls below"

LEARNT = {"": "none", "role": "C+, C-"}
"""Columns of the wells table whose labels a method learnt, as the chapters call them; others go by their own name."""
METHOD, UNTRAINED, INTENSITY, SHUFFLED = "gandl", "gandl-random", "intensity", "shuffled labels"


@dataclass(frozen=True)
class Score:
    """A value with its 95 % interval; `n_wells` are those it was measured on, if known."""

    value: float
    low: float
    high: float
    n_wells: int | None = None

    @classmethod
    def of(cls, row: Any) -> Score:
        """From a row of separability.csv or zero_shot_summary.csv (a namedtuple of `itertuples`)."""
        n = getattr(row, "n_test_wells", getattr(row, "n_wells", None))
        return cls(row.accuracy, row.ci_low, row.ci_high, None if n is None else int(n))

    @property
    def reach(self) -> tuple[float, float]:
        """Half-widths downwards and upwards, a perfect or hopeless score's by the rule of three."""
        low, high = self.low, self.high
        if self.n_wells:
            low = min(low, 1 - 3 / self.n_wells) if self.value == 1 else low
            high = max(high, 3 / self.n_wells) if self.value == 0 else high
        return max(self.value - low, 0.0), max(high - self.value, 0.0)

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({100 * self.low:.0f} to {100 * self.high:.0f})"


def verdict(a: Score, b: Score | float) -> str:
    """How score `a` stands to score or number `b`: `BEATS`, `SAME` or `BELOW` (see this module's docstring)."""
    if not isinstance(b, Score):
        b = Score(b, b, b)
    towards = (a.reach[0], b.reach[1]) if a.value > b.value else (a.reach[1], b.reach[0])
    if not abs(a.value - b.value) > np.hypot(*towards):
        return SAME
    return BEATS if a.value > b.value else BELOW


def say(*sentences: str) -> Output:
    """Sentences as a paragraph of Markdown."""
    text = " ".join(s.strip() for s in sentences if s and s.strip())
    return Output(markdown=text, plain=text.replace("**", ""))


def points(*sentences: str) -> Output:
    """Sentences as a list of Markdown."""
    text = "\n".join(f"- {s.strip()}" for s in sentences if s and s.strip())
    return Output(markdown=text, plain=text.replace("**", ""))


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def listing(words: Sequence[str]) -> str:
    """`a, b and c`."""
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _count(n: int, one: str, many: str | None = None) -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def _scores(rows: pd.DataFrame) -> dict[str, Score]:
    return {row.method: Score.of(row) for row in rows.itertuples()}


def read(path: Path | None) -> pd.DataFrame | None:
    """A table of the workflow or of book/reference; None where there is none."""
    return pd.read_csv(path) if path is not None and Path(path).is_file() else None


# ---- the screen ----


def screen(shards: Any) -> Output:
    """What a `Shards` holds."""
    wells = shards.wells
    kind = "**simulated** images" if shards.simulated else "real images"
    roles = wells.drop_duplicates("well_id")["role"].value_counts()
    skipped = len(shards.skipped)
    treated = wells[wells["role"] == "treated"]
    _, height, width = shards.shape
    doses = treated["concentration_uM"].nunique()
    return say(
        f"This build's screen holds {len(wells):,} sites".replace(",", " ") + f" of {roles.sum()} wells on",
        f"{wells['plate_id'].nunique()} plates, {listing(sorted(wells['cell_type'].unique()))} cells: {kind}",
        f"of {height} × {width} pixels at {shards.pixel_um:g} µm, {shards.dtype}, {len(shards.channels)} channels",
        f"({listing(shards.channels)}).",
        f"By role: {listing([f'{n} {role}' for role, n in roles.items()])} wells.",
        f"The treated ones received {treated['compound'].nunique()} compounds at up to {doses} concentrations."
        if len(treated)
        else "",
        f"{_count(skipped, 'site')} had missing or unreadable files and {'was' if skipped == 1 else 'were'} left out."
        if skipped
        else "No site had to be left out.",
    )


def plate_effects(statistics: pd.DataFrame) -> Output:
    """How much brighter a channel's brightest plate is than its dimmest (`Shards.statistics`)."""
    means = statistics.pivot(index="channel", columns="plate_id", values="mean")
    ratio = (means.max(axis=1) / means.min(axis=1)).sort_values()
    worst, best = ratio.index[-1], ratio.index[0]
    return say(
        f"The worst channel is {worst}: its brightest plate, {means.loc[worst].idxmax()}, is on average",
        f"**{ratio[worst]:.2f} times** as bright as its dimmest, {means.loc[worst].idxmin()}.",
        f"The steadiest, {best}, still varies by a factor of {ratio[best]:.2f}." if best != worst else "",
    )


def calibration(measured: pd.DataFrame | None, task: str = "C+ vs C-") -> Output:
    """Whether the simulated screen is as hard as it should be (benchmarks/calibrate.py)."""
    if measured is None:
        return say("This build has no calibration table; `python benchmarks/calibrate.py` makes one.")
    scores = _scores(measured[measured["task"] == task])
    sentences = []
    if "intensity" in scores:
        found = scores["intensity"]
        kept = "which keeps to" if found.value < 0.85 else "which **breaks**"
        sentences.append(f"Intensity statistics reach {found}, {kept} the limit of 85 %.")
    if "supervised" in scores:
        found = scores["supervised"]
        kept = "above" if found.value > 0.95 else "**short of**"
        sentences.append(f"The small network trained on the labels reaches {found}, {kept} the 95 % asked for.")
    if "random_weights" in scores:
        sentences.append(f"The same network untrained: {scores['random_weights']}.")
    if "position" in scores:
        sentences.append(
            f"And a machine that is told only the row and column of a well: **{scores['position']}**. "
            "That is the confounded layout, without one pixel."
        )
    return say(*sentences)


# ---- training and embedding ----


def probe(stats: pd.DataFrame, n_wells: int) -> Output:
    """What training did to the linear probe, first tick (untrained) against last.

    Args:
        stats: of stats.jsonl.
        n_wells: wells that the probe tests on, for how far chance alone would move it.
    """
    first, last, best = stats["probe_accuracy"].iloc[0], stats["probe_accuracy"].iloc[-1], stats["probe_accuracy"].max()
    half = [1.96 * np.sqrt(max(p * (1 - p), 1e-4) / n_wells) for p in (first, last)]
    before, after = (Score(p, p - h, p + h, n_wells) for p, h in zip((first, last), half, strict=True))
    outcome = {
        BEATS: "Training has taught the network something that a straight line can use.",
        SAME: "**That is no more than chance could do: so far training has bought nothing** that this probe can see.",
        BELOW: "**Training has made the features worse** for this purpose than the architecture's random ones.",
    }[verdict(after, before)]
    at = stats.loc[stats["probe_accuracy"].idxmax(), "n_seen"]
    return say(
        f"Before its first step the network's features give {percent(first)}; after {stats['n_seen'].iloc[-1]:.0f}",
        f"images {percent(last)} (highest {percent(best)}, at {at:.0f}). With about {n_wells} test wells, chance alone",
        f"moves a single point by ± {100 * max(half):.0f} points. {outcome}",
    )


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
        ("batch", open_, config.batch),
        ("weight of R1, γ", open_, f"{config.gamma:.3g}"),
        ("weight of the Lipschitz penalty, λ", open_, f"{config.lipschitz_weight:g}"),
        ("weight of path length", open_, f"{config.path_weight:g}"),
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


def explained(profiles: AnnData, column: str) -> float:
    """Share of the features' total variance that lies between groups of `column` (0..1; features standardised)."""
    X = np.asarray(profiles.X, np.float64)
    X = X[:, X.std(axis=0) > 0]
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    groups = pd.DataFrame(X).groupby(profiles.obs[column].to_numpy())
    return float((groups.transform("mean").to_numpy() ** 2).sum() / max((X**2).sum(), 1e-12))


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


# ---- separability ----


def beside(scores: Mapping[str, Score], method: str = METHOD, majority: float | None = None) -> str:
    """How a method stands to its baselines, in one sentence; empty if it has no score."""
    if method not in scores:
        return ""
    mine, others = scores[method], [m for m in (UNTRAINED, INTENSITY) if m in scores and m != method]
    said = {BEATS: [], SAME: [], BELOW: []}
    for other in others:
        said[verdict(mine, scores[other])].append(f"{name(other)} ({scores[other]})")
    if majority is not None:
        said[verdict(mine, majority)].append(f"the majority rate of {percent(majority)}")
    parts = [f"{outcome} {listing(what)}" for outcome, what in said.items() if what]
    parts[-1:] = [f"and {part}" if len(parts) > 1 else part for part in parts[-1:]]
    return f"{name(method)} reaches **{mine}**" + (f", which {', '.join(parts)}." if parts else ".")


def separability(scores: pd.DataFrame, split: str = "well", normalisation: str = "all", method: str = METHOD) -> Output:
    """A list of what each task's row says, with the warnings that its controls call for."""
    lines, shuffled, unbeaten, worse = [], [], [], []
    for task, part in scores[scores["split"] == split].groupby("task", sort=False):
        rows = part[part["normalisation"].isin([normalisation, "none"])]
        found, majority = _scores(rows), rows["majority_rate"].iloc[0]
        lines.append(f"**{task}.** {beside(found, method, majority)}")
        if UNTRAINED in found and method in found:
            outcome = verdict(found[method], found[UNTRAINED])
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


def leaks(position: pd.DataFrame, zones: pd.DataFrame) -> Output:
    """What position alone can do, and whether the images know it (evaluate/leaks.py)."""
    alone = {row.split: Score.of(row) for row in position.itertuples()}
    sentences = [
        f"A machine that knows the row and column of a well, and no image, reaches **{score}** with {split}s held out."
        for split, score in alone.items()
    ]
    for row in zones.itertuples():
        score = Score.of(row)
        knows = "no sign of knowing where a well lies"
        if verdict(score, row.majority_rate) == BEATS:
            knows = "**it knows to some degree where a well lies**, and part of its other scores may come from there"
        majority = percent(row.majority_rate)
        sentences.append(f"{ZONE}, by {name(row.method)}: {score}, majority rate {majority}: {knows}.")
    return points(*sentences)


def cell_types_normalised(right: pd.DataFrame, wrong: pd.DataFrame) -> Output:
    """HRCE vs VERO without and with the mistake of normalising per plate; one row each."""
    good, bad = (Score.of(next(t.itertuples())) for t in (right, wrong))
    fall = {
        BELOW: "**The normalisation has removed the very thing that was asked for**; what remains looks honest.",
        SAME: "Here the mistake goes unnoticed; it is one all the same.",
        BEATS: "Here the mistake even seems to help; it is one.",
    }[verdict(bad, good)]
    return say(f"As it is: {good}. After normalising each plate: {bad}. {fall}")


# ---- axes and dose-response ----


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
            f"In {cell_type} {name(method)} calls {_count(len(called), 'hit')} among {_count(len(one), 'compound')}"
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


def top(curves: pd.DataFrame, n: int = 6, method: str = METHOD) -> list[tuple[str, str]]:
    """(cell type, compound) of the hits with the highest efficacy, or of the best compounds where nothing is a hit."""
    part = curves[curves["method"] == method].dropna(subset=["efficacy_max"])
    best = part.assign(hit=part["hit"].astype(bool)).sort_values(["hit", "efficacy_max"], ascending=False).head(n)
    return list(zip(best["cell_type"], best["compound"], strict=True))


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


def _end(value: float) -> str:
    return "open" if not np.isfinite(value) or value == 0 else f"{value:.2g}"


# ---- zero-shot and summary ----


def zero_shot(summary: pd.DataFrame | None, where: str) -> Output:
    """How the cell types were told apart; `where` names the cells, "simulated" included."""
    if summary is None:
        return say(f"There are no {where} in this build.")
    found = _scores(summary)
    majority, n = summary["majority_rate"].iloc[0], summary["n_wells"].iloc[0]
    sentences = [f"On {where} ({n} wells), {beside(found, majority=majority)}"]
    if SHUFFLED in found:
        ok = "as it should be" if verdict(found[SHUFFLED], majority) != BEATS else "**and that is too much**"
        sentences.append(f"With shuffled labels: {found[SHUFFLED]}, {ok}.")
    if UNTRAINED in found and METHOD in found and verdict(found[METHOD], found[UNTRAINED]) != BEATS:
        sentences.append("**Training has bought nothing here**: random weights tell these cell types apart as well.")
    return say(*sentences)


def summary(
    scores: pd.DataFrame,
    published: pd.DataFrame,
    compared: pd.DataFrame | None,
    unseen: Mapping[str, pd.DataFrame | None],
    published_unseen: pd.DataFrame,
) -> pd.DataFrame:
    """All key numbers in one table.

    Args:
        scores: separability.csv.
        published: `paper("table1")`.
        compared: dose_truth.csv, or None.
        unseen: row title -> zero_shot_summary.csv, or None.
        published_unseen: `paper("zero_shot")`.
    """
    rows = []
    columns = {METHOD: "GAN-DL", UNTRAINED: "untrained", INTENSITY: "intensity"}
    for split in ("well", "plate"):
        part = scores[(scores["split"] == split) & scores["normalisation"].isin(["all", "none"])]
        for task, one in part.groupby("task", sort=False):
            found = _scores(one)
            value = published[(published["task"] == task) & (published["method"] == "GAN-DL")]["accuracy"]
            rows.append(
                {"what": f"{task}, {split}s held out", "GAN-DL": None}
                | {"paper": percent(value.iloc[0]) if len(value) and split == "well" else None}
                | {title: str(found[m]) if m in found else None for m, title in columns.items()}
                | {"majority": percent(one["majority_rate"].iloc[0])}
            )
    for title, table_ in unseen.items():
        if table_ is not None:
            found, value = _scores(table_), published_unseen.set_index("method")["accuracy"]["GAN-DL"]
            rows.append(
                {"what": title, "GAN-DL": None, "paper": percent(value)}
                | {column: str(found[m]) if m in found else None for m, column in columns.items()}
                | {"majority": percent(table_["majority_rate"].iloc[0])}
            )
    if compared is not None:
        for cell_type, one in compared.groupby("cell_type", sort=False):
            by = one.set_index("method")["auroc"].dropna()
            auroc = {column: f"{by[m]:.2f}" if m in by else None for m, column in columns.items()}
            rows.append({"what": f"AUROC of efficacy for true effect, {cell_type}"} | auroc | {"majority": "0.50"})
    return pd.DataFrame(rows)


def what_this_is(made: Mapping[str, Any]) -> Output:
    """Whether the numbers come from simulated or real images, and from how much training (provenance.json)."""
    one = made["methods"].get(METHOD, {})
    seen = (
        f"trained on {one['n_seen']} images in {one['minutes']:.3g} minutes"
        if one.get("minutes")
        else "not trained here"
    )
    if any(method.get("simulated") for method in made["methods"].values()):
        kind = (
            "Every number of ours in this chapter is from a **simulated** screen, unless it says real; the paper's are "
            "from the real one. They stand side by side to show what is being reproduced; their difference measures "
            "nothing."
        )
    else:
        kind = "The numbers of ours in this chapter are from real images."
    return say(kind, f"{name(METHOD)} was {seen}.")


def percents(scores: pd.DataFrame) -> pd.DataFrame:
    """A wide table for readers: one line a method and task, accuracies as text with their intervals."""
    columns = {"method": scores["method"].map(name)}
    if "task" in scores and scores["task"].nunique() > 1:
        columns["task"] = scores["task"]
    if "split" in scores:
        columns["held out"] = scores["split"] + "s"
    if "normalisation" in scores:
        columns["normalised"] = scores["normalisation"]
    columns["accuracy (95 %)"] = [str(Score.of(row)) for row in scores.itertuples()]
    for column, title in (("balanced_accuracy", "balanced"), ("majority_rate", "majority")):
        columns[title] = scores[column].map(percent)
    if "auroc" in scores:
        columns["AUROC"] = scores["auroc"].map("{:.3f}".format)
    return pd.DataFrame(columns)


PUBLISHED = {
    "gandl": "GAN-DL",
    "supervised": "baseline",
    "baseline": "baseline",
    "imagenet-collapsed": "ImageNet-collapsed",
    "imagenet-concatenated": "ImageNet-concatenated",
    "convae": "ConvAE",
}
"""What the paper calls the counterparts of ours."""


def beside_paper(
    scores: pd.DataFrame, published: pd.DataFrame, split: str = "well", normalisation: str = "all"
) -> pd.DataFrame:
    """Table 1: a row a method, a column a task: ours with its interval, and in brackets what the paper has for it."""
    part = scores[(scores["split"] == split) & scores["normalisation"].isin([normalisation, "none"])]
    theirs = published.set_index(["method", "task"])["accuracy"]
    tasks, rows = list(dict.fromkeys(part["task"])), []
    for method, one in part.groupby("method", sort=False):
        ours = {row.task: str(Score.of(row)) for row in one.itertuples()}
        row = {"method": name(method)} | {task: ours.get(task, "–") for task in tasks}
        for task in tasks:
            if (key := (PUBLISHED.get(method), task)) in theirs.index:
                row[task] += f" [{percent(theirs[key])}]"
        rows.append(row)
    majority = part.groupby("task", sort=False)["majority_rate"].first()
    shown = {task: percent(majority[task]) for task in tasks}
    for task in tasks:
        if ("majority class", task) in theirs.index:
            shown[task] += f" [{percent(theirs[('majority class', task)])}]"
    return pd.DataFrame([*rows, {"method": "majority rate"} | shown])


def hit_scores(published: pd.DataFrame) -> pd.DataFrame:
    """`paper("hit_scores")` with a column an experiment."""
    wide = published.pivot(index="compound", columns="experiment", values="hit_score")
    return wide.loc[published["compound"].unique()].reset_index().rename_axis(columns=None)


def zero_shot_table(summaries: Mapping[str, pd.DataFrame | None], published: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on unseen cell types: ours, a block a set of cells, then the paper's."""
    blocks = [percents(t).assign(cells=title) for title, t in summaries.items() if t is not None]
    paper = {"method": "paper: " + published["method"], "cells": "real RxRx1 cells"}
    blocks.append(pd.DataFrame(paper | {"accuracy (95 %)": published["accuracy"].map(percent)}))
    table = pd.concat(blocks, ignore_index=True)
    return table[["cells", *table.columns.drop("cells")]]


def hit_table(curves: pd.DataFrame, method: str = METHOD, n: int = 12) -> pd.DataFrame:
    """The compounds with the highest efficacy, with what a screener wants to know of each."""
    part = curves[curves["method"] == method].dropna(subset=["efficacy_max"]).nlargest(n, "efficacy_max")
    rows = []
    for row in part.itertuples():
        ec50 = (
            f"{row.ec50_uM:.2g} ({_end(row.ec50_low)} to {_end(row.ec50_high)})" if np.isfinite(row.ec50_uM) else None
        )
        censored = row.ec50_censored if isinstance(row.ec50_censored, str) and row.ec50_censored else None
        rows.append(
            {
                "cell type": row.cell_type,
                "compound": row.compound,
                "highest efficacy": f"{row.efficacy_max:.2f}",
                "EC50 (µM)": ec50 or censored,
                "toxic from (µM)": row.toxic_from_uM,
                "q": f"{row.q_value:.1g}",
                "hit": bool(row.hit),
            }
        )
    return pd.DataFrame(rows)


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


def provenance(made: Mapping[str, Any]) -> pd.DataFrame:
    """provenance.json as a table of two columns."""
    trained = [
        f"{name(m)}: {p['minutes']:.1f} min, {p['n_seen']} images"
        for m, p in made["methods"].items()
        if p.get("minutes")
    ]
    rows = {
        "command": made["command"],
        "seed": made["seed"],
        "device": made["device"],
        "training": listing(trained) if trained else "none",
        "commit": made["git_commit"] or "not a git checkout",
        **made["versions"],
    }
    rows |= {
        f"sha256 of {path}": digest[:16] + "…"
        for path, digest in made["sha256"].items()
        if "weights" in path or "metadata" in path
    }
    return pd.DataFrame({"": list(rows), "this build": [str(v) for v in rows.values()]})


# ---- mechanisms ----


def where_moa_comes_from(fresh: bool) -> Output:
    """Whether the table was made in this build or is the recorded one."""
    if fresh:
        return say("The table was made in this build, from the published profiles of real cells.")
    return say(
        "**The profiles are not on this machine** (`GANDL_DATA`), so what follows is the table of a recorded run on",
        "them, `book/reference/moa_bbbc021.csv`.",
    )


def moa(scores: pd.DataFrame) -> Output:
    """The anchor, and which recipes differ from it by more than their intervals."""
    sentences = []
    for protocol, part in scores.groupby("protocol", sort=False):
        found = _scores(part.assign(n_test_wells=part["n_treatments"]))
        anchor, *others = found
        first = part.iloc[0]
        top = max(others, key=lambda m: found[m].value)
        groups = {v: [m for m in others if verdict(found[m], found[anchor]) == v] for v in _VERDICTS}
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
    """moa.csv for readers."""
    return pd.DataFrame(
        {
            "method": scores["method"],
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


# ---- somebody's own plate ----


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
        found = _scores(scores[scores["split"] == "well"].drop_duplicates("method"))
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


# ---- comparison of methods ----


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
    rows = rows[rows["split"] == split] if len(rows) else rows
    if rows.empty:
        return say(f"There is nothing to compare {name(method)} with in this build.")
    said: dict[str, list[str]] = {"better": [], "worse": [], "within noise": []}
    for row in rows.sort_values("difference", ascending=False).itertuples():
        which = "within noise" if row.p_value > level else "better" if row.difference > 0 else "worse"
        p = "p < 0.001" if row.p_value < 0.001 else f"p = {row.p_value:.2g}"
        said[which].append(f"{name(row.other)} ({100 * row.difference:+.1f} points, {p})")
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


def cost_table(cost: pd.DataFrame) -> pd.DataFrame:
    """cost.csv for readers."""

    def number(value: float, form: str) -> str:
        return "not recorded" if not np.isfinite(value) else "–" if value == 0 else format(value, form)

    rows = [
        {
            "method": name(row.method),
            "training (minutes)": number(row.minutes, ".1f"),
            "images seen": number(row.images, ".0f"),
            "peak memory (MB)": number(row.peak_memory_MB, ".0f"),
            "dimensions": row.dimensions,
            "labels learnt": LEARNT.get(row.labels, row.labels) if isinstance(row.labels, str) else "none",
        }
        for row in cost.itertuples()
    ]
    return pd.DataFrame(rows)


def few_labels(table: pd.DataFrame | None) -> Output:
    """How many labels each method needs to beat the majority rate in every draw (probe_size.csv)."""
    if table is None or table.empty:
        return say("This build has no curve of probe sizes.")
    sentences = []
    for one, part in table.groupby("method", sort=False):
        enough = part[part["lowest"] > part["majority_rate"]]
        if enough.empty:
            sentences.append(f"{name(one)}: no number of labels was enough to beat the majority rate in every draw.")
        else:
            first, last = enough.iloc[0], part.iloc[-1]
            sentences.append(
                f"{name(one)} beats the majority rate in every draw from {first.n_wells:.0f} labelled wells on"
                f" ({percent(first.accuracy)}), and reaches {percent(last.accuracy)} with all {last.n_wells:.0f}."
            )
    return points(*sentences)


def replicates(table: pd.DataFrame | None) -> Output:
    """How much better than by chance replicates find each other, all doses and the highest one."""
    if table is None or table.empty:
        return say("This build has no replicates to look at.")
    top = table[table["concentration_uM"] == table["concentration_uM"].max()]
    sentences = []
    for method, part in table.groupby("method", sort=False):
        high = top[top["method"] == method]
        found, chance = part[["mean_average_precision", "by_chance"]].mean()
        sentences.append(
            f"{name(method)}: mAP {found:.2f} over all compounds and doses, "
            f"{high['mean_average_precision'].mean():.2f} at the highest dose (a random ranking: {chance:.2f})."
        )
    return points(*sentences)


def one_task(table: pd.DataFrame | None, task: str = "C+ vs C-", split: str = "well") -> pd.DataFrame | None:
    """The rows of confusion.csv that a picture of one task shows; None where there is no table."""
    if table is None:
        return None
    return table[(table["task"] == task) & (table["split"] == split) & table["normalisation"].isin(["all", "none"])]


def ranks(summary: pd.DataFrame | None, where: str, method: str = METHOD) -> Output:
    """Who of zero_shot_summary.csv stands above `method`, below it, or within noise, by their intervals."""
    if summary is None:
        return say(f"There are no {where} in this build.")
    found = {m: score for m, score in _scores(summary).items() if m != SHUFFLED}
    if method not in found:
        return say(f"{name(method)} is not among the methods that were shown {where}.")
    mine = found.pop(method)
    groups = {
        v: [f"{name(m)} ({percent(s.value)})" for m, s in found.items() if verdict(s, mine) == v] for v in _VERDICTS
    }
    parts = [
        f"{title}: {listing(groups[v])}."
        for v, title in ((BEATS, "**Above it**"), (BELOW, "**Below it**"), (SAME, "**Not to be told from it**"))
        if groups[v]
    ]
    return say(f"On {where} {name(method)} reaches {mine}.", *parts)


def published(measured: pd.DataFrame) -> Output:
    """What reading published embeddings takes (book/reference/published.csv)."""
    row = measured.iloc[0]
    return say(
        f"All of RxRx19a, {row['sites']:.0f} sites of {row['features']:.0f} features in a table of",
        f"{row['csv_MB'] / 1000:.1f} GB, becomes profiles in {row['processor_seconds'] / 60:.1f} minutes of one",
        f"processor core and at most {row['peak_memory_MB'] / 1000:.1f} GB of memory",
        "(measured on a simulated table of that size).",
        "`--where` takes a part, say one cell type.",
    )


# ---- paradigms ----


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
    return f"{score.value:.2f} ({score.low:.2f} to {score.high:.2f})"


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
    sentences = [f"Of {_count(len(trained), 'setup')}, **{best}** has the highest {what}, {_two_digits(scores[best])}."]
    if rivals:
        sentences.append(
            f"{len(rivals)} of the other {len(trained) - 1} cannot be told from it: there is no winner among them."
        )
    else:
        sentences.append("Every other setup falls below it.")
    for other in ("untrained encoder", name(METHOD), name(INTENSITY), "shuffled features"):
        if other in scores:
            how = {BEATS: "beats", SAME: "cannot be told from", BELOW: "falls below"}[
                verdict(scores[best], scores[other])
            ]
            sentences.append(f"It {how} {other}, {_two_digits(scores[other])}.")
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
            pairs = _count(len(wide), "pair")
            sentences.append(
                f"{words} changes {what} by {gain:+.3f} {between} on average over {pairs}: "
                f"{verdict_} than the chance of wells explains."
            )
    if sentences:
        sentences.append("The chance of another start of training is not in these intervals.")
    return say(*sentences)


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
    sentences.append(f"Every setup saw {images:,.0f} images, windows of multi-crop not counted.")
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


def present(wanted: Sequence[str], table: pd.DataFrame, column: str = "method") -> list[str]:
    """Those of `wanted` that a table has; its first value where it has none, for smaller builds have fewer rows.

    Raises:
        ValueError: `wanted` is empty.
    """
    if not wanted:
        raise ValueError(f"name at least one {column}; there are {', '.join(table[column].unique())}.")
    known = list(table[column].unique())
    return [value for value in wanted if value in known] or known[:1]
