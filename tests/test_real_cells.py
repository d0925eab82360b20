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


def rows(dataset: str, variant: str, n_seen: int, by_seed: dict[int, float], layer: str, column: str = "correct"):
    same = {"dataset": dataset, "variant": variant, "n_seen": n_seen, "layer": layer, "normalisation": "global",
            "components": 0, "protocol": "controls" if column == "z_prime" else "NSC", "of": 55}  # fmt: skip
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
        made += rows(p, "shipped", 16, {0: trained}, layer, "z_prime")
        made += rows(p, "shipped", 0, {0: fresh}, layer, "z_prime")
    return pd.DataFrame(made)


def test_training_is_held_against_the_spread_of_untrained_networks(training):
    text = repr(narrate.training_on_real_cells(training))
    assert text.count("default,") == 2, "Z' of a plate is no treatment"
    assert "3 untrained networks find 27 to 31 of 55, 29.0 on average. After 100 crops 2 find 20 to 24" in text
    assert "every trained one finds fewer than every untrained one" in text
    assert "After 100 crops 2 find 33 to 36, 34.5 on average: within what another untrained seed does" in text
    first, second, third = narrate.real_cells_in_short(training)
    assert "after 100 crops of training, finds the mechanism of 20 to 24" in first and "finds 27 to 31" in first
    assert (
        "finds 33 to 36, untrained 30 to 38" in second
        and "find 40; the best of these trained networks finds 36, the best untrained one 38" in third
    )
    f, larger = "bbbc021-fields", "crops of 64 px"
    made = rows(f, larger, 0, {0: 32, 1: 36}, "all blocks") + rows(f, larger, 50, {0: 40}, "all blocks")
    assert narrate.real_cells_in_short(pd.concat([training, pd.DataFrame(made)])) == [first, second, third], "one start"
    made += rows(f, larger, 50, {1: 39}, "all blocks")
    *three, fourth = narrate.real_cells_in_short(pd.concat([training, pd.DataFrame(made)]))
    assert three == [first, second, third]
    assert f"With {larger}, after 50 crops, all layers find 39 to 40, untrained 32 to 36: every trained" in fourth
    assert "to be judged on others" in fourth
    for trained, said in ((0.4, "untrained 0.10 to 0.20."), (0.15, "no more than another untrained seed")):
        plate = rows("bbbc013", larger, 0, {0: 0.1, 1: 0.2}, "all blocks", "z_prime")
        plate += rows("bbbc013", larger, 60, {0: trained}, "all blocks", "z_prime")
        both = pd.concat([training, pd.DataFrame(made + plate)])
        *_, fourth = narrate.real_cells_in_short(both)
        assert f"trained on 60 crops of that plate: Z′ {trained:.2f} from one start" in fourth and said in fourth
        assert said in repr(narrate.chosen_elsewhere(both[both["n_seen"] != 200])).replace("\n", " ")


def test_settings_are_judged_where_they_were_not_chosen(training):
    only = training[training["n_seen"] != 200]
    text = repr(narrate.chosen_elsewhere(only))
    assert "published tap, all features, has the largest Z′ there (0.40). On the fields it finds 22.0 of 55" in text
    assert "all blocks together, all features, finds most (34.5). On BBBC013 its Z′ is 0.20 trained" in text
    assert "not in the table" in repr(narrate.chosen_elsewhere(only[only["dataset"] != "bbbc013"]))


def test_the_figure_has_a_dot_a_seed_and_a_line_a_trained_one(training):
    figure = figures.real_training(narrate.asked(training[training["dataset"] == "bbbc021-fields"]))
    left, right = figure.axes
    hollow = [line for line in left.get_lines() if line.get_mfc() == "none"]
    assert [sorted(line.get_ydata()) for line in hollow] == [[27, 29, 31]]
    assert sum(len(line.get_xdata()) > 1 and line.get_marker() == "o" for line in right.get_lines()) == 1 + 2
    assert "texture statistics 40" in figure.alt and "20 to 24 after 100 crops" in figure.alt
    assert figures.real_training(None).alt == figures.ABSENT


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
    """Its z-scores and components, on the wells that travel with the book, are those of `moa.WITHOUT_CONTROLS`."""
    made = runpy.run_path(str(ROOT / "benchmarks" / "real_cells.py"), run_name="imported")
    wells = recorded("fields_texture")
    found = pd.DataFrame(made["mechanisms"](wells.filter(regex="^[0-9]+$").to_numpy(), wells))
    found = found[found["normalisation"] == "global"].set_index(["protocol", "components"])["correct"]
    kept = recorded("moa_real_cells").query("dataset == 'bbbc021-fields' and method == 'texture'")
    for recipe, n in zip(moa.WITHOUT_CONTROLS, (0, 15), strict=True):
        rows = kept[kept["recipe"] == recipe].set_index("protocol")["n_correct"]
        assert rows.to_dict() == found.xs(n, level="components").to_dict()
