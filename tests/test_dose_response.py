"""A curve without noise is recovered; noise is not called a hit; intervals, toxicity and edges mean what they say."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests
from synthetic_profiles import DOSES, log_logistic, make_profiles

from gandl_lib.evaluate.dose_response import (
    HEADER,
    POINTS_HEADER,
    _aicc,
    curves,
    dose_points,
    dose_response,
    evaluate_truth,
    fit,
    points,
    shape,
    toxic_from,
)

DESIGN_HEADER = (
    "method,cell_type,compound,ec50_uM,ec50_low,ec50_high,hill,emax,efficacy_max,p_value,q_value,hit,"
    "toxic_from_uM,n_wells"
)


def efficacy_table(compounds: dict, replicates: int = 4, noise: float = 0.4, seed: int = 0, controls: int = 60):
    """An efficacy table as `axes.efficacy` gives it: name to (doses, true efficacies)."""
    rng = np.random.default_rng(seed)
    rows = [("C-", "", np.nan, -1.0)] * controls + [("C+", "", np.nan, 1.0)] * 20
    for name, (doses, scores) in compounds.items():
        rows += [("treated", name, c, e) for c, e in zip(doses, scores, strict=True) for _ in range(replicates)]
    table = pd.DataFrame(rows, columns=["role", "compound", "concentration_uM", "efficacy"])
    table["efficacy"] += noise * rng.standard_normal(len(table))
    return table.assign(method="m", cell_type="HRCE", split="test", well_id=[f"w{k}" for k in range(len(table))])


def one(doses, scores, **kwargs) -> pd.Series:
    return curves(efficacy_table({"x": (doses, scores)}, **kwargs)).iloc[0]


WORKS = log_logistic(DOSES, 0.5, 1.5, 0.9)
FLAT = np.full(len(DOSES), -1.0)


# ---- the curve ----


@settings(max_examples=60)
@given(
    position=st.floats(0.15, 0.85), hill=st.floats(0.5, 5), bottom=st.floats(-3, 1), rise=st.floats(0.05, 5),
    step=st.floats(0.3, 0.7), n_doses=st.integers(6, 10), replicates=st.integers(1, 3),
)  # fmt: skip
def test_a_curve_without_noise_is_recovered(position, hill, bottom, rise, step, n_doses, replicates):
    doses = 10.0 ** (np.arange(n_doses) * step - 2)
    ec50 = 10.0 ** (position * (n_doses - 1) * step - 2)
    c = np.repeat(doses, replicates)
    got = fit(c, log_logistic(c, ec50, hill, bottom + rise, bottom))
    assert got.ec50_uM == pytest.approx(ec50, rel=1e-3)
    assert got.hill == pytest.approx(hill, rel=1e-3)
    assert got.emax == pytest.approx(bottom + rise, abs=1e-3 * rise)
    assert got.bottom == pytest.approx(bottom, abs=1e-3 * rise)
    assert got.ec50_low == pytest.approx(ec50, rel=0.01) and got.ec50_high == pytest.approx(ec50, rel=0.01)
    np.testing.assert_allclose(got(c), log_logistic(c, ec50, hill, bottom + rise, bottom), atol=1e-4 * rise)


@given(st.integers(0, 10_000))
@settings(max_examples=15)
def test_no_other_start_finds_a_better_curve(seed):
    rng = np.random.default_rng(seed)
    c = np.repeat(DOSES, 3)
    e = log_logistic(c, 10 ** rng.uniform(-1, 1), rng.uniform(0.7, 3), rng.uniform(0, 1)) + 0.3 * rng.standard_normal(
        24
    )
    got = fit(c, e)
    best = np.inf
    for _ in range(6):

        def residuals(v):
            return e - log_logistic(c, np.exp(v[0]), np.exp(v[1]), v[2] + np.exp(v[3]), v[2])

        start = [np.log(rng.choice(DOSES)), rng.uniform(-0.5, 1), e.min(), np.log(np.ptp(e))]
        low, high = np.log(min(DOSES) / 10), np.log(max(DOSES) * 10)
        bounds = [low, np.log(0.3), -np.inf, -np.inf], [high, np.log(8), np.inf, np.inf]
        best = min(best, 2 * optimize.least_squares(residuals, start, bounds=bounds).cost)
    assert ((e - got(c)) ** 2).sum() <= best * (1 + 1e-6)


def test_p_flat_is_the_f_test_of_its_residuals():
    c = np.repeat(DOSES, 3)
    e = log_logistic(c, 1, 1, 0.3) + 0.6 * np.random.default_rng(0).standard_normal(24)
    got = fit(c, e)
    curve, flat = ((e - got(c)) ** 2).sum(), ((e - e.mean()) ** 2).sum()
    assert got.p_flat == pytest.approx(stats.f.sf((flat - curve) / 3 / (curve / 20), 3, 20), rel=1e-6)


@settings(max_examples=20)
@given(st.floats(-3, 3), st.floats(-2, 2), st.floats(-5, 5))
def test_units_of_dose_and_score_do_not_matter(log_unit, log_scale, shift):
    c = np.repeat(DOSES, 2)
    e = log_logistic(c, 1, 1.5, 0.9) + 0.2 * np.random.default_rng(0).standard_normal(16)
    before, after = fit(c, e), fit(c * np.exp(log_unit), e * np.exp(log_scale) + shift)
    for name in ("ec50_uM", "ec50_low", "ec50_high"):
        assert getattr(after, name) == pytest.approx(getattr(before, name) * np.exp(log_unit), rel=1e-3)
    assert after.hill == pytest.approx(before.hill, rel=1e-3)
    assert after.emax == pytest.approx(before.emax * np.exp(log_scale) + shift, abs=1e-3 * np.exp(log_scale))
    assert after.p_flat == pytest.approx(before.p_flat, rel=1e-3)


def test_the_interval_holds_the_true_ec50_as_often_as_it_says():
    rng = np.random.default_rng(0)
    c, held = np.repeat(DOSES, 3), 0
    for _ in range(100):
        ec50 = 10 ** rng.uniform(-1, 0.5)
        got = fit(c, log_logistic(c, ec50, 1.5, 0.9) + 0.4 * rng.standard_normal(24))
        held += got.ec50_low <= ec50 <= got.ec50_high
    low, high = stats.binom.ppf([0.001, 1], 100, 0.95)
    assert low <= held <= high


def test_bad_input_to_a_fit_is_explained():
    with pytest.raises(ValueError, match="needs 4 doses; found 2: 1, 3 uM"):
        fit([1, 3, 3], [0, 1, 1])
    with pytest.raises(ValueError, match=r"equally long; they are \(5,\) and \(4,\)"):
        fit(range(1, 6), range(4))
    for c, e in (([0, 1, 2, 3], [0, 0, 0, 0]), ([1, 2, 3, 4], [0, np.nan, 0, 0])):
        with pytest.raises(ValueError, match="Doses must be positive and all values finite"):
            fit(c, e)


# ---- hits ----


def test_the_table_has_the_header_of_the_design():
    table = curves(efficacy_table({"works": (DOSES, WORKS), "inert": (DOSES, FLAT)})).set_index("compound")
    assert ",".join(table.reset_index()[list(HEADER)]).startswith(DESIGN_HEADER)
    works, inert = table.loc["works"], table.loc["inert"]
    assert works["hit"] and works["q_value"] < 1e-6 and works["efficacy_max"] > 0.5
    assert works["ec50_low"] < 0.5 < works["ec50_high"] and abs(np.log10(works["ec50_uM"] / 0.5)) < 0.3
    assert not inert["hit"] and inert["q_value"] > 0.05
    assert inert[["ec50_uM", "ec50_low", "ec50_high", "hill", "emax", "bottom"]].isna().all()
    assert (table[["n_wells", "n_doses"]] == [32, 8]).all(axis=None)


def test_noise_is_no_hit():
    inert = {f"c{k}": (DOSES[:6], np.full(6, 0.0)) for k in range(80)}
    table = curves(efficacy_table(inert, noise=1.0, replicates=3))
    assert (table["efficacy_max"] > 0).mean() > 0.9, "every flat line on the threshold has a dose above it by chance"
    assert (table["p_value"] < 0.05).sum() <= stats.binom.ppf(0.999, 80, 0.05)
    assert table["hit"].sum() <= 2


def test_q_values_are_those_of_statsmodels():
    rng = np.random.default_rng(0)
    compounds = {f"c{k}": (DOSES, FLAT + (WORKS - FLAT) * rng.uniform(0, 0.6)) for k in range(25)}
    table = curves(efficacy_table(compounds))
    np.testing.assert_allclose(table["q_value"], multipletests(table["p_value"], method="fdr_bh")[1], rtol=1e-9)
    assert table["q_value"].between(1e-9, 0.5).any()


def test_a_significant_rise_below_the_threshold_is_no_hit():
    row = one(DOSES, log_logistic(DOSES, 0.5, 1.5, -0.6), noise=0.05)
    assert row["q_value"] < 1e-3 and row["efficacy_max"] < 0 and not row["hit"]


def test_what_works_at_every_dose_is_a_hit_with_an_ec50_below_them():
    row = one(DOSES, np.full(8, 0.8))
    assert row["hit"] and row["ec50_censored"] == "<min" and np.isnan(row["ec50_uM"])


@pytest.mark.parametrize(("ec50", "censored"), [(max(DOSES) * 2, ">max"), (min(DOSES) / 2, "<min")])
def test_an_ec50_outside_the_doses_is_censored(ec50, censored):
    row = one(DOSES, log_logistic(DOSES, ec50, 2, 6.0), noise=0.05)
    assert row["ec50_censored"] == censored and np.isnan(row["ec50_uM"]) and row["hit"]
    assert row["ec50_high"] == np.inf if censored == ">max" else row["ec50_low"] == 0


def test_an_interval_the_data_leave_open_is_infinite():
    row = one(DOSES, log_logistic(DOSES, max(DOSES) * 0.7, 1, 1.0), noise=0.4, seed=3)
    assert row["ec50_high"] == np.inf and 0 < row["ec50_low"] < max(DOSES)


# ---- toxicity ----


def test_rise_then_fall_is_flagged_and_does_not_spoil_the_curve():
    scores = np.array(WORKS)
    scores[-2:] = -3.0
    row, clean = one(DOSES, scores, noise=0.2), one(DOSES[:-2], WORKS[:-2], noise=0.2)
    assert row["toxic_from_uM"] == pytest.approx(DOSES[-2])
    assert row["hit"] and row["n_wells"] == 32
    assert row["ec50_uM"] == pytest.approx(clean["ec50_uM"], rel=0.5)
    assert np.isnan(clean["toxic_from_uM"])


def test_toxicity_of_what_never_worked_is_flagged_too():
    row = one(DOSES, np.r_[FLAT[:-1], -4.0], noise=0.2)
    assert row["toxic_from_uM"] == pytest.approx(DOSES[-1]) and not row["hit"]


@pytest.mark.parametrize("scores", [FLAT, WORKS])
def test_false_alarms_of_toxicity_are_rare(scores):
    rng = np.random.default_rng(0)
    c, e = np.repeat(DOSES, 3), np.repeat(scores, 3)
    alarms = sum(np.isfinite(toxic_from(c, e + rng.standard_normal(24))) for _ in range(400))
    assert alarms <= stats.binom.ppf(0.999, 400, 0.01)


def test_single_wells_borrow_the_spread_of_the_controls():
    scores = np.r_[WORKS[:-1], -3.0]
    controls = np.random.default_rng(0).normal(-1, 0.2, 50)
    assert np.isnan(toxic_from(DOSES, scores))
    assert toxic_from(DOSES, scores, controls) == DOSES[-1]
    assert np.isnan(toxic_from(DOSES, scores, controls * 50))


def test_a_dip_in_the_middle_is_not_toxicity():
    scores = np.array(WORKS)
    scores[5] = -3
    assert np.isnan(toxic_from(np.repeat(DOSES, 3), np.repeat(scores, 3) + 0.1 * np.tile([-1, 0, 1], 8)))


# ---- few doses, no doses ----


def test_a_compound_of_one_dose_is_named_and_tested_against_controls():
    compounds = {"one": ([10.0], [0.8]), "none": ([10.0], [-1.0]), "full": (DOSES, WORKS)}
    wells = efficacy_table(compounds)
    with pytest.warns(UserWarning, match=r"No curve for 2 compound.*none in HRCE \(1\), one in HRCE \(1\)"):
        table = curves(wells).set_index("compound")
    assert table.loc[["one", "none"], ["ec50_uM", "ec50_low", "hill", "emax"]].isna().all(axis=None)
    assert table.loc["one", "hit"] and not table.loc["none", "hit"] and table.loc["full", "hit"]
    treated, controls = (wells.loc[rows, "efficacy"] for rows in (wells["compound"] == "one", wells["role"] == "C-"))
    assert table.loc["one", "p_value"] == pytest.approx(
        stats.ttest_ind(treated, controls, alternative="greater").pvalue
    )


def test_reference_wells_are_no_controls():
    wells = efficacy_table({"x": ([10.0], [-0.6])})
    spoilt = pd.concat([wells, wells[wells["role"] == "C-"].assign(efficacy=-9.0, split="reference")])
    with pytest.warns(UserWarning, match="No curve"):
        assert curves(spoilt)["p_value"].equals(curves(wells)["p_value"])


def test_treated_wells_without_dose_or_score_are_left_out():
    wells = efficacy_table({"x": (DOSES, WORKS), "sirna": ([np.nan], [0.5])})
    with pytest.warns(UserWarning, match="4 treated well.*without a dose left out: sirna"):
        assert list(curves(wells)["compound"]) == ["x"]
    with pytest.raises(ValueError, match="No treated well has a concentration_uM: 4 treated among 84"):
        curves(wells[wells["compound"] != "x"])
    unscored = wells[wells["compound"] != "sirna"].assign(efficacy=np.nan)
    row = curves(unscored).iloc[0]
    assert not row["hit"] and row[["p_value", "q_value", "efficacy_max"]].isna().all() and row["n_wells"] == 0


# ---- points, truth, profiles ----


def test_points_equal_a_plain_loop():
    wells = efficacy_table({"x": (DOSES, WORKS), "y": (DOSES[:2], [0, 0])})
    table = points(wells)
    assert tuple(table.columns) == POINTS_HEADER and len(table) == 10
    for row in table.itertuples():
        e = wells.loc[
            (wells["compound"] == row.compound) & (wells["concentration_uM"] == row.concentration_uM), "efficacy"
        ]
        low, high = stats.t.interval(0.95, len(e) - 1, e.mean(), stats.sem(e))
        assert (row.efficacy, row.ci_low, row.ci_high) == pytest.approx((e.mean(), low, high))
        assert row.n_wells == 4
    single = points(wells.drop_duplicates(["compound", "concentration_uM"]))
    assert single["efficacy"].notna().all() and single[["ci_low", "ci_high"]].isna().all(axis=None)


def test_truth_is_compared_compound_by_compound():
    table = pd.DataFrame(
        {
            "method": "m", "cell_type": "HRCE", "compound": list("abcd"), "efficacy_max": [0.9, 0.2, 0.5, -1.0],
            "hit": [True, False, True, False], "ec50_uM": [1.0, np.nan, 2.0, np.nan], "ec50_low": [0.5, 0, 1, np.nan],
            "ec50_high": [2.0, np.inf, 3, np.nan], "toxic_from_uM": [np.nan, 10, np.nan, 30],
        }
    )  # fmt: skip
    truth = pd.DataFrame(
        {
            "cell_type": "HRCE", "compound": list("abcde"), "effective": [True, True, False, False, True],
            "ec50_uM": [10.0, 1.0, np.nan, np.nan, 1.0], "toxic_uM": [np.nan, 10.0, np.nan, np.nan, np.nan],
        }
    )  # fmt: skip
    row = evaluate_truth(table, truth).iloc[0]
    assert (row["n_compounds"], row["n_effective"], row["n_ec50"]) == (4, 2, 1)
    assert (row["auroc"], row["precision"], row["recall"]) == (0.75, 0.5, 0.5)
    assert row["log10_ec50_error"] == 1 and row["ec50_coverage"] == 0
    assert row["toxic_recall"] == 1 and row["toxic_false_alarms"] == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="truth table lacks the column.*effective"):
        evaluate_truth(table, truth.drop(columns="effective"))
    with pytest.raises(ValueError, match="no compound of one cell type in common"):
        evaluate_truth(table, truth.assign(cell_type="VERO"))


def test_from_profiles_to_the_truth():
    """The whole way: synthetic plates with known curves to hits and EC50."""
    compounds = {f"cure{k}": (0.3 * 2**k, 1.5, 0.9) for k in range(3)} | {f"inert{k}": (1, 1, -1) for k in range(5)}
    p = make_profiles(plates={"HRCE": 4}, roles={"C+": 12, "C-": 24}, compounds=compounds, separation=10)
    table = dose_response(p)
    truth = pd.DataFrame(
        [("HRCE", name, name < "d", ec50, np.nan) for name, (ec50, *_) in compounds.items()],
        columns=["cell_type", "compound", "effective", "ec50_uM", "toxic_uM"],
    )
    row = evaluate_truth(table, truth).iloc[0]
    assert (row["auroc"], row["precision"], row["recall"]) == (1, 1, 1)
    assert row["log10_ec50_error"] < 0.25 and row["n_ec50"] == 3
    assert dose_points(p)["n_wells"].eq(4).all()


# ---- shape ----


def _wells(course, sd, replicates=3, seed=0):
    doses = np.repeat(np.geomspace(0.1, 100, 8), replicates)
    return doses, course(doses) + sd * np.random.default_rng(seed).normal(size=len(doses))


COURSES = {
    "flat": lambda c: np.full(len(c), -1.0),
    "falling": lambda c: -1 - 2 / (1 + (2 / c) ** 1.5),
    "rising": lambda c: -1 + 2 / (1 + (2 / c) ** 1.5),
    "bell": lambda c: -1 + 2.5 / ((1 + (1 / c) ** 1.5) * (1 + (c / 30) ** 1.5)),
}


@pytest.mark.parametrize("name", COURSES)
def test_the_shape_is_told_from_noisy_wells(name):
    """AICc errs now and then, towards what has more parameters; nine in ten are right."""
    found = [shape(*_wells(COURSES[name], 0.3, seed=seed)) for seed in range(60)]
    assert found.count(name) >= (48 if name == "flat" else 54)


def test_aicc_by_hand():
    assert _aicc(10, 3, 20.0) == pytest.approx(10 * np.log(2) + 6 + 24 / 6)
    assert _aicc(4, 3, 1.0) == np.inf


def test_a_shape_needs_doses_and_wells():
    c = np.array([1.0, 2.0, 3.0])
    assert shape(c, c) == ""
    c = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert shape(c, c) == ""
    assert shape(c, c, np.random.default_rng(0).normal(-1, 0.1, 20)) == "rising", "the controls know the spread"
    assert shape(c, -c, np.random.default_rng(0).normal(-1, 0.1, 20)) == "falling"
    assert shape(c, c, np.random.default_rng(0).normal(-1, 10, 20)) == "flat"
    c, e = _wells(COURSES["bell"], 0.2)
    assert shape(1000 * c, 3 * e) == shape(c, e) == "bell"


@pytest.mark.parametrize("course", COURSES)
def test_a_well_a_dose_has_its_shape_by_the_spread_of_controls(course):
    """AICc of eight wells has no room for four parameters, however clear the curve."""
    c = np.geomspace(0.01, 30, 8)
    controls = np.random.default_rng(1).normal(-1, 0.15, 33)
    found = [shape(c, COURSES[course](c) + np.random.default_rng(k).normal(0, 0.15, 8), controls) for k in range(40)]
    assert found.count(course) >= 32


# ---- few wells ----


@pytest.mark.parametrize("n_doses", [4, 6])
def test_a_well_a_dose_is_judged_by_the_spread_of_the_controls(n_doses):
    """Against scipy's own fit and an F test with the pooled variance, by hand."""
    doses = np.geomspace(0.1, 100, n_doses)
    wells = efficacy_table({"x": (doses, log_logistic(doses, 2, 1.5, 0.9))}, replicates=1, noise=0.1, controls=33)
    row = curves(wells).iloc[0]
    e, controls = (wells.loc[wells["role"] == r, "efficacy"].to_numpy() for r in ("treated", "C-"))

    def squares(v):
        return ((e - log_logistic(doses, np.exp(v[0]), np.exp(v[1]), v[2] + np.exp(v[3]), v[2])) ** 2).sum()

    bounds = [(np.log(0.01), np.log(1000)), (np.log(0.3), np.log(8)), (-3, 3), (-5, 2)]
    best = min(optimize.minimize(squares, [np.log(ec50), np.log(h), -1, 0.6], bounds=bounds, tol=1e-14).fun
               for ec50 in (0.5, 1.0, 2.0, 4.0) for h in (0.7, 1.5, 3.0))  # fmt: skip
    free = n_doses - 4 + 32
    variance = (best + 32 * controls.var(ddof=1)) / free
    p = stats.f.sf((((e - e.mean()) ** 2).sum() - best) / 3 / variance, 3, free)
    assert row["p_value"] == pytest.approx(2 * p, rel=0.02) and row["hit"] and row["reason"] == ""
    assert row["ec50_low"] < 2 < row["ec50_high"]
    alone = curves(wells[wells["role"] != "C-"]).iloc[0]
    assert not alone["hit"] and "do not show how far wells scatter" in alone["reason"] or n_doses > 4


