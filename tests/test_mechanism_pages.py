"""Figures and sentences of chapter 07's second half follow their tables."""

import numpy as np
import pandas as pd
import pytest
from gandl_book import figures, latents, narrate
from gandl_book.chapters import paper, recorded

from gandl_lib.evaluate import moa

LEARNT = {"dcgan": 0.8, "vae": 0.3, "gandl": 0.85}


def row(method, accuracy, protocol="NSC", recipe=moa.COMPARED[0], dataset="simulated", half=0.1):
    values = (method, protocol, accuracy, 48, round(48 * accuracy), accuracy - half, accuracy + half)
    return dict(zip(moa.HEADER, (*values, accuracy, 24, *values[-2:], 0.17, 0.15, recipe, dataset), strict=True))


@pytest.fixture
def scores():
    found = LEARNT | {"dcgan-random": 0.5, "intensity": 0.8}
    rows = [
        row(m, a, protocol, recipe) for protocol in moa.PROTOCOLS for m, a in found.items() for recipe in moa.COMPARED
    ]
    return pd.DataFrame([*rows, row("cellprofiler", 0.83, dataset="real")])


@pytest.fixture
def tried():
    """dcgan's direction works on nuclei; vae's moves no more than random ones; gandl has none."""
    change = {"dcgan": (40.0, 5.0), "vae": (4.0, 6.0), "gandl": (np.nan, np.nan)}
    rows = []
    for method, (found, other) in change.items():
        for direction, whole in (("found", found), ("random 1", other), ("random 2", -other)):
            for step in latents.STEPS:
                c, known = step * whole, not np.isnan(whole)
                cells = (64 if method == "dcgan" else 20) if known else 0
                values = (100 + c, 95 + c, 105 + c, c, c - 1, c + 1) if known else [np.nan] * 6
                rows.append((method, "nucleus_area_um2", direction, step, *values, cells))
    return pd.DataFrame(rows, columns=latents.HEADER)


def test_real_rows_are_fresh_where_there_are_any_and_recorded_otherwise(scores):
    kept = recorded("moa_bbbc021")
    assert (
        tuple(kept.columns) == moa.HEADER and tuple(recorded("moa_bbbc021_confusion").columns) == moa.CONFUSION_HEADER
    )
    fresh = narrate.of_recipes(scores, kept)
    assert list(fresh["method"]) == [moa.COMPARED[0]] and list(fresh["accuracy"]) == [0.83]
    old = narrate.of_recipes(scores[scores["dataset"] == "simulated"], kept)
    assert list(old["method"].unique()) == list(moa.RECIPES) and (old["dataset"] == "real").all()
    assert "not on this machine" in repr(narrate.where_moa_comes_from(None))
    assert "made in this build" in repr(narrate.where_moa_comes_from(scores))
    assert "86 of 103" in repr(narrate.moa_table(old).to_string())


def test_models_are_held_against_those_that_learnt_nothing(scores):
    text = repr(narrate.models(narrate.simulated(scores)))
    assert "most by GAN-DL, 85.0 %" in text and "the largest mechanism has 17.0 %" in text
    assert "Beside untrained DCGAN, 50.0 % (40 to 60): DCGAN and GAN-DL beat it; VAE falls below it" in text
    assert "Beside intensity statistics, 80.0 % (70 to 90): DCGAN and GAN-DL cannot be told from it" in text
    table = narrate.models_table(narrate.simulated(scores), paper("moa"))
    dcgan = table[(table["method"] == "DCGAN") & (table["protocol"] == "NSC")]
    assert set(dcgan["paper, real images"]) == {"51.0 %"} and "right" in table


def test_the_confusion_shown_is_the_best_learnt_methods(scores):
    counts = pd.DataFrame(
        [(m, "NSC", "a", "b", 3, moa.COMPARED[0], "simulated") for m in LEARNT], columns=moa.CONFUSION_HEADER
    )
    assert list(narrate.confused(counts, scores)["method"]) == ["gandl"]
    assert narrate.confused(None, scores) is None and narrate.confused(counts, scores[-1:]) is None


def test_a_direction_works_only_beyond_random_ones(tried):
    text = repr(narrate.arithmetic(tried))
    assert "moved by more than any random direction in DCGAN +40 (39 to 41) from 100" in text
    assert "Not moved so in VAE +4" in text and "No direction was found for GAN-DL" in text
    assert "VAE (20 of 64)" in text and "GAN-DL (0 of 64)" in text


def test_without_images_every_place_says_so(scores):
    real = narrate.simulated(scores[scores["dataset"] == "real"])
    assert real is None and narrate.models_table(real, paper("moa")) is None and narrate.budget({}) is None
    for said in (narrate.models(None), narrate.arithmetic(None), narrate.drugs(None, None)):
        assert "Not part of this build" in repr(said)
    for figure in (figures.exam(None), figures.latent_effect(None), figures.segmented(None), figures.drug_sites(None)):
        assert figure.alt == figures.ABSENT
    assert figures.drawn_cells(None, {}).alt == figures.ABSENT


def test_figures_say_what_they_show(scores, tried):
    simulated = narrate.simulated(scores)
    figure = figures.exam(simulated, narrate.paper_models(paper("moa")))
    assert "NSC, GAN-DL, sphered 85.0 %" in figure.alt and len(figure.axes) == 2
    diamonds = [line for line in figure.axes[0].get_lines() if line.get_marker() == "D" and line.get_mfc() == "none"]
    assert sorted(line.get_xdata()[0] for line in diamonds) == [0.49, 0.51], "the paper's VAE and DCGAN"
    figure = figures.latent_effect(tried)
    assert "DCGAN, nucleus area, µm² +40" in figure.alt and len(figure.axes) == 3
    ours = [line.get_color() for line in figure.axes[0].get_lines()]
    assert figures.METHODS["dcgan"] in ours


class Store:
    """As much of `Shards` as figures ask for."""

    channels, pixel_um, simulated = ("DNA", "actin", "tubulin"), 0.65, True
    limits = np.array([[0, 255]] * 3, np.float32)

    def __init__(self, images, wells):
        self.images, self.wells = images, wells

    def __len__(self):
        return len(self.images)

    def read(self, i):
        return self.images[i]

    def read_many(self, rows):
        return self.images[rows]


@pytest.fixture
def sites(rng):
    y, x = np.mgrid[:64, :64]
    r = np.hypot(y - 32, x - 32)
    one = np.stack([200 * (r < 8), 100 * (r < 16), 100 * (r < 16)]) + 10
    images = (one + rng.integers(0, 5, (4, 3, 64, 64))).astype(np.uint8)
    wells = pd.DataFrame({"role": ["treated", "untreated", "treated", "treated"], "moa": ["A", "", "A", "B"],
                          "concentration_uM": [1.0, np.nan, 5.0, 1.0]})  # fmt: skip
    return Store(images, wells)


def test_pictures_of_sites_and_cells(sites):
    assert "outlines of 1 nuclei" in figures.segmented(sites).alt
    assert "one site each of DMSO, A, B" in figures.drug_sites(sites).alt
    figure = figures.drawn_cells(sites, {"dcgan": np.zeros((3, 3, 64, 64)), "gandl": np.zeros((3, 3, 64, 64))})
    assert figure.alt.startswith("Simulated") and "3 of the screen; 3 of DCGAN; 3 of GAN-DL" in figure.alt
    assert len(figures.drawn_cells(sites, {"dcgan": np.zeros((3, 3, 64, 64))}, real=False).axes) == 3
