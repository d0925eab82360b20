"""Figures and sentences of chapter 08 follow their tables."""

import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from gandl_book import figures, narrate, paradigms

from gandl_lib.methods.gandl import GANDL
from gandl_lib.methods.gandl import PRESETS as GANDL_PRESETS
from gandl_lib.methods.paradigms import BYOL, PRESETS


def row(paradigm, augment=None, crops=None, published=None, d=0.2, auc=0.7, half=0.02, **more):
    name = paradigm if augment is None else f"{paradigm}-{augment}-{crops}-{published}"
    values = dict.fromkeys(paradigms.METRICS, 0.5) | {"normalised_d": d, "roc_auc": auc, "accuracy": 0.7}
    ends = {}
    for end, value in (("d", d), ("accuracy", 0.7), ("auc", auc)):
        ends |= {f"{end}_low": value - half, f"{end}_high": value + half}
    about = {"paradigm": paradigm, "augment": augment, "multi_crop": crops, "published": published, "method": name}
    cost = {"train_seconds": 10.0 * (5 if crops else 1), "peak_memory_MB": 500.0, "images": 64}
    return about | values | ends | (cost if augment is not None else {}) | {"majority_rate": 0.6} | more


@pytest.fixture
def table(tmp_path):
    """As the workflow writes it and a chapter reads it."""
    rows = [row("weak", a, c, False, d=0.2 + 0.1 * a) for a in (False, True) for c in (False, True)]
    rows += [
        row("weak", False, False, True),
        row("paradigm-random", d=0.1),
        row("gandl", d=0.5),
        row("shuffled features", d=0),
    ]
    pd.DataFrame(rows, columns=paradigms.HEADER).to_csv(tmp_path / "t.csv", index=False)
    return pd.read_csv(tmp_path / "t.csv")


def test_rows_are_called_by_what_they_are(table):
    names = [figures.setup_name(r) for r in figures.tidy_setups(table).itertuples()]
    assert names[0] == "weakly supervised" and names[3] == "weakly supervised + augmented + multi-crop"
    assert names[4:] == ["weakly supervised + as published", "untrained encoder", "GAN-DL", "shuffled features"]


def test_a_winner_is_named_only_where_intervals_allow(table):
    text = repr(narrate.paradigm_exam(table, "normalised_d", "d", "d"))
    assert "1 of the other 3 cannot be told from it" in text
    assert "It falls below GAN-DL" in text and "It beats the untrained encoder" in text
    text = repr(narrate.paradigm_exam(table, "roc_auc", "auc", "AUC"))
    assert "3 of the other 3 cannot be told" in text and "It cannot be told from GAN-DL" in text
    nothing = table.assign(normalised_d=np.nan)
    assert "cannot tell the d" in repr(narrate.paradigm_exam(nothing, "normalised_d", "d", "d"))


def test_the_untrained_network_is_named_where_it_is_ahead(table):
    more = pd.concat([table, pd.DataFrame([row("gandl-random", d=0.6)])], ignore_index=True)
    assert "It falls below untrained GAN-DL, 0.60" in repr(narrate.paradigm_exam(more, "normalised_d", "d", "d"))
    assert "untrained GAN-DL" not in repr(narrate.paradigm_exam(table, "normalised_d", "d", "d"))


@pytest.mark.parametrize("size", ["quick", "paper"])
def test_choices_are_those_of_the_run(size):
    """What stands in the table is what the networks and optimisers have, and where nothing was changed, the paper's."""
    config = PRESETS[f"{size}-augment-crops"]
    setup = AnnData(np.zeros((1, 1)), uns={"provenance": json.dumps({"config": asdict(config), "n_seen": 64})})
    told = narrate.choices_of_paradigms(setup).set_index("")
    method = BYOL(config, 5)
    assert told.loc["features", "this build"] == str(method.encoder.width)
    betas = method.optimisers["adam"].defaults["betas"]
    assert told.loc["Adam β₁, β₂", "this build"] == ", ".join(map(str, betas))
    if size == "paper":
        same = told.drop(["images seen", "end of training", "multi-crop, sides of the windows"])
        same = same[same["paper"] != "not published"]
        assert len(same) == 9 and (same["paper"] == same["this build"]).all()
    assert narrate.choices_of_paradigms(None) is None