def test_single_wells_that_do_nothing_are_no_hits():
    doses = np.geomspace(0.1, 30, 6)
    table = curves(efficacy_table({f"c{k}": (doses, np.zeros(6)) for k in range(200)}, replicates=1, controls=20))
    assert (table["p_value"] < 0.05).sum() <= stats.binom.ppf(0.999, 200, 0.05)
    assert table["hit"].sum() <= 2


# ---- reasons ----

REASONS = {
    "only falls": (DOSES, np.minimum(FLAT, -1 - 0.8 * np.arange(8) * (np.arange(8) > 5)), "only falls"),
    "noise": (DOSES, FLAT, "no rise beyond chance"),
    "works everywhere": (DOSES, np.full(8, 0.8), "works at every dose"),
    "late": (DOSES, log_logistic(DOSES, 100, 2, 12.0), "half the rise lies beyond the highest dose"),
    "early": (DOSES, log_logistic(DOSES, min(DOSES) / 2, 2, 6.0), "above 0 at every dose"),
    "few": (DOSES[:3], FLAT[:3], "3 doses, a curve needs 4"),
}


@pytest.mark.parametrize("name", REASONS)
@pytest.mark.filterwarnings("ignore:No curve")
def test_what_has_no_ec50_says_why(name):
    doses, scores, reason = REASONS[name]
    row = one(doses, scores, noise=0.1)
    assert np.isnan(row["ec50_uM"]) and row["reason"].startswith(reason), row["reason"]


