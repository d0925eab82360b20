"""Hits without a positive control: p by an obvious loop, uniform under the null, and honest about few controls."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.covariance import LedoitWolf
from synthetic_profiles import make_profiles

from gandl_lib.cli import app
from gandl_lib.evaluate import EVALUATIONS
from gandl_lib.evaluate import hits as module
from gandl_lib.evaluate.hits import CALLERS, HEADER, hits
from gandl_lib.evaluate.replicates import average_precision, replicates
from gandl_lib.profiles import aggregate, arms, normalise

NOTHING = (1.0, 1.0, -1.0)
WORKS = (0.3, 1.5, 1.0)


def screen(compounds, controls=8, plates=None, doses=(0.1, 1.0, 10.0), **kwargs):
    return make_profiles(
        plates=plates or {"HRCE": 2}, roles={"C-": controls}, compounds=compounds, doses=doses, **kwargs
    )


def slow_agreement(X, arm, members):
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    found = []
    for query in members:
        right = [k for k in members if k != query]
        wrong = [k for k in range(len(X)) if k not in members and arm[k] == arm[query]]
        if wrong:
            found.append(average_precision(unit[right] @ unit[query], unit[wrong] @ unit[query]))
    return np.mean(found)


def slow_distance(X, arm, members):
    centred, d = X.copy(), np.zeros(X.shape[1])
    for a in set(arm):
        centred[arm == a] -= X[arm == a].mean(axis=0)
        ours = [k for k in members if arm[k] == a]
        theirs = [k for k in range(len(X)) if arm[k] == a and k not in members]
        d += len(ours) / len(members) * (X[ours].mean(axis=0) - X[theirs].mean(axis=0))
    S = LedoitWolf(assume_centered=True).fit(centred).covariance_
    return np.sqrt(d @ np.linalg.solve(S, d))


@pytest.mark.parametrize("features", [3, 40])
@pytest.mark.parametrize("doses", [(1.0,), (1.0, 1.0)])
def test_every_permutation_by_hand(doses, features):
    """All labellings, one by one, with scikit-learn's covariance and the average precision of `replicates`."""
    p = screen({"x": (0.9, 1.0, 1.0)}, controls=4, doses=doses, n_features=features)
    table = hits(p).set_index("caller")
    wells = aggregate(normalise(p, "all"))
    arm, mine = arms(wells.obs), (wells.obs["role"] == "treated").to_numpy()
    X = wells.X.astype(float)
    per_arm = [itertools.combinations(np.flatnonzero(arm == a), len(doses)) for a in (0, 1)]
    ways = [[*a, *b] for a, b in itertools.product(*per_arm)]
    for caller, score in (("replicates", slow_agreement), ("distance", slow_distance)):
        true = score(X, arm, list(np.flatnonzero(mine)))
        permuted = np.array([score(X, arm, members) for members in ways])
        row = table.loc[caller]
        assert row["score"] == pytest.approx(true, rel=1e-5)
        assert row["by_chance"] == pytest.approx(permuted.mean(), rel=1e-5)
        assert row["p_value"] == pytest.approx(np.mean(permuted >= true - 1e-6))
        assert row["p_floor"] == pytest.approx(1 / len(ways))
        assert len(ways) == math.comb(4 + len(doses), len(doses)) ** 2
    assert table.loc["replicates", "score"] == pytest.approx(replicates(p)["mean_average_precision"][0])


@pytest.mark.filterwarnings("ignore")
def test_agreement_is_that_of_copairs():
    from copairs.map import average_precision as theirs

    p = screen({"works": WORKS, "nothing": NOTHING}, plates={"HRCE": 3})
    table = hits(p)
    wells = aggregate(normalise(p, "all"))
    same = ["cell_type", "compound", "concentration_uM"]
    meta = wells.obs[["plate_id", "role", *same]].fillna({"concentration_uM": -1}).reset_index(drop=True)
    result = theirs(meta, wells.X, [*same, "role"], [], ["plate_id"], ["role"], progress_bar=False)
    expected = result[result["role"] == "treated"].groupby(same)["average_precision"].mean()
    ours = table[table["caller"] == "replicates"].set_index(same)["score"]
    assert len(ours) == 6
    np.testing.assert_allclose(ours.loc[expected.index], expected, rtol=1e-5)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("how", ["all", "controls"])
