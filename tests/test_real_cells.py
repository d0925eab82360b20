"""Real pixels in chapter 07: texture statistics, what is said of training, and that recorded tables say the same."""

from __future__ import annotations

import json
import runpy

import numpy as np
import pandas as pd
import pytest
import torch
from gandl_book import figures, narrate
from gandl_book.chapters import REFERENCE, recorded
from scipy import ndimage

from gandl_lib.evaluate import moa
from gandl_lib.methods.texture import Texture, TextureConfig

ROOT = REFERENCE.parents[1]


def test_texture_is_percentiles_and_energies_of_differences_of_gaussians(rng):
    image = ndimage.gaussian_filter(rng.standard_normal((2, 64, 64)), (0, 2, 2)).astype(np.float32)
    config = TextureConfig(scales_px=(1, 2, 4))
    found = Texture(config, 2).embed(torch.from_numpy(image)[None]).numpy().reshape(2, -1)
    for channel, features in zip(image, found, strict=True):
        np.testing.assert_allclose(
            features[:7], np.percentile(channel, config.percentiles, method="nearest"), atol=1e-3
        )
        a, b, c = (ndimage.gaussian_filter(channel, s, mode="nearest", truncate=3) for s in config.scales_px)
        np.testing.assert_allclose(features[7:], np.log([(a - b).std() + 1e-3, (b - c).std() + 1e-3]), atol=0.02)


def rows(
    dataset: str, variant: str, n_seen: int, by_seed: dict[int, float], layer: str, column: str = "correct",
    normalisation: str = "global",
):  # fmt: skip
    same = {"dataset": dataset, "variant": variant, "n_seen": n_seen, "layer": layer, "normalisation": normalisation,
            "protocol": "controls" if column == "z_prime" else "NSC", "of": 55}  # fmt: skip
    return [same | {"seed": seed, column: value} for seed, value in by_seed.items()]


@pytest.fixture
def training() -> pd.DataFrame:
    """The published tap forgets, all blocks do not; blocks are best on the fields, the tap on the plate."""
    f, p = "bbbc021-fields", "bbbc013"
    made = rows(f, "texture", 0, {0: 40}, "") + rows(f, "intensity", 0, {0: 24}, "")
    made += rows(f, "default", 0, {0: 29, 1: 27, 2: 31}, "penultimate")
    made += rows(f, "default", 0, {0: 30, 1: 38}, "all blocks")
    made += rows(f, "default", 100, {0: 24, 1: 20}, "penultimate") + rows(
        f, "default", 100, {0: 36, 1: 33}, "all blocks"
    )
    made += rows(f, "default", 200, {0: 55}, "penultimate")  # one seed only: not yet compared
    for layer, trained, fresh in (("penultimate", 0.4, 0.1), ("all blocks", 0.2, 0.3)):
        made += rows(p, "default", 16, {0: trained}, layer, "z_prime")
        made += rows(p, "default", 0, {0: fresh}, layer, "z_prime")
    return pd.DataFrame(made)


@pytest.fixture
def sphered(training) -> pd.DataFrame:
    """Sphered, everything finds more, and training adds nothing."""
    f, how = "bbbc021-fields", {"normalisation": "sphered"}
    made = rows(f, "texture", 0, {0: 51}, "", **how) + rows(f, "intensity", 0, {0: 44}, "", **how)
    made += rows(f, "default", 0, {0: 40, 1: 46}, "all blocks", **how)
    made += rows(f, "default", 100, {0: 45, 1: 41}, "all blocks", **how)
    return pd.concat([training, pd.DataFrame(made)], ignore_index=True)


def test_training_is_held_against_the_spread_of_untrained_networks(training, sphered):
    text = repr(narrate.training_on_real_cells(training))
    assert text.count("default,") == 2, "Z' of a plate is no treatment"
    assert "by z-scores, 3 untrained networks find 27 to 31 of 55, 29.0 on average, and after 100 crops" in text
    assert "2 find 20 to 24, 22.0 on average: every trained one finds fewer than every untrained one" in text
    assert "2 find 33 to 36, 34.5 on average: within what another untrained seed does" in text
    assert "sphered" not in text
    text = repr(narrate.training_on_real_cells(sphered))
    assert "sphered, 2 untrained networks find 40 to 46 of 55" in text


def test_a_newcomer_is_told_what_training_did(training, sphered):
    first, second, third = narrate.real_cells_in_short(training)
    assert "after 100 crops of training, finds the mechanism of 20 to 24" in first and "finds 27 to 31" in first
    assert "finds 33 to 36, untrained 30 to 38" in second
    assert (
        "find texture statistics 40 and intensity statistics 24; the best of these trained networks finds 36" in third
    )
    assert "the best untrained one 38" in third
    *three, fourth = narrate.real_cells_in_short(sphered)
    assert three == [first, second, third]
    assert (
        "texture statistics 51 and intensity statistics 44, all layers untrained 40 to 46, trained 41 to 45: **within"
        in fourth
    )


