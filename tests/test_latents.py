"""Arithmetic on latents: a toy generator whose directions are known, and cells of known size."""

import numpy as np
import pandas as pd
import pytest
import torch
from gandl_book import latents
from hypothesis import given
from hypothesis import strategies as st

from gandl_lib import cells

Z = 20
CHANNELS = ("DNA", "actin", "tubulin")


def disc(radius: float, tubulin: float = 0.5, size: int = 48) -> torch.Tensor:
    """A cell in [-1, 1]: nucleus of this radius, body of twice it with this much tubulin of [0, 1], black outside."""
    y, x = np.mgrid[:size, :size] - size / 2 + 0.5
    r = np.hypot(y, x)
    image = np.stack([0.8 * (r < radius), 0.6 * (r < 2 * radius), tubulin * (r < 2 * radius)])
    return torch.tensor(2 * image - 1, dtype=torch.float32)


def along(w: np.ndarray, noise: float = 0.0):
    return lambda z: np.asarray(z) @ w + noise * np.sin(1000 * np.asarray(z)[:, 0])


@pytest.fixture
def known(rng):
    w = rng.standard_normal(Z)
    return w / np.linalg.norm(w)


def test_a_linear_property_is_found_and_moves_by_what_the_algebra_says(rng, known):
    """Between outer quarters of a Gaussian lie 2 x 1.271 standard deviations: so long is d along w, and so far its
    step moves."""
    z = rng.standard_normal((20_000, Z))
    d = latents.direction(z, along(known)(z))
    assert d @ known == pytest.approx(2 * 1.2711, rel=0.02)
    assert np.linalg.norm(d - (d @ known) * known) < 0.1 * np.linalg.norm(d)
    table = latents.try_out(along(known), d, n=200)
    found = table[table["direction"] == latents.FOUND].set_index("step")
    for step in latents.STEPS:
        assert found.loc[step, "change"] == pytest.approx(step * (d @ known), abs=1e-9)
        assert found.loc[step, "value"] - found.loc[0.0, "value"] == pytest.approx(step * (d @ known), abs=1e-9)
    others = table[table["direction"] != latents.FOUND]
    assert others["direction"].nunique() == latents.N_RANDOM
    assert (others["change"].abs() < 0.7 * np.linalg.norm(d)).all(), "20 dimensions: a random one is no w"


def test_random_directions_are_as_long_as_the_one_found(rng):
    asked = []

    def draw(z):
        asked.append(np.asarray(z))
        return np.asarray(z)[:, 0]

    d = 3 * rng.standard_normal(Z)
    latents.try_out(draw, d, n=5)
    lengths = [np.linalg.norm(z - asked[0], axis=1) for z in asked[1:]]
    wanted = [abs(step) * np.linalg.norm(d) for _ in range(1 + latents.N_RANDOM) for step in latents.STEPS if step]
    np.testing.assert_allclose(lengths, np.repeat(np.array(wanted)[:, None], 5, axis=1))


def test_cells_without_a_nucleus_are_left_out_and_counted(known):
    def draw(z):
        values = along(known)(z)
        return np.where(values > 0, np.nan, values)

    table = latents.try_out(draw, known, n=100)
    assert tuple(table.columns) == latents.HEADER[2:]
    assert (table["n_cells"] < 100).all() and (table["value"] <= 0).all()
    nothing = latents.try_out(lambda z: np.full(len(z), np.nan), known, n=10)
    assert (nothing["n_cells"] == 0).all() and nothing["value"].isna().all()


def test_intervals_hold_the_mean_and_narrow_with_more_cells(known):
    few, many = (latents.try_out(along(known, 1.0), known, n) for n in (20, 500))
    for table in (few, many):
        assert (table["ci_low"] <= table["value"]).all() and (table["value"] <= table["ci_high"]).all()
    width = [(t["ci_high"] - t["ci_low"]).mean() for t in (few, many)]
    assert width[1] < 0.5 * width[0]
    pd.testing.assert_frame_equal(few, latents.try_out(along(known, 1.0), known, 20))


@pytest.mark.parametrize("values", [np.full(20, np.nan), np.ones(20), np.r_[np.full(13, np.nan), np.arange(7.0)]])
def test_where_nothing_can_be_found_there_is_no_direction_and_nothing_to_say(values):
    d = latents.direction(np.zeros((20, Z)), values)
    assert np.isnan(d).all()
    table = latents.try_out(along(np.ones(Z)), d, n=10)
    assert table["value"].isna().all() and table["change"].isna().all() and (table["n_cells"] == 0).all()


# ---- pictures ----


def test_discs_are_measured_in_micrometres():
    cells = torch.stack([disc(6, 0.3), disc(9, 0.7), torch.full((3, 48, 48), -1.0)])
    found = latents.measure(cells, CHANNELS, 0.65)
    np.testing.assert_allclose(found["nucleus_area_um2"][:2], np.pi * np.array([6, 9]) ** 2 * 0.65**2, rtol=0.15)
    np.testing.assert_allclose(found["mean_tubulin"][:2], [0.3, 0.7], rtol=0.15)
    assert found.loc[2].isna().all()
    assert latents.measure(cells[:1] * 0.2 - 0.8, CHANNELS, 0.65)["nucleus_area_um2"][0] == found.loc[0].iloc[0]
    with pytest.raises(ValueError, match="DNA and tubulin; these channels are DNA, golgi"):
        latents.measure(cells[:, :2], ("DNA", "golgi"), 0.65)


def test_crops_measure_what_their_sites_did(rng):
    """Nuclei found in a field, cut out with their cells and blacked out around, measured again alone."""
    image, radii = np.full((3, 160, 160), 20.0), [5, 6, 7, 8, 9, 10]
    for k, radius in enumerate(radii):
        cell = 255 * (disc(radius, 0.6, 48).numpy() + 1) / 2
        y, x = 52 * (k // 3) + 2, 52 * (k % 3) + 2
        image[:, y : y + 48, x : x + 48] += cell * [[[1.0]], [[0.6]], [[0.6]]]
    image = np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
    table, crops = cells.cut(image, *cells.segment(image, 0, 0.65), size=48, pixel_um=0.65)
    assert len(table) == len(radii)
    again = latents.measure(torch.tensor(cells.to_own_range(crops) / 127.5 - 1).float(), CHANNELS, 0.65)
    assert list(again["nucleus_area_um2"].argsort()) == list(table["nucleus_area_um2"].argsort())
    truth = np.pi * np.array(radii) ** 2 * 0.65**2
    np.testing.assert_allclose(sorted(again["nucleus_area_um2"]), truth, rtol=0.15)


@given(st.integers(2, 9), st.integers(0, 99))
def test_an_arc_keeps_its_ends_and_its_length(steps, seed):
    a, b = torch.randn(2, 50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    b = b * a.norm() / b.norm()
    way = latents.arc(a, b, steps).double()
    torch.testing.assert_close(way[[0, -1]], torch.stack([a, b]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(way.norm(dim=1), a.norm().expand(steps), rtol=1e-5, atol=1e-5)
    gaps = (way[1:] - way[:-1]).norm(dim=1)
    torch.testing.assert_close(gaps, gaps[:1].expand_as(gaps), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(latents.arc(a, a, 3), a.expand(3, -1), rtol=1e-5, atol=1e-5)