@settings(max_examples=40)
@given(scores=st.lists(st.floats(-3, 3), min_size=1, max_size=8), replicates=st.integers(1, 3), seed=st.integers(0, 99))
@pytest.mark.filterwarnings("ignore:No curve")
def test_an_ec50_or_a_reason(scores, replicates, seed):
    row = one(DOSES[: len(scores)], np.array(scores), replicates=replicates, seed=seed)
    assert np.isnan(row["ec50_uM"]) == (row["reason"] != "")


# ---- wells that failed ----


def spoil(wells: pd.DataFrame, rows, score: float) -> pd.DataFrame:
    wells = wells.copy()
    wells.loc[wells["role"].eq("treated").to_numpy().nonzero()[0][rows], "efficacy"] = score
    return wells


@pytest.mark.parametrize("replicates", [2, 3, 4])
@pytest.mark.parametrize("score", [-40.0, 40.0])
def test_one_failed_well_changes_no_curve(replicates, score):
    wells = efficacy_table({"x": (DOSES, WORKS)}, replicates=replicates, noise=0.1)
    row = curves(spoil(wells, [replicates * 7], score)).iloc[0]
    failed = wells.index[wells["role"] == "treated"][replicates * 7]
    without = curves(wells.drop(index=failed)).iloc[0]
    assert row["outlier_wells"] == wells["well_id"][failed] and row["n_wells"] == 8 * replicates
    judged = ["ec50_uM", "ec50_low", "ec50_high", "hill", "emax", "p_value", "hit", "efficacy_max", "shape"]
    pd.testing.assert_series_equal(row[judged], without[judged], check_names=False)
    assert row["p_all_wells"] > 0.5 if score < 0 else row["p_all_wells"] > row["p_value"]