def test_another_variant_is_told_of_once_it_has_as_many_starts(training, sphered):
    three = narrate.real_cells_in_short(training)
    f, larger = "bbbc021-fields", "crops of 64 px"
    made = rows(f, larger, 0, {0: 32, 1: 36}, "all blocks") + rows(f, larger, 50, {0: 40}, "all blocks")
    assert narrate.real_cells_in_short(pd.concat([training, pd.DataFrame(made)])) == three, "one start"
    made += rows(f, larger, 50, {1: 39}, "all blocks")
    *first, fourth = narrate.real_cells_in_short(pd.concat([training, pd.DataFrame(made)]))
    assert first == three
    assert fourth == (
        "Where every trained network of another variant finds more than every untrained one: crops of 64 px by all "
        "blocks together by z-scores (39 to 40 against 32 to 36) (chapter 07)."
    )
    worse = [row | {"correct": row["correct"] - 5 * (row["n_seen"] > 0)} for row in made]
    *_, last = narrate.real_cells_in_short(pd.concat([training, pd.DataFrame(worse)]))
    assert ": crops of 64 px **nowhere** (chapter 07)" in last
    for trained, said in ((0.4, "untrained 0.10 to 0.20."), (0.15, "no more than another untrained seed")):
        plate = rows("bbbc013", larger, 0, {0: 0.1, 1: 0.2}, "all blocks", "z_prime")
        plate += rows("bbbc013", larger, 60, {0: trained}, "all blocks", "z_prime")
        both = pd.concat([training, pd.DataFrame(made + plate)]).query("n_seen != 200")
        text = repr(narrate.chosen_elsewhere(both)).replace("\n", " ")
        assert f"trained on 60 crops of that plate: Z′ {trained:.2f} from one start" in text and said in text
    plate += rows("bbbc013", "texture", 0, {0: 0.07}, "", "z_prime")
    text = repr(narrate.chosen_elsewhere(pd.concat([training, pd.DataFrame(made + plate)]).query("n_seen != 200")))
    assert "untrained 0.10 to 0.20, texture statistics 0.07" in text.replace("\n", " ")


def test_settings_are_judged_where_they_were_not_chosen(training, sphered):
    only = training[training["n_seen"] != 200]
    text = repr(narrate.chosen_elsewhere(only))
    assert "published tap, by z-scores, has the largest Z′ there (0.40). On the fields it finds 22.0 of 55" in text
    assert "all blocks together, by z-scores, finds most (34.5). On BBBC013 its Z′ is 0.20 trained" in text
    assert "not in the table" in repr(narrate.chosen_elsewhere(only[only["dataset"] != "bbbc013"]))
    plate = rows("bbbc013", "default", 16, {0: -3}, "all blocks", "z_prime", "sphered")
    plate += rows("bbbc013", "default", 0, {0: -4}, "all blocks", "z_prime", "sphered")
    text = repr(narrate.chosen_elsewhere(pd.concat([sphered, pd.DataFrame(plate)]).query("n_seen != 200")))
    assert "all blocks together, sphered, finds most (43.0). On BBBC013 its Z′ is -3.00 trained" in text


def test_the_figure_has_a_dot_a_seed_and_a_line_a_trained_one(training, sphered):
    figure = figures.real_training(training[training["dataset"] == "bbbc021-fields"])
    left, right = figure.axes
    hollow = [line for line in left.get_lines() if line.get_mfc() == "none"]
    assert [sorted(line.get_ydata()) for line in hollow] == [[27, 29, 31]]
    assert sum(len(line.get_xdata()) > 1 and line.get_marker() == "o" for line in right.get_lines()) == 1 + 2
    assert "texture statistics 40" in figure.alt and "20 to 24 after 100 crops" in figure.alt
    assert figures.real_training(None).alt == figures.ABSENT
    figure = figures.real_training(sphered[sphered["dataset"] == "bbbc021-fields"])
    assert len(figure.axes) == 4 and "sphered, all blocks together, default 40 to 46 after 0 crops" in figure.alt


def test_the_recorded_rows_follow_from_the_recorded_statistics():
    """The texture row of moa_real_cells.csv, from the wells that travel with the book."""
    wells = recorded("fields_texture")
    X = wells.filter(regex="^[0-9]+$").to_numpy()
    scores, _ = moa.moa((X - X.mean(axis=0)) / X.std(axis=0), wells)
    kept = recorded("moa_real_cells")
    assert tuple(kept.columns) == moa.HEADER
    texture = kept[(kept["dataset"] == "bbbc021-fields") & (kept["method"] == "texture")]
    first = texture[texture["recipe"] == next(iter(moa.WITHOUT_CONTROLS))]
    assert list(first["n_correct"]) == list(scores["n_correct"])
    np.testing.assert_allclose(first["compounds_low"], scores["compounds_low"], atol=1e-3)


def test_what_is_said_of_real_pixels_is_in_the_table():
    kept = recorded("moa_real_cells")
    provenance = json.loads((REFERENCE / "moa_real_cells.provenance.json").read_text())
    assert not provenance["simulated"] and "Recorded" in repr(narrate.real_pixels_source(provenance))
    text, table = repr(narrate.real_pixels(kept)), narrate.real_pixels_table(kept)
    assert text.count("treatments by") == 2 and set(table["screen"]) == {"fields", "single cells"}
    one = kept[(kept["method"] == "gandl") & (kept["protocol"] == "NSC")].iloc[0]
    assert f"{one['n_correct']} of {one['n_treatments']}" in set(table["NSC"])


def test_the_benchmark_scores_as_the_library_does(rng):
    """Its normalisations, on the wells that travel with the book, are those of `moa.WITHOUT_CONTROLS`."""
    made = runpy.run_path(str(ROOT / "benchmarks" / "real_cells.py"), run_name="imported")
    wells = recorded("fields_texture")
    found = pd.DataFrame(made["mechanisms"](wells.filter(regex="^[0-9]+$").to_numpy(), wells))
    found = found.set_index(["protocol", "normalisation"])["correct"]
    kept = recorded("moa_real_cells").query("dataset == 'bbbc021-fields' and method == 'texture'")
    for recipe, normalisation in zip(moa.WITHOUT_CONTROLS, ("global", "sphered"), strict=True):
        rows = kept[kept["recipe"] == recipe].set_index("protocol")["n_correct"]
        assert rows.to_dict() == found.xs(normalisation, level="normalisation").to_dict()
