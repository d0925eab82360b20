"""The axis points from C- to C+, its scale fits wells no fit has seen, and off is what is left."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from synthetic_profiles import make_profiles

from gandl_lib.evaluate.axes import EFFICACY_HEADER, HEADER, axes, efficacy, fit_axis
from gandl_lib.profiles import aggregate

TREATED = {"cure": (1.0, 2.0, 1.0), "inert": (1.0, 2.0, -1.0)}


@pytest.fixture
def sites() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X (240, 20), positive (240,), wells (240,): 60 wells of 4 sites, 20 of them positive."""
    rng = np.random.default_rng(0)
    wells = np.repeat(np.arange(60), 4)
    positive = wells % 3 == 0
    direction = np.linspace(-1, 1, 20)
    X = np.outer(positive, 2 * direction) + 0.7 * rng.standard_normal((60, 20))[wells]
    return X + 0.5 * rng.standard_normal((240, 20)), positive, wells


def test_training_wells_have_class_means_one_and_minus_one_exactly(sites):
    X, positive, wells = sites
    _, seen = fit_axis(X, positive, wells)
    is_positive = pd.Series(positive).groupby(wells).first()
    assert seen["on"][is_positive].mean() == pytest.approx(1)
    assert seen["on"][~is_positive].mean() == pytest.approx(-1)
    assert seen["off"].mean() == pytest.approx(0, abs=1e-9)


def test_swapping_the_classes_negates_on_and_keeps_off(sites):
    X, positive, wells = sites
    axis, seen = fit_axis(X, positive, wells)
    swapped, seen_swapped = fit_axis(X, ~positive, wells)
    np.testing.assert_allclose(swapped.on(X), -axis.on(X), atol=0.02)
    np.testing.assert_allclose(seen_swapped["on"], -seen["on"], atol=0.02)
    np.testing.assert_allclose(swapped.off(X), axis.off(X), atol=0.05)


def test_what_is_orthogonal_to_the_normal_moves_off_and_not_on(sites):
    X, positive, wells = sites
    axis, _ = fit_axis(X, positive, wells)
    assert np.linalg.norm(axis.normal) == pytest.approx(1)
    push = np.random.default_rng(1).standard_normal(20)
    push -= push @ axis.normal * axis.normal
    moved = X + 5 * push * axis.sd
    np.testing.assert_allclose(axis.on(moved), axis.on(X), atol=1e-9)
    assert np.abs(axis.off(moved) - axis.off(X)).min() > 0.1
    along = X + 5 * axis.normal * axis.sd
    np.testing.assert_allclose(axis.off(along), axis.off(X), atol=1e-9)
    np.testing.assert_allclose(axis.on(along) - axis.on(X), 5 / axis.half, atol=1e-9)


def test_on_and_off_are_projection_and_rejection(sites):
    X, positive, wells = sites
    axis, _ = fit_axis(X, positive, wells)
    for x, on, off in zip(X[:20], axis.on(X[:20]), axis.off(X[:20]), strict=True):
        z = [(a - m) / s for a, m, s in zip(x, axis.mean, axis.sd, strict=True)]
        along = sum(a * w for a, w in zip(z, axis.normal, strict=True))
        rest = [a - along * w for a, w in zip(z, axis.normal, strict=True)]
        sign = 1 if sum(r * u for r, u in zip(rest, axis.off_direction, strict=True)) > 0 else -1
        assert on == pytest.approx((along - axis.centre) / axis.half)
        assert off == pytest.approx(sign * sum(r * r for r in rest) ** 0.5 / axis.half - axis.off_centre)


def test_the_off_direction_is_the_strongest_variation_beside_the_axis(sites):
    X, positive, wells = sites
    strong = np.zeros(20)
    strong[3] = 1
    X = X + np.outer(np.random.default_rng(2).standard_normal(60)[wells] * 6, strong)
    # Standardising would shrink that one feature; spread it over many instead.
    rotation = np.linalg.qr(np.random.default_rng(3).standard_normal((20, 20)))[0]
    axis, _ = fit_axis(X @ rotation, positive, wells)
    expected = (strong @ rotation) / axis.sd
    expected -= expected @ axis.normal * axis.normal
    assert abs(axis.off_direction @ expected) / np.linalg.norm(expected) > 0.95


def test_unseen_wells_get_a_scale_that_is_theirs_with_more_features_than_wells():
    """An SVM of 300 features puts its own wells at +-1; read off them, an inert compound would look half cured."""
    p = make_profiles(plates={"HRCE": 2}, roles={"C+": 12, "C-": 24}, compounds=TREATED, n_features=300, separation=8)
    table = efficacy(p)
    test = table[table["split"] == "test"].groupby("role")["efficacy"].mean()
    inert = table.loc[table["compound"] == "inert", "efficacy"]
    assert abs(test["C+"] - 1) < 0.3 and abs(test["C-"] + 1) < 0.3
    assert abs(inert.mean() + 1) < 0.3

    train = p[p.obs["well_id"].isin(table.loc[table["split"] == "train", "well_id"])]
    positive = (train.obs["role"] == "C+").to_numpy()
    axis, seen = fit_axis(train.X, positive, train.obs["well_id"].to_numpy())
    own = axis.on(aggregate(train).X)
    is_positive = (aggregate(train).obs["role"] == "C+").to_numpy()
    assert own[is_positive].mean() > 1.2 and own[~is_positive].mean() < -1.2, "its own wells lie further out than any"


