"""Sentences and tables of chapters 04, 05, 06, 10 and 99 that a reader may take away."""

from __future__ import annotations

import numpy as np
import pandas as pd
from gandl_book import figures, narrate
from gandl_book.chapters import recorded


def curves(**columns: object) -> pd.DataFrame:
    """Three compounds in one cell type: a cure, a killer that lies highest, and one that does nothing."""
    table = pd.DataFrame(
        {
            "method": "gandl",
            "cell_type": "HRCE",
            "compound": ["cure", "killer", "inert"],
            "efficacy_max": [0.8, 1.9, -0.7],
            "ec50_uM": [0.31, 130.0, np.nan],
            "ec50_low": [0.2, 0.0, np.nan],
            "ec50_high": [np.inf, np.inf, np.nan],
            "hill": 1.0,
            "ec50_censored": [None, None, None],
            "q_value": [0.001, 0.001, 0.9],
            "hit": [True, False, False],
            "suspicious": [False, True, False],
            "toxic_reason": ["", "40 off the axis at 100 uM", ""],
            "toxic_from_uM": np.nan,
            "suspect_from_uM": [np.nan, 30.0, np.nan],
            "off_axis": [12.0, 40.0, 11.0],
            "off_axis_limit": 20.0,
            "cells": [0.97, 0.4, 1.0],
            "cells_limit": 0.8,
        }
    )
    return table.assign(**columns)


TRUTH = pd.DataFrame(
    {
        "cell_type": "HRCE",
        "compound": ["cure", "killer", "inert"],
        "effective": [True, False, False],
        "ec50_uM": [0.3, np.nan, np.nan],
        "toxic_uM": [np.nan, 40.0, np.nan],
    }
)


def test_beside_every_hit_stands_what_speaks_against_it():
    table = narrate.hits_with_doubts(curves()).set_index("compound")
    assert list(table["called"]) == ["suspicious", "hit", "no hit"]  # by efficacy
    assert table.loc["killer", "off the axis"] == "40 (20)" and table.loc["killer", "cells, of C-"] == "40 % (80 %)"
    assert table.loc["killer", "suspect from (µM)"] == "30" and table["suspect from (µM)"].isna().sum() == 2
    assert table.loc["killer", "EC50 (µM)"] == "130 (interval open at both ends)"
    assert table.loc["cure", "EC50 (µM)"] == "0.31 (from 0.2)"
    bare = curves().drop(columns=["off_axis", "off_axis_limit", "cells", "cells_limit", "suspicious"])
    assert narrate.hits_with_doubts(bare)["off the axis"].isna().all()


def test_the_compound_shown_closely_is_no_killer():
    assert narrate.find_compound("", curves()) == "cure"
    assert narrate.find_compound("", curves(hit=[False] * 3)) == "cure"
    assert narrate.find_compound("", curves(hit=[True] * 3)) == "cure"
    assert narrate.find_compound("killer", curves()) == "killer"
    assert narrate.set_aside(curves()) == [("HRCE", "killer")]
    assert narrate.set_aside(curves(suspicious=False, efficacy_max=np.nan)) == []
    said = repr(narrate.compounds_in_words(curves(), "killer", TRUTH))
    assert "suspicious, and no hit" in said and "What speaks against it: 40 off the axis" in said


def test_killers_are_counted_by_what_gave_them_away():
    said = repr(narrate.killers(curves(), TRUTH, ["gandl", "gandl", "absent"]))
    assert "of 1 that kill, 0 are found by the fall of their curve and 1 by off-axis" in said
    assert "0 of the 1 that kill and do not help are called hits" in said and said.count("GAN-DL") == 1
    sold = repr(narrate.killers(curves(hit=[True, True, False], suspect_from_uM=np.nan), TRUTH, ["gandl"]))
    assert "and 0 by off-axis" in sold and "1 of the 1 that kill and do not help are called hits" in sold


def scores(**accuracy: float) -> pd.DataFrame:
    rows = [(m.replace("_", "-"), split, a) for m, a in accuracy.items() for split in ("well", "plate")]
    table = pd.DataFrame(rows, columns=["method", "split", "accuracy"])
    return table.assign(task="C+ vs C-", normalisation="all", ci_low=0.0, ci_high=1.0, majority_rate=0.6)


def paired(other: str, p_value: float) -> pd.DataFrame:
    row = ("C+ vs C-", "well", "all", "gandl", other, 0.01, -0.01, 0.03, p_value, 40)
    columns = (
        "task",
        "split",
        "normalisation",
        "method",
        "other",
        "difference",
        "ci_low",
        "ci_high",
        "p_value",
        "n_wells",
    )
    return pd.DataFrame([row], columns=columns)


POSITION = pd.DataFrame({"split": ["well"], "accuracy": [0.97]})


def test_what_is_hardest_to_beat_is_read_off_the_table():
    table = scores(gandl=0.95, gandl_random=0.8, gandl_random_blocks=0.94)
    tie = repr(narrate.hardest(table, paired("gandl-random-blocks", 0.4), POSITION))
    assert "is not told apart from, or lies behind, all untrained layers" in tie and "97.0 %" in tie
    clear = repr(narrate.hardest(table, paired("gandl-random-blocks", 0.001), POSITION))
    assert "is ahead of all" in clear and "is ahead of all" in repr(narrate.unlearnt(table, None))
    assert repr(narrate.unlearnt(table.query("method != 'gandl'"), None)) == ""
    behind = repr(narrate.hardest(scores(gandl=0.7, gandl_random=0.8), None, POSITION))
    assert "lies behind, untrained GAN-DL" in behind