def test_no_well_is_set_aside_for_scatter_or_a_steep_curve():
    steep = log_logistic(DOSES, 0.5, 8, 3.0)
    compounds = {f"c{k}": (DOSES, steep if k % 2 else FLAT) for k in range(300)}
    table = curves(efficacy_table(compounds, replicates=3))
    assert (table["outlier_wells"] != "").sum() <= 2, "of 7,200 wells"
    pd.testing.assert_series_equal(table["p_value"], table["p_all_wells"], check_names=False)
    single = curves(spoil(efficacy_table({"x": (DOSES, WORKS)}, replicates=1), [7], -40)).iloc[0]
    assert single["outlier_wells"] == "", "a well alone has nothing to be compared with"


def test_failed_wells_among_noise_make_no_hits():
    wells = efficacy_table({f"c{k}": (DOSES, np.zeros(8)) for k in range(100)}, replicates=3)
    rng = np.random.default_rng(1)
    table = curves(spoil(wells, rng.choice(2400, 60, replace=False), 30.0))
    assert table["hit"].sum() <= 2 and (table["p_value"] < 0.05).sum() <= stats.binom.ppf(0.999, 100, 0.05)


# ---- cure or poison ----


def with_toxicity(compounds: dict, off: dict, cells: dict | None = None, seed: int = 0, **kwargs) -> pd.DataFrame:
    """`efficacy_table` with off-axis distances (name to one a dose; controls 1 on average) and cell counts."""
    wells, rng = efficacy_table(compounds, seed=seed, **kwargs), np.random.default_rng(seed + 1)
    wells["plate_id"] = "P1"
    wells["off"] = rng.choice([-1, 1], len(wells)) * np.abs(1 + 0.2 * rng.standard_normal(len(wells)))
    wells["cell_count"] = 100 * np.exp(0.1 * rng.standard_normal(len(wells)))
    for column, changed in (("off", off), ("cell_count", cells or {})):
        for name, per_dose in changed.items():
            mine = wells["compound"] == name
            factor = dict(zip(DOSES, per_dose, strict=True))
            wells.loc[mine, column] *= wells.loc[mine, "concentration_uM"].map(factor)
    return wells if cells is not None else wells.drop(columns="cell_count")


