"""Separability finds what is there, nothing where nothing is, and is not fooled by wells or plates it remembers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC
from synthetic_profiles import make_profiles

from gandl_lib.evaluate import EVALUATIONS, bootstrap, svm
from gandl_lib.evaluate.reference import normalise_apart
from gandl_lib.evaluate.separability import HEADER, TASKS, Task, separability
from gandl_lib.profiles import normalise
from gandl_lib.splits import by_well

DESIGN_HEADER = (
    "method,task,split,normalisation,accuracy,ci_low,ci_high,balanced_accuracy,auroc,majority_rate,n_train_wells,"
    "n_test_wells"
)
ONE = {"C+ vs C-": TASKS["C+ vs C-"]}
OWN_SCREENS = {"moa", "distances", "clusters"}
"""They ask for mechanisms, or for similar drugs: tested in test_moa and test_drugs."""


def within_chance(accuracy: float, n_wells: int) -> bool:
    """Is it what a fair coin a well would give, but for one case in 10,000?"""
    low, high = binom.ppf([0.00005, 0.99995], n_wells, 0.5) / n_wells
    return low <= accuracy <= high


@pytest.fixture(scope="module")
def tables() -> dict:
    """What `gandl evaluate` writes, by name of the evaluation, for one method."""
    p = make_profiles("ours", compounds={"cure": (1.0, 1.5, 0.9)}, sites=1)
    return {name: evaluate([p], ("all",), None, 0) for name, evaluate in EVALUATIONS.items() if name not in OWN_SCREENS}


def test_every_evaluation_runs_by_its_command_line_name(tables):
    assert set(tables) | OWN_SCREENS == set(EVALUATIONS)
    for name, named in tables.items():
        assert "{out}" in named, f"{name} has a main table"
        for table in named.values():
            assert len(table) and "ours" in set(table["method"])


def test_the_table_has_the_header_of_the_design_and_a_row_for_everything(tables):
    table = tables["separability"]["{out}"]
    assert ",".join(table.columns).startswith(DESIGN_HEADER) and tuple(table.columns) == HEADER
    assert len(table) == 2 * len(TASKS) * 2
    assert list(dict.fromkeys(table["method"])) == ["ours", "shuffled labels"]
    assert list(dict.fromkeys(table["task"])) == list(TASKS)
    assert table["accuracy"].between(table["ci_low"] - 1e-9, table["ci_high"] + 1e-9).all()
    assert (table.loc[table["task"] == "HRCE vs VERO", "normalisation"] == "none").all()
    assert (table.loc[table["task"] != "HRCE vs VERO", "normalisation"] == "all").all()
    by_well_rows = table[(table["split"] == "well") & (table["task"] == "C+ vs C-")]
    assert (by_well_rows["n_train_wells"] + by_well_rows["n_test_wells"] == 4 * 24).all()
    assert table.loc[table["split"] == "plate", "n_test_wells"].max() == 4 * 24


@pytest.mark.parametrize("how", ["all", "controls", "tvn"])
@pytest.mark.parametrize("split", ["well", "plate"])
def test_a_clear_effect_is_found_and_none_is_not(how, split):
    screen = {"plates": {"HRCE": 2}, "roles": {"C+": 16, "C-": 32}}
    clear = separability(make_profiles(**screen, separation=8), how, [split], 0, 0, ONE, shuffled=False).iloc[0]
    assert clear["accuracy"] > 0.95 and clear["auroc"] > 0.98 and clear["balanced_accuracy"] > 0.95
    none = separability(make_profiles(**screen, separation=0), how, [split], 0, 0, ONE, shuffled=False).iloc[0]
    assert within_chance(none["balanced_accuracy"], none["n_test_wells"])


@pytest.mark.parametrize("split", ["well", "plate"])
def test_shuffled_labels_score_chance(split):
    p = make_profiles(roles={"C+": 20, "C-": 20}, separation=2)
    rows = separability(p, splits=[split], tasks=ONE, n_bootstrap=50).set_index("method")
    assert rows.loc["synthetic", "accuracy"] > 0.7
    assert within_chance(rows.loc["shuffled labels", "accuracy"], rows.loc["shuffled labels", "n_test_wells"])


def test_the_majority_rate_and_the_auroc_are_those_of_the_test_sites():
    p = make_profiles(roles={"C+": 4, "C-": 16}, separation=2)
    row = separability(p, splits=["well"], tasks=ONE, n_bootstrap=0, shuffled=False).iloc[0]
    test = by_well(p.obs)
    y = (p.obs["role"] == "C+").to_numpy()
    X = normalise(p, "all").X
    cost = svm.choose_cost(X[~test], y[~test], p.obs["well_id"].to_numpy()[~test])
    mean, sd = X[~test].mean(axis=0), X[~test].std(axis=0)
    twin = LinearSVC(C=cost / (~test).sum(), class_weight="balanced").fit((X[~test] - mean) / sd, y[~test])
    value = twin.decision_function((X[test] - mean) / sd)
    assert row["majority_rate"] == pytest.approx(1 - y[test].mean()) == pytest.approx(0.8)
    assert row["auroc"] == pytest.approx(roc_auc_score(y[test], value), abs=0.005)
    assert row["accuracy"] == pytest.approx(((value > 0) == y[test]).mean(), abs=1 / test.sum())
    assert np.isnan(row["ci_low"])


def test_remembering_wells_does_not_help():
    """Sites of a well are alike and wells differ wildly: a split by site would score 100 %."""
    p = make_profiles(roles={"C+": 20, "C-": 20}, separation=0, sites=4, n_features=150)
    rng = np.random.default_rng(0)
    marks = {well: rng.standard_normal(p.n_vars) * 5 for well in p.obs["well_id"].unique()}
    p.X += np.array([marks[w] for w in p.obs["well_id"]], np.float32)
    row = separability(p, splits=["well"], tasks=ONE, n_bootstrap=50, shuffled=False).iloc[0]
    assert within_chance(row["accuracy"], row["n_test_wells"])


def test_remembering_plates_helps_on_known_plates_only():
    """No infection to see, but C+ fills some plates and C- others: only the split by plate notices."""
    p = make_profiles(plates={"HRCE": 16}, roles={"C+": 8, "C-": 8}, separation=0, sites=1, n_features=40)
    plate, k = p.obs["plate"].to_numpy(), p.obs.groupby(["plate", "role"]).cumcount().to_numpy()
    keep = np.where(p.obs["role"] == "C+", plate % 2 == 0, plate % 2 == 1) | (k < 1)
    table = separability(p[keep].copy(), "none", tasks=ONE, n_bootstrap=0, shuffled=False).set_index("split")
    assert table.loc["well", "balanced_accuracy"] > 0.8
    assert table.loc["plate", "balanced_accuracy"] < 0.65


@pytest.mark.parametrize("how", ["controls", "tvn"])
def test_reference_wells_neither_train_nor_are_scored(how):
    p = make_profiles(roles={"C+": 8, "C-": 24})
    test = by_well(p.obs)
    normalised, reference = normalise_apart(p, how, test, seed=0)
    assert (p.obs["role"][reference] == "C-").all() and not (reference & test).any()
    changed = p.copy()
    changed.X[~reference] *= 2  # whatever happens to the other wells, the zero of the plates stays
    again, _ = normalise_apart(changed, how, test, seed=0)
    np.testing.assert_allclose(again.X[reference], normalised.X[reference], atol=1e-4)
    n_reference = p.obs["well_id"][reference].nunique()
    table = separability(p, how, tasks=ONE, n_bootstrap=0, shuffled=False).set_index("split")
    assert 4 * 2 <= n_reference < 4 * 24 / 2
    assert table.loc["well", ["n_train_wells", "n_test_wells"]].sum() == 4 * 32 - n_reference
    assert table.loc["plate", "n_test_wells"] == 4 * 32 - n_reference


def test_wells_that_set_the_zero_lie_nearer_to_it_than_their_like():
    """Why reference wells exist: of wells treated alike, those that set the zero differ from those that did not."""
    p = make_profiles(roles={"C+": 16, "C-": 16}, sites=1, n_features=40)
    test, infected = by_well(p.obs), (p.obs["role"] == "C-").to_numpy()

    def spread(X: np.ndarray, rows: np.ndarray) -> float:
        return float((X[rows & infected] ** 2).mean())

    X = normalise(p, "controls", ~test).X
    assert spread(X, ~test) == pytest.approx(1, abs=1e-3) and spread(X, test) > 1.15
    apart, reference = normalise_apart(p, "controls", test, seed=0)
    assert spread(apart.X, ~test & ~reference) == pytest.approx(spread(apart.X, test), rel=0.15)


def test_missing_classes_are_skipped_aloud_and_no_class_at_all_is_an_error():
    with pytest.warns(UserWarning) as said:
        table = separability(make_profiles(plates={"VERO": 2}), splits=["well"], n_bootstrap=0)
    assert set(table["task"]) == {"C+ vs C-", "C+ vs C-, VERO"}
    messages = " ".join(str(w.message) for w in said)
    assert "task 'HRCE vs VERO' left out, no HRCE among the controls" in messages
    assert "task 'C+ vs C-, HRCE' left out, no C+ and no C- among controls of HRCE" in messages
    p = make_profiles(plates={"U2OS": 2}, roles={"untreated": 4})
    found = r"None of the tasks.*untreated \(16\).*U2OS \(16\)"
    with pytest.warns(UserWarning), pytest.raises(ValueError, match=found):
        separability(p)


def test_a_screen_of_one_plate_has_no_split_by_plate():
    p = make_profiles(plates={"HRCE": 1})
    one_plate = pytest.warns(UserWarning, match="Only one held-out plate")
    with one_plate, pytest.warns(UserWarning, match="no split by plate for task 'C\\+ vs C-'"):
        table = separability(p, tasks=ONE, n_bootstrap=50)
    assert list(table["split"]) == ["well", "well"]


def test_any_two_values_of_a_column_can_be_a_task():
    task = {"experiments": Task("experiment", "HRCE-1", "VERO-1")}
    row = separability(make_profiles(), "none", ["well"], tasks=task, n_bootstrap=50).iloc[0]
    assert row["task"] == "experiments" and row["accuracy"] == 1


def test_wrong_arguments_are_explained():
    p = make_profiles()
    with pytest.raises(ValueError, match="Unknown split.*'site'; choose from well, plate"):
        separability(p, splits=["site"])
    with pytest.raises(ValueError, match="Unknown normalisation.*'zca'; choose from none, all, controls, tvn"):
        separability(p, ("all", "zca"))
    p.X[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        separability(p)
    del p.obs["role"]
    with pytest.raises(ValueError, match=r"lacks the column\(s\) role"):
        separability(p)


def test_the_same_seed_gives_the_same_table():
    p = make_profiles(separation=2)
    first, again = (separability(p, splits=["well"], tasks=ONE, n_bootstrap=50, seed=3) for _ in range(2))
    assert first.equals(again)


# ---- the bootstrap, the classifier ----


def test_the_interval_equals_a_plain_bootstrap_and_is_wider_than_one_over_sites():
    rng = np.random.default_rng(0)
    wells = np.repeat(np.arange(30), 4)
    values = np.repeat(rng.random(30) < 0.7, 4).astype(float)  # sites of a well agree
    low, high = bootstrap.interval(values, wells, 2000, seed=1)
    means = []
    for _ in range(2000):
        drawn = rng.choice(30, 30)
        means.append(np.concatenate([values[wells == w] for w in drawn]).mean())
    np.testing.assert_allclose([low, high], np.quantile(means, [0.025, 0.975]), atol=0.03)
    site_low, site_high = bootstrap.interval(values, np.arange(len(values)), 2000)
    assert high - low > 1.5 * (site_high - site_low)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        p_well = rng.beta(4, 2, 40)
        values = rng.random((40, 4)) < p_well[:, None]
        low, high = bootstrap.interval(values.ravel(), np.repeat(np.arange(40), 4), 200, seed)
        held += low <= 4 / 6 <= high
    assert 0.88 <= held / 200 <= 1


@pytest.mark.parametrize(("n", "n_features"), [(300, 5), (60, 200)])
def test_swapping_the_classes_negates_the_classifier(n, n_features):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3 == 0
    X = rng.standard_normal((n, n_features)) + y[:, None]
    one, other = svm.fit(X, y, 1.0).decision_function(X), svm.fit(X, ~y, 1.0).decision_function(X)
    np.testing.assert_allclose(one, -other, atol=0.02 * np.abs(one).max())


@pytest.mark.parametrize("n_folds", [2, 3, 5])
def test_inner_folds_keep_wells_whole_and_hold_every_class(n_folds):
    rng = np.random.default_rng(0)
    wells = np.repeat(np.arange(40), rng.integers(1, 6, 40))
    y = wells % 4 == 0
    folds = svm.well_folds(y, wells, n_folds)
    assert len(folds) == n_folds
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(y)))
    for train, test in folds:
        assert not set(wells[train]) & set(wells[test])
        assert set(y[train]) == set(y[test]) == {True, False}


def test_the_cost_suits_the_features():
    """Classes told apart by a small difference of two large features need a large cost; with it they are."""
    rng = np.random.default_rng(0)
    wells = np.repeat(np.arange(80), 2)
    y = wells % 2 == 0
    common = rng.standard_normal((160, 1))
    X = np.hstack([common + 0.2 * (y[:, None] - 0.5), common + 0.03 * rng.standard_normal((160, 1))])
    train = wells < 50
    cost = svm.choose_cost(X[train], y[train], wells[train])
    accuracy = {c: (svm.fit(X[train], y[train], c).predict(X[~train]) == y[~train]).mean() for c in svm.COSTS}
    assert accuracy[cost] > 0.95 and accuracy[svm.COSTS[0]] < 0.7
    assert svm.choose_cost(X[:4], y[:4], wells[:4]) == svm.DEFAULT_COST, "one well a class leaves nothing to hold out"


def test_shuffling_keeps_wells_together():
    wells = np.repeat(np.arange(50), 3)
    y = wells < 20
    shuffled = svm.shuffle_between_wells(y, wells, np.random.default_rng(0))
    assert shuffled.sum() == y.sum() and (shuffled != y).any()
    assert all(len(set(shuffled[wells == w])) == 1 for w in range(50))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_few_rows_of_many_features_find_the_same_plane(monkeypatch, n_classes):
    """In the directions that the rows span, and in all: one optimum, as both solvers come close to it."""
    monkeypatch.setattr(svm, "TOLERANCE", 1e-8)
    rng = np.random.default_rng(0)
    y = rng.integers(n_classes, size=40)
    X = rng.normal(size=(40, 200)) + y[:, None] * rng.normal(size=200)
    short = svm.fit(X, y, 10.0)
    monkeypatch.setattr(svm, "FEW_ROWS", np.inf)
    long = svm.fit(X, y, 10.0)
    seen = rng.normal(size=(30, 200))
    np.testing.assert_allclose(short.decision_function(seen), long.decision_function(seen), rtol=1e-3, atol=1e-3)
    assert (short.predict(seen) == long.predict(seen)).all() and set(short.predict(X)) == set(y)
