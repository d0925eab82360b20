"""Ways to call a hit: scores by slow twins, p by a loop, uniform under the null, and honest about few controls."""

from __future__ import annotations

import itertools
import json
import math
import re
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gandl_book import narrate
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.covariance import LedoitWolf
from synthetic_profiles import make_profiles

from gandl_lib.cli import app
from gandl_lib.evaluate import EVALUATIONS, callers, clouds
from gandl_lib.evaluate import hits as module
from gandl_lib.evaluate.axes import efficacy
from gandl_lib.evaluate.hits import HEADER, OF_ANY, OF_CELLS, OF_CELLS_WITH_POSITIVE, WITH_POSITIVE, hits
from gandl_lib.evaluate.replicates import average_precision, replicates
from gandl_lib.plots import sentences
from gandl_lib.profiles import aggregate, arms, normalise

ROOT = Path(__file__).resolve().parents[1]
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


def slow_energy(X, arm, members):
    X = np.stack([x - X[arm == a].mean(axis=0) for x, a in zip(X, arm, strict=True)])
    ours, theirs = X[members], np.delete(X, members, axis=0)

    def apart(A, B):
        return np.mean([[np.linalg.norm(a - b) for b in B] for a in A])

    return 2 * apart(ours, theirs) - apart(ours, ours) - apart(theirs, theirs)


def slow_ks(X, arm, members):
    others = np.delete(X, members, axis=0)
    return max(stats.ks_2samp(x, y).statistic for x, y in zip(X[members].T, others.T, strict=True))


def slow_earth_mover(X, arm, members):
    others = np.delete(X, members, axis=0)
    return np.mean([stats.wasserstein_distance(x, y) for x, y in zip(X[members].T, others.T, strict=True)])