KILLS = np.where(np.arange(8) >= 6, 0.8, -1.0)
"""Above the threshold, but only where it kills."""
LAST_TWO = np.where(np.arange(8) >= 6, 5.0, 1.0)


@pytest.mark.parametrize("by", ["off_axis", "cells", "both"])
def test_what_works_only_where_it_kills_is_suspicious_and_no_hit(by):
    compounds = {"cure": (DOSES, WORKS), "kills": (DOSES, KILLS), "inert": (DOSES, FLAT), "both": (DOSES, WORKS)}
    off = {"kills": LAST_TWO, "both": LAST_TWO} if by != "cells" else {}
    cells = {"kills": 1 / LAST_TWO, "both": 1 / LAST_TWO} if by != "off_axis" else None
    table = curves(with_toxicity(compounds, off, cells)).set_index("compound")
    assert table["hit"].to_dict() == {"cure": True, "kills": False, "inert": False, "both": True}
    assert table["suspicious"].to_dict() == {"cure": False, "kills": True, "inert": False, "both": False}
    for name in ("kills", "both"):
        assert table.loc[name, "suspect_from_uM"] == pytest.approx(DOSES[6])
        reason = table.loc[name, "toxic_reason"]
        assert ("off the axis at" in reason) == (by != "cells") and ("of the cells of C- at" in reason) == (
            by != "off_axis"
        )
    assert (table.loc[["cure", "inert"], "toxic_reason"] == "").all() and table.loc[
        "cure", "off_axis"
    ] == pytest.approx(1, abs=0.4)
    assert np.isnan(table["cells"]).all() == (cells is None)


