"""Unseen cell types are told apart where they differ, and no well helps to recognise itself."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from sklearn.model_selection import LeaveOneGroupOut
from synthetic_profiles import make_profiles

from gandl_lib.evaluate import svm
from gandl_lib.evaluate.zero_shot import CONFUSION_HEADER, SUMMARY_HEADER, zero_shot

CELLS = ("HEPG2", "HUVEC", "RPE", "U2OS")


def few_wells(separation: float, n_plates: int = 4, crops: int = 6, n_features: int = 20, seed: int = 0) -> AnnData:
    """As in the small real sample: four cell types, one untreated well a plate, several crops a site as rows."""
    rng = np.random.default_rng(seed)
    p = make_profiles(
        plates=dict.fromkeys(CELLS, n_plates), roles={"untreated": 1}, sites=crops, n_features=n_features,
        separation=0, plate_effect=0,
    )  # fmt: skip
    centres = {cell: rng.standard_normal(n_features) for cell in CELLS}
    marks = {well: rng.standard_normal(n_features) for well in p.obs["well_id"].unique()}
    both = zip(p.obs["cell_type"], p.obs["well_id"], strict=True)
    p.X[:] = [separation * centres[cell] + marks[well] for cell, well in both]
    p.X[:] += 0.3 * rng.standard_normal(p.shape)
    return p


def test_four_types_on_sixteen_wells():
    confusion, summary = zero_shot(few_wells(separation=3, crops=4), n_bootstrap=200)
    assert tuple(confusion.columns) == CONFUSION_HEADER and tuple(summary.columns) == SUMMARY_HEADER
    assert list(summary["method"]) == ["synthetic", "shuffled labels"]
    ours = confusion[confusion["method"] == "synthetic"]
    assert len(ours) == 16 and ours["count"].sum() == 16 * 4
    assert (ours.groupby("true")["count"].sum() == 16).all()
    right = ours.loc[ours["true"] == ours["predicted"], "count"].sum()
    row = summary.iloc[0]
    assert row["accuracy"] == right / 64 > 0.95
    assert row["ci_low"] <= row["accuracy"] <= row["ci_high"]
    assert (row["n_wells"], row["n_rows"], row["majority_rate"]) == (16, 64, 0.25)


def test_wells_do_not_recognise_themselves():
    """Crops of a well are near copies: a split by crop would score 100 % where the types do not differ at all."""
    scores = [
        zero_shot(few_wells(0, n_plates=3, crops=4, n_features=60, seed=s), n_bootstrap=0, shuffled=False)[1][
            "accuracy"
        ][0]
        for s in range(3)
    ]
    assert np.mean(scores) < 0.25 + 3 * np.sqrt(0.25 * 0.75 / (3 * 12))


def test_shuffled_labels_score_chance():
    p = make_profiles(roles={"untreated": 30}, sites=2)
    _, summary = zero_shot(p, n_bootstrap=0)
    summary = summary.set_index("method")
    assert summary.loc["synthetic", "accuracy"] > 0.95
    assert abs(summary.loc["shuffled labels", "accuracy"] - 0.5) < 4 * np.sqrt(0.25 / 120)


def test_leaving_single_wells_out_equals_a_plain_loop():
    p = few_wells(separation=0.7, n_plates=3, crops=3)
    y, wells = p.obs["cell_type"].to_numpy(), p.obs["well_id"].to_numpy()
    right = 0
    for train, test in LeaveOneGroupOut().split(y, y, wells):
        cost = svm.choose_cost(p.X[train], y[train], wells[train])
        right += (svm.fit(p.X[train], y[train], cost).predict(p.X[test]) == y[test]).sum()
    accuracy = zero_shot(p, n_bootstrap=0, shuffled=False)[1]["accuracy"][0]
    assert accuracy == right / len(y) and 0.3 < accuracy < 1


def test_methods_come_in_order_and_shuffled_labels_last():
    plates = {"HRCE": 1, "VERO": 1}
    profiles = [make_profiles(name, plates, {"untreated": 3}, sites=1) for name in ("b", "a")]
    confusion, summary = zero_shot(profiles, n_bootstrap=0)
    assert list(summary["method"]) == list(dict.fromkeys(confusion["method"])) == ["b", "a", "shuffled labels"]


def test_too_few_wells_or_types_are_named():
    p = few_wells(1, n_plates=1)
    with pytest.raises(ValueError, match="two or more wells of two or more cell types; found HEPG2: 1, HUVEC: 1"):
        zero_shot(p)
    with pytest.raises(ValueError, match="found VERO: 48"):
        zero_shot(make_profiles(plates={"VERO": 2}))
    del p.obs["cell_type"]
    with pytest.raises(ValueError, match="lacks the column.*cell_type"):
        zero_shot(p)