SLOW = {"replicates": slow_agreement, "distance": slow_distance, "energy": slow_energy, "ks": slow_ks}


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
    for caller in ("replicates", "distance") if features > 3 else SLOW:
        score = SLOW[caller]
        true = score(X, arm, list(np.flatnonzero(mine)))
        permuted = np.array([score(X, arm, members) for members in ways])
        row = table.loc[caller]
        close = {"abs": 0.1 / len(doses) / 4} if caller == "ks" else {"rel": 1e-5}  # of equals one goes first
        assert row["score"] == pytest.approx(true, **close)
        assert row["by_chance"] == pytest.approx(permuted.mean(), **close)
        if caller == "ks":
            assert np.mean(permuted > true + 1e-6) < row["p_value"] <= np.mean(permuted >= true - 1e-6) + 1e-9
        else:
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
    for caller in OF_ANY:
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
    assert len(y) == 4 and y["concentration_uM"].isna().all() and (y["n_wells"] == 6).all()
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


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("rounded", [False, True])
def test_scores_are_those_of_slow_twins(n, rounded):
    """Labelled wells against scipy's two-sample statistics, one labelling at a time; rounded, many values are equal."""
    rng = np.random.default_rng(n)
    X, arm = rng.standard_normal((14, 6)), np.repeat([0, 1], 7)
    X, other = (X.round(), rng.standard_normal((9, 6)).round()) if rounded else (X, rng.standard_normal((9, 6)))
    one = rng.permuted(np.arange(7)[None].repeat(20, 0), axis=1)[:, : (n + 1) // 2]
    two = 7 + rng.permuted(np.arange(7)[None].repeat(20, 0), axis=1)[:, : n // 2]
    draws = np.hstack([one, two])
    assert draws.shape == (20, n)
    whole = callers.earth_mover(X, arm, draws)
    np.testing.assert_allclose(whole, [slow_earth_mover(X, arm, d) for d in draws], rtol=1e-5, atol=1e-6)
    to = callers.earth_mover(X, arm, draws, to=other)
    expected = [
        np.mean([stats.wasserstein_distance(x, y) for x, y in zip(X[d].T, other.T, strict=True)]) for d in draws
    ]
    np.testing.assert_allclose(to, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(callers.energy(X, arm, draws), [slow_energy(X, arm, d) for d in draws], atol=1e-9)
    step = 1 / (n * (14 - n))
    found, expected = callers.ks(X, arm, draws), [slow_ks(X, arm, d) for d in draws]
    assert ((found - expected > -1e-9) & (found - expected <= 0.1 * step)).all(), "only the tie-break on top"
    numbers = X[:, 0]
    np.testing.assert_allclose(callers.mean(numbers, arm, draws), [numbers[d].mean() for d in draws])
    apart = []
    for d in draws:
        parts = [(d[arm[d] == a], np.setdiff1d(np.flatnonzero(arm == a), d)) for a in np.unique(arm[d])]
        apart.append(abs(sum(len(o) / n * (numbers[o].mean() - numbers[t].mean()) for o, t in parts)))
    np.testing.assert_allclose(callers.difference(numbers, arm, draws), apart, atol=1e-12)


def with_positive(compounds, wells=16, plates=1, doses=(1.0, 1.0), **kwargs):
    roles = {"C+": wells, "C-": wells}
    return make_profiles(plates={"HRCE": plates}, roles=roles, compounds=compounds, doses=doses, **kwargs)


def test_callers_with_a_positive_control_compare_with_controls_that_taught_nothing():
    """p of efficacy by hand: all ways to give out the labels among the compound's wells and unseen C- wells."""
    p = with_positive({"half": (0.01, 2.0, -0.5), "nothing": NOTHING})
    table = hits(p).set_index(["caller", "compound"])
    scores = efficacy(p)
    unseen = scores[(scores["role"] == "C-") & (scores["split"] == "test")]["efficacy"]
    assert 0 < len(unseen) < 16 == table.loc[("distance", "half"), "n_controls"]
    for compound in ("half", "nothing"):
        mine = scores.loc[scores["compound"] == compound, "efficacy"]
        row = table.loc[("efficacy", compound)]
        assert row["n_controls"] == len(unseen) and row["score"] == pytest.approx(mine.mean())
        pool = [*mine, *unseen]
        permuted = [np.mean(pair) for pair in itertools.combinations(pool, 2)]
        assert row["p_value"] == pytest.approx(np.mean(np.array(permuted) >= mine.mean() - 1e-9))
        assert row["p_floor"] == pytest.approx(1 / len(permuted))
        low, high = stats.t.interval(0.95, 1, mine.mean(), mine.sem())
        assert (row["score_low"], row["score_high"]) == pytest.approx((low, high))
    assert table.loc["distance", "score_low"].isna().all()


def test_the_signature_is_reversed_by_what_cures_and_left_by_what_does_something_else():
    p = with_positive(
        {"cures": (0.01, 2.0, 1.0), "nothing": NOTHING, "other": NOTHING}, 24, 2, (5.0,) * 3, n_features=20
    )
    odd = (p.obs["compound"] == "other").to_numpy()
    table = hits(p).set_index(["caller", "compound"])
    assert table.loc[("reversal", "cures"), "score"] > 0.5 > 0.2 > abs(table.loc[("reversal", "nothing"), "score"])
    # A direction beside the axis: along features outside of the signature.
    normalised = normalise(p, "all")
    sick, well = (normalised.X[(p.obs["role"] == role).to_numpy()] for role in ("C-", "C+"))
    beside = [stats.ks_2samp(a, b).pvalue > 0.2 for a, b in zip(sick.T, well.T, strict=True)]
    assert sum(beside) >= 2
    p.X[np.ix_(odd, np.flatnonzero(beside))] += 8 * p.X[:, beside].std(axis=0)
    table = hits(p).set_index(["caller", "compound"])
    assert table.loc[("off-signature", "other"), "p_value"] < 0.01 < 0.05 < table.loc[("reversal", "other"), "p_value"]
    assert table.loc[("reversal", "cures"), "p_value"] < 0.01
    assert table.loc[("efficacy", "cures"), "hit"]
    assert table.loc[("distance", "other"), "hit"], "it does something"


def as_cells(p):
    """The same rows, called single cells of their wells."""
    p.obs["site_of"], p.obs["cell"] = p.obs["well_id"] + "_1", p.obs["site"]
    return p


def test_means_over_cells_are_no_clouds():
    """A well's mean keeps what its cells share, the site among it; it is asked as a well and not as a cloud of one."""
    p = as_cells(screen({"x": WORKS}, sites=5))
    assert set(hits(p)["caller"]) == {*OF_ANY, *OF_CELLS}
    assert set(hits(aggregate(p))["caller"]) == set(OF_ANY)


@pytest.mark.parametrize("n", [1, 3])
def test_scores_of_clouds_are_those_of_slow_twins(n):
    """Wells of unlike many cells weigh alike; scipy's distances know weights, its Kolmogorov-Smirnov does not."""
    rng = np.random.default_rng(n)
    sizes, arm = rng.integers(3, 90, 10), np.repeat([0, 1], 5)
    well = np.repeat(np.arange(10), sizes)
    X = (rng.standard_normal((10, 4))[well] + rng.standard_normal((len(well), 4))).astype(np.float32)
    distances, shares = clouds.Distances(X[::-1], well[::-1], arm), clouds.Shares.of(X[::-1], well[::-1])
    draws = np.stack([rng.permutation(10)[:n] for _ in range(6)])
    at, to = np.arange(10), (rng.standard_normal((50, 4)) + 1).astype(np.float32)
    centre = np.stack([np.mean([X[well == w].mean(axis=0) for w in at[arm == a]], axis=0) for a in (0, 1)])
    about = X - centre[arm[well]]
    F_to = (to[:, None] <= shares.grid).mean(axis=0)
    distances.among(at[4:8])  # some pairs of wells are known from before
    fast = [
        clouds.energy(distances, at, arm, draws),
        clouds.ks(shares, at, arm, draws),
        clouds.earth_mover(shares, at, arm, draws),
        clouds.earth_mover(shares, at, arm, draws, to=F_to),
    ]
    for members, energy, ks, work, work_to in zip(draws, *fast, strict=True):
        ours = np.isin(well, members)
        weight = 1 / sizes[well]

        def apart(a, b, weight=weight):
            lengths = np.linalg.norm(about[a][:, None] - about[b], axis=2)
            return np.average(np.average(lengths, axis=1, weights=weight[b]), weights=weight[a])

        expected = 2 * apart(ours, ~ours) - apart(ours, ours) - apart(~ours, ~ours)
        assert energy == pytest.approx(expected, rel=1e-3, abs=1e-5)
        F = np.stack([(X[well == w][:, None] <= shares.grid).mean(axis=0) for w in at])
        others = np.setdiff1d(at, members)
        assert ks == pytest.approx(np.abs(F[members].mean(axis=0) - F[others].mean(axis=0)).max(), rel=1e-4)
        sides = {"u_weights": weight[ours], "v_weights": weight[~ours]}
        exact = [stats.wasserstein_distance(x[ours], x[~ours], **sides) for x in X.T]
        assert work == pytest.approx(np.mean(exact), rel=0.15)
        exact = [stats.wasserstein_distance(x[ours], t, weight[ours]) for x, t in zip(X.T, to.T, strict=True)]
        assert work_to == pytest.approx(np.mean(exact), rel=0.15)


def test_cells_are_no_replicates():
    """Cells of a well go together: permuted by wells p is uniform; a test that counts cells finds anything."""
    plates = {f"L{k:03d}": 1 for k in range(100)}
    p = as_cells(screen({"x": NOTHING}, 10, plates, doses=(1.0, 1.0, 1.0), sites=10, n_features=4))
    table = hits(p)
    assert set(table["caller"]) == {*OF_ANY, *OF_CELLS}
    for caller in OF_CELLS:
        found = table.loc[table["caller"] == caller, "p_value"]
        assert len(found) == 100 and stats.kstest(found, "uniform").pvalue > 0.001, caller
    naive = []
    for _, one in p.obs.groupby("plate_id"):
        x, treated = p[one.index].X[:, 0], (one["role"] == "treated").to_numpy()
        naive.append(stats.ks_2samp(x[treated], x[~treated]).pvalue)
    assert np.mean(np.array(naive) < 0.05) > 0.3


def test_what_a_few_cells_of_each_well_answer_is_found_by_their_cloud():
    """A tenth of the cells goes far one way and the others a little the other way: no well's mean moves."""
    roles = {"C+": 24, "C-": 24}
    p = make_profiles(plates={"HRCE": 1}, roles=roles, compounds={"few": NOTHING, "nothing": NOTHING},
                      doses=(1.0,) * 4, sites=40, n_features=6, noise=1.0)  # fmt: skip
    few = (p.obs["compound"] == "few").to_numpy() & (p.obs["site"] <= 4).to_numpy()
    rest = (p.obs["compound"] == "few").to_numpy() & ~few
    p.X[few] += 9 * p.X.std(axis=0)
    p.X[rest] -= p.X.std(axis=0)
    table = hits(as_cells(p)).set_index(["caller", "compound"])
    assert (table.loc[["cell-energy", "cell-ks"]].xs("few", level=1)["p_value"] < 0.001).all()
    assert (table.loc[["distance", "energy"]].xs("few", level=1)["p_value"] > 0.05).all()
    assert (table.xs("nothing", level=1)["p_value"] > 0.01).all()


def test_the_signature_of_cells_knows_what_cures():
    p = with_positive({"cures": (0.01, 2.0, 1.0), "nothing": NOTHING}, 24, 2, (5.0,) * 3, n_features=20, sites=8)
    table = hits(as_cells(p)).set_index(["caller", "compound"])
    assert table.loc[("cell-reversal", "cures"), "score"] > 0.5 > 0.3 > table.loc[("cell-reversal", "nothing"), "score"]
    assert table.loc[("cell-reversal", "cures"), "p_value"] < 0.01 < table.loc[("cell-reversal", "nothing"), "p_value"]
    for caller in OF_CELLS_WITH_POSITIVE:  # compared with the same controls as those of wells' means
        by_mean = table.loc[(caller.removeprefix("cell-"), "cures")]
        assert table.loc[(caller, "cures"), "n_controls"] == by_mean["n_controls"] < 24


def test_plain_callers_belong_to_the_methods_that_are_one_number():
    p = screen({"x": WORKS, "nothing": NOTHING}, n_features=2, method="cell-count")[:, :1].copy()
    table = hits(p)
    assert {"cell-count", "distance"} <= set(table["caller"]) and "brightness" not in set(table["caller"])
    assert set(table[table["caller"] == "replicates"]["reason"]) == {"one number has no direction to agree in"}
    wells = aggregate(normalise(p, "all"))
    count, arm = wells.X[:, 0].astype(float), arms(wells.obs)
    at = ((wells.obs["compound"] == "x") & (wells.obs["concentration_uM"] == 10)).to_numpy()
    negative = (wells.obs["role"] == "C-").to_numpy()
    apart = [count[at & (arm == a)].mean() - count[negative & (arm == a)].mean() for a in (0, 1)]
    row = table[(table["caller"] == "cell-count") & (table["compound"] == "x") & (table["concentration_uM"] == 10)]
    assert row["score"].item() == pytest.approx(abs(np.mean(apart)), rel=1e-5)

    p = screen({"x": WORKS}, n_features=22, method="intensity")
    p.uns["provenance"] = json.dumps({"method": "intensity", "limits": [[0, 1], [0, 1]]})
    only = hits(p, only=("brightness",))
    for unclear in ({}, {"limits": [[0, 1]] * 3}):  # 22 statistics are not those of three channels
        other = p.copy()
        other.uns["provenance"] = json.dumps({"method": "intensity"} | unclear)
        told = hits(other, only=("brightness",))
        assert told["p_value"].isna().all() and told["reason"].str.contains("do not say which").all()
    means = p[:, [0, 11]].copy()
    means.X = np.repeat(means.X.mean(axis=1, keepdims=True), 2, axis=1)
    assert set(only["caller"]) == {"brightness"} and len(only) == 3
    shuffled = p[:, [0, *range(12, 22), 11, *range(1, 11)]].copy()  # other statistics, the same means
    shuffled.X[:, [k for k in range(22) if k not in (0, 11)]] = 7.0
    np.testing.assert_allclose(hits(shuffled, only=("brightness",))["p_value"], only["p_value"])


def test_callers_that_are_not_there_are_refused_by_name():
    p = screen({"x": WORKS})
    with pytest.raises(ValueError, match="Unknown caller.* map; choose from distance, replicates"):
        hits(p, only=("map",))
    with pytest.raises(ValueError, match="allow none of the callers efficacy"):
        hits(p, only=("efficacy",))


def test_an_axis_without_order_judges_nobody():
    p = with_positive({"x": NOTHING}, separation=0.0, seed=2)
    table = hits(p).set_index("caller")
    assert table.loc["efficacy", "reason"] == "the axis does not order unseen controls"
    assert np.isnan(table.loc["efficacy", "p_value"]) and not table.loc["efficacy", "hit"]
    assert table.loc["reversal", "reason"] == "no feature differs between C+ and C-"
    assert table.loc["distance", "p_value"] > 0


def test_with_a_positive_control_too_p_is_uniform_where_nothing_happens(monkeypatch):
    monkeypatch.setattr(module, "PERMUTATIONS", 199)
    plates = {f"L{k:03d}": 1 for k in range(40)}
    roles, kwargs = {"C+": 24, "C-": 24}, {"n_features": 20, "separation": 5.0, "sites": 1}
    p = make_profiles("synthetic", plates, roles, {"x": NOTHING}, (1.0, 1.0, 1.0), **kwargs)
    table = hits(p, only=WITH_POSITIVE)
    for caller in WITH_POSITIVE:
        found = table.loc[table["caller"] == caller, "p_value"].dropna()
        assert len(found) >= 38
        assert stats.kstest(found, "uniform").pvalue > 0.001, caller
        assert (found <= 0.05).sum() <= stats.binom.ppf(0.999, len(found), 0.05)


def test_the_report_names_the_caller_that_it_takes_and_counts_the_others():
    rows = [(caller, "x", dose, q) for caller in ("distance", "energy") for dose, q in ((1.0, 0.2), (10.0, 0.01))]
    rows.append(("energy", "y", 1.0, 0.001))
    table = pd.DataFrame(rows, columns=["caller", "compound", "concentration_uM", "q_value"])
    table = table.assign(method="gandl", cell_type="HRCE", p_value=table["q_value"], hit=table["q_value"] < 0.05)
    table = table.assign(score=1.0, by_chance=0.5, p_floor=0.001)
    said = repr(sentences.hits_without_axis(table))
    assert "By distance" in said and "1 dose of 1 compounds stand out, among 2 judged" in said and "energy 2" in said
    shown = sentences.hits_without_axis_table(table)
    assert shown["dose (µM)"].tolist() == [10.0, 1.0] and shown["stands out"].tolist() == [True, False]
    assert shown["also called by"].iloc[0] == "energy" and shown["also called by"].isna().iloc[1]


def test_advice_follows_the_table():
    """Of two callers that swap their powers, the other one is named; and what kills is said to pass only if it does."""
    rows = [("power", c, None, e, v, np.nan, np.nan, 9) for e in ("strong", "kills")
            for c, v in (("distance", 0.3), ("energy", 0.1), ("efficacy", 0.9), ("reversal", 0.2))]  # fmt: skip
    rows.append(("lead", "energy", "distance", "strong", -0.2, -0.3, -0.1, 9))
    rows.append(("fpr_of_screens", "energy", None, "nothing", 0.05, 0.0, 0.4, 5))
    table = pd.DataFrame(rows, columns=["measure", "caller", "other", "effect", "value", "low", "high", "n"])
    table = table.assign(method="gandl", controls=32, replicates=3)
    said = repr(narrate.advice(table))
    assert "efficacy finds 90 %" in said and "without one: distance 30 %" in said
    assert "neither p tells death from a cure" in said
    assert "none leads it beyond its interval; it leads them all on strong effects with 32 controls" in said
    assert "rests on 5 simulated screens" in said
    swapped = table.replace({"caller": {"distance": "energy", "energy": "distance", "efficacy": "reversal",
                                        "reversal": "efficacy"}})  # fmt: skip
    swapped.loc[(swapped["caller"] == "efficacy") & (swapped["effect"] == "kills"), "value"] = 0.0
    swapped.loc[swapped["measure"] == "lead", ["caller", "value", "low", "high"]] = ["energy", 0.2, 0.1, 0.3]
    said = repr(narrate.advice(swapped))
    assert (
        "reversal finds 90 %" in said and "without one: energy 30 %" in said and "the axis tells the two apart" in said
    )
    assert "these lead it: energy on strong effects with 32 controls, 20 points (10 to 30); nor does it lead" in said


def test_what_a_single_screen_can_do_is_said_beside_the_rate_over_all():
    rows = [("fpr", 0.04, 0.01, 0.09, 360), ("fpr_of_screens", 0.02, 0.0, 0.31, 5)]
    table = pd.DataFrame(rows, columns=["measure", "value", "low", "high", "n"])
    table = table.assign(method="gandl", caller="distance", controls=4, replicates=3)
    said = repr(narrate.error_rates(table))
    assert "In 1 of 1" in said and "No caller breaks its promise." in said
    assert "in a single screen the rate can be 31 % (distance by GAN-DL, 4 controls, 3 wells)" in said
    broken = repr(narrate.error_rates(table.assign(low=0.06)))
    assert "In 0 of 1" in broken and "Above it: distance" in broken and "at worst 4 %" in broken


def test_a_table_of_one_screen_is_called_so():
    """Draws of one screen, or several screens: the chapter says which its table has."""
    several = pd.DataFrame({"measure": ["fpr", "fpr_of_screens"], "n": [360, 5]})
    assert "so 5 were simulated" in repr(narrate.whose_wells(several))
    assert "one simulated screen" in repr(narrate.whose_wells(several[:1]))


def test_floors_are_counts_of_labellings():
    table = narrate.floors().set_index("C- wells")
    assert table.loc[4, "1 well"] == "0.2" and table.loc[8, "2 wells"] == f"{1 / 45:.2g}"
    assert table.loc[32, "4 wells"] == "0.0001"


def test_help_says_what_each_evaluation_needs(capsys):
    with pytest.raises(SystemExit):
        app.cli(args=["evaluate", "hits", "--help"])
    shown = capsys.readouterr().out
    for name in EVALUATIONS:
        assert re.search(rf"^- {name}: \w", shown, re.M), name


def test_help_calls_positional_arguments_by_their_names(capsys):
    for command, named in {
        "evaluate": "KIND PATHS ...",
        "profiles": "EMBEDDINGS METADATA OUT",
        "screen": "DATA",
    }.items():
        with pytest.raises(SystemExit):
            app.cli(args=[command, "--help"])
        assert named in capsys.readouterr().out.split("\n\n")[0]


def by_cell_table(cloud_lead=(-0.2, -0.3, -0.1), from_cells=(0.7, 0.6, 0.8)):
    """hit_calling.csv of one method, asked of sites and of cells."""
    strong = {"effect": "strong", "controls": 32, "replicates": 3}
    names = ("measure", "method", "caller", "value", "low", "high")
    rows = [
        ("power", "gandl", "efficacy", 0.5, 0.4, 0.59),
        ("power", "gandl-cells", "efficacy", *from_cells),
        ("power", "gandl-cells", "cell-ks", 0.1, 0.0, 0.2),
        ("fpr", "gandl-cells", "distance", 0.05, 0.02, 0.08),
        ("fpr", "gandl-cells", "cells-as-replicates", 0.93, 0.9, 0.96),
        ("lead", "gandl-cells", "cell-ks", *cloud_lead),
    ]
    return pd.DataFrame([dict(zip(names, row, strict=True)) | strong for row in rows])


def test_what_is_said_of_cells_follows_the_table():
    table = by_cell_table()
    shown = narrate.by_cell(table)
    assert shown["seen"].tolist() == ["sites, mean", "cells, mean", "cells, cloud"]
    assert shown["strong"].tolist() == ["50 (40 to 59)", "70 (60 to 80)", "10 (0 to 20)"]
    assert "calls, of what does nothing, 93 % (90 to 96)" in repr(narrate.cells_as_replicates(table))
    assert "instead of 5 %" in repr(narrate.cells_as_replicates(table))
    assert "No caller breaks its promise" in repr(narrate.error_rates(table)), "the one that is wrong on purpose apart"
    assert "No cloud of cells finds more" in repr(narrate.clouds_against_means(table))
    assert "less in 1 of 1" in repr(narrate.clouds_against_means(table))
    ahead = repr(narrate.clouds_against_means(by_cell_table(cloud_lead=(0.2, 0.1, 0.3))))
    assert "find more than the distance of their means in 1 of 1" in ahead and "+20 points (+10 to +30)" in ahead
    assert "gains more than chance by GAN-DL" in repr(narrate.cells_instead_of_sites(table))
    level = repr(narrate.cells_instead_of_sites(by_cell_table(from_cells=(0.6, 0.5, 0.7))))
    assert "No interval from cells lies above" in level
    asked = itertools.product(("distance", "cell-energy", "cell-ks"), (1.0, 2.0, 3.0, 4.0))
    plate = pd.DataFrame(asked, columns=["caller", "concentration_uM"]).assign(method="gandl-cells", compound="x")
    plate["hit"] = plate["concentration_uM"] > np.where(plate["caller"] == "distance", 2, 3)
    said = repr(narrate.means_or_clouds(plate))
    assert "Of 4 doses" in said and "distance of the means 2, cell-energy 1 and cell-ks 1" in said
    assert "Nowhere does looking at whole clouds find more" in said
    clouds_only = plate.assign(hit=plate["caller"] != "distance")
    assert "Clouds find more doses than means by" in repr(narrate.means_or_clouds(clouds_only))


# ---- the benchmark of callers ----


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "benchmarks" / "hit_calling.py"), run_name="imported")


def test_thresholds_call_five_percent_of_what_does_nothing(script, rng):
    """However often rows are drawn: as the slow twin finds on rows written out that often, ties called in part."""
    p, nothing = rng.integers(1, 40, 120) / 40, rng.random(120) < 0.7
    weights = np.vstack([np.ones(120), rng.integers(0, 4, (30, 120))])
    for w, called in zip(weights, script["calls"](p, nothing, weights), strict=True):
        assert np.isclose((w * called)[nothing].sum(), 0.05 * w[nothing].sum())
        null = np.sort(np.repeat(p[nothing], w[nothing].astype(int)))
        level = null[int(np.floor(0.05 * len(null)))]
        assert (called[p < level] == 1).all() and (called[p > level] == 0).all() and called[p == level].max() < 1 + 1e-9


def judged_screens(rng, found_in):
    """Rows of five screens with two callers: by energy, strong effects are found in the screens `found_in`."""
    rows = []
    for screen, k, effect in itertools.product("abcde", range(60), ("nothing", "strong")):
        for caller in ("distance", "energy"):
            clear = effect == "strong" and caller == "energy" and screen in found_in
            p = 0.005 if clear else rng.integers(3, 200) / 200
            rows.append((screen, f"sim-{effect}-{k}", 1.0, effect, caller, p, p < 0.01))
    columns = ["screen", "compound", "concentration_uM", "effect", "caller", "p_value", "hit"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(method="gandl", controls=32, replicates=3, draw=0, p_floor=0.005)


def test_the_benchmark_counts_screens_and_compares_callers_on_the_same_doses(script, rng):
    table = judged_screens(rng, "abcde")
    measured = {
        name: script["measured"](one, n_bootstrap=200)
        for name, one in {"all": table, "some": judged_screens(rng, "abc")}.items()
    }

    def row(measure, name="all", caller="energy"):
        return measured[name].query("measure == @measure and caller == @caller").iloc[0]

    power, lead = row("power"), row("lead")
    assert power["value"] == 1 and power["n"] == 300, "namesakes of two screens are two compounds"
    assert lead["low"] > 0.8 and lead["other"] == "distance"
    assert np.isclose(lead["value"], 1 - row("power", caller="distance")["value"])
    # Three screens of five: an interval over doses alone would be 0.6 +- 0.06.
    power, each = row("power", "some"), row("power_of_screens", "some")
    assert 0.55 < power["value"] < 0.68 and power["high"] - power["low"] > 0.4
    assert each["n"] == 5 and each["high"] == 1 and each["low"] < 0.2
    null = table[(table["effect"] == "nothing") & (table["caller"] == "energy")]
    by_hand = (null["p_value"] <= 0.05).groupby(null["screen"]).mean()
    each = row("fpr_of_screens")[["value", "low", "high"]].astype(float)
    assert np.allclose(each, [by_hand.median(), by_hand.min(), by_hand.max()])


def test_the_benchmark_sorts_doses_by_the_truth(script):
    truth = pd.DataFrame(
        [("HRCE", "cures", True, 1.0, 1.0, 1.0, np.nan), ("HRCE", "kills", False, np.nan, np.nan, 0.0, 3.0),
         ("HRCE", "inert", False, np.nan, np.nan, 0.0, np.nan), ("VERO", "inert", True, 1.0, 1.0, 1.0, np.nan)],
        columns=["cell_type", "compound", "effective", "ec50_uM", "hill", "emax", "toxic_uM"],
    )  # fmt: skip
    doses = [
        ("cures", 0.01),
        ("cures", 0.25),
        ("cures", 1.0),
        ("cures", 30.0),
        ("kills", 30.0),
        ("kills", 0.3),
        ("inert", 9),
    ]
    wells = pd.DataFrame(doses, columns=["compound", "concentration_uM"])
    found = script["effects"](wells, truth)
    assert found.fillna("-").tolist() == ["-", "slight", "half", "strong", "kills", "-", "nothing"]


def test_the_benchmark_refuses_screens_that_it_cannot_judge(script, tmp_path):
    args = script["Args"]
    with pytest.raises(ValueError, match=r"truth\.csv.*gandl\.h5ad"):
        script["main"](args(tmp_path / "out.csv", (tmp_path / "a",)))
    with pytest.raises(ValueError, match="names; found a, a"):
        script["main"](args(tmp_path / "out.csv", (tmp_path / "a", tmp_path / "b" / "a")))
    assert not list(tmp_path.iterdir())