def test_the_limit_is_the_largest_of_the_controls_that_did_not_fail():
    wells = with_toxicity({"kills": (DOSES, KILLS)}, {"kills": LAST_TWO}, {})
    controls = wells["role"].isin(["C+", "C-"])
    row = curves(wells).iloc[0]
    assert row["off_axis_limit"] == pytest.approx(wells.loc[controls, "off"].abs().max())
    usual = wells.loc[wells["role"] == "C-", "cell_count"].median()
    assert row["cells_limit"] == pytest.approx(wells.loc[controls, "cell_count"].min() / usual)
    failed = wells.copy()
    failed.loc[3, ["off", "cell_count"]] = 50.0, 0.0
    assert curves(failed).iloc[0]["off_axis_limit"] == pytest.approx(wells.drop(3).loc[controls, "off"].abs().max())
    assert curves(failed).iloc[0]["suspicious"]
    few = wells[~controls | (wells["role"].isin(["C+", "C-"]) & (np.cumsum(controls) <= 7))]
    unknown = curves(few).iloc[0]
    assert np.isnan(unknown["off_axis_limit"]) and not unknown["suspicious"], "seven controls set no limit"


@settings(max_examples=15)
@given(gain=st.lists(st.floats(0.2, 5), min_size=2, max_size=2))
def test_a_plates_density_is_not_toxicity(gain):
    """Cells are counted against the C- wells of their own plate."""
    wells = pd.concat([with_toxicity({"x": (DOSES, WORKS)}, {}, {}, seed=k).assign(plate_id=f"P{k}") for k in (0, 1)])
    denser = wells.assign(
        cell_count=wells["cell_count"] * wells["plate_id"].map(dict(zip(["P0", "P1"], gain, strict=True)))
    )
    a, b = (curves(t.reset_index(drop=True)).iloc[0] for t in (wells, denser))
    assert b["cells"] == pytest.approx(a["cells"]) and b["cells_limit"] == pytest.approx(a["cells_limit"])