def test_tables_have_a_row_per_well_and_the_stated_columns():
    p = make_profiles(roles={"C+": 8, "C-": 16, "UV": 2}, compounds=TREATED)
    table = axes([p])
    assert tuple(table.columns) == HEADER and set(table["task"]) == {"E2", "C2"}
    for _, one in table.groupby("task"):
        assert sorted(one["well_id"]) == sorted(p.obs["well_id"].unique())
        assert one[["on", "off"]].notna().all(axis=None)
        assert (one.loc[one["role"].isin(["treated", "UV"]), "split"] == "other").all()
        assert set(one.loc[one["role"].isin(["C+", "C-"]), "split"]) == {"train", "test"}
    c2 = table[table["task"] == "C2"].groupby("cell_type")["on"].mean()
    assert abs(c2["HRCE"] - 1) < 0.2 and abs(c2["VERO"] + 1) < 0.2
    scores = efficacy(p)
    assert tuple(scores.columns) == EFFICACY_HEADER
    np.testing.assert_array_equal(scores["efficacy"], table.loc[table["task"] == "E2", "on"])


def test_training_means_are_plus_and_minus_one_per_cell_type():
    table = axes(make_profiles(separation=3), ("E2",))
    means = table[table["split"] == "train"].groupby(["cell_type", "role"])["on"].mean()
    for cell_type in ("HRCE", "VERO"):
        assert means[cell_type, "C+"] == pytest.approx(1) and means[cell_type, "C-"] == pytest.approx(-1)


@pytest.mark.parametrize("normalisation", ["all", "controls", "tvn"])
def test_efficacy_rises_with_dose_for_what_works_only(normalisation):
    p = make_profiles(roles={"C+": 12, "C-": 24}, compounds=TREATED, separation=8)
    table = efficacy(p, normalisation)
    for cell_type in ("HRCE", "VERO"):
        one = table[(table["cell_type"] == cell_type) & (table["role"] == "treated")]
        top = one[one["concentration_uM"] > 9].groupby("compound")["efficacy"].mean()
        low = one[one["concentration_uM"] < 0.2].groupby("compound")["efficacy"].mean()
        assert top["cure"] > 0.5 and low["cure"] < -0.5
        assert top["inert"] < -0.5 and low["inert"] < -0.5
    if normalisation != "all":
        assert (table["split"] == "reference").sum() > 8


def test_test_labels_do_not_touch_the_fit():
    p = make_profiles(roles={"C+": 8, "C-": 16})
    before = axes(p, ("E2",))
    unseen = p.obs["well_id"].isin(before.loc[before["split"] == "test", "well_id"]).to_numpy()
    changed = p.copy()
    changed.X[unseen] += 100 * (changed.obs["role"][unseen] == "C+").to_numpy()[:, None]
    after = axes(changed, ("E2",), normalisation="none")
    before = axes(p, ("E2",), normalisation="none")
    seen = (before["split"] == "train").to_numpy()
    np.testing.assert_array_equal(after.loc[seen, ["on", "off"]], before.loc[seen, ["on", "off"]])
    assert not np.allclose(after.loc[~seen, "on"], before.loc[~seen, "on"])


def test_a_method_that_orders_controls_backwards_has_no_scale():
    """Ten wells alike but for marks that flip from well to well: left out, each looks like the other class."""
    wells = np.repeat(np.arange(4), 3)
    positive = wells < 2
    X = np.eye(4)[wells]
    axis, seen = fit_axis(X, positive, wells)
    assert np.isnan(axis.half) and seen["on"].isna().all() and np.isnan(axis.on(X)).all()


def test_order_by_chance_is_no_order():
    """With no difference between the classes, at most one axis in twenty may have a scale."""
    rng = np.random.default_rng(0)
    wells = np.repeat(np.arange(24), 2)
    scaled = [np.isfinite(fit_axis(rng.standard_normal((48, 5)), wells % 3 == 0, wells)[0].half) for _ in range(60)]
    assert sum(scaled) <= 8, "0.05 x 60 = 3; more than 8 has a probability below 1 %"


def test_no_scale_is_said_aloud():
    p = make_profiles(plates={"HRCE": 1}, roles={"C+": 4, "C-": 4}, sites=1, n_features=8)
    p.X[:] = np.eye(8)
    with pytest.warns(UserWarning, match="synthetic, HRCE: unseen control wells do not lie in order"):
        table = efficacy(p, "none")
    assert table["efficacy"].isna().all() and len(table) == 8


def test_cell_types_without_controls_are_named():
    p = make_profiles()
    p = p[~((p.obs["cell_type"] == "VERO") & (p.obs["role"] == "C+"))].copy()
    with pytest.warns(UserWarning, match=r"VERO: no axis, 0 C\+ and 32 C- control wells; 4 of each"):
        assert set(efficacy(p)["cell_type"]) == {"HRCE"}
    only = p[p.obs["cell_type"] == "VERO"].copy()
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="4 wells of C.* found wells VERO C-: 32"):
        efficacy(only)
    with pytest.raises(ValueError, match="Unknown task.*E3; choose from E2, C2"):
        axes(p, ("E3",))
