"""The last chapter: this run beside the paper, and what made it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from gandl_book.figures import against
from gandl_book.figures.scores import PUBLISHED
from gandl_book.narrate.comparison import one_task
from gandl_book.narrate.real import agreeing
from gandl_book.narrate.real_mechanisms import real_cells_in_short
from gandl_book.origins import origin
from gandl_lib.evaluate.scores import Score
from gandl_lib.plots.page import Output, name
from gandl_lib.plots.words import METHOD, UNLEARNT, count, listing, method_scores, percent, points, say


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
    columns = {METHOD: "GAN-DL"} | {m: name(m) for m in UNLEARNT if (scores["method"] == m).any()}
    for split in ("well", "plate"):
        part = scores[(scores["split"] == split) & scores["normalisation"].isin(["all", "none"])]
        for task, one in part.groupby("task", sort=False):
            found = method_scores(one)
            value = published[(published["task"] == task) & (published["method"] == "GAN-DL")]["accuracy"]
            rows.append(
                {"what": f"{task}, {split}s held out", "GAN-DL": None}
                | {"paper": percent(value.iloc[0]) if len(value) and split == "well" else None}
                | {title: str(found[m]) if m in found else None for m, title in columns.items()}
                | {"majority": percent(one["majority_rate"].iloc[0])}
            )
    for title, table_ in unseen.items():
        if table_ is not None:
            found, value = method_scores(table_), published_unseen.set_index("method")["accuracy"]["GAN-DL"]
            rows.append(
                {"what": title, "GAN-DL": None, "paper": percent(value)}
                | {column: str(found[m]) if m in found else None for m, column in columns.items()}
                | {"majority": percent(table_["majority_rate"].iloc[0])}
            )
    if compared is not None:
        for cell_type, one in compared.groupby("cell_type", sort=False):
            by = one.set_index("method")["auroc"]
            auroc = {
                c: None if m not in by else f"{by[m]:.2f}" if by[m] == by[m] else "no axis" for m, c in columns.items()
            }
            rows.append({"what": f"AUROC of efficacy for true effect, {cell_type}"} | auroc | {"majority": "0.50"})
    return pd.DataFrame(rows)


def on_simulated(
    scores: pd.DataFrame,
    paired: pd.DataFrame | None,
    curves: pd.DataFrame,
    compared: pd.DataFrame | None,
    unseen: pd.DataFrame | None,
    truth: pd.DataFrame | None,
) -> Output:
    """What came out on the screen, a point each: the cut, unseen cells, the ranking of compounds, and hits.

    Args:
        scores, paired, curves: separability.csv, paired.csv, dose_response.csv.
        compared, unseen, truth: dose_truth.csv, zero_shot_summary.csv, truth.csv, or None.
    """
    cuts = []
    for split in ("well", "plate"):
        found = one_task(scores, split=split).set_index("method")["accuracy"]
        cuts.append(f"with {split}s held out {_beside(found, percent, _ties(paired, split))}")
    said = [f"**A straight cut.** C+ against C-, {'; '.join(cuts)}."]
    if unseen is not None:
        told = _beside(unseen.set_index("method")["accuracy"], percent)
        said.append(f"**Cells it has never seen.** Four cell types: {told}.")
    if compared is not None:
        ranked = _beside(compared.groupby("method")["auroc"].mean(), "{:.2f}".format)
        said.append(
            f"**Which compounds help.** Their ranking, as an area under the ROC curve (one half is chance): {ranked}."
        )
    return points(*said, f"**Hits.** {_hits(curves, truth)}")


def hardest(scores: pd.DataFrame, paired: pd.DataFrame | None, position: pd.DataFrame) -> Output:
    """What an accuracy here has to be held against: untrained rows, and a machine that sees no image.

    Args:
        position: of `gandl_lib.evaluate.leaks.position`.
    """
    alone = position.query("split == 'well'")["accuracy"].iloc[0]
    return say(
        f"An accuracy alone. {_unbeaten(scores, paired)} The mere position of a well on its plate, without an image, "
        f"reads {percent(alone)}. And a compound that kills can look like a cure."
    )


def unlearnt(scores: pd.DataFrame, paired: pd.DataFrame | None) -> Output:
    """GAN-DL beside all that has learnt nothing, on C+ against C-; nothing where there is no GAN-DL to compare."""
    return say(_unbeaten(scores, paired) if METHOD in set(scores["method"]) else "")


def _unbeaten(scores: pd.DataFrame, paired: pd.DataFrame | None) -> str:
    found = one_task(scores).set_index("method")["accuracy"]
    rows = [f"{name(m)} {percent(found[m])}" for m in UNLEARNT if m in found]
    ties = _ties(paired, "well")
    unbeaten = [name(m) for m in UNLEARNT if m in found and (found[m] >= found[METHOD] or ties.get(m, 0) > 0.05)]
    verdict = (
        f"**it is not told apart from, or lies behind, {listing(unbeaten)}**" if unbeaten else "it is ahead of all"
    )
    return (
        f"On C+ against C- {name(METHOD)} reads {percent(found[METHOD])}, and what has learnt nothing "
        f"{listing(rows)}: {verdict}."
    )


def on_real_cells(plate: pd.DataFrame, unseen: pd.DataFrame | None, mechanisms: pd.DataFrame) -> Output:
    """Real cells, a point each: a plate's doses and controls (and unseen cell types), then mechanisms of drugs.

    Args:
        plate: real_plate.csv.
        unseen: zero_shot_rxrx1_summary.csv, or None.
        mechanisms: `recorded("real_cells")`.
    """
    told = [_on_plate(plate)]
    if unseen is not None:
        n = unseen["n_wells"].iloc[0]
        told.append(
            f"On {n} wells of four cell types of RxRx1, by networks that were not trained on them, "
            f"{_beside(unseen.set_index('method')['accuracy'], percent)}."
        )
    return points(
        f"**A plate, and other cells** ({', '.join(origin(plate))}). {' '.join(told)}",
        f"**Mechanisms of drugs** ({', '.join(origin(mechanisms))}). {' '.join(real_cells_in_short(mechanisms))}",
    )


def _on_plate(measured: pd.DataFrame) -> str:
    """Two sentences on BBBC013: EC50s against the classical ones, and controls against the untrained network's."""
    by = measured.drop_duplicates("method").set_index("method")
    if METHOD not in by.index:
        rest = listing([name(m) for m in by.index if not m.startswith("classical")])
        return f"On a real plate, BBBC013, this build has no {name(METHOD)}, only {rest}."
    agree = [m for m in by.index if not m.startswith("classical") and agreeing(measured, m)]
    others = [name(m) for m in agree if m != METHOD]
    ec50 = "agree with" if METHOD in agree else "**differ from**"
    too = f", and so do those of {listing(others)}" if METHOD in agree and others else ""
    z = _beside(by["z_prime"].drop(["classical-ratio"], errors="ignore"), "{:.2f}".format, best=False)
    return (
        f"On a real plate, BBBC013, the EC50s of both drugs read off {name(METHOD)}'s axis {ec50} those of a plain "
        f"measurement{too}. How far its controls lie apart, as Z′: {z}; {by['z_prime']['classical']:.2f} by the "
        "measurement."
    )