def test_points_say_which_doses_are_suspect():
    wells = with_toxicity({"kills": (DOSES, KILLS)}, {"kills": LAST_TWO}, {"kills": 1 / LAST_TWO})
    table = points(wells)
    assert table["suspect"].tolist() == [False] * 6 + [True] * 2
    for row in table.itertuples():
        mine = wells[(wells["concentration_uM"] == row.concentration_uM) & (wells["compound"] == "kills")]
        assert row.off_axis == pytest.approx(mine["off"].abs().median())


def test_cell_counts_of_sites_reach_the_table():
    p = make_profiles(plates={"HRCE": 2}, compounds={"cure": (0.3, 1.5, 0.9)}, separation=10)
    assert np.isnan(dose_response(p)["cells"]).all()
    p.obs["cell_count"] = np.where(p.obs["role"] == "treated", 30, 60) + np.arange(p.n_obs) % 2
    row = dose_response(p).iloc[0]
    assert row["cells"] == pytest.approx(0.5, abs=0.02) and "50 % of the cells of C-" in row["toxic_reason"]
    assert row["suspicious"] and not row["hit"]


def test_a_screen_is_counted_once_for_all_methods():
    """Counts of the row `cell-count` are every other method's too, well by well, and only where it knows all wells."""
    p = make_profiles(plates={"HRCE": 2}, compounds={"cure": (0.3, 1.5, 0.9)}, separation=10)
    counts = np.where(p.obs["role"] == "treated", 30, 60) + np.random.default_rng(0).integers(0, 3, p.n_obs)
    counted = AnnData(counts[:, None].astype(np.float32), p.obs.copy())
    counted.uns["provenance"] = json.dumps({"method": "cell-count"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # counts alone order no controls
        table = dose_response([p, counted])
        lacking = dose_response([p, counted[5:].copy()])
    mine = table[table["method"] != "cell-count"].iloc[0]
    assert mine["cells"] == pytest.approx(0.5, abs=0.03) and mine["suspicious"] and not mine["hit"]
    assert lacking[lacking["method"] != "cell-count"]["cells"].isna().all()