def test_choices_of_gan_dl_are_those_of_the_run():
    config = GANDL_PRESETS["tiny"]
    told = narrate.choices(config, 5).set_index("")["this run"]
    method = GANDL(config, 5)
    betas = {tuple(adam.defaults["betas"]) for adam in method.optimisers.values()}
    assert {told["Adam β₁, β₂"]} == {", ".join(f"{b:g}" for b in pair) for pair in betas}
    widest = max(p.shape[0] for n, p in method.discriminator.named_parameters() if p.ndim == 4)
    assert int(told["features of a layer, at most"]) == widest
    assert int(told["steps from one path length to the next"]) == config.path_every


def test_d_by_class_keeps_the_order_of_the_setups_and_ends_in_the_mean(table):
    rows = [(m, c, k, d) for m in table["method"] for c in "AB" for k, d in (("all", 0.4), ("x", -0.001), ("y", 0.8))]
    apart = pd.DataFrame(rows, columns=["method", "cell_type", "drug_class", "normalised_d"])
    told = narrate.by_class(apart, table)
    assert list(told["setup"]) == [figures.setup_name(r) for r in figures.tidy_setups(table).itertuples()]
    assert list(told.columns) == ["setup", "x", "y", "mean"]
    assert told.iloc[0, 1:].tolist() == ["0.00", "0.80", "0.40"]
    assert narrate.by_class(apart[:0], table) is None


def test_a_choice_helps_only_where_the_pairs_say_so(table):
    text = repr(narrate.paradigm_choices(table, "normalised_d", "d", "d"))
    assert "Augmentation changes d by +0.100" in text and ": more than the chance" in text
    assert "Multi-crop changes d by +0.000" in text and ": no more than" in text


def test_words_for_costs_flaws_and_inert_drugs(table):
    assert "5.0 times as long" in repr(narrate.costs(table))
    found = pd.DataFrame([("softmax", "weak-published", "accuracy", 0.7, 0.6, -0.1)], columns=paradigms.FLAWS_HEADER)
    assert repr(narrate.flaws(found)) == "- Softmax moves accuracy by -0.100."
    inert = pd.DataFrame(
        {"drug_class": ["inert"] * 2, "ci_low": [-0.1, 0.1], "ci_high": [0.1, 0.2], "normalised_d": [0.0, 0.15]}
    )
    assert "holds 0 in 1 of 2 cases" in repr(narrate.inert_drugs(inert)) and "0.150" in repr(narrate.inert_drugs(inert))
    assert "no two drugs that are known to do nothing" in repr(narrate.inert_drugs(inert[:0]))


def test_no_cluster_is_said(table):
    found = {"n_clusters": [0, 3, 2], "silhouette": [np.nan, 0.6, 0.3], "ami_drug": 0.1, "ami_plate": 0.0}
    clustered = pd.DataFrame({"method": ["a", "b", "shuffled features"], "cell_type": "HRCE", **found})
    text = repr(narrate.clusters_found(clustered))
    assert "HDBSCAN found no cluster in 1 of 3 cases, among them a (HRCE)" in text
    assert "0 of 1 silhouettes are no higher than that of nothing" in text


def test_the_paper_stands_beside(table):
    published = pd.DataFrame(
        {"paradigm": ["weak", "byol"], "metric": "accuracy", "low": [0.7, 0.6], "high": [0.76, 0.62]}
    )
    beside = narrate.beside_paper_paradigms(table, published)
    assert beside["paper"].tolist() == ["0.70 to 0.76", "0.60 to 0.62"] and beside["ours (simulated)"].tolist() == [
        "0.70 to 0.70",
        None,
    ]
    figure = figures.setups_plot(table, {"accuracy": ("accuracy_low", "accuracy_high"), "silhouette": None}, published)
    assert "GAN-DL 0.70" in figure.alt and figures.png(figure)
    assert len(narrate.setups(table)) == len(table)


def test_methods_that_a_build_lacks_are_passed_over():
    points = pd.DataFrame({"method": ["a", "a", "b"]})
    assert narrate.present(["c", "b"], points) == ["b"] and narrate.present(["c"], points) == ["a"]
    with pytest.raises(ValueError, match="name at least one method; there are a, b"):
        narrate.present([], points)