def _hits(curves: pd.DataFrame, truth: pd.DataFrame | None) -> str:
    """Hits, rightly or wrongly so called, and how many killers were noticed."""
    mine = curves[curves["method"] == METHOD]
    called = mine[mine["hit"].astype(bool)]
    each = f"{len(mine)} pairs of compound and cell type"
    suspicious = int(mine["suspicious"].eq(True).sum()) if "suspicious" in mine else 0
    kept = f" Set aside as suspicious, though efficacy alone would call it a hit: {count(suspicious, 'pair')}."
    if truth is None:
        return f"{name(METHOD)} calls {count(len(called), 'hit')} among {each}.{kept}"
    both = mine.merge(truth, on=["cell_type", "compound"], suffixes=("", "_true"))
    effective, hit = both["effective"].astype(bool), both["hit"].astype(bool)
    toxic, seen = both["toxic_uM"].notna(), both["suspect_from_uM"].notna() | both["toxic_from_uM"].notna()
    return (
        f"{name(METHOD)} calls {count(len(called), 'hit')} among {each}: {(hit & effective).sum()} of the "
        f"{effective.sum()} that help, and {(hit & ~effective).sum()} wrongly, of which "
        f"{(hit & ~effective & toxic).sum()} kill.{kept} Of {toxic.sum()} that kill it notices {(toxic & seen).sum()}."
    )


