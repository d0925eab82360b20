"""The last chapter: this run beside the paper, and what made it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from gandl_lib.evaluate.scores import Score
from gandl_lib.plots.page import Output, name
from gandl_lib.plots.words import INTENSITY, METHOD, UNTRAINED, listing, method_scores, percent, points, say


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
            by = one.set_index("method")["auroc"].dropna()
            auroc = {column: f"{by[m]:.2f}" if m in by else None for m, column in columns.items()}
            rows.append({"what": f"AUROC of efficacy for true effect, {cell_type}"} | auroc | {"majority": "0.50"})
    return pd.DataFrame(rows)


def in_short(
    scores: pd.DataFrame, curves: pd.DataFrame, compared: pd.DataFrame | None, unseen: pd.DataFrame | None
) -> Output:
    """Five sentences, the bad ones included: GAN-DL beside the best and the hardest of what it has to beat.

    Args:
        scores, curves, compared, unseen: separability.csv, dose_response.csv, dose_truth.csv, zero_shot_summary.csv.
    """
    used = scores[(scores["task"] == "C+ vs C-") & (scores["normalisation"] == "all")]
    sentences = []
    for split in ("well", "plate"):
        found = used[used["split"] == split].set_index("method")["accuracy"]
        sentences.append(f"C+ against C-, {split}s held out: {_beside(found, percent)}.")
    if unseen is None:
        sentences.append("Unseen cell types were not looked at in this build.")
    else:
        sentences.append(f"Unseen cell types (simulated): {_beside(unseen.set_index('method')['accuracy'], percent)}.")
    if compared is None:
        sentences.append("Which compounds truly work is not known on this screen, so no ranking is judged.")
    else:
        auroc = compared.groupby("method")["auroc"].mean()
        ranked = _beside(auroc, "{:.2f}".format)
        sentences.append(f"Ranking of compounds, mean area under the ROC curve over cell types: {ranked}.")
    mine = curves[curves["method"] == METHOD]
    suspicious = int(mine["suspicious"].sum()) if "suspicious" in mine else 0
    sentences.append(
        f"{name(METHOD)} calls {int(mine['hit'].sum())} of {len(mine)} compounds hits (counted in each cell type), and"
        f" {suspicious} suspicious: what they do may be to kill."
    )
    return points(*sentences)


def _beside(values: pd.Series, show: Callable[[float], str]) -> str:
    """GAN-DL's value, the untrained networks' and pixel statistics', and the best of all other rows."""
    values = values.drop("shuffled labels", errors="ignore").dropna()
    if METHOD not in values:
        return f"{name(METHOD)} has no value"
    hardest = [m for m in (UNTRAINED, "gandl-random-blocks", INTENSITY) if m in values]
    said = f"{name(METHOD)} {show(values[METHOD])}"
    said += f", beside {listing([f'{name(m)} {show(values[m])}' for m in hardest])}" if hardest else ""
    ahead = [m for m in hardest if values[m] >= values[METHOD]]
    said += f"; **not ahead of {listing([name(m) for m in ahead])}**" if ahead else ""
    best = values.idxmax()
    return said + (f"; the best of all rows is {name(best)}, {show(values[best])}" if best != METHOD else "")


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


def _sum(digest: str) -> str:
    return f"sha256 {digest[:16]}…"


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