def test_a_value_that_is_missing_hides_no_baseline():
    """On a small build GAN-DL has no ranking, and the untrained network's still stands there."""
    compared = pd.DataFrame({"method": ["gandl", "gandl-random"], "cell_type": "HRCE", "auroc": [np.nan, 0.9]})
    compared["n_compounds"] = 8
    said = repr(narrate.on_simulated(scores(gandl=0.9), None, curves(), compared, None, TRUTH))
    assert "GAN-DL has no value, beside untrained GAN-DL 0.90" in said
    assert "no ranking to judge, where the area under the ROC curve is untrained GAN-DL 0.90" in repr(
        narrate.against_truth(compared)
    )
    assert "calls 1 hit among 3" in said and "1 of the 1 that help, and 0 wrongly" in said
    assert "Set aside as suspicious, though efficacy alone would call it a hit: 1 pair." in said
    assert "calls 1 hit among 3" in repr(narrate.on_simulated(scores(gandl=0.9), None, curves(), None, None, None))
    table = scores(gandl=0.9, gandl_random=0.88)
    tie = narrate.on_simulated(table, paired("gandl-random", 0.3), curves(), *[None] * 3)
    assert (
        tie.bundle["text/markdown"].count("**untrained GAN-DL 88.0\N{NO-BREAK SPACE}% (p = 0.3)**") == 1
    )  # wells; nobody paired plates
    clear = narrate.on_simulated(table, paired("gandl-random", 0.01), curves(), *[None] * 3)
    assert "**untrained" not in clear.bundle["text/markdown"]


def plate(z_prime: float, untrained: float, ec50: float = 3.5) -> pd.DataFrame:
    rows = [
        (m, drug, value, 0.8 * value, 1.2 * value, z)
        for m, value, z in (("classical", 3.7, 0.8), ("gandl", ec50, z_prime), ("gandl-random", 3.6, untrained))
        for drug in ("LY294002", "Wortmannin")
    ]
    return pd.DataFrame(rows, columns=["method", "compound", "ec50_uM", "ec50_low", "ec50_high", "z_prime"])


def test_the_real_plate_in_short_says_when_training_added_nothing():
    cells = recorded("real_cells")
    worse = repr(narrate.on_real_cells(plate(-0.7, -0.5), None, cells))
    assert "(this build" in worse and "(recorded)" in repr(narrate.on_real_cells(recorded("real_plate"), None, cells))
    assert "agree with those of a plain measurement" in worse
    for z_prime, bold in ((-0.7, True), (0.4, False)):
        text = narrate.on_real_cells(plate(z_prime, -0.5), None, cells).bundle["text/markdown"]
        assert ("**untrained GAN-DL -0.50**" in text) == bold and "untrained GAN-DL -0.50" in text
    assert "differ from those of a plain measurement" in repr(
        narrate.on_real_cells(plate(0.4, -0.5, 30.0), None, cells)
    )
    small = plate(0, 0).query("method != 'gandl'")
    assert "has no GAN-DL, only untrained GAN-DL" in repr(narrate.on_real_cells(small, None, cells))
    few = narrate.on_real_cells(small, None, cells).bundle["text/markdown"]
    assert f"**Mechanisms of drugs** (recorded). {' '.join(narrate.real_cells_in_short(cells))}" in few


def test_the_two_kinds_of_error_and_the_commonest_mistakes():
    pairs = [("C-", "C-", 20), ("C-", "C+", 4), ("C+", "C+", 10), ("C+", "C-", 6)]
    counts = pd.DataFrame(pairs, columns=["true", "predicted", "count"]).assign(method="gandl")
    row = narrate.errors(counts).iloc[0]
    assert row["C- taken for C+"] == "4 of 24" and row["C+ taken for C-"] == "6 of 16"
    told = narrate.mistaken(counts, n=1).iloc[0]
    assert told["wrong"] == "10 of 40" and told["commonest"] == "C+ taken for C- (6)"
    assert narrate.errors(None) is None and narrate.mistaken(None) is None


def test_columns_of_the_papers_table_that_are_lacking_are_named():
    said = repr(narrate.columns_of_table_1(scores(gandl=0.9, supervised=0.9)))
    assert "has GAN-DL and supervised baseline; it lacks ImageNet-collapsed and ImageNet-concatenated" in said


def test_diamonds_of_the_paper_stand_in_the_rows_they_belong_to():
    paper = pd.DataFrame({"task": "C+ vs C-", "method": ["GAN-DL", "DenseNet"], "accuracy": [0.91, 0.83]})
    figure = figures.accuracy_plot(scores(intensity=0.7, gandl=0.9).query("split == 'well'"), paper)
    axes = figure.axes[0]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    at = {round(float(line.get_xdata()[0]), 2): line.get_ydata()[0] for line in axes.lines if line.get_marker() == "D"}
    assert rows[int(at[0.91])] == "GAN-DL" and rows[int(at[0.83])] == "paper: DenseNet"
