"""Paired tests, probe sizes, replicates and costs: against plain loops, closed forms and copairs itself."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from gandl_book import narrate
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score
from synthetic_profiles import make_profiles

from gandl_lib.evaluate.cost import cost
from gandl_lib.evaluate.paired import HEADER, paired
from gandl_lib.evaluate.probe_size import _draw, probe_size
from gandl_lib.evaluate.replicates import average_precision, expected, replicates
from gandl_lib.evaluate.separability import TASKS, confusion, judged, separability
from gandl_lib.profiles import aggregate, normalise

# ---- paired ----


def decided(right: dict[str, np.ndarray], sites: int = 1) -> pd.DataFrame:
    """Decisions of methods that are right (1) or wrong (0) on each of some wells, the same on all its sites."""
    parts = [
        pd.DataFrame({"well_id": [f"w{k // sites}" for k in range(len(r) * sites)], "positive": True})
        .assign(value=np.where(np.repeat(r, sites), 1.0, -1.0), method=method)
        .assign(task="t", split="well", normalisation="all")
        for method, r in right.items()
    ]
    return pd.concat(parts, ignore_index=True)


def test_one_site_a_well_is_mcnemars_test(rng):
    """With one site a well the permutation of signs is the exact test on the discordant wells."""
    a, b = rng.random(200) < 0.8, rng.random(200) < 0.7
    (row,) = paired(decided({"a": a, "b": b}), n_draws=20_000).itertuples()
    assert row.difference == pytest.approx(a.mean() - b.mean()) and row.n_wells == 200
    exact = binomtest(int((a & ~b).sum()), int((a != b).sum())).pvalue
    assert row.p_value == pytest.approx(exact, abs=0.01)
    sd = np.std(a.astype(float) - b, ddof=1) / np.sqrt(200)
    assert (row.ci_high - row.ci_low) / 2 == pytest.approx(1.96 * sd, rel=0.1)


def test_methods_that_err_together_are_told_apart_where_intervals_overlap(rng):
    a = rng.random(300) < 0.8
    b = a & (rng.random(300) < 0.95)  # right wherever a is, but for one in twenty
    (row,) = paired(decided({"a": a, "b": b}, sites=2)).itertuples()
    assert row.p_value < 0.01 and row.ci_low > 0
    assert abs(a.mean() - b.mean()) < 1.96 * np.sqrt(a.mean() * (1 - a.mean()) / 300), "alone, their intervals overlap"


def test_equals_are_equals_and_more_sites_are_no_more_evidence(rng):
    a, b = rng.random(100) < 0.7, rng.random(100) < 0.7
    (same,) = paired(decided({"a": a, "twin": a})).itertuples()
    assert same.difference == same.ci_low == same.ci_high == 0 and same.p_value == 1
    one, four = (paired(decided({"a": a, "b": b}, sites=n)).iloc[0] for n in (1, 4))
    assert one["p_value"] == four["p_value"] and one["ci_low"] == pytest.approx(four["ci_low"])


def test_false_alarms_are_as_rare_as_they_should_be():
    rng = np.random.default_rng(1)
    draws = [decided({"a": rng.random(60) < 0.7, "b": rng.random(60) < 0.7}) for _ in range(120)]
    p = np.array([paired(d, n_draws=300)["p_value"][0] for d in draws])
    assert (p < 0.05).mean() < 0.12


@pytest.fixture(scope="module")
def two():
    """Two methods on the same wells, one clear and one dim, with three compounds."""
    compounds = {"cure": (1.0, 1.5, 0.9), "nothing": (1e6, 1.5, 0.9)}
    clear = make_profiles("clear", compounds=compounds, separation=8.0, noise=0.5, seed=1)
    dim = make_profiles("dim", compounds=compounds, separation=0.6, seed=1)
    return [clear, dim]


def test_decisions_are_what_the_table_counts(two):
    table, decisions = judged(two, shuffled=False, n_bootstrap=0)
    assert table.drop(columns=["ci_low", "ci_high"]).equals(
        separability(two, shuffled=False, n_bootstrap=0).drop(columns=["ci_low", "ci_high"])
    )
    key = ["method", "task", "split", "normalisation"]
    right = ((decisions["value"] > 0) == decisions["positive"]).groupby([decisions[c] for c in key]).mean()
    assert right.to_dict() == pytest.approx(table.set_index(key)["accuracy"].to_dict())
    counts = confusion(decisions)
    assert counts.groupby(key)["count"].sum().to_dict() == decisions.groupby(key).size().to_dict()
    diagonal = counts[counts["true"] == counts["predicted"]].groupby(key)["count"].sum()
    assert (diagonal / counts.groupby(key)["count"].sum()).to_dict() == pytest.approx(right.to_dict())
    pairs = paired(decisions)
    assert tuple(pairs.columns) == HEADER and len(pairs) == len(TASKS) * 2
    difference = table.set_index(key)["accuracy"].unstack(0)
    for row in pairs.itertuples():
        wanted = difference.loc[(row.task, row.split, row.normalisation)]
        assert row.difference == pytest.approx(wanted["clear"] - wanted["dim"])


# ---- methods that have seen the labels ----


def test_who_learnt_the_labels_is_judged_on_its_own_test_wells_only(two):
    knows = two[0].copy()
    knows.uns["provenance"] = json.dumps({"method": "knows", "label": "role", "seed": 0})
    table = separability([knows, two[1]], shuffled=False, n_bootstrap=0)
    found = set(zip(table["method"], table["task"], table["split"], strict=True))
    assert ("knows", "C+ vs C-", "well") in found and ("dim", "C+ vs C-", "plate") in found
    assert ("knows", "C+ vs C-", "plate") not in found and ("knows", "HRCE vs VERO", "plate") in found
    other = separability([knows, two[1]], shuffled=False, n_bootstrap=0, seed=1)
    assert "C+ vs C-" not in set(other.loc[other["method"] == "knows", "task"])
    assert set(probe_size([knows, two[1]], sizes=(8,))["method"]) == {"dim"}


# ---- probe size ----


def test_more_labels_help_and_the_last_size_is_the_whole_table(two):
    table = probe_size(two, sizes=(8, 32))
    scores = separability(two, splits=["well"], shuffled=False, n_bootstrap=0)
    scores = scores[scores["task"] == "C+ vs C-"].set_index("method")["accuracy"]
    for method, part in table.groupby("method"):
        assert part["n_wells"].tolist() == [8, 32, 72]
        assert part["accuracy"].iloc[-1] == pytest.approx(scores[method])
        assert (part["lowest"] <= part["accuracy"] + 1e-9).all() and (part["accuracy"] <= part["highest"] + 1e-9).all()
    few, _, every = table[table["method"] == "clear"]["accuracy"]
    assert few < every > 0.95


@pytest.mark.parametrize("n", [4, 5, 17, 60])
def test_draws_keep_the_shares_of_classes(two, n):
    wells = two[0].obs.query("role in ['C+', 'C-']").drop_duplicates("well_id")
    chosen = _draw(wells, "role", n, np.random.default_rng(0))
    assert len(set(chosen)) == n
    counts = wells[wells["well_id"].isin(chosen)].groupby(["role", "cell_type"]).size()
    share = wells.groupby(["role", "cell_type"]).size() / len(wells)
    assert len(counts) == 4 and (np.abs(counts - n * share) <= 1.5).all()
    assert set(_draw(wells, "role", n, np.random.default_rng(1))) != set(chosen)


# ---- replicates ----


@given(
    st.lists(st.floats(-1, 1), min_size=1, max_size=6, unique=True), st.lists(st.floats(-1, 1), min_size=1, max_size=9)
)
def test_average_precision_is_sklearns(right, wrong):
    wrong = [w for w in wrong if w not in right] or [2.0]
    labels = np.repeat([1, 0], [len(right), len(wrong)])
    found = average_precision(np.array(right), np.array(wrong))
    assert found == pytest.approx(average_precision_score(labels, np.array(right + wrong)))


@pytest.mark.parametrize(("n_right", "n"), [(1, 1), (1, 7), (2, 12), (5, 40), (6, 6)])
def test_chance_is_the_mean_over_random_rankings(n_right, n):
    rng = np.random.default_rng(0)
    draws = [rng.permutation(n).astype(float) for _ in range(4000)]
    simulated = [average_precision(d[:n_right], d[n_right:]) for d in draws]
    assert expected(n_right, n) == pytest.approx(np.mean(simulated), abs=4 * np.std(simulated) / 4000**0.5 + 1e-9)


@pytest.mark.filterwarnings("ignore")
def test_replicates_are_those_of_copairs(two):
    from copairs.map import average_precision as copairs_ap

    table = replicates(two[0])
    wells = aggregate(normalise(two[0], "all"))
    keep = wells.obs["role"].isin(["treated", "C-"]).to_numpy()
    meta = wells.obs.loc[keep, ["plate_id", "role", "cell_type", "compound", "concentration_uM"]].reset_index(drop=True)
    meta["concentration_uM"] = meta["concentration_uM"].fillna(-1)
    same = ["cell_type", "compound", "concentration_uM"]
    result = copairs_ap(meta, wells.X[keep], [*same, "role"], [], ["plate_id"], ["role"], progress_bar=False)
    theirs = result[result["role"] == "treated"].groupby(same)["average_precision"].mean()
    ours = table.set_index(same)["mean_average_precision"]
    assert len(ours) == len(theirs) == 32
    np.testing.assert_allclose(ours.loc[theirs.index], theirs, rtol=1e-5)


def test_a_cure_is_found_and_nothing_is_chance(two):
    table = replicates(two)
    top = table[(table["method"] == "clear") & (table["concentration_uM"] > 5)].groupby("compound")
    means = top[["mean_average_precision", "by_chance"]].mean()
    assert means.loc["cure", "mean_average_precision"] > 0.8
    assert means.loc["nothing", "mean_average_precision"] < 0.5
    with pytest.raises(ValueError, match="two treated wells"):
        replicates(make_profiles("none"))


# ---- cost ----


def test_cost_is_what_the_provenance_says():
    made = {"trained": {"n_seen": 500, "minutes": 2.5, "peak_memory_MB": 300.0, "label": "compound", "device": "cpu"},
            "as it is": {"n_seen": 0}, "old": {"n_seen": 9, "minutes": 1.0}, "theirs": {"n_seen": None}}  # fmt: skip
    profiles = []
    for name, provenance in made.items():
        p = make_profiles(name)
        p.uns["provenance"] = json.dumps({"method": name} | provenance)
        profiles.append(p)
    table = cost(profiles).set_index("method")
    assert table.loc["trained", ["minutes", "images", "peak_memory_MB", "labels"]].tolist() == [
        2.5,
        500,
        300,
        "compound",
    ]
    assert table.loc["as it is", "minutes"] == 0 and table.loc["as it is", "peak_memory_MB"] == 0
    assert table.loc["old", "minutes"] == 1 and np.isnan(table.loc["old", "peak_memory_MB"])
    assert table.loc["theirs", ["minutes", "images"]].isna().all()


def test_the_provenance_of_a_build_counts_what_is_no_row_of_the_main_table():
    made = {"command": "c", "seed": 0, "device": "cpu", "git_commit": None, "versions": {"python": "3"}}
    made["methods"] = {"gandl": {"n_seen": 2000, "minutes": 1.0, "checkpoint_sha256": "ab" * 32}, "intensity": {}}
    seen = {"gandl": 2000, "cells-vae": 64, "weak-plain": 32, "byol-crops": 32}
    made |= {"runs": {run: {"n_seen": n} for run, n in seen.items()}, "sha256": {"data/screen/metadata.csv": "cd" * 32}}
    table = narrate.provenance(made).set_index("")["this build"]
    assert table["GAN-DL"] == "2,000 images in 1.0 min, sha256 abababababab…"
    assert table["networks of chapter 07"] == "1 trained, 64 images each"
    assert table["setups of chapter 08"] == "2 trained, 32 images each"
    assert table["data/screen/metadata.csv"].startswith("sha256 cd") and len(table) == 9