def _ties(paired: pd.DataFrame | None, split: str, task: str = "C+ vs C-") -> dict[str, float]:
    """Method -> p-value of its difference from GAN-DL on the same wells."""
    if paired is None:
        return {}
    rows = against(paired, METHOD, task)
    return dict(rows[rows["split"] == split].set_index("other")["p_value"])


def _beside(
    values: pd.Series, show: Callable[[float], str], p: Mapping[str, float] | None = None, best: bool = True
) -> str:
    """GAN-DL's value, those of rows that have learnt nothing, and the best of all rows.

    Bold is what has learnt nothing and is ahead of GAN-DL or level with it, or cannot be told from it by its p-value.
    """
    values = values.drop("shuffled labels", errors="ignore").dropna()
    hardest, mine, parts = [m for m in UNLEARNT if m in values], values.get(METHOD, np.inf), []
    for m in hardest:
        tie = p is not None and p.get(m, 0) > 0.05 and values[m] < mine
        part = f"{name(m)} {show(values[m])}" + (f" (p = {p[m]:.2g})" if tie else "")
        parts.append(f"**{part}**" if tie or values[m] >= mine else part)
    said = f"{name(METHOD)} {show(mine)}" if METHOD in values else f"{name(METHOD)} has no value"
    said += f", beside {listing(parts)}" if parts else ""
    first = values.idxmax() if len(values) else METHOD
    said += f"; highest is {name(first)}, {show(values[first])}" if best and first not in (METHOD, *hardest) else ""
    return said


def what_this_is(made: Mapping[str, Any]) -> Output:
    """Whether the numbers come from simulated or real images, and from how much training (provenance.json)."""
    one = made["methods"].get(METHOD, {})
    seen = (
        f"trained on {one['n_seen']:,} images in {one['minutes']:.3g} minutes"
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


def columns_of_table_1(scores: pd.DataFrame) -> Output:
    """Which columns of the paper's Table 1 this build has a row for, and which not."""
    have = set(scores["method"])
    wanted = {"gandl", "supervised", "imagenet-collapsed", "imagenet-concatenated"}
    there, lacking = ([name(m) for m in PUBLISHED if m in wanted and (m in have) == is_] for is_ in (True, False))
    missing = f"; **it lacks {listing(lacking)}**" if lacking else ""
    return say(f"Of the columns of Table 1 this build has {listing(there)}{missing}.")


def _sum(digest: str) -> str:
    return f"sha256 {digest[:12]}…"


def provenance(made: Mapping[str, Any]) -> pd.DataFrame:
    """provenance.json as a table of two columns: trained rows of the main table a line each, other networks counted."""
    rows = {
        "command": made["command"],
        "seed": made["seed"],
        "device": made["device"],
        "commit": made["git_commit"] or "not a git checkout",
        **made["versions"],
    }
    rows |= {path: _sum(digest) for path, digest in made["sha256"].items() if path.endswith("metadata.csv")}
    for method, how in made["methods"].items():
        if how.get("minutes"):
            took = f"{how['n_seen']:,} images in {how['minutes']:.1f} min"
            rows[name(method)] = f"{took}, {_sum(how['checkpoint_sha256'])}"
    others = {run: how for run, how in made.get("runs", {}).items() if run not in made["methods"]}
    for title, of_cells in (("networks of chapter 07", True), ("setups of chapter 08", False)):
        seen = [how["n_seen"] for run, how in others.items() if run.startswith("cells-") == of_cells]
        if seen:
            each = listing([f"{n:,}" for n in sorted(set(seen))])
            rows[title] = f"{len(seen)} trained, {each} images each"
    return pd.DataFrame({"": list(rows), "this build": [str(v) for v in rows.values()]})