def test_where_nothing_happens_p_is_uniform(many, how, monkeypatch):
    """A plate a cell type, each by itself, so that the p are independent; all labellings, or some at random."""
    if not many:
        monkeypatch.setattr(module, "PERMUTATIONS", 199)
    plates = {f"L{k:03d}": 1 for k in range(150)}
    table = hits(screen({"x": NOTHING}, 12, plates, doses=(1.0, 1.0, 1.0), sites=1), how)
    for caller in CALLERS:
        p = table.loc[table["caller"] == caller, "p_value"]
        assert len(p) == 150
        assert stats.kstest(p, "uniform").pvalue > 0.001, caller
        assert (p <= 0.05).sum() <= stats.binom.ppf(0.999, 150, 0.05)


def test_what_works_is_found_and_what_does_nothing_is_not():
    compounds = {"works": WORKS} | {f"c{k:02d}": NOTHING for k in range(20)}
    p = screen(compounds, 12, {"HRCE": 3}, n_features=8)
    table = hits(p)
    assert list(table) == list(HEADER)
    for _, one in table.groupby("caller"):
        assert (one.loc[one["compound"] == "works", "p_value"].iloc[1:] < 0.01).all()
        assert one.loc[one["compound"] != "works", "hit"].sum() <= 2
        np.testing.assert_allclose(one["q_value"], stats.false_discovery_control(one["p_value"]))
    works = (table["compound"] == "works") & (table["caller"] == "distance")
    assert table.loc[works, "hit"].tolist() == [False, True, True]
    shuffled = p[np.random.default_rng(0).permutation(p.n_obs)].copy()
    np.testing.assert_allclose(hits(shuffled)["p_value"], table["p_value"], err_msg="order of rows")
    assert (hits(p, seed=1)["score"] == table["score"]).all()


@settings(max_examples=10)
@given(controls=st.integers(1, 5), plates=st.integers(1, 2), replicates=st.integers(1, 3))
def test_no_p_is_below_its_floor(controls, plates, replicates):
    p = screen({"works": (0.01, 2.0, 9.0)}, controls, {"HRCE": plates}, doses=(5.0,) * replicates)
    ways = math.comb(controls + replicates, replicates) ** plates
    for row in hits(p).itertuples():
        assert row.n_wells == plates * replicates and row.n_controls == plates * controls
        if row.caller == "replicates" and row.n_wells == 1:
            assert np.isnan(row.p_value) and row.reason == "one well has no replicate to find" and not row.hit
            continue
        assert row.p_floor == pytest.approx(1 / min(ways, 10_000)) and row.p_value >= row.p_floor - 1e-12
        assert ("no p below" in row.reason) == (row.p_floor >= 0.05)


def test_plates_without_controls_and_doses_nobody_knows():
    p = screen({"x": WORKS, "y": WORKS})
    lost = ((p.obs["plate"] == 2) & (p.obs["role"] == "C-")).to_numpy()
    some = p[~lost].copy()
    some.obs.loc[some.obs["compound"] == "y", "concentration_uM"] = np.nan
    table = hits(some)
    y = table[table["compound"] == "y"]
    assert len(y) == 2 and y["concentration_uM"].isna().all() and (y["n_wells"] == 6).all()
    assert (table["n_controls"] == 8).all() and table.loc[table["caller"] == "distance", "p_value"].notna().all()
    x = table[(table["compound"] == "x") & (table["caller"] == "distance")]
    assert np.allclose(x["p_floor"], 1 / 9), "the plate without controls says nothing"
    alone = some[~((some.obs["plate"] == 1) & (some.obs["compound"] == "x"))].copy()
    reasons = hits(alone).set_index("compound")["reason"]
    assert set(reasons["x"]) == {"no negative control on its plates"}
    with pytest.raises(ValueError, match="no treated well shares its plate with a negative control"):
        hits(p[(p.obs["role"] != "C-").to_numpy()].copy())


def test_features_that_never_change_find_nothing():
    p = screen({"x": WORKS})
    p.X[:] = 1.0
    assert (hits(p)["p_value"] == 1).all()


def test_help_says_what_each_evaluation_needs(capsys):
    with pytest.raises(SystemExit):
        app.cli(args=["evaluate", "hits", "--help"])
    shown = capsys.readouterr().out
    for name in EVALUATIONS:
        assert re.search(rf"^- {name}: \w", shown, re.M), name
