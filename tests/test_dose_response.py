"""A curve without noise is recovered; noise is not called a hit; intervals, toxicity and edges mean what they say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
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
    c, e = _wells(COURSES["bell"], 0.2)
    assert shape(1000 * c, 3 * e) == shape(c, e) == "bell"
